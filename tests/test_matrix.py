"""A whole migration ends equal on each version of MongoDB that is at hand (``make matrix``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from shake.demo import fetch
from shake.demo.mongo import Mongod
from tests.support.migration import MANY_PAGES, ROOT, Migration, compare
from tests.support.tables import create_table, put_items
from tests.support.wait import until

ITEMS = 400

pytestmark = pytest.mark.matrix


def change(dynamodb: Any, table: str, number: int) -> None:
    """Insert, change and delete an item, each with keys of this number."""
    dynamodb.put_item(TableName=table, Item={"pk": {"S": f"new {number}"}, "n": {"N": "1.5"}})
    dynamodb.put_item(TableName=table, Item={"pk": {"S": f"{number}"}, "new": {"BOOL": True}})
    dynamodb.delete_item(TableName=table, Key={"pk": {"S": f"{ITEMS - 1 - number}"}})


@pytest.mark.timeout(900)  # the older versions are fetched here
@pytest.mark.parametrize("version", fetch.MONGOD)
def test_a_migration_through_kills_ends_equal(
    dynamodb: Any, migrate: Callable[..., Migration], name: str, tmp_path: Path, version: str
) -> None:
    create_table(dynamodb.client, name)
    items = ({"pk": {"S": str(item)}, "x": {"S": "x" * 500}} for item in range(ITEMS))
    put_items(dynamodb.client, name, items)
    with (
        Mongod(version=version, folder=tmp_path / "mongod") as server,
        MongoClient[Any](server.uri) as client,
    ):
        assert client.server_info()["version"] == version
        collection = client[name][name]
        migration = migrate(target=server.uri, sync_mode="all", qps__full=8, **MANY_PAGES)
        run = migration.start()
        until(lambda: collection.estimated_document_count() > 0)
        change(dynamodb.client, name, 0)
        migration.child("writer").kill()
        server.kill()
        change(dynamodb.client, name, 1)
        server.restart()
        until(lambda: collection.find_one({"pk": "new 1"}), 60)
        change(dynamodb.client, name, 2)
        migration.kill(run)
        change(dynamodb.client, name, 3)
        result = migration.run("--until-consistent")
        assert result.status == 0, result
        compare(dynamodb.client, client, name, f"{name}.{name}")
        check = [sys.executable, str(ROOT / "bin/shake-check"), "--conf", str(migration.conf)]
        assert subprocess.run(check, check=False).returncode == 0
