"""Progress of a task, in a separate thread: bars on a terminal, log lines elsewhere."""

from __future__ import annotations

import errno
import logging
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol, TextIO

from shake.process.outlet import Outlet
from shake.status.figures import (
    IDLE,
    count,
    duration,
    fraction,
    many,
    oldest_unread,
    percent,
    size,
    skipped,
    total,
    unread,
    utc,
)
from shake.status.logs import dropped_lines, one_line
from shake.status.readiness import consistency
from shake.status.snapshot import Snapshot, TableStatus

log = logging.getLogger("shake.progress")

#: Seconds that the terminal has to take the last lines.
_CLOSE_SECONDS = 1.0
#: What a stream says whose terminal or reader has gone.
_LOST = (errno.EPIPE, errno.EIO)


class Reporter(Protocol):
    """Shows snapshots as they come; the caller decides how often (twice a second is smooth).

    A stream that is lost, as by a hang-up, is ignored: the task goes on. ``draws``: ``tick`` writes
    to the stream, which can stall.
    """

    @property
    def draws(self) -> bool: ...

    def tick(self, snapshot: Snapshot, now: float) -> None:
        """Show ``snapshot``; ``now`` is any clock in seconds that never goes back."""

    def print(self, line: str) -> None:
        """A line for the user, whatever the log settings; above the bars where there are any."""

    def close(self, snapshot: Snapshot) -> None:
        """Show the last state and give the stream back."""


def make_reporter(stream: TextIO, interval: float = 5.0) -> Reporter:
    """Bars on a terminal that can move its cursor, else log lines each ``interval`` seconds."""
    if not stream.isatty():
        return Lines(stream, interval)
    # Imported here: a start that draws no bars does not wait for it.
    from rich.console import Console

    from shake.status.bars import Bars

    console = Console(file=stream)
    return Lines(stream, interval) if console.is_dumb_terminal else Bars(console)


class Screen:
    """Another reporter, in a separate thread: no call waits. It draws the last snapshot that waits.

    A context manager: its end waits a second for the lines that are not written yet.
    """

    draws = False

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._outlet = Outlet("the screen", dropped=lambda n: reporter.print(dropped_lines(n)))
        self._lock = threading.Lock()
        self._latest: tuple[Snapshot, float] | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._outlet.close(_CLOSE_SECONDS)

    def tick(self, snapshot: Snapshot, now: float) -> None:
        if not self._reporter.draws:  # it logs, also while the terminal takes no lines
            self._reporter.tick(snapshot, now)
            return
        with self._lock:
            waiting, self._latest = self._latest, (snapshot, now)
        if waiting is None:
            self._outlet.put(self._draw)

    def print(self, line: str) -> None:
        self._outlet.put(partial(self._reporter.print, line))

    def log(self, line: str) -> None:
        """A line of the log, which is dropped where too many wait."""
        self._outlet.offer(partial(self._reporter.print, line))

    def flush(self) -> None:
        """Wait for the lines that are not written yet, no longer than a second."""
        written = threading.Event()
        self._outlet.put(written.set)
        written.wait(_CLOSE_SECONDS)

    def close(self, snapshot: Snapshot) -> None:
        self._outlet.put(partial(self._reporter.close, snapshot))

    def _draw(self) -> None:
        with self._lock:
            latest, self._latest = self._latest, None
        if latest:
            self._reporter.tick(*latest)


class Lines:
    """For files, pipes and services: one log record a table, and one for all of several."""

    draws = False

    def __init__(self, stream: TextIO, interval: float) -> None:
        self._stream = stream
        self._interval = interval
        self._due: float | None = None
        self._complained = False

    def tick(self, snapshot: Snapshot, now: float) -> None:
        if self._due is None:
            self._due = now + self._interval
        if now < self._due:
            return
        self._due = now + self._interval
        active = [table for table in snapshot.tables if table.state not in IDLE]
        for table in active:
            log.info("table %s: %s", table.name, _line(snapshot, table))
        oldest = oldest_unread(snapshot)
        old_unsaid = oldest and oldest.lag is not None
        if active and len(snapshot.tables) == 1 and snapshot.state == "running" and not old_unsaid:
            return  # the total would be the same
        end = f", {unread(oldest)} (table {oldest.name})" if oldest else ""
        log.info("total: %s%s", _line(snapshot, replace(total(snapshot), unread=None)), end)

    def print(self, line: str) -> None:
        try:
            print(one_line(line), file=self._stream, flush=True)
        except OSError as error:
            if error.errno not in _LOST and not self._complained:
                self._complained = True
                with suppress(OSError, ValueError):  # stderr is lost too
                    text = f"shake: stdout cannot be written to: {error.strerror}; the run goes on"
                    print(text, file=sys.stderr, flush=True)

    def close(self, snapshot: Snapshot) -> None:
        """Nothing to give back."""


def _line(snapshot: Snapshot, table: TableStatus) -> str:
    if table.lag is not None:
        return _changes(snapshot, table)
    part = fraction(table)
    is_check = table.capacity and not table.segments
    parts = (
        table.state,
        percent(part) if part is not None else "",
        many(table.items, "item"),
        size(table.bytes) if table.bytes else "",  # keys alone have none
        f"{count(table.rate)} items/s",
        f"{duration(table.seconds_left)} left" if table.seconds_left is not None else "",
        many(round(table.capacity), "read unit") if is_check else "",
        f"{table.segments_done}/{table.segments} segments" if table.segments else "",
        f"{many(table.journaled, 'change')} journaled" if table.journaled else "",
        unread(table) if table.unread is not None else "",
        f"{many(table.kept, 'bad item')} kept" if table.kept else "",
        f"scan filter kept {count(table.items)} of {count(table.scanned)}" * table.filtered,
        _throttles(table),
        table.error,
    )
    return ", ".join(filter(None, parts))


def _changes(snapshot: Snapshot, table: TableStatus) -> str:
    parts = (
        table.state,
        f"{many(table.changes, 'change')} applied",
        f"{count(table.change_rate)} changes/s",
        f"{count(table.pending)} pending",
        f"lag {duration(table.lag)}",
        f"applied through {utc(table.applied_through)}" if table.applied_through else "",
        consistency(snapshot, table),
        # Where the table is consistent, those words say it.
        f"{many(table.kept, 'bad item')} kept" if table.kept and not table.consistent else "",
        skipped(table),
        _throttles(table),
    )
    return ", ".join(filter(None, parts))


def _throttles(table: TableStatus) -> str:
    if not (table.throttles or table.retries):
        return ""
    return f"{count(table.throttles)} throttles, {count(table.retries)} retries"
