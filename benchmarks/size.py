"""Whether a table a hundred times larger costs the same for each item, and the same memory."""

from __future__ import annotations

from math import sqrt
from statistics import stdev

from benchmarks.measure import Usage, typical
from benchmarks.programs import bench, table_of
from benchmarks.report import Options, Report, Value

_ITEMS = 100_000
_TIMES = 100
_SHAPE = "medium"
#: A run over the smaller table costs little more than a start. Only many runs show it.
_ROUNDS = 20
#: Runs over the smaller table for each one over the larger.
_SMALL_ROUNDS = 10
_WANTED = 5.0


def run(options: Options) -> Report:
    """Copy the smaller and, a few times, the larger table, each beside an empty one."""
    shape, rounds = options.shape(_SHAPE), options.rounds or _ROUNDS
    small = options.items or _ITEMS
    runs: dict[int, list[Usage]] = {small: [], small * _TIMES: []}
    # The smaller table, too, keeps all scanners busy.
    settings = (options.farm, f"full.read.concurrency={options.scanners}")
    with bench() as place:
        for turn in range(rounds):
            for items in runs if turn % _SMALL_ROUNDS == 0 else (small,):
                start = place.shake(table_of(shape, 0), *settings)
                runs[items].append(place.shake(table_of(shape, items), *settings) - start)
    report = Report(f"size of the table: {shape} items, {options.farm} workers, less a start")
    report.rows += [_row(items, usages) for items, usages in runs.items()]
    few, many = report.rows
    for what, column in {"CPU per item": "CPU s/M", "peak memory": "peak MiB"}.items():
        differs = 100 * (float(many[column]) / float(few[column]) - 1)
        verdict = "" if abs(differs) <= _WANTED else "not "
        report.findings.append(
            f"{what}: {many['items']:,} items against {few['items']:,}: {differs:+.1f} %, "
            f"{verdict}within {_WANTED:g} %"
        )
    doubt = 100 * float(few["give or take"]) / float(few["CPU s/M"])
    report.findings[0] += f" (known to {doubt:.1f} %)"
    return report


def _row(items: int, runs: list[Usage]) -> dict[str, Value]:
    used, millions = typical(runs), items / 1e6
    # The standard error of a median.
    doubt = 1.25 * stdev(run.cpu for run in runs) / sqrt(len(runs)) if len(runs) > 1 else 0.0
    return {
        "items": items,
        "runs": len(runs),
        "CPU s/M": used.cpu / millions,
        "give or take": doubt / millions,
        "wall s": used.seconds,
        "peak MiB": used.peak / 2**20,
    }
