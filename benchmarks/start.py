"""What a whole run costs that has nothing to copy: an empty table."""

from __future__ import annotations

from benchmarks.measure import Usage, typical
from benchmarks.programs import ROLES, bench, table_of
from benchmarks.report import Options, Report

_ROUNDS = 7
_SHAPE = "medium"


def run(options: Options) -> Report:
    """Copy an empty table ``rounds`` times: in one segment, as it is planned, and by all workers.

    No more workers are started than it takes to read all segments at once.
    """
    rounds = options.rounds or _ROUNDS
    report = Report(f"a start: a whole run over an empty table, median of {rounds}")
    table = table_of(_SHAPE, 0)
    runs: dict[int, list[Usage]] = {1: [], options.scanners: []}
    with bench() as place:
        place.shake(table, options.farm)  # this one finds its files on the disk
        for _ in range(rounds):
            for segments, usages in runs.items():
                setting = f"full.read.concurrency={segments}"
                usages.append(place.shake(table, options.farm, setting))
    for segments, usages in runs.items():
        used = typical(usages)
        report.rows.append(
            {
                "segments": segments,
                "workers": 1 if segments == 1 else options.farm,
                "CPU s": used.cpu,
                "lowest": min(run.cpu for run in usages),
                "highest": max(run.cpu for run in usages),
                **{role: used.roles.get(role, 0.0) for role in ROLES},
                "wall s": used.seconds,
                "peak MiB": round(used.peak / 2**20),
            }
        )
    return report
