"""Watches a task for its page, in its own threads: history, events, processes, a check."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import psutil

from shake.process.cpus import usable_cpus
from shake.status.estimates import PAST, Bottleneck, Finish, bottleneck, finish
from shake.status.events import Event, Events
from shake.status.history import History, joined
from shake.status.snapshot import CheckStatus, ProcessStatus, Snapshot

log = logging.getLogger("shake.http")

#: Seconds between two looks at the task, at its processes, and at a check of it.
_LOOK_SECONDS, _USAGE_SECONDS, _CHECK_SECONDS = 1.0, 4.0, 5.0
#: Seconds after which a check that has saved nothing new counts as stopped.
_CHECK_SILENCE = 30.0
#: Seconds by which a figure of "now" is judged.
_NOW = 10.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A snapshot, and what was learnt of the task by watching it. ``points``: how many came."""

    snapshot: Snapshot
    events: tuple[Event, ...] = ()
    finish: Finish | None = None
    bottleneck: Bottleneck | None = None
    points: int = 0


class Usage(NamedTuple):
    """Of one process: CPUs in use of late, CPU seconds so far, resident bytes."""

    cpu: float | None
    cpu_seconds: float
    memory: int


class Meter:
    """Reads what processes use; CPU is what they used since the last reading."""

    def __init__(self) -> None:
        self._used: dict[int, Usage] = {}
        self._then = 0.0

    def read(self, pids: Iterable[int], now: float) -> None:
        """Read anew; ``now`` is any clock in seconds."""
        before, seconds = self._used, now - self._then
        self._used, self._then = {}, now
        for pid in pids:
            with suppress(psutil.Error, OSError):  # it has ended, or /proc does not show it
                process = psutil.Process(pid)
                with process.oneshot():
                    spent = sum(process.cpu_times()[:2])
                    memory = process.memory_info().rss
                last = before.get(pid)
                cpu = (spent - last.cpu_seconds) / seconds if last and seconds > 0 else None
                self._used[pid] = Usage(cpu if cpu is None else max(0.0, cpu), spent, memory)

    def used(self, process: ProcessStatus) -> ProcessStatus:
        """The process with what it used at the last reading."""
        usage = None if process.node else self._used.get(process.pid)
        return replace(process, **usage._asdict()) if usage else process


class Monitor:
    """Looks at the last snapshot each second; a context manager that looks while it is entered.

    ``last`` gives the snapshot that was shown last: it costs the loop nothing. ``check`` returns
    the last status that a check of the task has saved, and can wait for a server.
    """

    def __init__(
        self,
        last: Callable[[], Snapshot],
        check: Callable[[], CheckStatus | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        cpus: int | None = None,
    ) -> None:
        self._last = last
        self._check = check
        self._clock = clock
        self._cpus = cpus or usable_cpus()
        self._checked: CheckStatus | None = None
        self._saved: CheckStatus | None = None
        self._saved_at = 0.0
        self._meter = Meter()
        self._events = Events()
        self._points = 0
        self._bottleneck: Bottleneck | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.history = History()

    def __enter__(self) -> Monitor:
        self.look()
        for name, seconds, look in (
            ("monitor", _LOOK_SECONDS, self.look),
            ("usage", _USAGE_SECONDS, self.measure),
            ("check watcher", _CHECK_SECONDS, self.ask_check),
        ):
            thread = threading.Thread(target=self._repeat, args=(seconds, look), name=name)
            thread.daemon = True
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _repeat(self, seconds: float, look: Callable[[], None]) -> None:
        while not self._over.wait(seconds):
            try:
                look()
            except Exception as error:  # such as a store that does not answer
                log.debug("%s: %s", threading.current_thread().name, error, exc_info=True)

    def look(self) -> None:
        snapshot = self.complete(self._last())
        with self._lock:
            self._events.add(snapshot)
            if self.history.add(snapshot, self._clock()):
                self._points += 1
                recent = self.history.recent(_NOW)
                self._bottleneck = bottleneck(snapshot, joined(recent), self._cpus)

    def measure(self) -> None:
        here = [one.pid for one in self._last().processes if one.pid and not one.node]
        self._meter.read(here, self._clock())

    def ask_check(self) -> None:
        """Read the status of a check; one that runs and saves nothing new has been killed."""
        saved, now = self._check(), self._clock()
        if saved != self._saved:
            self._saved, self._saved_at = saved, now
        elif saved and saved.state == "running" and now - self._saved_at > _CHECK_SILENCE:
            saved = saved._replace(state="stopped")
        self._checked = saved

    def complete(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what its processes use, and with the check."""
        processes = tuple(map(self._meter.used, snapshot.processes))
        return replace(snapshot, processes=processes, check=self._checked)

    def watched(self) -> Watched:
        """The present state of the task, without asking its loop."""
        snapshot = self.complete(self._last())
        with self._lock:
            past = self.history.recent(PAST)
            return Watched(
                snapshot,
                tuple(self._events.latest),
                finish(snapshot, past),
                self._bottleneck,
                self._points,
            )
