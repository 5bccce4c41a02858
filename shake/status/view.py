"""What the page shows, as data: every word and figure is made here, and the browser only places it.

A ``tone`` is ``good``, ``bad``, ``warn``, or empty, and stands for a colour beside the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

from shake import __version__
from shake.phase import Phase
from shake.process.site import WORKING, NodeStatus
from shake.schema import OLD
from shake.status.figures import (
    COMPLETE,
    ENDED,
    IDLE,
    ILL,
    UNUSUAL,
    but_for_kept,
    count,
    duration,
    expected,
    fraction,
    kept,
    many,
    percent,
    short,
    size,
    skipped,
    total,
    unread,
    utc,
    utc_words,
)
from shake.status.headline import LAGGING, attention, banners, headline, is_capital_warning
from shake.status.monitor import Watched
from shake.status.readiness import consistency
from shake.status.snapshot import CheckStatus, ProcessStatus, Snapshot, TableStatus

_MODES = {"full": "full copy", "all": "full copy, then changes", "incr": "changes only"}
_STATE_TONES = {"finished": "good", "failed": "bad"} | dict.fromkeys(UNUSUAL, "warn")
COLUMNS = ("Items", "Size", "Rate", "Read units/s", "Left or lag", "Parts", "Throttled")
PROCESS_COLUMNS = ("Pid", "CPU", "Memory", "Slots in use", "Replaced")

#: A fact: its name, its value, a line below, and a tone.
Fact = tuple[str, str, str, str]


def view(watched: Watched, *, control: bool = False) -> dict[str, Any]:
    """What ``/view`` gives; ``control``: the page offers to steer the task."""
    snapshot = watched.snapshot
    everything = total(snapshot)
    return {
        "id": snapshot.id,
        "state": snapshot.state,
        "tone": _STATE_TONES.get(snapshot.state, ""),
        "ended": snapshot.state in ENDED,
        "about": f"{_MODES.get(snapshot.sync_mode, snapshot.sync_mode)}, started "
        f"{utc_words(snapshot.started)}, {'ran' if snapshot.state in ENDED else 'running'} for "
        f"{duration(snapshot.seconds)}",
        "time": f"As of {utc_words(snapshot.time)}. shake {__version__}",
        "headline": headline(snapshot, everything, watched.finish)._asdict(),
        "banners": [banner._asdict() for banner in banners(snapshot)],
        "notices": [notice for notice in snapshot.notices if not is_capital_warning(notice)],
        "facts": list(_facts(watched, everything)),
        "check": _check(snapshot.check),
        "columns": COLUMNS,
        "groups": _groups(snapshot),
        "processes": {
            "columns": PROCESS_COLUMNS,
            "summary": _process_summary(snapshot.processes),
            "rows": sorted(
                (*map(_node, snapshot.nodes), *map(_process, snapshot.processes)),
                key=lambda row: not row["tone"],
            ),
        },
        "events": [(utc_words(one.time), one.text, one.tone) for one in watched.events],
        "points": watched.points,
        "control": control,
        "paused": snapshot.state == "paused",
    }


# ---- the task as a whole


def _facts(watched: Watched, everything: TableStatus) -> Iterable[Fact]:
    snapshot, limit = watched.snapshot, watched.bottleneck
    if limit:
        yield "Limited by", limit.what, limit.why, "warn" if limit.what == "target" else ""
    if everything.lag is not None:
        late = everything.lag >= LAGGING
        yield "Lag", duration(everything.lag), "", "warn" if late and everything.consistent else ""
        pending = f"{count(everything.pending)} read and not applied"
        if snapshot.state in ENDED:
            yield "Changes", count(everything.changes), f"applied, {pending}", ""
        else:
            yield "Changes", f"{short(everything.change_rate)}/s", pending, ""
        whole = snapshot.whole and not everything.skipped
        name = "Consistent point" if whole else "Changes up to the start"
        reached = f"reached{but_for_kept(everything)}"
        word = reached if everything.consistent else "not reached yet"
        clock = (
            f"source's clock now: {utc_words(snapshot.source_time)}" if snapshot.source_time else ""
        )
        tone = "warn" if everything.kept else "good"
        yield name, word, clock, tone if everything.consistent else ""
    elif snapshot.state in ENDED:
        written = (everything.bytes - everything.bytes_before) / max(1.0, snapshot.seconds)
        yield "Written", f"{size(written)}/s", "on average", ""
        yield "Read units", short(everything.capacity), "consumed by the scan", ""
    else:
        of = f"{short(everything.rate)} items/s" if everything.rate else ""
        yield "Written", f"{size(everything.byte_rate)}/s", of, ""
        yield "Read units", f"{short(everything.unit_rate)}/s", _budget(snapshot.tables), ""
    if everything.journaled:
        yield "In the journal", count(everything.journaled), "changes", ""
    yield "Items", count(everything.items), f"of about {count(everything.expected_items)}", ""
    yield "Size", size(everything.bytes), "as written to the target", ""
    share = everything.throttles / max(1, everything.throttles + everything.answers)
    below = f"{percent(share)} of all requests, {count(everything.retries)} retries"
    yield "Throttled", count(everything.throttles), below, ""
    if everything.kept:
        yield "Bad items", count(everything.kept), kept(everything), "warn"


def _budget(tables: Sequence[TableStatus]) -> str:
    budgets = [table.budget for table in tables if table.state == Phase.COPYING.value]
    known = [budget for budget in budgets if budget is not None]
    if not known:
        return "no budget"
    more = " and tables without" if len(known) < len(budgets) else ""
    return f"budget {short(sum(known))}/s{more}"


def _check(check: CheckStatus | None) -> dict[str, Any] | None:
    """The check of this task, where one runs or has ended."""
    if check is None:
        return None
    found = many(check.differences, "difference") if check.differences else "no difference"
    if check.state != "running":
        text = f"The check is {check.state} ({utc_words(check.time)}): {found}"
        return {"text": text, "more": "", "fraction": None, "tone": _verdict(check)}
    part = min(check.items / check.expected, 0.999) if check.expected else None
    left = f", {duration(check.seconds_left)} left" if check.seconds_left is not None else ""
    more = (
        f"{count(check.items)} of about {count(check.expected)} items, {short(check.rate)}/s, "
        f"{count(check.units)} read units{left}, {found} so far"
    )
    text = f"A check compares table {check.table} ({check.number} of {check.tables})"
    return {"text": text, "more": more, "fraction": part, "tone": _verdict(check)}


def _verdict(check: CheckStatus) -> str:
    if check.differences or check.state == "failed":
        return "bad"
    return "good" if check.state == "finished" else ""


# ---- tables


def _following(table: TableStatus) -> bool:
    return table.state == Phase.FOLLOWING.value


#: Groups of tables, those that need a user first: name, which they are, and from how many on they
#: are folded.
_GROUPS: tuple[tuple[str, Callable[[TableStatus], bool], float], ...] = (
    ("Need attention", attention, inf),
    ("At work", lambda table: table.state not in IDLE | COMPLETE, inf),
    ("Followed", _following, inf),
    ("Waiting", lambda table: table.state == Phase.WAITING.value, 10),
    ("Done", lambda table: True, 1),
)


def _groups(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The groups that have tables. Within each, the ones that are slowest or last come first."""
    left, groups = list(snapshot.tables), []
    for name, belongs, fold_from in _GROUPS:
        members = [table for table in left if belongs(table)]
        left = [table for table in left if not belongs(table)]
        if members:
            members.sort(key=_need)
            rows = [_row(snapshot, table) for table in members]
            groups.append({"name": name, "folded": len(rows) >= fold_from, "rows": rows})
    return groups


def _need(table: TableStatus) -> tuple[float, float, str]:
    """Sorts those first that lag most, then those that are least copied."""
    part = fraction(table)
    return -(table.lag or table.unread or 0.0), part if part is not None else 0.0, table.name


def _row(snapshot: Snapshot, table: TableStatus) -> dict[str, Any]:
    part = fraction(table)
    return {
        "name": table.name,
        "state": table.state,
        "tone": _tone(table),
        "fraction": part,
        "percent": percent(part) if part is not None else "",
        "namespace": table.namespace if table.namespace != f"{snapshot.id}.{table.name}" else "",
        "notes": list(_notes(table)),
        "cells": list(_following_cells(snapshot, table) if _following(table) else _cells(table)),
    }


def _tone(table: TableStatus) -> str:
    if table.state in ILL:
        return "bad"
    if attention(table):
        return "warn"
    return "good" if table.state == Phase.DONE.value or table.consistent else ""


def _notes(table: TableStatus) -> Iterable[tuple[str, str]]:
    """Lines below a table's name, each with its tone."""
    if table.error:
        yield table.error, "bad"
    if (table.unread or 0.0) >= OLD:
        yield f"{unread(table)}, of 24h that its stream keeps", "bad"
    elif table.unread is not None and table.lag is None:
        yield unread(table), ""
    if table.index_progress is not None:
        yield f"{table.index_step} {percent(table.index_progress)}".strip(), ""
    if table.filtered:
        copied = f"{count(table.items)} of {count(table.scanned)} scanned items kept"
        yield f"scan filter: {copied}", "warn"
    if table.skipped:
        yield skipped(table), ""
    if table.kept:
        yield f"kept, not stored: {kept(table)}", "warn"


#: A cell: its text, and a smaller line below.
Cell = tuple[str, str]


def _cells(table: TableStatus) -> Iterable[Cell]:
    copying = table.state == Phase.COPYING.value
    about, source = count(expected(table)), size(table.expected_bytes)
    open_ = table.state not in COMPLETE
    yield count(table.items), f"of about {about}" if table.expected_items and open_ else ""
    yield size(table.bytes), f"source {source}" if table.expected_bytes and open_ else ""
    yield (f"{size(table.byte_rate)}/s", f"{short(table.rate)} items/s") if copying else ("", "")
    allowed = "no budget" if table.budget is None else f"of {short(table.budget)}"
    yield (short(table.unit_rate), allowed) if copying else ("", "")
    yield (duration(table.seconds_left) if table.seconds_left is not None else ""), ""
    done = f"{count(table.segments_done)} of {count(table.segments)}"
    yield (done, "segments") if table.segments and open_ else ("", "")
    yield _throttles(table)


def _following_cells(snapshot: Snapshot, table: TableStatus) -> Iterable[Cell]:
    through = f", through {utc(table.applied_through)}" if table.applied_through else ""
    yield count(table.items), many(table.changes, "change")
    yield size(table.bytes), ""
    yield f"{short(table.change_rate)}/s", f"{count(table.pending)} pending"
    yield "", ""
    yield f"lag {duration(table.lag)}", f"{consistency(snapshot, table)}{through}"
    yield count(table.shards_reading), "shard read" if table.shards_reading == 1 else "shards read"
    yield _throttles(table)


def _throttles(table: TableStatus) -> Cell:
    retries = f"{count(table.retries)} retries" if table.retries else ""
    return (count(table.throttles), retries) if table.throttles or retries else ("", "")


# ---- processes and events


def _process_summary(processes: Sequence[ProcessStatus]) -> str:
    known = [one.cpu for one in processes if one.cpu is not None]
    memory = sum(one.memory or 0 for one in processes)
    restarts = sum(one.restarts for one in processes)
    parts = (
        many(len(processes), "process", "processes"),
        f"{sum(known):.2f} CPUs, {size(memory)}" if known else "",
        f"replaced {many(restarts, 'time')}" if restarts else "",
    )
    return ", ".join(filter(None, parts))


def _process(process: ProcessStatus) -> dict[str, Any]:
    return {
        "name": process.role,
        "cells": [
            str(process.pid or "being replaced"),
            percent(process.cpu) if process.cpu is not None else "",
            size(process.memory) if process.memory is not None else "",
            f"{process.slots_used} of {process.slots}" if process.slots else "",
            count(process.restarts) if process.restarts else "",
        ],
        "tone": "warn" if process.restarts or not process.pid else "",
    }


def _node(node: NodeStatus) -> dict[str, Any]:
    """A row of the processes: all those of a node together."""
    return {
        "name": f"node {node.name} ({node.address})",
        "cells": [node.state, percent(node.cpu), size(node.memory), "", ""],
        "tone": "" if node.state in WORKING else "warn",
    }
