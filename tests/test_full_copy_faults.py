"""The full copy meets faults of the source, and items that cannot be stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty import Faulty, Reply, Request, dropped, error, forward, throttled
from tests.support.migration import Migration, compare
from tests.support.tables import create_table, put_items

Make = Callable[..., Migration]


@pytest.fixture
def make(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[Make]:
    made: list[Migration] = []

    def make_one(source: str = dynamodb.url, **settings: object) -> Migration:
        made.append(Migration(source, mongo.uri, name, tmp_path, **settings))
        return made[-1]

    yield make_one
    for migration in made:
        migration.close()


def fill(dynamodb: Any, table: str, count: int = 100, **attributes: Any) -> None:
    create_table(dynamodb.client, table)
    put_items(
        dynamodb.client, table, ({"pk": {"S": f"k{item}"}, **attributes} for item in range(count))
    )


def test_an_empty_table_becomes_an_empty_collection_with_its_indexes(
    dynamodb: Any, mongo: Any, name: str, make: Make
) -> None:
    index = {"by_x": (("x", "S"), ("y", "N"))}
    create_table(dynamodb.client, name, ("pk", "S"), indexes=index)
    assert make().run().status == 0
    assert mongo.client[name].list_collection_names() == [name]
    assert set(mongo.client[name][name].index_information()) == {"_id_", "pk_1", "x_1", "x_1_y_1"}


def test_faults_and_throttles_are_ridden_out_and_counted(
    dynamodb: Any, mongo: Any, name: str, make: Make
) -> None:
    fill(dynamodb, name, 200)
    faults = iter(
        [
            *(throttled(), dropped(), error("InternalServerError", status=500)),
            *(Reply(b'{"Items":[', crc=1), Reply(b'{"Count":1}'), throttled()),
        ]
    )

    def answer(request: Request) -> Reply:
        scanning = request.operation == "Scan" and b'"Segment"' in request.body
        fault = next(faults, None) if scanning else None
        return fault or forward(dynamodb.url)(request)

    with Faulty(otherwise=answer) as source:
        migration = make(source.url, qps__full__batch_num=20)
        result = migration.run()
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    figures = result.figures(name)
    assert (figures["throttles"], int(figures["retries"]) >= 5) == ("2", True)


BAD_ITEMS: list[tuple[dict[str, Any], dict[str, object], str]] = [
    ({"a\0b": {"S": "x"}}, {}, "U+0000"),
    ({"v": {"S": "\ud800"}}, {}, "surrogate"),
    ({"v": {"N": "1" * 38}}, {"convert__number__overflow": "error"}, "34 digits"),
    ({"_id": {"S": "a"}, "pre_id": {"S": "b"}}, {}, "pre_id"),
]


@pytest.mark.parametrize(("attributes", "settings", "reason"), BAD_ITEMS)
def test_an_item_that_cannot_be_stored_stops_the_task_and_is_named(
    dynamodb: Any,
    name: str,
    make: Make,
    attributes: dict[str, Any],
    settings: dict[str, object],
    reason: str,
) -> None:
    fill(dynamodb, name, 20)
    item = {"pk": {"S": "the bad one"}} | attributes
    body = json.dumps({"TableName": name, "Item": item}).encode()
    _put(dynamodb, body)
    for _ in range(2):
        result = make(**settings).run()
        assert result.status == 1, result
        [line] = result.stderr.splitlines()
        assert f"table {name}" in line
        assert "the bad one" in line
        assert reason in line


def _put(dynamodb: Any, body: bytes) -> None:
    """As boto3 does, which refuses to send what DynamoDB takes."""
    head = {
        "authorization": "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/dynamodb/"
        "aws4_request, SignedHeaders=host, Signature=none",
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": "DynamoDB_20120810.PutItem",
    }
    reply = forward(dynamodb.url)(Request("PutItem", body, head, 0))
    assert reply.status == 200, reply


def test_two_keys_that_become_one_double_stop_the_task_and_are_named(
    dynamodb: Any, name: str, make: Make
) -> None:
    create_table(dynamodb.client, name, ("pk", "N"))
    numbers = ["9007199254740993", "9007199254740992", "5"]
    put_items(dynamodb.client, name, ({"pk": {"N": number}} for number in numbers))
    result = make(convert__type="mchange").run()
    assert result.status == 1
    assert f"table {name}" in result.stderr
    assert "9007199254740992" in result.stderr
