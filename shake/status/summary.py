"""The closing summary: what was copied, how fast, and at what cost, as lines of text."""

from __future__ import annotations

from shake.status.figures import (
    COMPLETE,
    count,
    duration,
    kept,
    many,
    percent,
    short,
    size,
    total,
    utc,
)
from shake.status.readiness import consistency
from shake.status.snapshot import Snapshot, TableStatus

#: Printed on stdout when the full copy is complete, whatever the log settings.
FULL_SYNC_DONE = "full sync done!"

_HEADS = (
    "table", "state", "items", "size", "time", "items/s", "MB/s",
    "retries", "throttles", "units",
)  # fmt: skip

#: Columns of words.
_WORDS = _HEADS[:2]

_RESUMED = "items, size and read units are those of all runs, all other figures those of this run"


def summary(snapshot: Snapshot, width: int = 0) -> list[str]:
    """The lines to print when the task ends, in whatever state.

    The figures of a table are in several rows where one would be wider than ``width`` (0: it has
    no limit).

    Items, size and read units count all runs of the task, and the lines say so where there was an
    earlier one. All else counts this run. MB/s is in 10^6 bytes.
    """
    everything = total(snapshot)
    resumed = everything.items_before > 0
    done = sum(table.state in COMPLETE for table in snapshot.tables)
    head = (
        f"{snapshot.id} {snapshot.state} after {duration(snapshot.seconds)}: "
        f"{done} of {many(len(snapshot.tables), 'table')} done, "
        f"{many(everything.items, 'item')}, {size(everything.bytes)}{' in all runs' * resumed}"
    )
    lines = [f"{head}: {snapshot.reason}" if snapshot.reason else head]
    # The time of the task also counts what came after the copy: it gives no rate.
    whole = _row(everything, rated=everything.lag is None)
    lines += _grids([_HEADS, *map(_row, snapshot.tables), whole], width)
    lines += [_RESUMED] * resumed
    lines += [f"table {t.name}: {t.error}" for t in snapshot.tables if t.error]
    lines += [f"KEPT, NOT STORED: table {t.name}: {kept(t)}" for t in snapshot.tables if t.kept]
    lines += [_followed(snapshot, table) for table in snapshot.tables if table.lag is not None]
    return lines + [_filtered(table) for table in snapshot.tables if table.filtered]


def _row(table: TableStatus, rated: bool = True) -> tuple[str, ...]:
    items, written = table.items - table.items_before, table.bytes - table.bytes_before
    per_second = 1 / table.seconds if table.seconds else 0.0
    return (
        table.name,
        table.state,
        count(table.items),
        size(table.bytes),
        duration(table.seconds),
        count(items * per_second) if rated else "-",
        f"{written * per_second / 1e6:.1f}" if rated else "-",
        count(table.retries),
        count(table.throttles),
        short(table.capacity),
    )


def _grids(rows: list[tuple[str, ...]], width: int) -> list[str]:
    """One grid, or several with the same first column where one would be too wide."""
    lines, columns = [], list(zip(*rows, strict=True))
    first, *left = columns
    taken: list[tuple[str, ...]] = []
    for column in left:
        if taken and 0 < width < sum(1 + max(map(len, one)) for one in (first, *taken, column)) - 1:
            lines += _grid([first, *taken])
            taken = []
        taken.append(column)
    return lines + _grid([first, *taken])


def _grid(columns: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell, words to the left and figures to the right."""
    widths = [max(map(len, column)) for column in columns]
    return [
        " ".join(
            cell.ljust(width) if column[0] in _WORDS else cell.rjust(width)
            for cell, column, width in zip(row, columns, widths, strict=True)
        )
        for row in zip(*columns, strict=True)
    ]


def _followed(snapshot: Snapshot, table: TableStatus) -> str:
    skipped = f", {count(table.skipped)} left out in all runs (nothing to modify)"
    behind = f"{duration(table.lag)} behind"
    through = f"applied through {utc(table.applied_through)}" if table.applied_through else behind
    return (
        f"table {table.name}: {many(table.changes, 'change')} applied in this run"
        f"{skipped if table.skipped else ''}, {consistency(snapshot, table)}, {through}"
    )


def _filtered(table: TableStatus) -> str:
    part = percent(table.items / table.scanned) if table.scanned else "none"
    return (
        f"SCAN FILTER ON: table {table.name}: {count(table.items)} of "
        f"{count(table.scanned)} scanned items were kept ({part}); the others were NOT copied "
        "(full.read.filter_expression)"
    )
