"""What a whole run costs that has nothing to copy: an empty table."""

from __future__ import annotations

from benchmarks.measure import typical
from benchmarks.programs import ROLES, bench, table_of
from benchmarks.report import Options, Report

_ROUNDS = 7
_SHAPE = "medium"


def run(options: Options) -> Report:
    """Copy an empty table ``rounds`` times."""
    rounds = options.rounds or _ROUNDS
    report = Report(
        f"a start: a whole run over an empty table, {options.farm} workers, median of {rounds}"
    )
    with bench() as place:
        table = table_of(_SHAPE, 0)
        place.shake(table, options.farm)  # the first one finds its files on the disk
        runs = [place.shake(table, options.farm) for _ in range(rounds)]
    used = typical(runs)
    report.rows.append(
        {
            "CPU s": used.cpu,
            "lowest": min(run.cpu for run in runs),
            "highest": max(run.cpu for run in runs),
            **{role: used.roles.get(role, 0.0) for role in ROLES},
            "wall s": used.seconds,
            "peak MiB": round(used.peak / 2**20),
        }
    )
    return report
