"""Several writer processes fill one collection: whatever dies or hangs, each item is there once."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from shake.demo.servers import free_port
from tests.support.crash import SLOWLY, MakeCopy, opened
from tests.support.followed import Followed, stopped
from tests.support.machine import SHORT_LOCK
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.wait import until
from tests.support.wire import Moment, Wire
from tests.test_hung_child import HASTY

pytestmark = pytest.mark.slow

#: Four segments are read at once. So the first writer stores two of them, the others one each.
SEVERAL = {"full__writers": 3}
VICTIMS = ["writer t", "writer 2 of", "writer 3 of", "sender"]


@pytest.fixture
def make_copy(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[MakeCopy]:
    with opened(dynamodb, mongo, name, tmp_path) as make:
        yield partial(make, **SEVERAL)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize(
    ("id_mode", "moment", "skip"), [("objectid", "request", 3), ("key", "answer", 4)]
)
def test_each_writer_that_dies_is_replaced_and_the_copy_is_exact(
    make_copy: MakeCopy, id_mode: str, victim: str, moment: Moment, skip: int
) -> None:
    copy = make_copy(id__mode=id_mode)
    died = copy.kill_at(moment, "insert", copy.place, victim, skip)
    result = copy.migration.run()
    assert died.is_set()
    assert result.status == 0, result
    assert result.stdout.count("it is replaced") == 1
    copy.assert_exact(id_mode=id_mode)


@pytest.mark.parametrize(("id_mode", "victim"), [("objectid", "supervisor"), ("key", "everything")])
def test_a_restart_after_a_kill_is_exact(make_copy: MakeCopy, id_mode: str, victim: str) -> None:
    copy = make_copy(id__mode=id_mode)
    for moment, skip in (("answer", 4), ("request", 3)):
        copy.kill_at(moment, "insert", copy.place, victim, skip)  # type: ignore[arg-type]
        copy.run_killed()
    copy.run_to_the_end()
    copy.assert_exact(id_mode=id_mode)


@pytest.mark.parametrize("seed", range(int(os.environ.get("SHAKE_CRASH_ROUNDS", "1"))))
def test_random_kills_are_exact(make_copy: MakeCopy, seed: int) -> None:
    rng = random.Random(seed)
    id_mode = rng.choice(["objectid", "key"])
    copy = make_copy(id__mode=id_mode, **(SLOWLY if rng.random() < 0.5 else {}))
    for _ in range(4):
        for victim in rng.sample([*VICTIMS[:3], "supervisor", "everything", "worker 0"], 3):
            moment: Moment = rng.choice(["request", "answer"])
            die = partial(copy.kill_if_there, victim)
            copy.wire.stop_at(moment, "insert", copy.place, die, skip=rng.randrange(10))
        result = copy.migration.run()
        assert result.status in (0, -signal.SIGKILL), result
    copy.run_to_the_end()
    copy.assert_exact(id_mode=id_mode)


def test_only_the_first_writer_is_left_when_all_pages_are_stored(make_copy: MakeCopy) -> None:
    copy = make_copy()
    alive: list[list[psutil.Process]] = []
    copy.wire.stop_at(
        *("answer", "insert", copy.place),
        lambda: alive.append(until(lambda: len(w := copy.migration.children("writer")) == 3 and w)),
        skip=3,
    )
    copy.wire.stop_at(
        *("request", "createIndexes", copy.place),
        lambda: alive.append(copy.migration.children("writer")),
    )
    assert copy.migration.run().status == 0
    before, after = alive
    assert after == [one for one in before if one.pid == after[0].pid]


def test_writers_of_a_table_insert_at_the_same_time(make_copy: MakeCopy) -> None:
    """Each of them waits for the answer to its only insert."""
    copy = make_copy(full__document__concurrency=1)
    all_there = threading.Barrier(3)
    for _ in range(3):
        copy.wire.stop_at("request", "insert", copy.place, lambda: all_there.wait(30))
    assert copy.migration.run().status == 0
    assert not all_there.broken
    copy.assert_exact()


def test_each_writer_goes_on_for_as_long_as_the_task_lock_is_renewed(make_copy: MakeCopy) -> None:
    copy = make_copy(qps__full=4)
    copy.migration.first = SHORT_LOCK  # it ends before the copy does

    def renewed() -> bool:
        return copy.wire.count("update", copy.status_table) > 8

    expired = copy.wire.stop_at("answer", "insert", copy.place, lambda: until(renewed), skip=3)
    assert copy.migration.run().status == 0
    assert expired.is_set()
    copy.assert_exact()


def test_status_names_each_writer(make_copy: MakeCopy) -> None:
    port = free_port()
    copy = make_copy(http_profile=port)
    roles: list[str] = []

    def writers() -> list[str]:
        found = [one["role"] for one in status(port)["processes"]]
        return [role for role in found if role.startswith("writer")]

    def look() -> None:
        roles.extend(until(lambda: len(found := writers()) == 3 and found))

    copy.wire.stop_at("answer", "insert", copy.place, look, skip=3)
    assert copy.migration.run().status == 0
    assert sorted(roles) == sorted(
        [f"writer {copy.place}", f"writer 2 of {copy.place}", f"writer 3 of {copy.place}"]
    )


class Hung:
    """A writer that is stopped when it sends an insert, which lands late: at ``release``."""

    def __init__(self, wire: Wire, migration: Migration, place: str, skip: int) -> None:
        self._wire, self._migration = wire, migration
        self._stopped: list[psutil.Process] = []
        self._released, self._answered = threading.Event(), threading.Event()
        wire.stop_at(
            *("request", "insert", place, self._stop),
            skip=skip,
            late=True,
            answered=self._answered,
        )

    def _stop(self) -> None:
        process = self._migration.client(self._wire.sender)
        process.send_signal(signal.SIGSTOP)
        self._stopped.append(process)
        self._released.wait(180)

    @property
    def process(self) -> psutil.Process:
        """The writer, as soon as it is stopped."""
        [process] = until(lambda: self._stopped)
        return process

    def release(self) -> None:
        """Let the insert through; return when the server has answered it."""
        self._released.set()
        until(self._answered.is_set)


@pytest.mark.parametrize(("id_mode", "skip"), [("objectid", 1), ("key", 5)])
def test_a_writer_that_hangs_is_replaced_and_what_it_has_sent_changes_nothing(
    followed: Followed, id_mode: str, skip: int
) -> None:
    followed.simulator.table(followed.name)
    for number in range(300):
        followed.put(f"k{number}")
    with Wire(*followed.mongo.client.address) as wire:
        migration = followed.task(target=wire.uri, id__mode=id_mode, **SEVERAL)
        migration.first = HASTY
        hung = Hung(wire, migration, f"{followed.name}.{followed.name}", skip)
        process = migration.start()
        writer = hung.process
        for number in range(0, 300, 3):
            followed.put(f"k{number}", n={"N": "1"})
            followed.table.delete({"pk": {"S": f"k{number + 1}"}})
        until(lambda: not writer.is_running(), 120)
        followed.equal(120)
        hung.release()
        followed.put("new")
        followed.arrived("new")
        followed.compare()
        result = stopped(migration, process)
        assert "crashed (killed: no answer for 12 s); it is replaced" in result.stdout
