"""Where a rename changes a collection's UUID, a run recognises its copy, and only its copy.

So it is in SecantusDB, and it can be so in a sharded cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import pytest
from pymongo import MongoClient

from shake.demo.mongo import SecantusDB
from tests.support.followed import Followed
from tests.support.migration import Migration
from tests.support.wire import ANY_WRITE, Moment, Wire
from tests.test_replacing_by_name import MOST, OLD, Death, Landing, Task, finish, tasks

pytestmark = pytest.mark.slow

KEYS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with (
        SecantusDB(tmp_path_factory.mktemp("secantus")) as server,
        MongoClient[Any](server.uri) as client,
    ):
        yield client


@pytest.fixture
def wire(server: Any) -> Iterator[Wire]:
    with Wire(*server.address) as wire:
        yield wire


@pytest.fixture
def migration(followed: Followed, wire: Wire) -> Migration:
    followed.simulator.table(followed.name)
    for key in KEYS:
        followed.put(key)
    return followed.task(target=wire.uri)


def killed(migration: Migration, wire: Wire, moment: Any, command: str, place: str) -> None:
    """A run that is killed with its children at one command."""
    wire.stop_at(moment, command, place, lambda: migration.kill(migration.running[-1]))
    assert migration.run("--until-consistent").status == -9


def stored(server: Any, name: str) -> list[Any]:
    found = server[name][name].find({}, {"_id": 0})
    return sorted(found, key=itemgetter("pk"))


@pytest.mark.parametrize("policy", ["", "drop", "rename"])
def test_a_run_that_dies_behind_the_rename_is_continued(
    followed: Followed, migration: Migration, wire: Wire, server: Any, policy: str
) -> None:
    name = followed.name
    if policy:
        server[name][name].insert_one({"_id": OLD})
        with migration.conf.open("a") as conf:
            conf.write(f"target.db.exist = {policy}\n")
    place = f"{name}.{name}"
    if policy == "rename":  # the first rename is that of the existing collection
        wire.stop_at("answer", "renameCollection", place, lambda: None)
    killed(migration, wire, "answer", "renameCollection", place)
    scans = len(followed.simulator.journal)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert stored(server, name) == [{"pk": key} for key in KEYS]
    calls = followed.simulator.journal[scans:]
    assert not any("Segment" in call.request for call in calls), "it was copied twice"
    others = set(server[name].list_collection_names()) - {name}
    assert len(others) == (policy == "rename")


def test_runs_that_die_at_each_save_behind_the_rename_are_continued(
    followed: Followed, migration: Migration, wire: Wire, server: Any
) -> None:
    """The new UUID is saved, the mark is removed, and the phase is saved: each of it, or not."""
    name = followed.name
    killed(migration, wire, "answer", "renameCollection", f"{name}.{name}")
    scans = len(followed.simulator.journal)
    for number in range(MOST):
        moment: Moment = "answer" if number % 2 else "request"
        process = migration.start("--until-consistent")
        kill = partial(migration.kill, process)
        met = wire.stop_at(moment, ANY_WRITE, f"{name}-checkpoint.{name}", kill, skip=number)
        result = migration.wait(process)
        assert result.status == (-9 if met.is_set() else 0), result
        if not met.is_set():
            break
    assert number > 5
    assert stored(server, name) == [{"pk": key} for key in KEYS]
    assert server[name][name].count_documents({}) == len(KEYS)
    assert server[name].list_collection_names() == [name]
    calls = followed.simulator.journal[scans:]
    assert not any("Segment" in call.request for call in calls), "it was copied twice"


@pytest.mark.parametrize("moment", ["request", "answer"])
def test_the_mark_does_not_count_as_a_document(
    followed: Followed, migration: Migration, wire: Wire, server: Any, moment: Moment
) -> None:
    """Neither before the rename nor after it: else one that is gone would not be noticed."""
    name = followed.name
    killed(migration, wire, moment, "renameCollection", f"{name}.{name}")
    [copy] = server[name].list_collection_names()
    assert server[name][copy].delete_one({"pk": "b"}).deleted_count == 1
    result = migration.run("--until-consistent")
    assert result.status == 1, result
    assert "1 of the 3 documents that were stored for table" in result.line


def test_a_collection_that_a_user_has_put_in_place_is_not_taken_for_the_copy(
    followed: Followed, migration: Migration, wire: Wire, server: Any
) -> None:
    """It has as many documents, and the key index; the staging collection is gone."""
    name = followed.name
    killed(migration, wire, "request", "renameCollection", f"{name}.{name}")
    [staging] = server[name].list_collection_names()
    server[name].drop_collection(staging)
    server[name][name].insert_many([{"pk": key, "n": 1} for key in KEYS])
    server[name][name].create_index("pk", unique=True)
    for arguments in (["--dry-run"], ["--until-consistent"]):
        result = migration.run(*arguments)
        assert result.status == 3, result
        assert "the staging collection" in result.stdout + result.stderr
    assert stored(server, name) == [{"pk": key, "n": 1} for key in KEYS]


@pytest.fixture
def task(server: Any, name: str) -> Iterator[Callable[[], Task]]:
    with tasks(server, name) as make:
        yield make


@pytest.mark.parametrize("landing", ["never", "at once"])
@pytest.mark.parametrize("policy", ["drop", "rename"])
def test_a_run_that_dies_at_any_command_is_continued(
    task: Callable[[], Task], landing: Landing, policy: Any
) -> None:
    for number in range(MOST):
        death, one = Death(number, landing), task()
        one.go_on(policy, death)
        finish(one, [death], policy)
        if not death.met.is_set():
            assert number >= 6
            return
    raise AssertionError("it sends more commands than expected")


def test_a_late_insert_that_makes_the_staging_collection_anew_changes_nothing(
    task: Callable[[], Task],
) -> None:
    for number in range(MOST):
        death, one = Death(number, "at once"), task()
        one.go_on("drop", death)
        if one.location and "c" in one.contents() and one.contents()["c"] != [OLD]:
            one.database["c.shake-1-0"].insert_one({"_id": "late"})
        one.go_on("drop")
        one.assert_exact()
        if not death.met.is_set():
            return
    raise AssertionError("it sends more commands than expected")


@dataclass
class LandsAtTheMark:
    """The command of a dead process lands when the next process is to mark the same collection."""

    death: Death
    landing = "late"

    def wait_in(self, wire: Wire, task: Task, stop: object) -> None:
        wire.stop_at("request", "insert", task.namespace, self.death.release)


@pytest.mark.parametrize("policy", ["drop", "rename"])
def test_a_rename_that_lands_before_the_mark_of_the_next_process_loses_nothing(
    task: Callable[[], Task], policy: Any
) -> None:
    """The mark then makes a staging collection anew, which must not replace the copy."""
    for number in range(MOST):
        death, one = Death(number, "late"), task()
        one.go_on(policy, death)
        landing: Any = LandsAtTheMark(death)
        one.go_on(policy, landing, same_run=True)
        death.release()
        one.go_on(policy)
        one.assert_exact(policy)
        if not death.met.is_set():
            return
    raise AssertionError("it sends more commands than expected")


@dataclass
class LandsNow:
    """The command of a dead run lands when the next run has looked where the copy is."""

    death: Death
    landing = "late"

    def wait_in(self, *_: object) -> None:
        self.death.release()


def test_a_rename_that_lands_after_the_next_run_has_looked_is_recognised(
    task: Callable[[], Task],
) -> None:
    for number in range(MOST):
        death, one = Death(number, "late"), task()
        one.go_on("drop", death)
        landing: Any = LandsNow(death)
        one.go_on("drop", landing)
        one.assert_exact()
        if not death.met.is_set():
            return
    raise AssertionError("it sends more commands than expected")
