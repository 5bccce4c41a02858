"""Shows that one wrong document among ten million is found and named, and in how much memory.

A table is copied into a real mongod. Then one document has another byte, one is missing, one is
extra, and one is there twice; a check has to name these and nothing else. Then 10,000 items of the
source change, and a check with ``--since`` looks at those alone. A table of a tenth of the items is
checked before, in as many processes: what memory that takes shows whether it grows with the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from pymongo import MongoClient

from benchmarks import script
from benchmarks.measure import Failed, Usage, measure
from benchmarks.programs import table_of
from benchmarks.real import RealBench, real
from benchmarks.report import WORKER_SCANNERS, Options, Report, Value

_ITEMS = 1_000_000
_PROCESSES = 8
_SHARE = 10
#: Items that change before the check with --since.
_CHANGES = 10_000

Found = list[tuple[str, Mapping[str, Any] | None]]


def run(options: Options) -> Report:
    """Copy, spoil, check, change, and check again."""
    items, shape = options.items or _ITEMS, options.shape("small")
    processes = options.workers[0] if options.workers else _PROCESSES
    report = Report(f"proof: {shape} items in mongod, {processes} processes of the check")
    with real("--quiet") as place:
        small = _Proof(place, table_of(shape, max(1, items // _SHARE)), processes)
        small.copy()
        report.rows.append(small.check("equal"))
        place.clear()
        proof = _Proof(place, table_of(shape, items), processes)
        proof.copy()
        planted = proof.spoil()
        report.rows.append(proof.check("spoiled", planted))
        planted += proof.change(_CHANGES)
        report.rows.append(proof.check(f"--since, {_CHANGES:,} changes", planted, "--since"))
    first, last = (float(row["peak MiB"]) for row in report.rows[:2])
    report.findings += [
        f"of {items:,} items, all that was spoiled is named, and nothing else",
        f"peak memory (sum of PSS): {first:.0f} MiB for {items // _SHARE:,} items, "
        f"{last:.0f} MiB for {items:,}",
    ]
    return report


class _Proof:
    """One table, its copy, and the checks of it, which go on from each other."""

    def __init__(self, place: RealBench, table: str, processes: int) -> None:
        self._place = place
        self._table = table
        self._processes = processes
        self._report = place.folder / f"{table}.report"

    def copy(self) -> None:
        self._place.shake(self._table, 2, self._segments)

    def check(self, name: str, planted: Found | None = None, *arguments: str) -> dict[str, Value]:
        """Check; raise Failed where that does not find just what was planted."""
        checkpoint = "checkpoint.type=mongodb", "checkpoint.address="  # as by default
        settings = self._segments, "target.db.exist=", *checkpoint
        command = self._place.shake_command(
            self._table, self._processes, *settings, program="shake-check"
        )
        # A check that finds differences exits with 1.
        shell = ["sh", "-c", '"$@"; test $? -le 1', "sh", *command]
        self._report.unlink(missing_ok=True)
        usage = measure(
            [*shell, "--report", str(self._report), *arguments],
            self._place.folder / "log",
            self._place.environment,
        )
        self._compare(planted or [])
        return self._row(name, usage)

    def spoil(self) -> Found:
        """Alter, remove, add and double one document each; return how they are to be reported."""
        with MongoClient[dict[str, Any]](self._place.target) as client:
            stored = client["bench"][self._table]
            altered, missing, doubled = stored.aggregate([{"$sample": {"size": 3}}])
            unit = altered["unit"]
            stored.update_one(
                {"_id": altered["_id"]}, {"$set": {"unit": unit[:-1] + chr(ord(unit[-1]) ^ 1)}}
            )
            stored.delete_one({"_id": missing["_id"]})
            extra = doubled | {"pk": "device#ffffffffff"}
            del extra["_id"]
            stored.insert_one(extra)
            stored.drop_index("pk_1_sk_1")  # it allows no second one
            again = dict(doubled)
            del again["_id"]
            stored.insert_one(again)
        return [
            ("different", _key(altered)),
            ("missing", _key(missing)),
            ("extra", _key(extra)),
            ("duplicate", _key(doubled)),
            ("index", None),
        ]

    def change(self, count: int) -> Found:
        """Change so many items at the source; one of them does not reach the target."""
        with MongoClient[dict[str, Any]](self._place.target) as client:
            stored = client["bench"][self._table]
            found = list(stored.aggregate([{"$sample": {"size": count}}]))
            lost = next(one for one in found if one["pk"] != "device#ffffffffff")
            stored.delete_many({"pk": lost["pk"], "sk": lost["sk"]})
        source = script.connect("dynamodb", self._place.source)
        for first in range(0, count, 25):
            puts = [{"PutRequest": {"Item": _key(one)}} for one in found[first : first + 25]]
            source.batch_write_item(RequestItems={self._table: puts})
        return [("missing", _key(lost))]

    @property
    def _segments(self) -> str:
        """The setting that decides what each segment, and so the table, holds."""
        return f"full.read.concurrency={self._processes * WORKER_SCANNERS}"

    def _compare(self, planted: Found) -> None:
        lines = map(json.loads, self._report.read_text().splitlines())
        named = [orjson.dumps([one["kind"], one["key"]]) for one in lines if "kind" in one]
        wanted = [orjson.dumps(one) for one in planted]
        if sorted(named) != sorted(wanted):
            missed = sorted(set(wanted) - set(named))
            wrong = sorted(set(named) - set(wanted))
            log = (self._place.folder / "log").read_text()[-2000:]
            raise Failed(f"{self._table}: not found: {missed}, found wrongly: {wrong}\n{log}")

    def _row(self, name: str, usage: Usage) -> dict[str, Value]:
        return {
            "check": name,
            "table": self._table,
            "seconds": usage.seconds,
            "CPU s": usage.cpu,
            "peak MiB": usage.peak / 2**20,
        }


def _key(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"pk": {"S": document["pk"]}, "sk": {"N": str(document["sk"])}}
