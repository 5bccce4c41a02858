"""What has happened to a task, in words: found by comparing one snapshot with the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from shake.phase import Phase
from shake.status.figures import COMPLETE, ILL, many, size
from shake.status.readiness import consistency
from shake.status.snapshot import CheckStatus, Snapshot, TableStatus

#: Events that are kept.
_MOST = 200
_TONES = {"degraded": "warn", "failed": "bad", "finished": "good"}


class Event(NamedTuple):
    """``time`` is Unix seconds; ``tone`` is good, bad, warn, or empty."""

    time: float
    text: str
    tone: str = ""


class Events:
    """The latest events, the newest first."""

    def __init__(self) -> None:
        self.latest: deque[Event] = deque(maxlen=_MOST)
        self._last: Snapshot | None = None

    def add(self, snapshot: Snapshot) -> None:
        last, self._last = self._last, snapshot
        for event in _changes(last or replace(snapshot, state="", check=None), snapshot):
            self.latest.appendleft(event)


def _changes(before: Snapshot, now: Snapshot) -> Iterator[Event]:
    if (now.state, now.reason) != (before.state, before.reason):
        verb = "has" if now.state == "failed" else "is"
        text = f"the task {verb} {now.state}: {now.reason}".removesuffix(": ")
        yield Event(now.time, text, _TONES.get(now.state, ""))
    known = {table.name: table for table in before.tables}
    for table in now.tables:
        yield from _of_table(now, known.get(table.name), table)
    restarts = {one.role: one.restarts for one in before.processes}
    for process in now.processes:
        if process.restarts > restarts.get(process.role, 0):
            yield Event(now.time, f"{process.role} crashed and is replaced", "warn")
    if now.check:
        yield from _of_check(now, before.check, now.check)


def _of_table(now: Snapshot, before: TableStatus | None, table: TableStatus) -> Iterator[Event]:
    entered = _entered(table) if before is None or before.state != table.state else ""
    if entered:
        tone = "bad" if table.state in ILL else "good" if table.state in COMPLETE else ""
        yield Event(now.time, f"table {table.name}: {entered}", tone)
    if table.error and table.error != (before.error if before else ""):
        yield Event(now.time, table.error, "bad")
    if before and table.consistent and not before.consistent:
        yield Event(now.time, f"table {table.name}: {consistency(now, table)}", "good")


def _entered(table: TableStatus) -> str:
    """What a phase means; empty for those that last only moments, or say nothing new."""
    copied = f"{many(table.items, 'item')} copied, {size(table.bytes)}"
    return {
        Phase.COPYING.value: f"the copy begins, {many(table.segments, 'segment')}",
        Phase.INDEXING.value: f"{copied}; indexes are built",
        Phase.DONE.value: "the copy is complete",
        Phase.FOLLOWING.value: "changes are applied",
        Phase.BROKEN.value: "copied, but the target refused an index",
    }.get(table.state, "")


def _of_check(now: Snapshot, before: CheckStatus | None, check: CheckStatus) -> Iterator[Event]:
    if before and (before.state, before.table) == (check.state, check.table):
        return
    if check.state == "running":
        yield Event(now.time, f"the check compares table {check.table}")
    elif check.state == "finished":
        text = f"the check ends: {many(check.differences, 'difference')}"
        yield Event(now.time, text, "warn" if check.differences else "good")
    else:
        yield Event(now.time, f"the check is {check.state}", "warn")
