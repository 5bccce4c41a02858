"""The full copy through the real program: what is in the table is in the collection."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shake.codec.contract import Options
from tests.support.faulty import Faulty, Reply, Request, dropped, error, forward, throttled
from tests.support.migration import Migration, compare, keys_of
from tests.support.tables import create_table, put_items
from tests.test_codec_servers import ATTRIBUTES

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


def key_of(type_: str, number: int) -> dict[str, Any]:
    """Keys that differ where a careless program rounds, cuts, or folds them."""
    match type_:
        case "N":
            return {"N": f"1{'0' * 15}{number:04d}.5"}
        case "B":
            return {"B": bytes([255, 0, number])}
    return {"S": f"\U0001f600 {number} \0"}


@pytest.mark.parametrize(
    ("convert", "id_mode"),
    [("change", "objectid"), ("change", "key"), ("raw", "objectid"), ("mchange", "objectid")],
)
def test_every_type_arrives_under_every_way_to_store_it(
    dynamodb: Any, mongo: Any, name: str, make: Make, convert: str, id_mode: str
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))
    items = [
        {"pk": {"S": f"p{number % 7}"}, "sk": {"N": f"{number}.5"}, **ATTRIBUTES[number % 6]}
        for number in range(120)
    ]
    items.append({"pk": {"S": "large"}, "sk": {"N": "1"}, "v": {"B": b"\xff" * 409_500}})
    deep: dict[str, Any] = {"N": "1"}
    for _ in range(30):
        deep = {"L": [deep]}
    items.append({"pk": {"S": "deep"}, "sk": {"N": "1"}, "v": deep})
    put_items(dynamodb.client, name, items)
    migration = make(convert__type=convert, id__mode=id_mode, qps__full__batch_num=50)
    result = migration.run()
    assert result.status == 0, result
    assert "full sync done!" in result.stdout.splitlines()
    options = Options(keys_of(dynamodb.client, name), convert=convert, id_mode=id_mode)
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}", options=options)


@pytest.mark.parametrize("partition", ["S", "N", "B"])
@pytest.mark.parametrize("sort", ["S", "N", "B", None])
def test_keys_of_every_type_are_paged_without_loss(
    dynamodb: Any, mongo: Any, name: str, make: Make, partition: str, sort: str | None
) -> None:
    create_table(dynamodb.client, name, ("p", partition), ("s", sort) if sort else None)
    put_items(
        dynamodb.client,
        name,
        (
            {"p": key_of(partition, number)} | ({"s": key_of(sort, number)} if sort else {})
            for number in range(60)
        ),
    )
    migration = make(qps__full__batch_num=7, full__read__concurrency=2)
    result = migration.run()
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    indexes = mongo.client[name][name].index_information()
    key = "p_1_s_1" if sort else "p_1"
    assert indexes[key]["unique"]
    assert set(indexes) == {"_id_", key, "p_1"}


def test_an_empty_table_becomes_an_empty_collection_with_its_indexes(
    dynamodb: Any, mongo: Any, name: str, make: Make
) -> None:
    index = {"by_x": (("x", "S"), ("y", "N"))}
    create_table(dynamodb.client, name, ("pk", "S"), indexes=index)
    assert make().run().status == 0
    assert mongo.client[name].list_collection_names() == [name]
    assert set(mongo.client[name][name].index_information()) == {"_id_", "pk_1", "x_1", "x_1_y_1"}


def test_the_schema_alone_copies_no_item_and_other_settings_cannot_go_on_from_it(
    dynamodb: Any, mongo: Any, name: str, make: Make
) -> None:
    fill(dynamodb, name, 10)
    result = make(sync_schema_only="true").run()
    assert result.status == 0, result
    assert "full sync done!" not in result.stdout
    assert mongo.client[name][name].count_documents({}) == 0
    assert "pk_1" in mongo.client[name][name].index_information()
    refused = make().run()
    assert refused.status == 3
    assert "sync_schema_only" in refused.stderr


@pytest.mark.parametrize("fate", ["rename", "drop"])
def test_an_existing_collection_meets_the_fate_that_was_asked_for(
    dynamodb: Any, mongo: Any, name: str, make: Make, fate: str
) -> None:
    fill(dynamodb, name, 10)
    database = mongo.client[name]
    database[name].insert_one({"_id": "old"})
    refused = make().run()
    assert refused.status == 3
    assert f"collection {name}.{name} exists" in refused.stderr
    assert database[name].find_one() == {"_id": "old"}

    assert make(target__db__exist=fate).run().status == 0
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    backups = set(database.list_collection_names()) - {name}
    if fate == "rename":
        [backup] = backups
        assert re.fullmatch(rf"{name}\.\d{{4}}-\d\d-\d\dZ\d\d:\d\d:\d\d", backup)
        assert database[backup].find_one() == {"_id": "old"}
    else:
        assert not backups

    again = make(target__db__exist=fate).run()  # what it has copied itself it never touches
    assert again.status == 0
    assert "complete already" in again.stdout
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    assert set(database.list_collection_names()) - {name} == backups


def test_tables_go_where_the_namespace_map_says(
    dynamodb: Any, mongo: Any, name: str, make: Make
) -> None:
    fill(dynamodb, name, 10)
    assert make(namespace__map=f"{name}:{name}x.a.b").run().status == 0
    compare(dynamodb.client, mongo.client, name, f"{name}x.a.b")
    assert name not in mongo.client.list_database_names()


def test_a_scan_filter_copies_what_matches_and_says_so_loudly(
    dynamodb: Any, mongo: Any, name: str, make: Make
) -> None:
    create_table(dynamodb.client, name)
    put_items(
        dynamodb.client,
        name,
        ({"pk": {"S": str(n)}, "age": {"N": str(n)}} for n in range(100)),
    )
    migration = make(
        full__read__filter_expression="age > :low AND age < :high",
        full__read__filter_attributevalues="low```N```10~~~high```N```15",
        qps__full__batch_num=9,
    )
    result = migration.run()
    assert result.status == 0, result
    found = sorted(one["age"] for one in mongo.client[name][name].find())
    assert found == [11, 12, 13, 14]
    assert result.stdout.count("SCAN FILTER ON") == 2
    assert "4 of 100 scanned items were kept" in result.stdout


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
    head, row = (
        re.split(r"\s{2,}", line.strip())
        for line in result.stdout.splitlines()
        if line.startswith(("table ", f"{name}  "))
    )
    figures = dict(zip(head, row, strict=True))
    assert (figures["throttles"], int(figures["retries"]) >= 5) == ("2", True)


@pytest.mark.parametrize(
    ("settings", "operations"),
    [({"qps.full": 5}, 5), ({"source.read_budget": 10}, 20)],  # an empty page costs half a unit
)
def test_limits_hold_over_all_workers_together(
    dynamodb: Any, name: str, make: Make, settings: dict[str, object], operations: int
) -> None:
    fill(dynamodb, name, 30)
    scans: list[float] = []

    def answer(request: Request) -> Reply:
        if b'"Segment"' in request.body:
            scans.append(time.monotonic())
        return forward(dynamodb.url)(request)

    with Faulty(otherwise=answer) as source:
        keys = {key.replace(".", "__"): value for key, value in settings.items()}
        migration = make(source.url, full__read__concurrency=16, **keys)
        assert migration.run().status == 0
    assert len(scans) >= 16
    # A second may hold its own share and what was saved in the one before.
    for start in scans:
        assert sum(start <= other < start + 1 for other in scans) <= 2 * operations + 1


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
