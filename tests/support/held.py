"""One command of a run that is held up on its way, while its sender is killed and others go on."""

from __future__ import annotations

import random
import signal
import threading
from dataclasses import dataclass
from typing import Any, Literal

from shake.codec.contract import Options
from tests.support.crash import await_death
from tests.support.followed import HASTY, Followed, stopped
from tests.support.migration import Migration, Process, compare, keys_of
from tests.support.tables import connect
from tests.support.wait import until
from tests.support.wire import Wire

Mode = Literal["full", "all", "resync"]
Victim = Literal["everything", "writer"]
Release = Literal["at once", "while copying", "when published", "when consistent", "after the end"]

#: Items at the beginning, and keys that are written, deleted and inserted again.
ITEMS, KEYS = 80, 30
#: Small pages and two segments: an insert for each page.
PAGES = {"full__read__concurrency": 2, "qps__full__batch_num": 10, "qps__full": 100}


@dataclass(frozen=True)
class Case:
    """``command`` on ``place`` is held, after ``skip`` others of its kind, until ``release``.

    ``place`` is one of PLACES. ``victim``: what of the run is killed when the command is held.
    """

    mode: Mode
    id_mode: str
    exist: str
    command: str
    place: str
    skip: int
    victim: Victim
    release: Release

    def __str__(self) -> str:
        kind = f"{self.mode}-{self.id_mode}-{self.exist or 'none'}"
        return f"{kind}-{self.command}-{self.place}-{self.skip}-{self.victim}-{self.release}"


class HeldCommand:
    """Holds the command of a case in the wire, and kills its sender."""

    def __init__(self, wire: Wire, case: Case, place: str, migration: Migration) -> None:
        self._case, self._migration = case, migration
        self._released, self._answered = threading.Event(), threading.Event()
        self.killed = threading.Event()
        self.reached = wire.stop_at(
            "request",
            case.command,
            place,
            self._hold,
            skip=case.skip,
            late=True,
            answered=self._answered,
        )

    def _hold(self) -> None:
        if self._released.is_set():  # a later run's: the first had no such command
            return
        if self._case.victim == "everything":
            self._migration.kill(self._migration.running[-1])
        else:
            for writer in self._migration.children("writer"):
                writer.send_signal(signal.SIGKILL)
                await_death(writer)
        self.killed.set()
        self._released.wait(180)

    def release(self) -> None:
        """Let it through, if it was held; return when the server has answered it."""
        self._released.set()
        if self.killed.is_set():
            until(self._answered.is_set)


class Trial:
    """A case, tried: ``run`` fails where source and target differ in the end, or more is left."""

    def __init__(self, followed: Followed, wire: Wire, case: Case) -> None:
        self._followed = followed
        self._wire = wire
        self._case = case
        self._chance = random.Random(str(case))
        self._name = followed.name
        settings: dict[str, Any] = {"id__mode": case.id_mode, **PAGES}
        settings["sync_mode"] = "full" if case.mode == "full" else "all"
        if case.exist:
            settings["target__db__exist"] = case.exist
            self._database[self._name].insert_one({"_id": "old"})
        if case.mode == "resync":
            settings["gap__policy"] = "resync"
        followed.simulator.table(self._name, shards=1)
        for number in range(ITEMS):
            followed.put(f"k{number}")
        self._migration = followed.task(target=wire.uri, **settings)
        self._migration.first = HASTY
        self._migration.workers = 1
        self._held = HeldCommand(wire, case, self._place, self._migration)

    @property
    def _database(self) -> Any:
        return self._followed.mongo.client[self._name]

    @property
    def _place(self) -> str:
        return {
            "target": f"{self._name}.{self._name}",
            "checkpoint": f"{self._name}-checkpoint.{self._name}",
            "status": f"{self._name}-checkpoint.status_table",
            "admin": "admin",
        }[self._case.place]

    def run(self) -> bool:
        """Whether the command was met."""
        process = self._first_run()
        met = self._held.reached.is_set()
        if met:
            until(self._held.killed.is_set)
        else:
            self._held.release()
        self._change_all()
        if self._case.release == "at once":
            self._held.release()
        process = self._second_run(process)
        self._finish(process)
        self._held.release()
        self._change(5)
        self._finish(self._migration.start())
        self._compare()
        self._assert_nothing_is_left()
        return met

    def _first_run(self) -> Process:
        process = self._migration.start()
        if self._case.mode == "full":
            until(lambda: self._held.reached.is_set() or process.poll() is not None, 60)
            return process
        until(lambda: self._held.reached.is_set() or self._applied(self._change(2)), 60, every=0.05)
        return process

    def _applied(self, moment: int) -> bool:
        """Whether so many changes were made, and the followed collection has seen some updates."""
        place = f"{self._name}.{self._name}"
        seen = self._wire.count("update", place) + self._wire.count("delete", place)
        return seen > self._case.skip + 12

    def _change(self, steps: int) -> int:
        """Write, delete and insert again; a full copy is of a table that rests."""
        if self._case.mode == "full":
            return 0
        for _ in range(steps):
            key = f"k{self._chance.randrange(KEYS)}"
            if self._chance.random() < 0.35:
                self._followed.table.delete({"pk": {"S": key}})
            else:
                self._followed.put(key, n={"N": str(self._chance.randrange(1 << 30))})
        return steps

    def _change_all(self) -> None:
        """Every key that the held command can be of has another content, or none."""
        for number in range(KEYS if self._case.mode != "full" else 0):
            if number % 3:
                self._followed.put(f"k{number}", n={"N": str(self._chance.randrange(1 << 30))})
            else:
                self._followed.table.delete({"pk": {"S": f"k{number}"}})

    def _second_run(self, process: Process) -> Process:
        if self._case.mode == "resync":
            if process.poll() is None:
                stopped(self._migration, process)
            self._lose()
        place = f"{self._name}.{self._name}"
        if self._case.release == "while copying":
            self._wire.stop_at("answer", "insert", place, self._held.release, skip=1)
        if self._case.release == "when published":
            self._wire.stop_at("answer", "renameCollection", place, self._held.release)
        if process.poll() is not None:
            process = self._migration.start()
        if self._case.mode != "full":
            self._change(10)
            self._consistent(process)
            self._followed.equal()
            if self._case.release == "when consistent":
                self._held.release()
                self._followed.equal()
            self._change(10)
            self._followed.equal()
        return process

    def _lose(self) -> None:
        """Changes that no stream holds."""
        self._followed.table.disable_stream()
        self._change(10)

    def _consistent(self, process: Process) -> None:
        run = self._migration.running.index(process)
        output = self._migration.folder / f"{self._name}.{run}.out"
        until(
            lambda: "consistent point reached" in output.read_text() or process.poll() is not None,
            60,
        )
        assert process.poll() is None, self._migration.wait(process)

    def _finish(self, process: Process) -> None:
        if self._case.mode == "full":
            result = self._migration.wait(process)
            assert result.status == 0, result
            return
        self._consistent(process)
        self._followed.equal()
        stopped(self._migration, process)

    def _compare(self) -> None:
        source = connect(self._followed.simulator.url)
        options = Options(keys_of(source, self._name), id_mode=self._case.id_mode)
        place = f"{self._name}.{self._name}"
        compare(source, self._followed.mongo.client, self._name, place, options=options)

    def _assert_nothing_is_left(self) -> None:
        """But for the collection that had the name before, where that is to be renamed.

        Before MongoDB 6.0 the name of one that was dropped stays taken.
        """
        others = set(self._database.list_collection_names()) - {self._name}
        left = {one: list(self._database[one].find()) for one in others if ".shake-old-" not in one}
        kept = [[{"_id": "old"}]] if self._case.exist == "rename" else []
        assert list(left.values()) == kept, left
        wanted = {"_id_"} if self._case.id_mode == "key" else {"_id_", "pk_1"}
        assert set(self._database[self._name].index_information()) == wanted
