"""Measures a copy into a real mongod, by shake and by a script; the server's CPU is shown apart."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from pymongo import ASCENDING, IndexModel, MongoClient

from benchmarks.measure import Usage
from benchmarks.programs import Bench, bench, table_of
from benchmarks.report import Options, Report, Value
from benchmarks.serving import Server
from shake.demo.mongo import Mongod

_ITEMS = 1_000_000
#: The script's table is smaller by this factor: an item takes it that much longer.
_SCRIPT_SHARE = 10
_ROUNDS = 3
#: GB of mongod's cache: more than the table, as on a server of the right size.
_CACHE = 2.0
#: Databases that shake and the script write to.
_DATABASES = ("bench", "baseline")
#: What shake builds for a table with partition and sort key.
_INDEXES = [
    IndexModel([("pk", ASCENDING), ("sk", ASCENDING)], unique=True),
    IndexModel([("pk", ASCENDING)]),
]


@dataclass(frozen=True, slots=True)
class _Flushed(Server):
    """mongod; its CPU includes the time to write all its data to disk."""

    uri: str = ""

    def cpu(self) -> float:
        with MongoClient[dict[str, Any]](self.uri) as client:
            client.admin.command("fsync")
        return Server.cpu(self)


@dataclass(frozen=True, slots=True)
class RealBench(Bench):
    """A replayed source without repeated keys, and mongod."""

    def counts(self) -> dict[str, int]:
        """The documents that the target holds."""
        with MongoClient[dict[str, Any]](self.target) as client:
            found = [client[name] for name in _DATABASES]
            return {
                "documents": sum(
                    database[collection].count_documents({})
                    for database in found
                    for collection in database.list_collection_names()
                )
            }

    def clear(self) -> None:
        """Drop what the last program has written."""
        with MongoClient[dict[str, Any]](self.target) as client:
            for name in _DATABASES:
                client.drop_database(name)

    def index(self, database: str, table: str) -> float:
        """CPU seconds that mongod needs to build the indexes of a copied table (again)."""
        with MongoClient[dict[str, Any]](self.target) as client:
            collection = client[database][table]
            collection.drop_indexes()
            before = self.servers["mongod"].cpu()
            collection.create_indexes(_INDEXES)
            return self.servers["mongod"].cpu() - before


@dataclass(slots=True)
class Runs:
    """The runs of a program, less their starts, and CPU seconds of mongod's index builds."""

    items: int
    copies: list[Usage] = field(default_factory=list)
    indexing: list[float] = field(default_factory=list)

    def per_document(self, seconds: list[float]) -> float:
        """The median, in microseconds a document."""
        return median(seconds) / self.items * 1e6


def run(options: Options) -> Report:
    """Copy a table by each program in turns, into an empty target."""
    rounds, shape = options.rounds or _ROUNDS, options.shape("medium")
    items = options.items or _ITEMS
    programs = {"shake": Runs(items), "script": Runs(max(1, items // _SCRIPT_SHARE))}
    with real() as place:
        for _ in range(rounds):
            for program, runs in programs.items():
                start = _copy(place, program, table_of(shape, 0), options.farm)
                table = table_of(shape, runs.items)
                runs.copies.append(_copy(place, program, table, options.farm) - start)
                database = _DATABASES[program == "script"]
                runs.indexing.append(place.index(database, table))
    report = Report(
        f"real: {shape} items into mongod, {options.farm} workers, median of {rounds} rounds, "
        "less the cost of a start"
    )
    report.rows += [_row(program, runs) for program, runs in programs.items()]
    report.findings += [
        f"{row['program']}: {row['CPU us']:.1f} us of CPU a document; mongod's: "
        f"{row['mongod insert us']:.1f} us to insert, {row['mongod index us']:.1f} us to index"
        for row in report.rows
    ]
    return report


@contextlib.contextmanager
def real(*replay: str) -> Iterator[RealBench]:
    """Start a replayed source with these command line options, and mongod."""
    with (
        tempfile.TemporaryDirectory(prefix="shake-bench-") as folder,
        bench("--unique", *replay) as place,
    ):
        mongod = Mongod(folder=Path(folder))
        mongod.cache = _CACHE
        with mongod:
            servers = {
                "source": place.servers["source"],
                "mongod": _Flushed(mongod.port, mongod.pid, mongod.uri),
            }
            yield RealBench(place.source, mongod.uri, place.folder, place.environment, servers)


def _copy(place: RealBench, program: str, table: str, workers: int) -> Usage:
    place.clear()
    if program == "script":
        return place.baseline(table, workers, 4 * workers)
    return place.shake(table, workers, f"full.read.concurrency={4 * workers}")


def _row(program: str, runs: Runs) -> dict[str, Value]:
    """The figures of a program; shake builds the indexes itself, the script leaves them out."""
    index = runs.per_document(runs.indexing)
    server = runs.per_document([each.servers["mongod"] for each in runs.copies])
    seconds = median(each.seconds for each in runs.copies)
    return {
        "program": program,
        "items": runs.items,
        "CPU us": runs.per_document([each.cpu for each in runs.copies]),
        "mongod insert us": server - (index if program == "shake" else 0.0),
        "mongod index us": index,
        "items/s": round(runs.items / seconds) if seconds > 0 else "",
        "peak MiB": round(max(each.peak for each in runs.copies) / 2**20),
    }
