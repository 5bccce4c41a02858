"""Measures the CPU of each role, and how many workers the supervisor and the writer can serve."""

from __future__ import annotations

from benchmarks.measure import Usage, typical
from benchmarks.pages import page_items
from benchmarks.programs import ROLES, bench, items_for
from benchmarks.report import Options, Report, Value

_SHAPES = ("small", "medium", "large")
_ROUNDS = 3
#: The supervisor handles pages, never items. Many small pages show what one costs it. The cost of
#: a few hundred full ones is lost in the work that it does each second.
_SMALL_PAGE = 50
_SMALL_PAGES = 8000


def run(options: Options) -> Report:
    """Copy a table of each shape, and measure what each role used beyond its start."""
    shapes, rounds = options.shapes or _SHAPES, options.rounds or _ROUNDS
    runs: dict[str, list[Usage]] = {shape: [] for shape in shapes}
    small: list[Usage] = []
    pages = min(_SMALL_PAGES, -(-items_for(shapes[0], options) // _SMALL_PAGE))
    limit = f"qps.full.batch_num={_SMALL_PAGE}", "qps.full=1000000"
    with bench() as place:
        for _ in range(rounds):
            for shape in shapes:
                items = items_for(shape, options)
                runs[shape].append(place.beyond_start(shape, items, options.farm))
            copied = place.beyond_start(shapes[0], pages * _SMALL_PAGE, options.farm, *limit)
            small.append(copied)
    report = Report(f"roles: CPU beyond a start, {options.farm} workers, median of {rounds} rounds")
    supervisor = typical(small).roles["supervisor"] / pages
    report.rows.append(
        {
            "shape": f"pages of {_SMALL_PAGE} items",
            "role": "supervisor",
            "ms/page": supervisor * 1e3,
            "pages/s of a core": round(1 / supervisor) if supervisor > 0 else "",
        }
    )
    for shape in shapes:
        used = typical(runs[shape])
        report.rows += _rows(shape, items_for(shape, options), used)
        per_page = {
            role: used.roles.get(role, 0.0) * page_items(shape) / items_for(shape, options)
            for role in ROLES
        }
        per_page["supervisor"] = supervisor
        report.findings += [
            f"{shape}: one core of {role} serves {1 / per_page[role]:,.0f} full pages/s, as many "
            f"as {per_page['worker'] / per_page[role]:.1f} busy workers give"
            for role in ("supervisor", "writer")
            if per_page[role] > 0  # else the table was too small to measure it
        ]
    return report


def _rows(shape: str, items: int, used: Usage) -> list[dict[str, Value]]:
    pages = items / page_items(shape)
    rows: list[dict[str, Value]] = []
    for role in ROLES:
        cpu = used.roles.get(role, 0.0)
        rows.append(
            {
                "shape": shape,
                "role": role,
                "ms/page": cpu / pages * 1e3,
                "us/document": cpu / items * 1e6,
                "pages/s of a core": round(pages / cpu) if cpu > 0 else "",
            }
        )
    return rows
