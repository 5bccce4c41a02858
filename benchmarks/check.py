"""Measures a check of an equal copy in a real mongod, by shake and by a script, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from benchmarks.measure import Failed, Usage
from benchmarks.programs import table_of
from benchmarks.real import RealBench, real
from benchmarks.report import WORKER_SCANNERS, Options, Report, Value

_ITEMS = 1_000_000
#: The script's table is smaller by this factor: an item takes it that much longer.
_SCRIPT_SHARE = 10
_ROUNDS = 3
#: Memory is measured with so many processes, for the table and one that is larger by this factor.
_PROCESSES = 8
_GROWTH = 10


@dataclass(slots=True)
class Runs:
    """The runs of a program, less their starts. ``source``: CPU seconds up to the last page."""

    items: int
    checks: list[Usage] = field(default_factory=list)
    source: list[float] = field(default_factory=list)


def run(options: Options) -> Report:
    """Check a table that was just copied, by each program; then measure the memory of shake."""
    rounds, shape = options.rounds or _ROUNDS, options.shape("medium")
    items = options.items or _ITEMS
    programs = {"shake": Runs(items), "script": Runs(max(1, items // _SCRIPT_SHARE))}
    report = Report(
        f"check: {shape} items equal in mongod, {options.farm} workers, median of {rounds} rounds, "
        "less the cost of a start"
    )
    segments = options.farm * WORKER_SCANNERS
    with real() as place:
        for program, runs in programs.items():
            table, empty = table_of(shape, runs.items), table_of(shape, 0)
            _copy(place, empty, table, segments=segments)
            for _ in range(rounds):
                _measure(place, program, runs, table, empty, (options.farm, segments))
        report.rows += [_row(program, runs) for program, runs in programs.items()]
        report.findings += [
            f"{row['program']}: {row['CPU s/M']:.2f} CPU seconds per million items: "
            f"{row['source s/M']:.2f} for the items, {row['target s/M']:.2f} for the target's keys"
            for row in report.rows
        ]
        report.findings.append(_memory(place, shape, items))
    return report


def _copy(place: RealBench, *tables: str, segments: int) -> None:
    place.clear()
    for table in tables:
        place.shake(table, 2, f"full.read.concurrency={segments}")


def _measure(
    place: RealBench, program: str, runs: Runs, table: str, empty: str, how: tuple[int, int]
) -> None:
    check = place.checker if program == "script" else place.check
    start = check(empty, *how)
    whole = check(table, *how)
    ends = [end for _, end in place.reading(table)["segments"].values()]
    if not ends:
        raise Failed(f"{program} has read nothing of {table}")
    runs.checks.append(whole - start)
    runs.source.append(whole.cpu_until(max(ends)) - start.cpu)


def _memory(place: RealBench, shape: str, items: int) -> str:
    peaks = []
    segments = _PROCESSES * WORKER_SCANNERS
    for size in (items, _GROWTH * items):
        table = table_of(shape, size)
        _copy(place, table, segments=segments)
        peaks.append(place.check(table, _PROCESSES, segments).peak / 2**20)
    return (
        f"shake: {_PROCESSES} processes take {peaks[0]:.0f} MiB for {items:,} items, "
        f"{peaks[1]:.0f} MiB for {_GROWTH} times as many"
    )


def _row(program: str, runs: Runs) -> dict[str, Value]:
    millions = runs.items / 1e6
    cpu, source = median(each.cpu for each in runs.checks), median(runs.source)
    seconds = median(each.seconds for each in runs.checks)
    return {
        "program": program,
        "items": runs.items,
        "CPU s/M": cpu / millions,
        "source s/M": source / millions,
        "target s/M": (cpu - source) / millions,
        "mongod s/M": median(each.servers["mongod"] for each in runs.checks) / millions,
        "items/s": round(runs.items / seconds) if seconds > 0 else "",
        "peak MiB": round(max(each.peak for each in runs.checks) / 2**20),
    }
