"""A whole migration ends equal on each version of MongoDB that is at hand (``make matrix``)."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient

from shake.demo.mongo import Mongod
from tests.support.crash import Held, opened
from tests.support.followed import HASTY, Followed, stopped
from tests.support.held import Case, Trial
from tests.support.migration import MANY_PAGES, ROOT, Migration, compare
from tests.support.mongods import VERSIONS
from tests.support.streams import Clock, Simulator
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.support.wire import Wire

ITEMS = 400

pytestmark = pytest.mark.matrix


def change(dynamodb: Any, table: str, number: int) -> None:
    """Insert, change and delete an item, each with keys of this number."""
    dynamodb.put_item(TableName=table, Item={"pk": {"S": f"new {number}"}, "n": {"N": "1.5"}})
    dynamodb.put_item(TableName=table, Item={"pk": {"S": f"{number}"}, "new": {"BOOL": True}})
    dynamodb.delete_item(TableName=table, Key={"pk": {"S": f"{ITEMS - 1 - number}"}})


@pytest.mark.timeout(900)  # the older versions are fetched here
@pytest.mark.parametrize("version", VERSIONS)
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
        planned = migration.run("--dry-run")
        assert planned.status == 0, planned
        assert "FENCE" not in planned.stdout, planned
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


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_late_change_does_not_land_in_a_collection_that_was_copied_anew(
    migrate: Callable[..., Migration], name: str, tmp_path: Path, version: str
) -> None:
    """Commands cannot name the UUID of their collection before MongoDB 6.0."""
    case = Case("resync", "objectid", "", "update", "target", 3, "everything", "when consistent")
    with (
        Mongod(version=version, folder=tmp_path / "mongod") as server,
        MongoClient[Any](server.uri) as client,
        Simulator(clock=Clock(time.time)) as simulator,
        Wire("127.0.0.1", server.port) as wire,
    ):
        mongo = SimpleNamespace(uri=server.uri, client=client)
        assert Trial(Followed(simulator, mongo, migrate, name), wire, case).run()


#: Two pages of ten items in a second.
SLOW = {"full__read__concurrency": 1, "qps__full__batch_num": 10, "qps__full": 2}


@pytest.mark.timeout(900)
def test_a_late_change_does_not_land_after_a_new_copy_that_took_long(
    migrate: Callable[..., Migration], name: str, tmp_path: Path
) -> None:
    """The server forgets the numbers of a session that was not used for 30 minutes.

    So they are kept during the copy, which can take hours.
    """
    with (
        Mongod(version="5.0.4", folder=tmp_path / "mongod") as server,
        MongoClient[Any](server.uri) as client,
        Simulator(clock=Clock(time.time)) as simulator,
        Wire("127.0.0.1", server.port) as wire,
    ):
        followed = Followed(
            simulator, SimpleNamespace(uri=server.uri, client=client), migrate, name
        )
        table = simulator.table(name, shards=1)
        for number in range(150):
            followed.put(f"k{number}")
        migration = followed.task(target=wire.uri, gap__policy="resync", **SLOW)
        migration.first = f"{HASTY}; import shake.follow.phases as p; p.FENCES_EVERY = 0.3"
        process = migration.start()
        followed.put("before")
        until(lambda: followed.collection.find_one({"pk": "before"}), 120)
        released, answered = threading.Event(), threading.Event()

        def hold() -> None:
            migration.kill(process)
            released.wait(180)

        place = f"{name}.{name}"
        held = wire.stop_at("request", "update", place, hold, late=True, answered=answered)
        followed.put("k1", n={"N": "1"})  # its update is held
        assert held.wait(60)
        until(lambda: process.poll() is not None)
        table.disable_stream()
        table.delete({"pk": {"S": "k1"}})
        process = migration.start()
        until(lambda: _copying(client, name))
        kept = wire.count("refreshSessions", "admin")
        until(lambda: wire.count("refreshSessions", "admin") > kept + 2)
        assert _copying(client, name)  # so the table is not followed yet
        until(lambda: not _copying(client, name))
        released.set()
        until(answered.is_set)
        followed.put("last")
        until(lambda: followed.collection.find_one({"pk": "last"}))
        followed.compare()
        stopped(migration, process)


def _copying(client: Any, name: str) -> bool:
    """Whether there is a staging collection."""
    names = client[name].list_collection_names()
    return any(re.search(r"\.shake-\d+-\d+$", one) for one in names)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_two_late_commands_do_not_replace_the_finished_collection(
    dynamodb: Any, name: str, tmp_path: Path, version: str
) -> None:
    """An insert creates the staging collection of a dead run again, which a rename then finds.

    Before MongoDB 6.0 there are two such renames: one moves away the collection that is replaced.
    """
    with (
        Mongod(version=version, folder=tmp_path / "mongod") as server,
        MongoClient[Any](server.uri) as client,
    ):
        mongo = SimpleNamespace(uri=server.uri, client=client)
        with opened(dynamodb, mongo, name, tmp_path, workers=1) as make_copy:
            copy = make_copy(target__db__exist="drop")
            client[name][name].insert_one({"_id": "old"})
            held = [Held(copy, "insert", copy.place, "writer", skip=4)]
            for _ in range(2 if version < "6" else 1):
                held.append(Held(copy, "renameCollection", copy.place, "everything"))
            copy.run_killed()
            copy.run_to_the_end()
            for one in held:
                one.release()
            copy.assert_exact()
            left = [client[name][one].find_one() for one in client[name].list_collection_names()]
            assert {"_id": "old"} not in left
