"""The answers that a user looks for: how far, until when, can I switch, what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shake.phase import Phase
from shake.schema import OLD, RETENTION
from shake.status.estimates import Finish
from shake.status.figures import (
    COMPLETE,
    COPIED,
    ILL,
    clock_time,
    duration,
    fraction,
    in_short,
    many,
    oldest_unread,
    percent,
    utc,
    utc_words,
)
from shake.status.readiness import readiness
from shake.status.snapshot import Snapshot, TableStatus

#: Seconds of lag from which on a task that was consistent lags.
LAGGING = 300.0

_NO_PROGRESS = (
    "How far they are is not known: MongoDB tells it only to a user with the role clusterMonitor."
)
#: How a user continues a task that has ended.
RESTART = "start the task again: it goes on from what is saved"
SWITCH = (
    "Stop writes at the source and note the time by its clock, rounded up. Add some seconds where "
    "you take it from this page or from another clock. Wait until this page shows a later 'applied "
    "through' time. Then run shake control finish, which ends shake when all is applied. Switch."
)


class Headline(NamedTuple):
    """``title`` names the phase, ``figure`` is large, ``lines`` explain it.

    ``answer`` is yes or no where the question is whether one can switch. ``fraction``: how much is
    done, where a bar shows it. ``tone`` is good, bad, warn, or empty.
    """

    title: str
    figure: str
    lines: tuple[str, ...]
    answer: str = ""
    fraction: float | None = None
    tone: str = ""


class Banner(NamedTuple):
    """Something that is wrong, or that needs attention; ``tone`` is bad or warn."""

    tone: str
    text: str


def headline(snapshot: Snapshot, total: TableStatus, end: Finish | None) -> Headline:
    """The headline of the present phase; ``total`` is all tables as one, ``end`` of the copy."""
    if snapshot.state in ("failed", "finished", "stopped", "stopping"):
        return _ended(snapshot, total)
    if total.lag is not None:
        return _following(snapshot, total)
    to_copy = [t for t in snapshot.tables if t.state not in COMPLETE | COPIED]
    building = [t for t in snapshot.tables if t.state == Phase.INDEXING.value]
    if not to_copy and building:
        return _indexing(building)
    return _copying(snapshot, total, end)


def _ended(snapshot: Snapshot, total: TableStatus) -> Headline:
    done = sum(table.state in COMPLETE for table in snapshot.tables)
    so_far = (
        f"{done} of {many(len(snapshot.tables), 'table')} copied, {many(total.items, 'item')}, "
        f"after {duration(snapshot.seconds)}"
    )
    through = f"Changes are applied through {utc(total.applied_through)}."
    lines = [snapshot.reason, f"{so_far}.", through if total.applied_through else ""]
    tone = {"failed": "bad", "finished": "good"}.get(snapshot.state, "warn")
    if snapshot.state == "failed" and not snapshot.gap:  # whose reason says what to do
        lines.append(f"Remove the cause, then {RESTART}.")
    title = "The task ends" if snapshot.state == "stopping" else "The task has ended"
    shown = tuple(filter(None, lines))
    part = fraction(total)
    part = None if part == 1.0 else part
    return Headline(title, snapshot.state.capitalize(), shown, "", part, tone)


def _following(snapshot: Snapshot, total: TableStatus) -> Headline:
    ready, reason, through, kept = readiness(snapshot)
    answer = "yes" if ready else "no"
    why = f"Because {reason}." if not ready else f"{reason[:1].upper()}{reason[1:]}."
    lines = [why, SWITCH] if total.consistent else [why]
    behind = f"{duration(total.lag)} behind the source's clock"
    figure = utc_words(through) if through else "not known yet"
    tone = ("warn" if kept else "good") if ready else ""
    if snapshot.state != "running" or any(map(attention, snapshot.tables)):
        tone = "warn"
    if any(table.state in ILL or (table.unread or 0.0) >= OLD for table in snapshot.tables):
        tone = "bad"
    return Headline("Applied through", figure, (behind, *lines), answer, None, tone)


def _indexing(building: list[TableStatus]) -> Headline:
    names = in_short([table.name for table in building])
    known = [one for one in building if one.index_progress is not None]
    line = f"All items are copied; the target builds indexes: {names}."
    if not known:
        return Headline("Index builds", "working", (line, _NO_PROGRESS))
    part = min(one.index_progress or 0.0 for one in known)
    return Headline("Index builds", percent(part), (line,), "", part)


def _copying(snapshot: Snapshot, total: TableStatus, end: Finish | None) -> Headline:
    done = sum(table.state in COMPLETE for table in snapshot.tables)
    tables = f"{done} of {many(len(snapshot.tables), 'table')} complete"
    if snapshot.state == "paused":
        when = "It is paused: nothing is copied until it is resumed."
    elif end is None:
        when = "It is not known yet when the copy ends."
    else:
        when = _when(snapshot.time, end)
    part = fraction(total)
    return Headline("Full copy", percent(part), (when, tables), "", part)


def _when(now: float, end: Finish) -> str:
    """``Copied at about 14:20 UTC, in 1h 05m (between 14:05 and 14:50)``."""
    guess, soonest, latest = (clock_time(now, seconds) for seconds in end)
    text = f"Copied at about {guess} UTC, in {duration(end.seconds)}"
    return f"{text} (between {soonest} and {latest})" if soonest != latest else text


def attention(table: TableStatus) -> bool:
    """Whether a user should look at the table."""
    late = table.consistent and (table.lag or 0.0) >= LAGGING
    ill = table.state in ILL or table.error or table.kept
    return bool(ill or late or (table.unread or 0.0) >= OLD)


def banners(snapshot: Snapshot) -> Iterator[Banner]:
    """The worst first."""
    broken = [table for table in snapshot.tables if table.state in ILL]
    if broken:
        text = f"{many(len(broken), 'table')} broken: {in_short([t.name for t in broken])}"
        yield Banner("bad", f"{text}: {broken[0].error}" if broken[0].error else text)
    oldest = oldest_unread(snapshot)
    if oldest and (oldest.unread or 0.0) >= OLD:
        age = oldest.unread or 0.0
        then = (
            "streams keep 24h: what its stream has deleted is lost"
            if age >= RETENTION
            else "its stream deletes it after 24h: after that, the table must be copied again"
        )
        text = f"Table {oldest.name}: its oldest unread change is {duration(age)} old, and {then}"
        yield Banner("bad", text)
    if snapshot.state == "degraded":
        yield Banner("warn", f"Degraded: {snapshot.reason}")
    if snapshot.state == "paused":
        since = f" since {utc(snapshot.paused_at)}" if snapshot.paused_at else ""
        yield Banner("warn", f"Paused{since}: nothing is read until shake control resume")
    lagging = [t for t in snapshot.tables if t.consistent and (t.lag or 0.0) >= LAGGING]
    if lagging:
        worst = max(lagging, key=lambda table: table.lag or 0.0)
        text = f"{worst.name} is {duration(worst.lag)} behind"
        yield Banner("warn", f"{many(len(lagging), 'table')} lagging: {text}")
    yield from (Banner("warn", one) for one in snapshot.notices if is_capital_warning(one))


def is_capital_warning(notice: str) -> bool:
    """Whether a warning begins with capitals: ``NO FENCE: ...``."""
    head, colon, _ = notice.partition(":")
    return bool(colon) and head == head.upper()
