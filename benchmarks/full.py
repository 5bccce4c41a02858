"""Measures a full copy by shake and by a script in turn: by shape, workers and table size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure import Usage, typical
from benchmarks.pages import json_bytes
from benchmarks.programs import Bench, bench, items_for, table_of
from benchmarks.report import Chart, Options, Report, Value

_SHAPE = "medium"
_WORKERS = (2, 1, 4)
_SIZES = (0.1, 0.3)
#: The script's table is smaller by this factor: an item takes it that much longer.
_SCRIPT_SHARE = 50
#: Segments for each worker, so that both programs read the same way.
_SEGMENTS = 4
_ROUNDS = 3

Copy = Callable[[str], Usage]


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the result; the two programs run it in turn."""

    program: str
    shape: str
    items: int
    workers: int


def run(options: Options) -> Report:
    """Copy each table ``rounds`` times.

    The cost of a run over an empty table is subtracted, so that figures are those of the items
    alone; ``start`` measures it.
    """
    rounds = options.rounds or _ROUNDS
    report = Report(f"full copy: median of {rounds} rounds, less the cost of a start")
    cases = _cases(options)
    runs: dict[Case, list[Usage]] = {case: [] for case in cases}
    with bench() as place:
        for _ in range(rounds):
            starts: dict[tuple[str, int], Usage] = {}
            for case in cases:
                copy = _program(place, case.program, case.workers)
                program = case.program, case.workers
                if program not in starts:
                    starts[program] = copy(table_of(case.shape, 0))
                runs[case].append(copy(table_of(case.shape, case.items)) - starts[program])
    report.rows += [_row(case, runs[case]) for case in cases]
    report.findings += _findings(runs)
    report.charts = _charts(cases, report.rows)
    return report


def _cases(options: Options) -> list[Case]:
    """The shapes, then one of them by numbers of workers, then by table size."""
    shapes = options.shapes or ("small", "medium", "large")
    workers = options.workers or _WORKERS
    swept = _SHAPE if _SHAPE in shapes else shapes[0]
    tables = [(shape, items_for(shape, options), workers[0]) for shape in shapes]
    tables += [(swept, items_for(swept, options), count) for count in workers[1:]]
    cases = []
    for shape, items, count in tables:
        cases.append(Case("shake", shape, items, count))
        cases.append(Case("script", shape, items // _SCRIPT_SHARE, count))
    if not options.items:
        sizes = (round(share * items_for(swept, options)) for share in _SIZES)
        cases += [Case("shake", swept, items, workers[0]) for items in sizes]
    return cases


def _program(place: Bench, program: str, workers: int) -> Copy:
    segments = _SEGMENTS * workers
    if program == "script":
        return lambda table: place.baseline(table, workers, segments)
    return lambda table: place.shake(table, workers, f"full.read.concurrency={segments}")


def _row(case: Case, runs: list[Usage]) -> dict[str, Value]:
    used, millions = typical(runs), case.items / 1e6
    costs = [run.cpu / millions for run in runs]
    row: dict[str, Value] = {
        "program": case.program,
        "shape": case.shape,
        "items": case.items,
        "workers": case.workers,
        "CPU s/M": used.cpu / millions,
        "lowest": min(costs),
        "highest": max(costs),
    }
    if used.seconds > 0:
        row["items/s"] = round(case.items / used.seconds)
        row["JSON MB/s"] = case.items * json_bytes(case.shape) / used.seconds / 1e6
    row["peak MiB"] = round(used.peak / 2**20)
    servers = {f"{name} s/M": cpu / millions for name, cpu in used.servers.items()}
    return {**row, **servers} if case.program == "shake" else row


def _findings(runs: dict[Case, list[Usage]]) -> list[str]:
    costs = {case: typical(runs[case]).cpu / case.items * 1e6 for case in runs if case.items}
    findings = []
    for case, ours in costs.items():
        their = Case("script", case.shape, case.items // _SCRIPT_SHARE, case.workers)
        if case.program == "shake" and their in costs:
            findings.append(
                f"{case.shape}, {case.workers} workers: {ours:.2f} CPU seconds per million items, "
                f"a boto3 + pymongo script {costs[their]:.1f}: {costs[their] / ours:.0f} times"
            )
    for server in ("source", "sink"):
        fed = min(
            run.cpu / max(run.servers[server], 1e-3)
            for case, usages in runs.items()
            for run in usages
            if case.program == "shake"
        )
        findings.append(
            f"one core of {server}, not counted above, does for {fed:.0f} cores of shake"
        )
    return findings


def _charts(cases: list[Case], rows: list[dict[str, Value]]) -> dict[str, Chart]:
    """Chart items per second by workers, for the shape that several numbers of them copied."""
    shape = cases[-1].shape
    lines: dict[str, list[tuple[float, float]]] = {}
    for case, row in zip(cases, rows, strict=True):
        alike = [each for each in cases if (each.program, each.shape) == (case.program, shape)]
        if case in alike and case.items == max(each.items for each in alike) and "items/s" in row:
            lines.setdefault(case.program, []).append((case.workers, float(row["items/s"])))
    if len({case.workers for case in cases}) == 1:
        return {}
    return {"workers": Chart("workers", f"{shape} items/s", lines)} if lines else {}
