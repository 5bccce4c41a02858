"""A whole copy into a sharded cluster, through the real program, against the simulator."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.migration import Migration
from tests.support.tables import create_table, put_items
from tests.support.wire import Wire


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def fill(dynamodb: Any, name: str) -> set[tuple[str, int]]:
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))
    keys = [(f"p{number % 7}", number) for number in range(80)]
    put_items(dynamodb.client, name, ({"pk": {"S": p}, "sk": {"N": str(s)}} for p, s in keys))
    return set(keys)


def stored(cluster: Cluster, place: str) -> list[tuple[str, int]]:
    return [(one["pk"], one["sk"]) for one in cluster.collections[place].documents()]


@pytest.mark.parametrize("checkpoint", ["mongodb", "file"])
@pytest.mark.parametrize(
    ("kill", "wire_version"),
    [("", 21), ("insert", 21), ("renameCollection", 21), ("insert", 9)],
    ids=["", "insert", "renameCollection", "insert, 4.4"],
)
def test_the_collection_is_sharded_before_its_first_document_and_every_item_is_there_once(
    dynamodb: Any,
    cluster: Cluster,
    name: str,
    tmp_path: Path,
    checkpoint: str,
    kill: str,
    wire_version: int,
) -> None:
    cluster.wire_version = wire_version
    keys = fill(dynamodb, name)
    place = f"{name}.{name}"
    host, port = cluster.uri.removeprefix("mongodb://").rstrip("/").split(":")
    with Wire(host, int(port)) as wire:
        migration = Migration(
            dynamodb.url,
            wire.uri,
            name,
            tmp_path,
            target__mongodb__type="sharding",
            qps__full__batch_num=10,
            full__read__concurrency=2,
            **({"checkpoint__type": "file", "checkpoint__address": tmp_path / "positions"})
            if checkpoint == "file"
            else {},
        )
        if kill:
            skip = 3 if kill == "insert" else 0
            wire.stop_at(
                "answer", kill, place, lambda: migration.kill(migration.running[-1]), skip=skip
            )
            assert migration.run().status == -signal.SIGKILL
        result = migration.run()
        migration.close()
    assert result.status == 0, result
    found = stored(cluster, place)
    assert len(found) == len(keys)
    assert set(found) == keys
    sharded = next(
        number for number, one in enumerate(cluster.commands) if "shardCollection" in one
    )
    assert cluster.commands[sharded]["key"] == {"pk": "hashed"}
    assert "enableSharding" in cluster.names()[:sharded]
    first = next(
        number
        for number, one in enumerate(cluster.commands)
        if str(one.get("insert")).startswith(name) and one["$db"] == name
    )
    assert sharded < first
    indexes = cluster.collections[place].indexes
    assert indexes["pk_1_sk_1"]["unique"]
    assert indexes["pk_hashed"]["key"] == {"pk": "hashed"}
