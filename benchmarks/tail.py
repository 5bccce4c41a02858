"""How evenly a copy ends: segments planned by size, uneven, from a source that takes its time."""

from __future__ import annotations

from itertools import accumulate

from benchmarks.programs import bench, table_of
from benchmarks.report import Options, Report

#: A GB of these is 16 segments, and costs so little CPU that the time is the source's.
_ITEMS = 120_000
_SHAPE = "large"
_DELAY = 0.03
_SKEW = 0.5


def run(options: Options) -> Report:
    """Copy a table, and look at when each segment was read."""
    items, shape = options.items or _ITEMS, options.shape(_SHAPE)
    report = Report(
        f"the tail: {items:,} {shape} items, {options.farm} workers, Scan in {_DELAY * 1e3:g} ms"
        f", segments of {1 - _SKEW:g} to {1 + _SKEW:g} times the mean"
    )
    with bench("--delay", str(_DELAY), "--skew", str(_SKEW)) as place:
        table = table_of(shape, items)
        place.shake(table, options.farm)
        spans = [(begin, end) for begin, end in place.reading(table)["segments"].values()]
    begin, end = min(b for b, _ in spans), max(e for _, e in spans)
    scanners = min(options.scanners, len(spans))
    busy = sum(e - b for b, e in spans) / (scanners * (end - begin))
    tail = (end - tail_begins(spans, scanners)) / (end - begin)
    report.rows.append(
        {
            "segments": len(spans),
            "scanners": scanners,
            "scan s": end - begin,
            "scanners busy %": 100 * busy,
            "tail % of scan": 100 * tail,
            "longest segment s": max(e - b for b, e in spans),
            "shortest": min(e - b for b, e in spans),
        }
    )
    report.rows[0]["busy scanners, by tenths"] = _profile(spans, begin, end)
    report.findings.append(
        f"scanners are busy {100 * busy:.1f} % of the scan; the last {100 * tail:.1f} % of it "
        "begins when the first scanner finds no more segment"
    )
    return report


def tail_begins(spans: list[tuple[float, float]], scanners: int) -> float:
    """The moment after which fewer than ``scanners`` segments are read at any time."""
    steps = sorted([(b, 1) for b, _ in spans] + [(e, -1) for _, e in spans])
    levels = list(accumulate(step for _, step in steps))
    return max(
        (steps[i + 1][0] for i, level in enumerate(levels[:-1]) if level >= scanners),
        default=steps[0][0],
    )


def _profile(spans: list[tuple[float, float]], begin: float, end: float) -> str:
    """How many scanners were busy on average, in each tenth of the time."""
    width = (end - begin) / 10
    marks = [begin + width * tenth for tenth in range(10)]
    overlaps = [
        sum(max(0.0, min(e, mark + width) - max(b, mark)) for b, e in spans) for mark in marks
    ]
    return " ".join(f"{overlap / width:.1f}" for overlap in overlaps)
