"""Measures how much of the network's latency the farm hides: each page takes the source 30 ms."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.pages import page_items
from benchmarks.programs import bench, table_of
from benchmarks.report import WORKER_SCANNERS, Chart, Options, Report, Value

_SHAPE = "large"
_DELAY = 0.03
_WORKERS = (1, 2, 4, 8)
#: Pages that each scanner reads: two seconds of waiting.
_PAGES = 65
#: Full pages, and pages so small that their only cost is the wait.
_SHARES = (1.0, 0.1)


def run(options: Options) -> Report:
    """Copy tables by ever more scanners, each of which always reads one segment."""
    shape = options.shape(_SHAPE)
    farms = [(count, WORKER_SCANNERS) for count in options.workers or _WORKERS]
    if not options.workers:
        farms.insert(0, (1, 1))
    report = Report(f"latency: {shape} items, a page in {_DELAY * 1e3:g} ms")
    lines: dict[str, list[tuple[float, float]]] = {"the wire": []}
    with bench("--delay", str(_DELAY)) as place:
        for share in _SHARES:
            limit = round(share * page_items(shape))
            line = lines.setdefault(f"pages of {limit} items", [])
            for workers, each in farms:
                scanners = workers * each
                table = table_of(shape, options.items or scanners * _PAGES * limit)
                used = place.shake(
                    table,
                    workers,
                    f"full.read.concurrency={scanners}",
                    f"full.document.parser={each}",
                    f"qps.full.batch_num={limit}",
                    "qps.full=1000000",
                )
                log = place.reading(table)
                row = _row(limit, workers, scanners, log)
                row["cores busy %"] = (
                    100 * (used.cpu + sum(used.servers.values())) / used.seconds / _cores()
                )
                report.rows.append(row)
                line.append((float(scanners), float(row["pages/s"])))
    lines["the wire"] = [(scanners, scanners / _DELAY) for scanners, _ in line]
    report.findings += [
        f"pages of {row['items/page']} items: {row['of the wire %']:.1f} % of what "
        f"{row['scanners']} scanners could wait for"
        for row in report.rows
        if row["scanners"] in (report.rows[0]["scanners"], scanners)
    ]
    report.charts["scanners"] = Chart("scanners", "pages/s", lines)
    return report


def _row(limit: int, workers: int, scanners: int, log: dict[str, Any]) -> dict[str, Value]:
    spans = log["segments"].values()
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    rate = log["scans"] / seconds
    return {
        "items/page": limit,
        "workers": workers,
        "scanners": scanners,
        "pages": log["scans"],
        "pages/s": rate,
        "scanners / delay": scanners / _DELAY,
        "of the wire %": 100 * rate * _DELAY / scanners,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0))
