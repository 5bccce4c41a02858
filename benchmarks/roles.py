"""CPU of supervisor, workers and writer apart, and how many workers the serial ones can serve."""

from __future__ import annotations

from benchmarks.measure import Usage, typical
from benchmarks.pages import page_items
from benchmarks.programs import ROLES, bench, items_for
from benchmarks.report import Options, Report, Value

_SHAPES = ("small", "medium", "large")
_ROUNDS = 3


def run(options: Options) -> Report:
    """Copy a table of each shape, and look at what each role took beyond its start."""
    shapes, rounds = options.shapes or _SHAPES, options.rounds or _ROUNDS
    runs: dict[str, list[Usage]] = {shape: [] for shape in shapes}
    with bench() as place:
        for _ in range(rounds):
            for shape in shapes:
                items = items_for(shape, options)
                runs[shape].append(place.beyond_start(shape, items, options.farm))
    report = Report(f"roles: CPU beyond a start, {options.farm} workers, median of {rounds} rounds")
    for shape in shapes:
        items = items_for(shape, options)
        rows = _rows(shape, items, typical(runs[shape]))
        report.rows += rows
        report.findings += [
            f"{shape}: one core of {row['role']} serves {float(row['pages/s of a core']):,.0f} "
            f"pages/s, which {float(row['workers to fill it']):.1f} busy workers give"
            for row in rows
            if "workers to fill it" in row
        ]
    return report


def _rows(shape: str, items: int, used: Usage) -> list[dict[str, Value]]:
    pages = items / page_items(shape)
    worker = used.roles.get("worker", 0.0)
    rows = []
    for role in ROLES:
        cpu = used.roles.get(role, 0.0)
        row: dict[str, Value] = {
            "shape": shape,
            "role": role,
            "ms/page": cpu / pages * 1e3,
            "us/document": cpu / items * 1e6,
        }
        if cpu > 0:  # not the noise of a tiny table
            row["pages/s of a core"] = round(pages / cpu)
            if role != "worker":
                row["workers to fill it"] = worker / cpu
        rows.append(row)
    return rows
