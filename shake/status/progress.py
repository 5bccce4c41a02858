"""Progress while the task runs: bars on a terminal, a log line every few seconds elsewhere."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from shake.status.figures import (
    COMPLETE,
    IDLE,
    ILL,
    count,
    duration,
    fraction,
    percent,
    short,
    size,
    total,
)
from shake.status.logs import one_line
from shake.status.snapshot import Snapshot, TableStatus

log = logging.getLogger("shake.progress")

#: Lines of a terminal that the bars leave to the log above them.
_SPARE_LINES = 6
_HEADS = ("done", "items", "rate", "size", "left", "throttles")
_STYLES = {"degraded": "yellow", "stopping": "yellow", "stopped": "yellow"} | dict.fromkeys(
    ILL, "red"
)


class Reporter(Protocol):
    """Shows snapshots as they come; the caller decides how often (twice a second is smooth).

    A stream that is lost, as by a hang-up, goes unnoticed: it must not stop the task.
    """

    def tick(self, snapshot: Snapshot, now: float) -> None:
        """Show ``snapshot``; ``now`` is any clock in seconds that never goes back."""
        ...

    def print(self, line: str) -> None:
        """A line for the person, whatever the log settings; above the bars where there are any."""
        ...

    def close(self, snapshot: Snapshot) -> None:
        """Show the last state and give the stream back."""
        ...


def make_reporter(stream: TextIO, interval: float = 5.0) -> Reporter:
    """Bars when ``stream`` is a terminal that can move its cursor, else log lines.

    Those come each ``interval`` seconds.
    """
    console = Console(file=stream)
    bars = stream.isatty() and not console.is_dumb_terminal
    return Bars(console) if bars else Lines(stream, interval)


class Lines:
    """For files, pipes and services: one log record a table, and one for all."""

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
                log.info("table %s: %s", table.name, _line(table))
        log.info("total: %s", _line(total(snapshot)))

    def print(self, line: str) -> None:
        with suppress(OSError):
            print(one_line(line), file=self._stream, flush=True)

    def close(self, snapshot: Snapshot) -> None:
        """Nothing to give back."""


def _line(table: TableStatus) -> str:
    if table.lag is not None and not table.seconds_left:
        return _changes(table)
    parts = [
        table.state,
        percent(fraction(table)),
        f"{count(table.items)} items",
        size(table.bytes),
        f"{count(table.rate)} items/s",
    ]
    if table.seconds_left is not None:
        parts.append(f"{duration(table.seconds_left)} left")
    if table.segments:
        parts.append(f"{table.segments_done}/{table.segments} segments")
    if table.journaled:
        parts.append(f"{count(table.journaled)} changes journaled")
    if table.filtered:
        parts.append(f"scan filter kept {count(table.items)} of {count(table.scanned)}")
    if table.throttles or table.retries:
        parts.append(f"{count(table.throttles)} throttles, {count(table.retries)} retries")
    if table.error:
        parts.append(table.error)
    return ", ".join(parts)


def _changes(table: TableStatus) -> str:
    gate = "consistent point reached" if table.consistent else "consistent point not reached yet"
    parts = [
        table.state,
        f"{count(table.changes)} changes",
        f"{count(table.change_rate)} changes/s",
        f"lag {duration(table.lag)}, {count(table.pending)} changes",
        gate,
    ]
    if table.skipped:
        parts.append(f"{count(table.skipped)} changes found nothing to modify, and were left out")
    if table.throttles or table.retries:
        parts.append(f"{count(table.throttles)} throttles, {count(table.retries)} retries")
    return ", ".join(parts)


def _place(table: TableStatus) -> str:
    """Where a table is that is not being copied."""
    if table.lag is None:
        return table.state
    return f"{'=' if table.consistent else 'lag'} {duration(table.lag)}"


class Bars:
    """For people: a bar for each table that is being worked on, and one for all."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()  # log lines come from any thread
        self._live = Live(
            console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

    def tick(self, snapshot: Snapshot, now: float) -> None:
        room = max(1, self._console.height - _SPARE_LINES)
        with self._lock, suppress(OSError):
            if not self._live.is_started:
                self._live.start()
            self._live.update(picture(snapshot, now, room), refresh=True)

    def print(self, line: str) -> None:
        with self._lock, suppress(OSError):
            self._console.print(Text(one_line(line)), soft_wrap=True)

    def close(self, snapshot: Snapshot) -> None:
        self.tick(snapshot, snapshot.seconds)
        with self._lock, suppress(OSError):
            self._live.stop()


def picture(snapshot: Snapshot, now: float, room: int) -> Group:
    """The bars as rich renders them, at most ``room`` tables high; ``now`` moves the pulses."""
    busy = [table for table in snapshot.tables if table.state not in IDLE - ILL]
    everything = total(snapshot)
    grid = Table(
        Column(ratio=2, no_wrap=True, overflow="ellipsis"),
        Column(ratio=3, min_width=8),
        *(Column(head, justify="right", no_wrap=True, min_width=6) for head in _HEADS),
        box=None,
        expand=True,
        header_style="dim",
        padding=(0, 1, 0, 0),
    )
    for table in busy[:room]:
        grid.add_row(*_row(table, now))
    grid.add_row(*_row(everything, now), style="bold")
    errors = [
        Text(
            f"{table.name} {table.state}: {one_line(table.error)}",
            style=_STYLES.get(table.state, "yellow"),
        )
        for table in (*busy[:room], everything)
        if table.error
    ]
    done = sum(table.state in COMPLETE for table in snapshot.tables)
    foot = f"{snapshot.state}, {done} of {len(snapshot.tables)} tables done"
    if len(busy) > room:
        foot += f", {len(busy) - room} more under way"
    return Group(grid, *errors, Text(foot, style="dim"))


def _row(table: TableStatus, now: float) -> tuple[Text | ProgressBar, ...]:
    part = fraction(table)
    style = _STYLES.get(table.state, "")
    busy = table.state in ("copying", "running") or table.seconds_left is not None
    bar = ProgressBar(
        total=None if part is None else 1.0,
        completed=part or 0.0,
        pulse=part is None,
        animation_time=now,
        complete_style=style or "bar.complete",
    )
    cells = (
        percent(part),
        short(table.items),
        f"{short(table.rate or table.change_rate)}/s",
        size(table.bytes),
        duration(table.seconds_left) if busy else _place(table),
        short(table.throttles),
    )
    return (Text(table.name, style), bar, *map(Text, cells))
