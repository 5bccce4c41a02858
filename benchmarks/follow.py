"""Measures what it costs to apply a stream, by shake and by a script in turn."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.measure import Usage, typical
from benchmarks.programs import ROLES, bench, table_of
from benchmarks.records import TRAFFIC
from benchmarks.report import Options, Report, Value

_ITEMS = 1_000_000
_SHAPE = "medium"
_ROUNDS = 3
#: The script's stream is shorter by this factor.
_SCRIPT_SHARE = 50
#: Changes of the short run whose cost counts as that of a start.
_FEW = 1000


def run(options: Options) -> Report:
    """Apply streams of closed shards: inserts, modifications, and both with removals."""
    shape, rounds = options.shape(_SHAPE), options.rounds or _ROUNDS
    changes, workers = options.items or _ITEMS, options.farm
    report = Report(
        f"catch-up: changes of {shape} items, {workers} workers, median of {rounds} rounds, "
        "less the cost of a start"
    )
    with bench() as place:
        programs: dict[str, tuple[int, Callable[[str], Usage]]] = {
            "shake": (changes, lambda table: place.shake_following(table, workers)),
            "script": (
                changes // _SCRIPT_SHARE,
                lambda table: place.follower(table, workers),
            ),
        }
        runs: dict[tuple[str, str], list[Usage]] = {
            (traffic, program): [] for traffic in TRAFFIC for program in programs
        }
        for _ in range(rounds):
            for (traffic, program), usages in runs.items():
                number, follow = programs[program]
                start = follow(table_of(f"{traffic}-{shape}", _FEW))
                usages.append(follow(table_of(f"{traffic}-{shape}", _FEW + number)) - start)
    costs = {}
    for (traffic, program), usages in runs.items():
        number, _ = programs[program]
        used = typical(usages)
        costs[traffic, program] = used.cpu / number * 1e6
        report.rows.append(_row(traffic, program, number, used, usages))
    report.findings += [
        f"{traffic}: {costs[traffic, 'shake']:.2f} CPU seconds per million changes, a boto3 + "
        f"pymongo script {costs[traffic, 'script']:.1f}: "
        f"{costs[traffic, 'script'] / costs[traffic, 'shake']:.0f} times"
        for traffic in TRAFFIC
    ]
    return report


def _row(
    traffic: str, program: str, number: int, used: Usage, usages: list[Usage]
) -> dict[str, Value]:
    millions = number / 1e6
    row: dict[str, Value] = {
        "traffic": traffic,
        "program": program,
        "changes": number,
        "CPU s/M": used.cpu / millions,
        "lowest": min(run.cpu for run in usages) / millions,
        "highest": max(run.cpu for run in usages) / millions,
    }
    if used.seconds > 0:
        row["changes/s"] = round(number / used.seconds)
    if program == "shake":
        row |= {f"{role} s/M": used.roles.get(role, 0.0) / millions for role in ROLES}
    return {**row, "peak MiB": round(used.peak / 2**20)}
