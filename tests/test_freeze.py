"""A run that was frozen while another machine took its task over changes nothing when it wakes.

The run on another machine has another host name (UTS namespace), so that neither run can tell
whether the other one runs.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.followed import Followed, stopped
from tests.support.machine import ELSEWHERE, OTHER, SHORT_LOCK, Frozen, why_no_other_machine
from tests.support.migration import MANY_PAGES, Migration
from tests.support.wait import until
from tests.support.wire import Moment, Wire

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(why_no_other_machine()), reason=f"no host name for a process: {why_no_other_machine()}"
    ),
]

ITEMS = 300


class Machines:
    """A task that is run here, and elsewhere; ``wire`` leads to its target."""

    def __init__(self, followed: Followed, wire: Wire, folder: Path) -> None:
        self.followed = followed
        self.wire = wire
        self.place = f"{followed.name}.{followed.name}"
        self._folder = folder
        self._made: list[Migration] = []
        self._frozen: list[Frozen] = []
        self._released = threading.Event()
        followed.simulator.table(followed.name, sk=("sk", "N"))
        for number in range(ITEMS):
            self.put(number, "1")

    def run(self, first: str, wire: Wire | None = None, **settings: Any) -> Migration:
        """A run of the task, in a new folder."""
        folder = self._folder / str(len(self._made))
        folder.mkdir()
        settings = {"sync_mode": "all", **MANY_PAGES, **settings}
        self.followed.settings = settings
        uri = (wire or self.wire).uri
        self._made.append(
            Migration(self.followed.simulator.url, uri, self.followed.name, folder, **settings)
        )
        self._made[-1].first = first
        self._made[-1].start()
        return self._made[-1]

    def take_over(self, **settings: Any) -> Migration:
        """A run elsewhere that has the task: it is refused where the other one was just seen."""
        lock = self.followed.mongo.client[f"{self.followed.name}-checkpoint"].status_table
        while True:
            migration = self.run(ELSEWHERE, **settings)
            process = migration.running[-1]

            def decided(process: Any = process) -> bool:
                held = lock.find_one({"_id": "lease"})
                return process.poll() is not None or (held and held["Host"]) == OTHER

            until(decided)
            if process.poll() is None:
                return migration
            result = migration.wait(process)
            assert "already run by" in result.line

    def freeze(self, *processes: psutil.Process) -> None:
        """Stop these processes until ``go_on``."""
        self._frozen.append(Frozen([*processes]))

    def hold_at(self, command: str, action: Callable[[], None], skip: int) -> threading.Event:
        """Call ``action`` when a run sends that command, which lands at ``go_on``."""

        def hold() -> None:
            action()
            self._released.wait(120)

        return self.wire.stop_at("request", command, self.place, hold, skip=skip, late=True)

    def freeze_at(self, migration: Migration, command: str, skip: int = 0) -> threading.Event:
        """Freeze the run when it sends that command, which lands at ``go_on``."""
        return self.hold_at(
            command, lambda: self._frozen.append(Frozen.whole(migration)), skip=skip
        )

    def put(self, number: int, value: str) -> None:
        self.followed.put(f"k{number}", sk={"N": "0"}, n={"N": value})

    def arrived(self, number: int) -> None:
        """An item is put, and stored: so is all that was put before it."""
        self.put(number, "9")
        self.followed.arrived(f"k{number}")

    def change_all(self) -> None:
        """Every item changes, is removed, or is new."""
        for number in range(0, ITEMS, 3):
            self.followed.table.delete({"pk": {"S": f"k{number}"}, "sk": {"N": "0"}})
            self.put(number + 1, "2")
            self.put(number + 2, "3")
            self.put(-number - 1, "4")

    def go_on(self) -> None:
        """What waits on the wire lands, and what is frozen goes on."""
        self._released.set()
        for frozen in self._frozen:
            frozen.thaw()

    def ended(self, migration: Migration) -> None:
        """The run that was frozen ends by itself, soon, with all its children."""
        began = time.monotonic()
        result = migration.wait(migration.running[-1], 20)
        assert time.monotonic() - began < 10, result
        assert result.status == 1, result
        assert f"on host {OTHER} took over" in result.line
        until(self.all_gone, 10)

    def all_gone(self) -> bool:
        """Whether none of the frozen processes does anything any more."""
        return all(one.gone() for one in self._frozen)

    def collections(self) -> set[str]:
        return set(self.followed.mongo.client[self.followed.name].list_collection_names())

    def close(self) -> None:
        self.go_on()
        for migration in self._made:
            migration.close()


@pytest.fixture
def machines(followed: Followed, tmp_path: Path) -> Iterator[Machines]:
    with Wire(*followed.mongo.client.address) as wire:
        made = Machines(followed, wire, tmp_path)
        yield made
        made.close()


@pytest.mark.parametrize(
    ("command", "id_mode", "writers"),
    [
        ("insert", "key", 1),
        ("insert", "objectid", 3),
        ("createIndexes", "objectid", 1),
        ("renameCollection", "key", 3),
        ("update", "key", 1),
        ("update", "objectid", 1),
    ],
)
def test_a_whole_run_that_was_frozen_changes_nothing_and_ends(
    machines: Machines, command: str, id_mode: str, writers: int
) -> None:
    followed = machines.followed
    settings: dict[str, Any] = {"id__mode": id_mode, "full__writers": writers}
    if command == "renameCollection":
        settings["target__db__exist"] = "drop"
        followed.collection.insert_one({"_id": "old"})
    here = machines.run(SHORT_LOCK, **settings)
    frozen = machines.freeze_at(here, command, skip=3 if command == "insert" else 0)
    if command == "update":
        followed.arrived(f"k{ITEMS - 1}")
        until(lambda: followed.simulator.journal.of("GetRecords"))
        machines.put(1, "7")
    until(frozen.is_set)
    elsewhere = machines.take_over(**settings)
    until(lambda: followed.collection.find_one({"pk": "k0"}), 60)
    machines.change_all()
    followed.equal()
    machines.go_on()
    machines.ended(here)
    machines.arrived(1000)
    followed.compare()
    stopped(elsewhere, elsewhere.running[-1])
    again = machines.run(ELSEWHERE, **settings)
    machines.arrived(1001)
    stopped(again, again.running[-1])
    followed.compare()
    assert machines.collections() == {followed.name}


def test_writers_of_a_frozen_supervisor_write_no_more_than_the_lock_allows(
    machines: Machines,
) -> None:
    followed = machines.followed
    here = machines.run(SHORT_LOCK, qps__full=8)
    until(lambda: machines.wire.count("insert", machines.place) >= 3)
    machines.freeze(psutil.Process(here.running[-1].pid))
    elsewhere = machines.take_over()
    machines.change_all()
    followed.equal()
    machines.go_on()
    machines.ended(here)
    machines.arrived(1000)
    followed.compare()
    stopped(elsewhere, elsewhere.running[-1])


def test_a_run_that_is_refused_has_not_taken_the_task_over(machines: Machines) -> None:
    here = machines.run(SHORT_LOCK)
    machines.arrived(1000)
    machines.freeze(psutil.Process(here.running[-1].pid))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = machines.run(ELSEWHERE, http_profile=port)
        result = refused.wait(refused.running[-1])
    assert result.status == 3
    assert f"http_profile: cannot listen on 127.0.0.1 port {port}" in result.line
    machines.go_on()
    machines.arrived(1001)
    stopped(here, here.running[-1])


@pytest.mark.parametrize("id_mode", ["key", "objectid"])
@pytest.mark.parametrize(("command", "writers"), [("insert", 1), ("insert", 3), ("update", 1)])
def test_a_writer_that_was_frozen_and_outlived_its_run_changes_nothing(
    machines: Machines, command: str, writers: int, id_mode: str
) -> None:
    followed = machines.followed
    dead = machines.run("", id__mode=id_mode, full__writers=writers)

    def freeze() -> None:
        machines.freeze(writer := dead.client(machines.wire.sender))
        for process in psutil.Process(dead.running[-1].pid), *dead.children():
            if process != writer:
                process.kill()

    frozen = machines.hold_at(command, freeze, skip=2 if command == "insert" else 0)
    if command == "update":
        followed.arrived(f"k{ITEMS - 1}")
        until(lambda: followed.simulator.journal.of("GetRecords"))
        machines.put(1, "7")
    until(frozen.is_set)
    until(lambda: dead.running[-1].poll() is not None)
    alive = machines.run("", id__mode=id_mode, full__writers=writers)
    machines.change_all()
    followed.equal()
    machines.go_on()
    until(machines.all_gone, 10)
    machines.arrived(1000)
    followed.compare()
    stopped(alive, alive.running[-1])


@pytest.mark.parametrize(
    ("command", "directions"),
    [
        ("insert", ("request",)),
        ("insert", ("request", "answer")),
        ("renameCollection", ("answer",)),
        ("update", ("answer",)),
        ("update", ("request", "answer")),
    ],
)
def test_a_run_whose_network_was_cut_changes_nothing_and_ends(
    machines: Machines, command: str, directions: tuple[Moment, ...]
) -> None:
    followed = machines.followed
    with Wire(*followed.mongo.client.address) as wire:
        here = machines.run(SHORT_LOCK, wire)
        moment: Moment = "answer" if "answer" in directions else "request"
        cut = wire.stop_at(moment, command, machines.place, lambda: wire.cut(*directions))
        if command == "update":
            followed.arrived(f"k{ITEMS - 1}")
            until(lambda: followed.simulator.journal.of("GetRecords"))
            machines.put(1, "7")
        until(cut.is_set)
        elsewhere = machines.take_over()
        machines.change_all()
        followed.equal()
        wire.heal()
        machines.ended(here)
        machines.arrived(1000)
        followed.compare()
        stopped(elsewhere, elsewhere.running[-1])
