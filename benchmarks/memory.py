"""The peak memory of a full copy, as the table grows and as workers are added."""

from __future__ import annotations

from benchmarks.programs import Bench, bench, table_of
from benchmarks.report import WORKER_SCANNERS, Chart, Options, Report, Value
from shake.process.arena import SLOTS_PER_SCANNER

_ITEMS = 150_000
_SHAPE = "medium"
_GROWTH = (1, 3, 10)


def run(options: Options) -> Report:
    """Copy tables of up to ten times ``items``; then the first by other numbers of workers."""
    items, shape, workers = options.items or _ITEMS, options.shape(_SHAPE), options.farm
    report = Report(f"peak memory (PSS of all processes): {shape} items")
    with bench() as place:
        growing = [_copy(place, shape, items * times, workers) for times in _GROWTH]
        by_workers = [
            _copy(place, shape, items, count)
            for count in sorted({max(1, workers // 2), 2 * workers})
        ]
    report.rows += growing + by_workers
    points = [(float(row["items"]), float(row["peak MiB"])) for row in growing]
    report.charts["items"] = Chart("items", "peak MiB", {f"{workers} workers": points})
    grown = float(growing[-1]["peak MiB"]) / float(growing[0]["peak MiB"])
    report.findings.append(
        f"a table {_GROWTH[-1]} times larger, the same workers: {grown:.2f} times the memory"
    )
    return report


def _copy(place: Bench, shape: str, items: int, workers: int) -> dict[str, Value]:
    scanners = workers * WORKER_SCANNERS
    # The smallest table, too, keeps all scanners busy.
    usage = place.shake(table_of(shape, items), workers, f"full.read.concurrency={scanners}")
    return {
        "items": items,
        "workers": workers,
        "slots": scanners * SLOTS_PER_SCANNER,
        "peak MiB": usage.peak / 2**20,
        "wall s": usage.seconds,
    }
