"""A repair never changes the target beside a run of the task, nor does what it sent arrive late."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest

from shake.cli import check
from shake.demo.mongo import why_no_mongod
from tests.support.followed import Followed, stopped
from tests.support.migration import ROOT, Migration
from tests.support.wait import until
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

MODES = pytest.mark.parametrize("mode", ["objectid", "key"])
REPAIR = ("--repair", "--yes", "--delete-extra", "--after-cutover")
Command = Literal["update", "insert", "delete"]


def put(followed: Followed, key: str, number: int) -> None:
    followed.put(key, n={"N": str(number)})


def copied(followed: Followed, mode: str) -> Migration:
    """A task that has copied the keys a and b, and is stopped."""
    followed.simulator.table(followed.name, shards=1)
    put(followed, "a", 1)
    put(followed, "b", 1)
    migration = followed.task(id__mode=mode)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    return migration


def spoil(followed: Followed, mode: str, command: Command) -> None:
    """The target differs from the source in one document, which ``command`` repairs."""
    query: dict[str, Any] = {"pk": "b"}
    if command == "update":
        followed.collection.update_one(query, {"$set": {"n": 2}})
    elif command == "insert":
        followed.collection.delete_one(query)
    else:
        identity = {"_id": "c"} if mode == "key" else {}
        followed.collection.insert_one({**identity, "pk": "c", "n": 2})


def make_right(followed: Followed, command: Command) -> Callable[[], bool]:
    """The source changes to what the target holds; whether the change is applied is returned."""
    if command == "insert":
        followed.table.delete({"pk": {"S": "b"}})
    else:
        put(followed, "b" if command == "update" else "c", 2)
    put(followed, "last", 1)
    return lambda: followed.collection.find_one({"pk": "last"}) is not None


def repair(migration: Migration, wire: Wire) -> subprocess.Popen[bytes]:
    """A repair in a separate process, through the wire."""
    target = f"target.address={wire.uri}"
    command = [sys.executable, str(ROOT / "bin/shake-check"), "--conf", str(migration.conf)]
    return subprocess.Popen(
        [*command, *REPAIR, "--workers=1", "--set", target], stdout=subprocess.DEVNULL
    )


@MODES
@pytest.mark.parametrize("command", ["update", "insert", "delete"])
def test_what_a_dead_repair_has_sent_changes_nothing_however_late_it_lands(
    followed: Followed, mode: str, command: Command
) -> None:
    """Not even where the target holds again what the repair had looked at."""
    migration = copied(followed, mode)
    spoil(followed, mode, command)
    killed, released, answered = threading.Event(), threading.Event(), threading.Event()
    with Wire(*followed.mongo.client.address, sessions=bool(why_no_mongod())) as wire:

        def hold() -> None:
            checker.kill()
            checker.wait()
            killed.set()
            released.wait(60)

        place = f"{followed.name}.{followed.name}"
        wire.stop_at("request", command, place, hold, late=True, answered=answered)
        checker = repair(migration, wire)
        until(killed.is_set)
        process = migration.start()
        until(make_right(followed, command))
        followed.compare()
        released.set()
        until(lambda: answered.is_set() or wire.refused)
        followed.compare()
        stopped(migration, process)


def test_no_repair_begins_while_the_task_runs(
    followed: Followed, capsys: pytest.CaptureFixture[str]
) -> None:
    migration = copied(followed, "objectid")
    process = migration.start()
    put(followed, "c", 1)
    followed.arrived("c")
    followed.collection.update_one({"pk": "b"}, {"$set": {"n": 2}})
    arguments = ["--conf", str(migration.conf)]
    assert check.main([*arguments, *REPAIR]) == 3
    assert "runs this task" in (line := capsys.readouterr().err)
    assert f"process {process.pid}" in line
    assert followed.collection.find_one({"pk": "b"})["n"] == 2
    assert check.main(arguments) == 1
    stopped(migration, process)
    assert check.main([*arguments, *REPAIR]) == 0
    followed.compare()


def test_no_run_of_the_task_begins_during_a_repair(followed: Followed) -> None:
    migration = copied(followed, "objectid")
    spoil(followed, "objectid", "update")
    results = []
    with Wire(*followed.mongo.client.address) as wire:
        place = f"{followed.name}.{followed.name}"
        wire.stop_at("request", "update", place, lambda: results.append(migration.run()))
        assert repair(migration, wire).wait(60) == 0
    [result] = results
    assert result.status == 3
    assert "already run by" in result.line
    followed.compare()


def test_runs_and_repairs_follow_each_other(followed: Followed) -> None:
    """Each has higher numbers than the one before it, so the target refuses none of them."""
    migration = copied(followed, "objectid")
    commands: tuple[Command, ...] = ("update", "insert", "delete")
    for round in range(2):
        for command in commands:
            spoil(followed, "objectid", command)
            assert check.main(["--conf", str(migration.conf), *REPAIR]) == 0
            followed.compare()
        put(followed, "b", 10 + round)
        put(followed, f"new{round}", 1)
        assert migration.run("--until-consistent").status == 0
        followed.compare()
