"""Whether a table a hundred times larger costs the same for each item, and the same memory."""

from __future__ import annotations

from benchmarks.measure import Usage, typical
from benchmarks.programs import Bench, bench, table_of
from benchmarks.report import Options, Report, Value
from shake.config import Config

_ITEMS = 100_000
_TIMES = 100
_SHAPE = "medium"
#: A run over the smaller table costs little more than a start: it takes many to know how much.
_ROUNDS = 15
_WANTED = 5.0


def run(options: Options) -> Report:
    """Copy an empty table, the smaller and, a few times, the larger one, in turns."""
    shape, rounds = options.shape(_SHAPE), options.rounds or _ROUNDS
    small = options.items or _ITEMS
    large = small * _TIMES
    report = Report(f"size of the table: {shape} items, {options.farm} workers")
    runs: dict[int, list[Usage]] = {0: [], small: [], large: []}
    with bench() as place:
        for turn in range(rounds):
            for items in (0, small, *([large] if turn % 5 == 0 else [])):
                runs[items].append(_copy(place, shape, items, options.farm))
    start = typical(runs[0])
    report.rows += [_row(items, runs[items], start) for items in runs]
    costs = [float(row["CPU s/M"]) for row in report.rows[1:]]
    peaks = [float(row["peak MiB"]) for row in report.rows[1:]]
    for what, (few, many) in {"CPU per item": costs, "peak memory": peaks}.items():
        differs = 100 * (many / few - 1)
        verdict = "" if abs(differs) <= _WANTED else "not "
        report.findings.append(
            f"{what}: {large:,} items against {small:,}: {differs:+.1f} %, "
            f"{verdict}within {_WANTED:g} %"
        )
    return report


def _copy(place: Bench, shape: str, items: int, workers: int) -> Usage:
    lanes = workers * Config(id="", target_address="").full_document_parser
    # The smaller table, too, keeps all lanes busy.
    return place.shake(table_of(shape, items), workers, f"full.read.concurrency={lanes}")


def _row(items: int, runs: list[Usage], start: Usage) -> dict[str, Value]:
    used = typical(runs)
    deviation = sum(abs(run.cpu - used.cpu) for run in runs) / len(runs)
    row: dict[str, Value] = {
        "items": items,
        "runs": len(runs),
        "CPU s": used.cpu,
        "give or take": deviation,
        "wall s": used.seconds,
        "peak MiB": used.peak / 2**20,
    }
    if items:
        row["CPU s/M"] = (used - start).cpu / items * 1e6
    return row
