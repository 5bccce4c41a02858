"""What can be said of source and target, and whether a user can switch from one to the other."""

from __future__ import annotations

from typing import NamedTuple

from shake.status.figures import but_for_kept, count, duration, many, total, utc
from shake.status.snapshot import Snapshot, TableStatus

#: Seconds, beyond ``incr.margin``, by which a task that keeps up is behind the source's clock.
KEEPS_UP = 10.0


class Readiness(NamedTuple):
    """Whether one could switch now, and why, or why not; ``applied_through`` is of the task.

    ``kept`` items cannot be stored. They do not count against the switch; the reason names them.
    """

    ready: bool
    reason: str
    applied_through: float | None
    kept: int


def applied_sentence(snapshot: Snapshot) -> str:
    """What is applied, in words that fit what the task has done."""
    through = total(snapshot).applied_through
    when = "this run started" if through is None else f"{utc(through)} (source's clock)"
    equals = "; source and target are equal as of that time" if equal(snapshot) else ""
    kept = but_for_kept(total(snapshot))
    return f"every change made before {when} is applied{equals}{kept}"


def consistency(snapshot: Snapshot, table: TableStatus) -> str:
    """Whether a table is applied through the start of this run, in words that fit what was done."""
    word = "consistent" if snapshot.whole and not table.skipped else "caught up"
    return f"{word}{but_for_kept(table)}" if table.consistent else f"not {word} yet"


def equal(snapshot: Snapshot) -> bool:
    """Whether the target holds all, but kept items, that the source held as of applied through."""
    return snapshot.whole and all(
        table.consistent and not (table.error or table.filtered or table.skipped)
        for table in snapshot.tables
    )


def readiness(snapshot: Snapshot, after: float = 0.0) -> Readiness:
    """Whether one could switch now; ``after``: only if changes are applied through a later time."""
    everything = total(snapshot)
    problem = _obstacle(snapshot, everything.applied_through, after)
    reason = problem or applied_sentence(snapshot)
    return Readiness(not problem, reason, everything.applied_through, everything.kept)


def _obstacle(snapshot: Snapshot, through: float | None, after: float) -> str:
    """Why one could not switch now; empty where one could."""
    if snapshot.state != "running":
        return f"the task is {snapshot.state}: {snapshot.reason}".removesuffix(": ")
    if not snapshot.tables:
        return "no table is followed"
    for table in snapshot.tables:
        if problem := _table_obstacle(snapshot, table):
            return f"table {table.name}: {problem}"
    if pending := sum(table.pending for table in snapshot.tables):
        return f"{many(pending, 'change')} read and not applied yet"
    if through is None:
        return "it is not known yet through which time changes are applied"
    if any(_arriving(table, through, snapshot.margin) for table in snapshot.tables):
        return "changes are still arriving: stop the writes at the source"
    behind = snapshot.source_time - through
    if behind > snapshot.margin + KEEPS_UP:
        return f"changes are applied through {utc(through)} only, {duration(behind)} ago"
    if through <= after:
        return f"changes are applied through {utc(through)}, which is not after {utc(after)}"
    return ""


def _table_obstacle(snapshot: Snapshot, table: TableStatus) -> str:
    if table.error:
        return table.error
    if table.state != "following":
        return f"it is not followed yet ({table.state})"
    if not table.consistent:
        return f"it is {consistency(snapshot, table)}, {count(table.lag or 0)} s behind"
    return ""


def _arriving(table: TableStatus, through: float, margin: float) -> bool:
    """Whether a change came so late that more can be on their way."""
    newest, quiet = table.newest_change, table.quiet_seconds
    return (newest is not None and through <= newest) or (quiet is not None and quiet < margin)
