"""A table, a task that copies it, and a proxy before the target that stops the world on demand."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from shake.codec.contract import Options
from tests.support.migration import MANY_PAGES, Migration, Result, compare, keys_of
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.support.wire import Moment, Wire

#: So few Scan calls a second that checkpoints are saved while the copy runs.
SLOWLY = {"qps__full": 12}
ITEMS = 320


def runs(process: psutil.Process) -> bool:
    """Whether the process still runs."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_death(process: psutil.Process) -> None:
    """Wait until a killed process has ended."""
    until(lambda: not runs(process))


class Held:
    """A message that the proxy holds while its sender is killed, until it is released."""

    def __init__(self, copy: Copy, command: str, place: str, victim: str, skip: int = 0) -> None:
        self._copy, self._command, self._place = copy, command, place
        self._released = threading.Event()
        self._victim = victim
        copy.wire.stop_at("request", command, place, self._hold, skip=skip, late=True)
        self.landed = threading.Event()

    def _hold(self) -> None:
        self._copy.kill(self._victim)
        self._released.wait(60)

    def release(self) -> None:
        """Let it through; return when the server has answered it."""
        answered = self._copy.wire.stop_at("answer", self._command, self._place, lambda: None)
        self._released.set()
        until(answered.is_set)
        self.landed.set()


@dataclass
class Copy:
    """A copy that may be killed; its task, table, database and collection have one name."""

    dynamodb: Any
    mongo: Any
    wire: Wire
    migration: Migration
    table: str

    @property
    def place(self) -> str:
        return f"{self.table}.{self.table}"

    @property
    def checkpoint(self) -> str:
        return f"{self.table}-checkpoint.{self.table}"

    @property
    def status_table(self) -> str:
        return f"{self.table}-checkpoint.status_table"

    def kill_at(
        self, moment: Moment, command: str, place: str, victim: str, skip: int = 0
    ) -> threading.Event:
        """Kill the victim when that message passes (see ``kill``)."""
        return self.wire.stop_at(moment, command, place, lambda: self.kill(victim), skip=skip)

    def kill(self, victim: str) -> None:
        """SIGKILL the supervisor, ``everything``, or a child by its role; wait for it to start.

        ``sender``: the child that has sent the command which was stopped last.
        """
        if victim == "sender":
            child = self.migration.client(self.wire.sender)
            child.kill()
            await_death(child)
            return
        if victim not in ("supervisor", "everything"):
            until(lambda: self.migration.children(victim) or not self.runs)
        self.kill_if_there(victim)

    def kill_if_there(self, victim: str) -> None:
        """Do the same, but do nothing if the process does not run."""
        if not self.runs:
            return
        run = self.migration.running[-1]
        if victim == "everything":
            self.migration.kill(run)
        elif victim == "supervisor":
            run.send_signal(signal.SIGKILL)
            run.wait()
        else:
            for child in self.migration.children(victim)[:1]:
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
                    child.send_signal(signal.SIGKILL)
                await_death(child)

    @property
    def runs(self) -> bool:
        """Whether the last supervisor runs."""
        return self.migration.running[-1].poll() is None

    def run_killed(self) -> None:
        """A run that must end by our hand."""
        result = self.migration.run()
        assert result.status == -signal.SIGKILL, result

    def run_to_the_end(self) -> Result:
        """Start again until a run ends well; none may end but so or by our hand."""
        for _ in range(20):
            result = self.migration.run()
            if result.status == 0:
                return result
            assert result.status == -signal.SIGKILL, result
        raise AssertionError("killed again and again")

    def assert_exact(self, **options: Any) -> None:
        """Every item once, byte for byte, and the right indexes."""
        keys = keys_of(self.dynamodb.client, self.table)
        compare(
            self.dynamodb.client,
            self.mongo.client,
            self.table,
            self.place,
            options=Options(keys, **options),
        )
        by_key = set() if options.get("id_mode") == "key" else {"pk_1_sk_1"}
        indexes = self.mongo.client[self.table][self.table].index_information()
        assert set(indexes) == {"_id_", "pk_1"} | by_key


#: Makes one by the settings of its task.
MakeCopy = Callable[..., Copy]


@contextlib.contextmanager
def opened(
    dynamodb: Any, mongo: Any, name: str, folder: Path, workers: int = 2
) -> Iterator[MakeCopy]:
    """Makes copies; nothing is left running after it."""
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))
    put_items(
        dynamodb.client,
        name,
        (
            {"pk": {"S": f"k{i % 41}"}, "sk": {"N": str(i)}, "v": {"S": "x" * 50}}
            for i in range(ITEMS)
        ),
    )
    made: list[Migration] = []
    with Wire(*mongo.client.address) as wire:

        def make(options: str = "", **settings: object) -> Copy:
            settings = {**MANY_PAGES, **settings}
            target = f"{wire.uri}&{options}" if options else wire.uri
            made.append(Migration(dynamodb.url, target, name, folder, **settings))
            made[-1].workers = workers
            return Copy(dynamodb, mongo, wire, made[-1], name)

        yield make
        for migration in made:
            migration.close()
