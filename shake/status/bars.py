"""Bars on a terminal: one for each table that is being worked on, and one for all."""

from __future__ import annotations

import threading
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from shake.schema import OLD
from shake.status.figures import (
    COMPLETE,
    ENDED,
    IDLE,
    ILL,
    UNUSUAL,
    clock_time,
    duration,
    fraction,
    many,
    oldest_unread,
    percent,
    short,
    size,
    total,
    unread,
)
from shake.status.logs import one_line
from shake.status.snapshot import Snapshot, TableStatus

#: Lines of a terminal that the bars leave to the log above them.
_SPARE_LINES = 6
#: Columns below which a terminal shows neither bars nor read units, but names and figures in full.
_NARROW = 56
_HEADS = ("done", "items", "rate", "units/s", "left")
_STYLES = dict.fromkeys(UNUSUAL, "yellow") | dict.fromkeys(ILL, "red")


class Bars:
    draws = True

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
            self._live.update(picture(snapshot, now, room, self._console.width), refresh=True)

    def print(self, line: str) -> None:
        with self._lock, suppress(OSError):
            self._console.print(Text(one_line(line)), soft_wrap=True)

    def close(self, snapshot: Snapshot) -> None:
        self.tick(snapshot, snapshot.seconds)
        with self._lock, suppress(OSError):
            self._live.stop()


def picture(snapshot: Snapshot, now: float, room: int, width: int) -> Group:
    """The bars as rich renders them, at most ``room`` tables high; ``now`` moves the pulses.

    ``width`` is that of the terminal, in columns.
    """
    busy = sorted(
        (table for table in snapshot.tables if table.state not in IDLE - ILL), key=_activity
    )
    everything = total(snapshot)
    columns = [
        Column(ratio=2, no_wrap=True, overflow="ellipsis"),
        Column(ratio=3, min_width=8),
        *(Column(head, justify="right", no_wrap=True, min_width=6) for head in _HEADS),
    ]
    shown = (0, 2, 3, 4, 6) if width < _NARROW else range(len(columns))
    grid = Table(
        *(columns[number] for number in shown),
        box=None,
        expand=True,
        header_style="dim",
        padding=(0, 1, 0, 0),
    )
    for table in (*busy[:room], everything):
        row = _row(table, now)
        style = "bold" if table is everything else None
        grid.add_row(*(row[number] for number in shown), style=style)
    errors = [
        Text(
            f"{table.name} {table.state}: {one_line(table.error)}",
            style=_STYLES.get(table.state, "yellow"),
        )
        for table in (*busy[:room], everything)
        if table.error and table.state not in ENDED - ILL  # of which the closing summary says it
    ]
    return Group(grid, *errors, _foot(snapshot, everything, len(busy) - room))


def _activity(table: TableStatus) -> tuple[bool, int, int, str]:
    """What needs a user first, then by what is written. By its magnitude: rows must not dance."""
    written = table.byte_rate or table.change_rate
    lag = table.lag or 0.0
    return table.state not in ILL, -_magnitude(lag), -_magnitude(written), table.name


def _magnitude(number: float) -> int:
    return len(str(int(number)))


def _foot(snapshot: Snapshot, everything: TableStatus, hidden: int) -> Text:
    """What the task is at, for how long, until when, and at what cost."""
    done = sum(table.state in COMPLETE for table in snapshot.tables)
    word = "after" if snapshot.state in ENDED else "for"
    left, oldest = everything.seconds_left, oldest_unread(snapshot)
    parts = (
        f"{snapshot.state} {word} {duration(snapshot.seconds)}",
        f"{done} of {many(len(snapshot.tables), 'table')} done",
        size(everything.bytes) if everything.bytes else "",  # keys alone have none
        f"copied at {clock_time(snapshot.time, left)} UTC" if left and snapshot.time else "",
        f"{short(everything.throttles)} throttles" if everything.throttles else "",
        f"{hidden} more under way" if hidden > 0 else "",
        f"{unread(oldest)} (table {oldest.name})" if oldest else "",
    )
    style = "red" if oldest and (oldest.unread or 0.0) >= OLD else "dim"
    return Text(", ".join(filter(None, parts)), style=style)


def _row(table: TableStatus, now: float) -> tuple[Text | ProgressBar, ...]:
    part = fraction(table)
    style = _STYLES.get(table.state, "")
    copying = table.state in ("copying", "running") or table.seconds_left is not None
    followed = table.lag is not None
    allowed = f"/{short(table.budget)}" if table.budget else ""
    state = duration(table.seconds_left) if copying else table.state
    if followed:
        state = f"lag {duration(table.lag)}"
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
        _rate(table),
        "" if followed else f"{short(table.unit_rate)}{allowed}",
        state,
    )
    return (Text(table.name, style), bar, *map(Text, cells))


def _rate(table: TableStatus) -> str:
    """Changes, bytes, or, where keys alone are read, items a second."""
    if table.lag is not None:
        return f"{short(table.change_rate)}/s"
    if table.rate and not table.byte_rate:
        return f"{short(table.rate)}/s"
    return f"{size(table.byte_rate)}/s"
