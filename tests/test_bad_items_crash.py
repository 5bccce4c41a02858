"""Whatever is killed while a bad item is kept: it is kept once, and all else is stored once."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bad import KEEP, LONG, kept, kept_in_file
from tests.support.crash import ITEMS, Copy, Held, await_death
from tests.support.followed import HASTY, Followed, stopped
from tests.support.migration import Migration
from tests.support.wait import until
from tests.support.wire import Moment, Wire

pytestmark = pytest.mark.slow

BAD = {"bad1", "bad2", "bad3"}
every_victim = pytest.mark.parametrize("victim", ["worker 0", "writer", "supervisor", "everything"])
every_moment = pytest.mark.parametrize("moment", ["request", "answer"])


def spoil(copy: Copy) -> None:
    for number, pk in enumerate(sorted(BAD)):
        item = {"pk": {"S": pk}, "sk": {"N": str(number)}, "n": LONG}
        copy.dynamodb.client.put_item(TableName=copy.table, Item=item)


def assert_stored(copy: Copy) -> None:
    """Every good item once."""
    stored = [one["sk"] for one in copy.mongo.client[copy.table][copy.table].find()]
    assert sorted(stored) == list(range(ITEMS))


@every_victim
@every_moment
def test_a_kill_while_a_copy_keeps_an_item(
    make_copy: Callable[..., Copy], victim: str, moment: Moment
) -> None:
    id_mode = "key" if (moment == "answer") == (victim in ("writer", "everything")) else "objectid"
    copy = make_copy(id__mode=id_mode, **KEEP)
    spoil(copy)
    killed = copy.kill_at(moment, "insert", f"{copy.checkpoint}.bad", victim)
    result = copy.run_to_the_end()
    assert killed.is_set()
    assert kept(copy.mongo, copy.table).keys() == BAD
    assert f"KEPT, NOT STORED: table {copy.table}: 3 items" in result.stdout
    assert_stored(copy)


@pytest.mark.parametrize("victim", ["writer", "everything"])
@every_moment
def test_a_kill_while_a_page_with_a_kept_item_is_stored(
    make_copy: Callable[..., Copy], tmp_path: Path, victim: str, moment: Moment
) -> None:
    copy = make_copy(checkpoint__type="file", checkpoint__address=tmp_path / "checkpoint", **KEEP)
    spoil(copy)
    for skip in (0, 3, 7):
        copy.kill_at(moment, "insert", copy.place, victim, skip=skip)
    copy.run_to_the_end()
    assert kept_in_file(tmp_path / "checkpoint", copy.table).keys() == BAD
    assert_stored(copy)


@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_an_item_that_is_mended_between_two_runs_is_stored_and_kept_no_more(
    make_copy: Callable[..., Copy], id_mode: str
) -> None:
    one_by_one = {"full__read__concurrency": 1, "full__document__concurrency": 1}
    copy = make_copy(id__mode=id_mode, **one_by_one, **KEEP)
    spoil(copy)
    copy.kill_at("answer", "update", f"{copy.checkpoint}.bad", "everything")
    copy.run_killed()
    assert kept(copy.mongo, copy.table)
    for number, pk in enumerate(sorted(BAD)):
        item = {"pk": {"S": pk}, "sk": {"N": str(1000 + number)}}
        old = {"pk": {"S": pk}, "sk": {"N": str(number)}}
        copy.dynamodb.client.put_item(TableName=copy.table, Item=old | {"n": {"N": "1"}})
        copy.dynamodb.client.put_item(TableName=copy.table, Item=item)
    copy.run_to_the_end()
    left = kept(copy.mongo, copy.table).keys()
    stored = {one["pk"] for one in copy.mongo.client[copy.table][copy.table].find({"n": 1})}
    assert stored == BAD
    assert left == set()


@pytest.mark.parametrize("since", [LONG, {"N": "1"}], ids=["bad", "mended"])
def test_what_a_dead_run_keeps_late_replaces_nothing(
    make_copy: Callable[..., Copy], since: dict[str, str]
) -> None:
    copy = make_copy(full__read__concurrency=1, **KEEP)
    spoil(copy)
    held = Held(copy, "update", f"{copy.checkpoint}.bad", "everything")
    copy.run_killed()
    for number, pk in enumerate(sorted(BAD)):
        item = {"pk": {"S": pk}, "sk": {"N": str(number)}, "n": since, "v": {"S": "newer"}}
        copy.dynamodb.client.put_item(TableName=copy.table, Item=item)
    copy.run_to_the_end()
    held.release()
    found = kept(copy.mongo, copy.table)
    assert found.keys() == (BAD if since == LONG else set())
    assert {json.loads(one["Item"])["v"]["S"] for one in found.values()} <= {"newer"}


class Follower:
    """A task that follows a simulated table through a proxy, and is killed on the way."""

    def __init__(self, followed: Followed, wire: Wire, **settings: Any) -> None:
        self.followed = followed
        self.wire = wire
        self.migration: Migration = followed.task(target=wire.uri, **KEEP, **settings)
        self.process = self.migration.start()

    @property
    def bad(self) -> str:
        return f"{self.followed.name}-checkpoint.{self.followed.name}.bad"

    def kill(self, victim: str) -> None:
        if victim == "everything":
            self.migration.kill(self.process)
        elif victim == "supervisor":
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        else:
            for child in self.migration.children(victim)[:1]:
                child.send_signal(signal.SIGKILL)
                await_death(child)

    def survive(self, killed: threading.Event, victim: str) -> None:
        """Wait for the kill, and start again where it ended the run."""
        until(killed.is_set, deadline=90)
        if victim in ("supervisor", "everything"):
            until(lambda: self.process.poll() is not None)
            self.process = self.migration.start()


@pytest.mark.parametrize(
    ("victim", "moment", "journal"),
    [
        ("worker 0", "request", False),
        ("worker 0", "answer", True),
        ("writer", "request", True),
        ("writer", "answer", False),
        ("supervisor", "request", False),
        ("supervisor", "answer", True),
        ("everything", "request", True),
        ("everything", "answer", False),
    ],
)
def test_a_kill_while_a_change_is_kept_or_let_go(
    followed: Followed, mongo: Any, victim: str, moment: Moment, journal: bool
) -> None:
    followed.simulator.table(followed.name)
    for n in range(20):
        followed.put(f"k{n}", v={"N": "0"})
    id_mode = "key" if moment == "answer" else "objectid"
    with Wire(*mongo.client.address) as wire:
        task = Follower(followed, wire, id__mode=id_mode, incr_sync_parallel=str(journal).lower())
        until(lambda: followed.collection.count_documents({}) == 20, deadline=90)
        killed = wire.stop_at(moment, "insert", task.bad, lambda: task.kill(victim))
        followed.put("k1", n=LONG)
        followed.put("new", n=LONG)
        followed.put("k2", v={"N": "2"})
        task.survive(killed, victim)
        until(lambda: followed.arrived("k2")["v"] == 2, deadline=90)
        until(lambda: kept(mongo, followed.name).keys() == {"k1", "new"}, deadline=90)
        killed = wire.stop_at(moment, "update", task.bad, lambda: task.kill(victim))
        followed.put("k1", v={"N": "3"})
        task.survive(killed, victim)
        followed.put("last")
        until(lambda: followed.collection.find_one({"pk": "last"}), deadline=90)
        until(lambda: kept(mongo, followed.name).keys() == {"new"}, deadline=90)
        until(lambda: followed.arrived("k1")["v"] == 3)
        stopped(task.migration, task.process)
    stored = sorted(one["pk"] for one in followed.collection.find())
    assert stored == sorted(["last", *(f"k{n}" for n in range(20))])


def test_a_copy_after_a_gap_keeps_what_is_bad_now(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    for key in ("mended", "removed", "stays"):
        followed.put(key, n=LONG)
    followed.put("good")
    migration = followed.task(gap__policy="resync", **KEEP)
    migration.workers, migration.first = 1, HASTY
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert "but for 3 kept items" in result.stdout
    followed.table.disable_stream()
    followed.put("mended", v={"S": "now"})
    followed.table.delete({"pk": {"S": "removed"}})
    followed.put("new", n=LONG)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert "it is copied again" in result.stdout
    assert kept(followed.mongo, followed.name).keys() == {"stays", "new"}
    assert {one["pk"] for one in followed.collection.find()} == {"mended", "good"}
