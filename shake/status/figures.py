"""Figures derived from a snapshot, and how they are written, so that every view says the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from shake import phase
from shake.phase import Phase
from shake.schema import OLD
from shake.status.rate import seconds_left
from shake.status.snapshot import Snapshot, TableStatus

#: Table states in which nothing is being done for the table right now.
IDLE = frozenset(one.value for one in phase.IDLE)
#: States of a table or a task that need the attention of a user.
ILL = frozenset({Phase.BROKEN.value, "failed"})
#: States of a task that a user should know of, and that are no failure.
UNUSUAL = ("degraded", "paused", "stopping", "stopped")
#: States of a task that has ended.
ENDED = frozenset({"finished", "failed", "stopped"})
#: States in which all is copied, of a table and of a task.
COMPLETE = frozenset({*(one.value for one in phase.COMPLETE), "finished"})

#: States of a table whose items are copied, and which is not complete.
COPIED = frozenset(one.value for one in phase.COPIED)

#: The most that unfinished work shows, since DynamoDB's estimates may be hours old.
_ALMOST = 0.999
_SUMMED = (
    "items", "bytes", "scanned", "capacity", "expected_bytes", "segments", "segments_done",
    "rate", "pace", "byte_rate", "unit_rate", "answers", "throttles", "retries",
    "items_before", "bytes_before",
    "changes", "skipped", "kept", "kept_older", "change_rate",
    "shards", "shards_reading", "pending", "journaled",
)  # fmt: skip


def fraction(table: TableStatus) -> float | None:
    """How much of the table is copied, 0 to 1; 1 only when it is complete; None when unknown."""
    if table.state in COMPLETE or table.lag is not None:  # which the total has when all is copied
        return 1.0
    if table.segments and table.segments == table.segments_done:
        return _ALMOST
    if table.expected_items:
        return min(table.scanned / table.expected_items, _ALMOST)
    return table.segments_done / table.segments if table.segments else None


def expected(table: TableStatus) -> int:
    """Items of the table: the estimate, or what was really there once that is known."""
    return table.scanned if table.state in COMPLETE else max(table.scanned, table.expected_items)


def work_done(table: TableStatus) -> float:
    """How much of the table is copied, in bytes of the source, by DynamoDB's size of it."""
    size = table.expected_bytes or table.expected_items
    return size if table.state in COMPLETE | COPIED else size * (fraction(table) or 0.0)


def work_left(table: TableStatus) -> float:
    """How much is still to be copied: see :func:`work_done`."""
    return (table.expected_bytes or table.expected_items) - work_done(table)


def total(snapshot: Snapshot) -> TableStatus:
    """All tables as one, in the state of the task.

    ``expected_items`` is 0 where nothing is known of what is still to be done. ``lag``, the
    greatest, is None while a table is left to be copied. ``applied_through`` is the earliest of all
    tables that are, or will be, followed.
    """
    tables = snapshot.tables
    copied = all(table.state in COMPLETE | ILL for table in tables)
    unready = [table for table in tables if table.state not in COMPLETE]
    known = not unready or any(table.expected_items for table in unready)
    sums = {name: sum(getattr(table, name) for table in tables) for name in _SUMMED}
    return TableStatus(
        name="total",
        namespace="",
        state=snapshot.state,
        expected_items=sum(map(expected, tables)) if known else 0,
        seconds=snapshot.seconds,
        seconds_left=_seconds_left(tables, sums["pace"]) if known else None,
        filtered=any(table.filtered for table in tables),
        error=snapshot.reason,
        lag=max((t.lag for t in tables if t.lag is not None and copied), default=None),
        applied_through=_applied_through(tables),
        unread=max((table.unread for table in tables if table.unread is not None), default=None),
        consistent=bool(tables) and all(table.consistent for table in tables),
        **sums,
    )


def _applied_through(tables: tuple[TableStatus, ...]) -> float | None:
    followed = [t for t in tables if t.unread is not None or t.applied_through is not None]
    times = [table.applied_through for table in followed]
    known = [time for time in times if time is not None]
    return min(known) if known and len(known) == len(times) else None


def oldest_unread(snapshot: Snapshot) -> TableStatus | None:
    """The table of the oldest change that only its stream holds, where its lag does not say it."""
    tables = [
        table
        for table in snapshot.tables
        if table.unread is not None and (table.lag is None or table.unread >= OLD)
    ]
    return max(tables, key=lambda table: table.unread or 0.0, default=None)


def end_unknown(to_copy: Sequence[TableStatus]) -> bool:
    """Whether DynamoDB's counts, which can be hours old, do not say how much is still to be read.

    So it is where all items of a table's count are read and segments are left.
    """
    ahead = False
    for table in to_copy:
        if table.scanned < table.expected_items:
            ahead = True
        elif table.scanned and table.segments_done < table.segments:
            return True
    return not ahead


def _seconds_left(tables: tuple[TableStatus, ...], pace: float) -> float | None:
    """What is left at the present pace, and no less than the slowest table says of itself."""
    unready = [table for table in tables if table.state not in COMPLETE]
    if not unready:
        return 0.0
    to_copy = [table for table in unready if table.state not in COPIED]
    if end_unknown(to_copy):  # or only indexes are left, whose time is unknown too
        return None
    left = 0.0
    for table in to_copy:
        ahead = expected(table) - table.scanned
        # The pace counts items after the filter, so what is ahead is counted likewise.
        left += ahead * table.items / table.scanned if table.scanned else ahead
    estimate = seconds_left(left, pace)
    if estimate is None:
        return None
    return max(estimate, *(table.seconds_left or 0.0 for table in to_copy))


def unread(table: TableStatus) -> str:
    """``oldest unread change 3m 12s``: what is older than a day is lost."""
    return f"oldest unread change {duration(table.unread)}"


def skipped(table: TableStatus) -> str:
    """The changes that were left out; empty where there are none."""
    changes = many(table.skipped, "change")
    return f"{changes} found nothing to modify, and were left out" if table.skipped else ""


#: How kept items are shown.
_LIST_KEPT = "shake bad --conf FILE lists them, with the reasons"


def but_for_kept(table: TableStatus) -> str:
    """What follows a word such as "equal"; empty where nothing is kept."""
    return f" but for {many(table.kept, 'kept item')}" if table.kept else ""


def kept(table: TableStatus) -> str:
    """How many items of a table are kept, and what to do."""
    older = f", of {count(table.kept_older)} the target has an older document"
    return f"{many(table.kept, 'item')}{older if table.kept_older else ''}: {_LIST_KEPT}"


def too_many_kept(number: int, most: int, tables: Sequence[str]) -> str:
    """Why the task ends where more items are kept than is allowed."""
    return (
        f"{many(number, 'item')} cannot be stored, of table {in_short(list(tables))}, and "
        f"bad.items.max = {most}: {_LIST_KEPT}; fix them at the source, or raise bad.items.max, "
        "and start again"
    )


def count(number: float) -> str:
    """``1,234,567``."""
    return f"{number:,.0f}"


def many(number: float, what: str, plural: str = "") -> str:
    """``1 table``, ``1,234 tables``; ``plural``: where it is not the word with an s."""
    return f"{count(number)} {what if round(number) == 1 else plural or what + 's'}"


def in_short(names: list[str]) -> str:
    """``a.b``, ``a.b and 3 more``."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else "".join(names)


def short(number: float) -> str:
    """Three digits and a decimal multiple: ``987``, ``12.3k``, ``4.56M``."""
    return _scaled(number, ("", "k", "M", "G", "T"))


def size(number: float) -> str:
    """Bytes in decimal multiples: ``987 B``, ``12.3 MB``, ``20.4 TB``."""
    return _scaled(number, (" B", " kB", " MB", " GB", " TB", " PB"))


def percent(part: float | None) -> str:
    """``42.3%``, rounded down, so that 100% means all; ``-`` when unknown."""
    return "-" if part is None else f"{int(part * 1000 + 1e-9) / 10:.1f}%"


def duration(seconds: float | None) -> str:
    """``12s``, ``2m 05s``, ``1h 02m``, ``3d 04h``; ``-`` when unknown."""
    if seconds is None:
        return "-"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02d}h"
    if hours:
        return f"{hours}h {minute:02d}m"
    return f"{minutes}m {second:02d}s" if minutes else f"{second}s"


def utc(moment: float | None) -> str:
    """``2026-11-29T12:00:03Z``: Unix seconds, rounded down to the second; ``-`` when unknown."""
    if moment is None:
        return "-"
    return datetime.fromtimestamp(int(moment), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_words(moment: float | None) -> str:
    """``2026-11-29 12:00:03 UTC``."""
    return utc(moment).replace("T", " ").replace("Z", " UTC")


def iso(moment: float | None) -> str | None:
    """The same for JSON: None when unknown, or 0."""
    return utc(moment) if moment else None


def clock_time(now: float, seconds: float) -> str:
    """UTC, ``seconds`` after ``now`` (Unix): ``14:20:05``, ``14:20`` or ``Mon 30 Nov 14:20``."""
    today = datetime.fromtimestamp(now, timezone.utc)
    then = datetime.fromtimestamp(now + seconds, timezone.utc)
    if seconds < 300:
        return f"{then:%H:%M:%S}"
    return f"{then:%H:%M}" if then.date() == today.date() else f"{then:%a %d %b %H:%M}"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    unit = 0
    while number >= 999.5 and unit < len(units) - 1:
        number, unit = number / 1000, unit + 1
    digits = 0 if unit == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f}{units[unit]}"
