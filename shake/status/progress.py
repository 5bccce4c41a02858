"""Progress while the task runs: bars on a terminal, a log line every few seconds elsewhere."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TextIO

from shake.status.figures import (
    IDLE,
    count,
    duration,
    fraction,
    many,
    oldest_unread,
    percent,
    size,
    total,
    unread,
    utc,
)
from shake.status.logs import one_line
from shake.status.readiness import consistency
from shake.status.snapshot import Snapshot, TableStatus

log = logging.getLogger("shake.progress")


class Reporter(Protocol):
    """Shows snapshots as they come; the caller decides how often (twice a second is smooth).

    A stream that is lost, as by a hang-up, goes unnoticed: it must not stop the task. ``draws``:
    ``tick`` writes to the stream, which can stall.
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
    """Bars when ``stream`` is a terminal that can move its cursor, else log lines.

    Those come each ``interval`` seconds.
    """
    if not stream.isatty():
        return Lines(stream, interval)
    from shake.status.bars import Bars, Console  # which costs each start elsewhere something

    console = Console(file=stream)
    return Lines(stream, interval) if console.is_dumb_terminal else Bars(console)


class Lines:
    """For files, pipes and services: one log record a table, and one for all."""

    draws = False

    def __init__(self, stream: TextIO, interval: float) -> None:
        self._stream = stream
        self._interval = interval
        self._due: float | None = None

    def tick(self, snapshot: Snapshot, now: float) -> None:
        if self._due is None:
            self._due = now + self._interval
        if now < self._due:
            return
        self._due = now + self._interval
        for table in snapshot.tables:
            if table.state not in IDLE:
                log.info("table %s: %s", table.name, _line(snapshot, table))
        oldest = oldest_unread(snapshot)
        end = f", {unread(oldest)} (table {oldest.name})" if oldest else ""
        log.info("total: %s%s", _line(snapshot, replace(total(snapshot), unread=None)), end)

    def print(self, line: str) -> None:
        with suppress(OSError):
            print(one_line(line), file=self._stream, flush=True)

    def close(self, snapshot: Snapshot) -> None:
        """Nothing to give back."""


def _line(snapshot: Snapshot, table: TableStatus) -> str:
    if table.lag is not None:
        return _changes(snapshot, table)
    parts = [
        table.state,
        *([percent(part)] if (part := fraction(table)) is not None else []),
        many(table.items, "item"),
        *([size(table.bytes)] if table.bytes else []),  # keys alone have none
        f"{count(table.rate)} items/s",
    ]
    if table.seconds_left is not None:
        parts.append(f"{duration(table.seconds_left)} left")
    if table.capacity and not table.segments:  # a check
        parts.append(many(round(table.capacity), "read unit"))
    if table.segments:
        parts.append(f"{table.segments_done}/{table.segments} segments")
    if table.journaled:
        parts.append(f"{many(table.journaled, 'change')} journaled")
    if table.unread is not None:
        parts.append(unread(table))
    if table.kept:
        parts.append(f"{many(table.kept, 'bad item')} kept")
    if table.filtered:
        parts.append(f"scan filter kept {count(table.items)} of {count(table.scanned)}")
    if table.throttles or table.retries:
        parts.append(f"{count(table.throttles)} throttles, {count(table.retries)} retries")
    if table.error:
        parts.append(table.error)
    return ", ".join(parts)


def _changes(snapshot: Snapshot, table: TableStatus) -> str:
    through = [f"applied through {utc(table.applied_through)}"] if table.applied_through else []
    parts = [
        table.state,
        f"{many(table.changes, 'change')} applied",
        f"{count(table.change_rate)} changes/s",
        f"{count(table.pending)} pending",
        f"lag {duration(table.lag)}",
        *through,
        consistency(snapshot, table),
    ]
    if table.kept and not table.consistent:  # else its words have said it
        parts.append(f"{many(table.kept, 'bad item')} kept")
    if table.skipped:
        parts.append(f"{many(table.skipped, 'change')} found nothing to modify, and were left out")
    if table.throttles or table.retries:
        parts.append(f"{count(table.throttles)} throttles, {count(table.retries)} retries")
    return ", ".join(parts)
