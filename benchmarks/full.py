"""CPU and time of a full copy, by shake and by a script, in turns."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from benchmarks.measure import Usage
from benchmarks.pages import json_bytes
from benchmarks.programs import bench, table_of
from benchmarks.report import Options, Report, Value

_ITEMS = 150_000
_SHAPE = "medium"
#: Segments for each worker, so that both programs read the same way.
_SEGMENTS = 4

#: Processes of shake whose CPU is shown.
ROLES = ("supervisor", "worker", "writer")


def run(options: Options) -> Report:
    """Copy a table ``rounds`` times by each program.

    Each copy follows one of a tenth of the items; what it took beyond that one is the cost of the
    other nine tenths, free of what a start costs.
    """
    items, shape, workers = options.items or _ITEMS, options.shape or _SHAPE, options.workers
    segments = _SEGMENTS * workers
    report = Report(f"full copy: {items:,} {shape} items, {workers} workers, {segments} segments")
    with bench() as place:
        programs: dict[str, Callable[[str], Usage]] = {
            "shake": lambda table: place.shake(table, workers, f"full.read.concurrency={segments}"),
            "script": lambda table: place.baseline(table, workers, segments),
        }
        costs: dict[str, list[float]] = {program: [] for program in programs}
        for _ in range(options.rounds):
            for program, copy in programs.items():
                tenth = copy(table_of(shape, items // 10))
                whole = copy(table_of(shape, items))
                beyond = items - items // 10
                costs[program].append((whole.cpu - tenth.cpu) / beyond * 1e6)
                report.rows.append({"program": program, **_row(shape, beyond, tenth, whole)})
    ours, theirs = median(costs["shake"]), median(costs["script"])
    report.findings.append(
        f"CPU seconds per million items: shake {ours:.1f}, a boto3 + pymongo script {theirs:.1f}, "
        f"{theirs / ours:.1f} times as many"
    )
    return report


def _row(shape: str, beyond: int, tenth: Usage, whole: Usage) -> dict[str, Value]:
    rate = beyond / (whole.seconds - tenth.seconds)
    return {
        "CPU s/M": (whole.cpu - tenth.cpu) / beyond * 1e6,
        "items/s": round(rate),
        "JSON MB/s": rate * json_bytes(shape) / 1e6,
        "wall s": whole.seconds,
        "CPU s": whole.cpu,
        **{f"of it {role}": whole.roles[role] for role in ROLES if role in whole.roles},
        "peak MiB": round(whole.peak / 2**20),
    }
