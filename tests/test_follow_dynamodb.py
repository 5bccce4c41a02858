"""Changes are followed into a target that speaks DynamoDB, the server of the source here."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.migration import Migration
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.test_codec_servers import ATTRIBUTES


@pytest.fixture
def followed(dynamodb: Any, name: str, tmp_path: Path) -> Iterator[Callable[..., Migration]]:
    """Makes a task that follows one table of the server into another."""
    source = f"{name}-source"
    create_table(dynamodb.client, source, sk=("sk", "N"))
    tasks: list[Migration] = []

    def followed(**settings: object) -> Migration:
        tasks.append(
            Migration(
                dynamodb.url,
                dynamodb.url,
                source,
                tmp_path,
                sync_mode="all",
                target__type="aliyun_dynamo_proxy",
                namespace__map=f"{source}:any.{name}",
                checkpoint__type="file",
                checkpoint__address=tmp_path / "checkpoint",
                **settings,
            )
        )
        return tasks[-1]

    yield followed
    for task in tasks:
        task.close()


def item(pk: str, sk: str, **attributes: Any) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"N": sk}, **attributes}


def test_changes_are_followed_into_a_dynamodb_endpoint(
    dynamodb: Any,
    name: str,
    followed: Callable[..., Migration],
    stored: Callable[[], list[Any]],
) -> None:
    client, source = dynamodb.client, f"{name}-source"
    put_items(client, source, (item("copied", str(number)) for number in range(60)))
    migration = followed()
    process = migration.start()
    output = output_of(migration)
    until(lambda: "consistent point reached" in output.read_text())
    put_items(client, source, (item("new", f"{n}.5", **ATTRIBUTES[2]) for n in range(40)))
    for number in range(20):
        client.put_item(TableName=source, Item=item("copied", str(number), v={"L": []}))
        client.delete_item(TableName=source, Key=item("copied", str(59 - number)))
    client.put_item(TableName=source, Item=item("last", "1"))
    until(lambda: any(one["pk"]["S"] == "last" for one in stored()), 30)
    process.send_signal(signal.SIGTERM)
    result = migration.wait(process)
    assert result.status == 0, result
    same(dynamodb, source, stored)
    client.delete_item(TableName=source, Key=item("last", "1"))
    client.put_item(TableName=source, Item=item("later", "1"))
    process = migration.start()
    until(lambda: any(one["pk"]["S"] == "later" for one in stored()), 30)
    process.send_signal(signal.SIGTERM)
    assert migration.wait(process).status == 0
    same(dynamodb, source, stored)


def test_an_insert_of_a_key_that_a_dynamodb_endpoint_holds_stops_the_task_where_it_is_to(
    dynamodb: Any, name: str, followed: Callable[..., Migration], stored: Callable[[], list[Any]]
) -> None:
    client, source = dynamodb.client, f"{name}-source"
    migration = followed(increase__executor__insert_on_dup_update="false")
    process = migration.start()
    output = output_of(migration)
    until(lambda: "consistent point reached" in output.read_text())
    client.put_item(TableName=source, Item=item("ours", "1"))
    until(stored)
    client.put_item(TableName=name, Item=item("foreign", "1", n={"N": "7"}))
    client.put_item(TableName=source, Item=item("foreign", "1"))
    result = migration.wait(process)
    assert result.status == 1, result
    assert f"table {source}" in result.line
    assert '{"pk":{"S":"foreign"},"sk":{"N":"1"}}' in result.line
    assert item("foreign", "1", n={"N": "7"}) in stored()


def test_a_modify_that_may_not_insert_is_refused_for_a_dynamodb_endpoint(
    dynamodb: Any, name: str, followed: Callable[..., Migration]
) -> None:
    result = followed(increase__executor__upsert="false").run()
    assert result.status == 3
    assert "increase.executor.upsert = false: target.type = aliyun_dynamo_proxy" in result.line
    assert name not in dynamodb.client.list_tables()["TableNames"]


def output_of(migration: Migration) -> Path:
    """What its first run prints."""
    return migration.folder / f"{migration.conf.stem}.0.out"


def same(dynamodb: Any, source: str, stored: Callable[[], list[Any]]) -> None:
    """The target holds what the source does."""

    def key(item: dict[str, Any]) -> tuple[str, str]:
        return item["pk"]["S"], item["sk"]["N"]

    wanted = dynamodb.client.scan(TableName=source)["Items"]
    assert sorted(stored(), key=key) == sorted(wanted, key=key)
