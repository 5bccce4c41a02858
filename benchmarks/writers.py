"""Measures a copy by one and by several writers of its collection: speed, and CPU of a document."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import Usage, typical
from benchmarks.pages import page_items
from benchmarks.programs import Bench, bench, items_for, table_of
from benchmarks.real import real
from benchmarks.report import Options, Report, Value

_WRITERS = (1, 2, 4)
_ROUNDS = 3
#: The slow sink answers an insert after so many seconds, and each writer has one connection to it.
#: So this alone limits what one process carries.
_DELAY = 0.05
_SLOW = "full.document.concurrency=1"
_SLOW_PAGES = 300
_REAL_ITEMS = 500_000
#: A table of so few items starts all writers: each segment has a page.
_FEW = 400

Runs = dict[int, list[Usage]]


def run(options: Options) -> Report:
    """Copy the same table by each number of writers in turn, into each of three targets."""
    shape, rounds = options.shape("medium"), options.rounds or _ROUNDS
    report = Report(
        f"writers: {shape} items, {options.farm} workers, median of {rounds} rounds, less a start "
        "of as many writers"
    )
    for target, items, runs in _targets(options, shape):
        rows = [_row(target, writers, items, typical(used)) for writers, used in runs.items()]
        report.rows += rows
        report.findings += _findings(target, rows)
    return report


def _targets(options: Options, shape: str) -> Iterator[tuple[str, int, Runs]]:
    """The targets, the items that they got, and the runs by number of writers."""
    items = options.items or round(_SLOW_PAGES * page_items(shape))
    with bench(sink=("--delay", str(_DELAY))) as place:
        yield "slow sink", items, _runs(place, options, table_of(shape, items), _SLOW)
    items = items_for(shape, options)
    with bench() as place:
        yield "sink", items, _runs(place, options, table_of(shape, items))
    items = options.items or _REAL_ITEMS
    with real() as place:
        yield "mongod", items, _runs(place, options, table_of(shape, items))


def _runs(place: Bench, options: Options, table: str, *settings: str) -> Runs:
    shape = table.rpartition("-")[0]
    numbers = options.writers or _WRITERS
    runs: Runs = {writers: [] for writers in numbers}
    settings = (*settings, f"full.read.concurrency={8 * options.scanners}")
    for _ in range(options.rounds or _ROUNDS):
        for writers in numbers:
            used = [
                _copy(place, name, options.farm, *settings, f"full.writers={writers}")
                for name in (table, table_of(shape, _FEW))
            ]
            runs[writers].append(used[0] - used[1])
    return runs


def _copy(place: Bench, table: str, workers: int, *settings: str) -> Usage:
    place.clear()
    return place.shake(table, workers, *settings)


def _row(target: str, writers: int, items: int, used: Usage) -> dict[str, Value]:
    return {
        "target": target,
        "writers": writers,
        "items": items,
        "items/s": round(items / used.seconds) if used.seconds > 0 else "",
        "CPU us": used.cpu / items * 1e6,
        "peak MiB": round(used.peak / 2**20),
    }


def _findings(target: str, rows: list[dict[str, Value]]) -> Iterator[str]:
    """Each number of writers against the first."""
    first, *others = rows
    for row in others:
        measured = (figures["items/s"] and float(figures["CPU us"]) > 0 for figures in (row, first))
        if all(measured):  # else the table was too small
            faster = float(row["items/s"]) / float(first["items/s"])
            dearer = float(row["CPU us"]) / float(first["CPU us"])
            yield (
                f"{target}: {row['writers']} writers against {first['writers']}: {faster:.2f} "
                f"times the items/s, {dearer:.2f} times the CPU of an item"
            )
