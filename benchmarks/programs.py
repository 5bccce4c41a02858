"""The measured programs, and the source and sink between which they run."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from sys import executable
from typing import Any
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import orjson
from pymongo import MongoClient

from benchmarks.measure import ROOT, Failed, Usage, measure
from benchmarks.report import Options
from benchmarks.serving import Server, server

#: Roles of shake's processes.
ROLES = ("supervisor", "worker", "writer")

#: What the sink counts of a stream.
_CHANGES = ("updates", "deletes")
#: Some 0.5 to 1.5 GB of JSON of each shape, so that the copy outweighs the rest.
_ITEMS = {"small": 4_000_000, "medium": 1_500_000, "large": 150_000}
_OTHERS = 500_000


@dataclass(frozen=True, slots=True)
class Bench:
    """A replayed source, a counting sink, and a folder for the files of programs."""

    source: str
    target: str
    folder: Path
    environment: Mapping[str, str]
    servers: Mapping[str, Server]

    def shake(self, table: str, workers: int, *settings: str) -> Usage:
        """Copy a table by shake; ``settings`` as in :meth:`shake_command`."""
        return self.copy(table, self.shake_command(table, workers, *settings))

    def copy(self, table: str, command: list[str]) -> Usage:
        """Copy a table by such a command."""
        return self._run(table, command, "documents")

    def beyond_start(self, shape: str, items: int, workers: int, *settings: str) -> Usage:
        """What a copy by shake uses beyond a copy of an empty table, made just before."""
        start = self.shake(table_of(shape, 0), workers, *settings)
        return self.shake(table_of(shape, items), workers, *settings) - start

    def shake_following(self, table: str, workers: int) -> Usage:
        """Apply a stream's changes by shake, until the last one has arrived."""
        follows = "sync_mode=incr", "incr.start=trim_horizon"
        command = self.shake_command(table, workers, *follows)
        return self._run(table, command, *_CHANGES, endless=True)

    def baseline(self, table: str, processes: int, segments: int) -> Usage:
        """Copy a table by the script."""
        command = self._script("baseline", table, processes, "--segments", str(segments))
        return self._run(table, command, "documents")

    def follower(self, table: str, processes: int) -> Usage:
        """Apply a stream's changes by the script."""
        return self._run(table, self._script("follower", table, processes), *_CHANGES)

    def check(self, table: str, workers: int, segments: int) -> Usage:
        """Check a table by shake that was copied in so many segments, which decide what it holds.

        Source: benchmarks.tables.
        """
        settings = "target.db.exist=", f"full.read.concurrency={segments}"
        command = self.shake_command(table, workers, *settings, program="shake-check")
        return self._measured(table, command)

    def checker(self, table: str, processes: int, segments: int) -> Usage:
        """The same by the script."""
        command = self._script("checker", table, processes, "--segments", str(segments))
        return self._measured(table, command)

    def shake_command(
        self, table: str, workers: int, *settings: str, program: str = "shake-supervisor"
    ) -> list[str]:
        """shake with its defaults, but for ``settings`` (``key=value``): each call a new task."""
        task = Path(tempfile.mkdtemp(dir=self.folder))
        keys = {
            "id": "bench",
            "pid_path": task,
            "http_profile": -1,
            "sync_mode": "full",
            "source.access_key_id": "bench",
            "source.secret_access_key": "bench",
            "source.region": "us-east-1",
            "source.endpoint_url": self.source,
            "filter.collection.white": table,
            "target.address": self.target,
            "checkpoint.type": "file",
            "checkpoint.address": task,
            "target.db.exist": "drop",  # left by earlier runs
        }
        command = [executable, str(ROOT / "bin" / program), "--workers", str(workers)]
        settings = (*(f"{key}={value}" for key, value in keys.items()), *settings)
        return command + [f"--set={setting}" for setting in settings]

    def counts(self) -> dict[str, int]:
        """What the sink has received since the last call (see benchmarks.sink)."""
        with MongoClient[dict[str, Any]](self.target) as client:
            return {k: int(v) for k, v in client.admin.command("counts").items() if k != "ok"}

    def clear(self) -> None:
        """Remove what the last program has written. The sink keeps nothing."""

    def reading(self, table: str) -> dict[str, Any]:
        """How the table was read since the last call (see benchmarks.replay)."""
        trusted = self.environment.get("AWS_CA_BUNDLE")
        secure = HTTPSHandler(context=ssl.create_default_context(cafile=trusted))
        opener = build_opener(ProxyHandler({}), secure)
        answer: dict[str, Any] = orjson.loads(opener.open(f"{self.source}/{table}").read())
        return answer

    def _script(self, name: str, table: str, processes: int, *more: str) -> list[str]:
        """The command line of a script (see benchmarks.script)."""
        command = [executable, "-m", f"benchmarks.{name}", "--source", self.source]
        command += ["--target", self.target, "--table", table, "--processes", str(processes)]
        return [*command, *more]

    def _run(self, table: str, command: list[str], *counted: str, endless: bool = False) -> Usage:
        """Measure a program that brings everything of a table to the sink, as what it counts.

        An ``endless`` one is shake that follows a stream: it is stopped as soon as it has.
        """
        expected = items_of(table)
        self.counts()
        arrived = 0

        def whole() -> bool:
            nonlocal arrived
            counts = self.counts()
            arrived += sum(counts[each] for each in counted)
            return arrived >= expected

        usage = self._measured(table, command, whole if endless else None)
        whole()
        if arrived != expected:
            what = f"{arrived} {' and '.join(counted)} arrived of {table}"
            raise Failed(f"{what}: {' '.join(command)}")
        return usage

    def _measured(
        self, table: str, command: list[str], enough: Callable[[], bool] | None = None
    ) -> Usage:
        """Measure a program, and what source and target use for it."""
        self.reading(table)  # makes its pages
        before = {name: each.cpu() for name, each in self.servers.items()}
        usage = measure(command, self.folder / "log", self.environment, enough)
        for name, each in self.servers.items():
            usage.servers[name] = each.cpu() - before[name]
        return usage


@contextlib.contextmanager
def bench(*replay: str, tls: bool = False, sink: tuple[str, ...] = ()) -> Iterator[Bench]:
    """Start source and sink with these command line options."""
    with tempfile.TemporaryDirectory(prefix="shake-bench-") as name, ExitStack() as servers:
        folder = Path(name)
        authority = folder / "authority.pem"
        environment = {"AWS_CA_BUNDLE": str(authority)} if tls else {}
        secure = ("--tls", str(authority)) if tls else ()
        source = servers.enter_context(server("benchmarks.replay", *replay, *secure))
        target = servers.enter_context(server("benchmarks.sink", *sink))
        yield Bench(
            f"http{'s' * tls}://127.0.0.1:{source.port}",
            f"mongodb://127.0.0.1:{target.port}/",
            folder,
            environment,
            {"source": source, "sink": target},
        )


def table_of(shape: str, items: int) -> str:
    """The name of a virtual table."""
    return f"{shape}-{items}"


def items_of(table: str) -> int:
    """How many items a virtual table holds."""
    return int(table.rpartition("-")[2])


def items_for(shape: str, options: Options) -> int:
    """Items of a table that measures the cost of a copy."""
    return options.items or _ITEMS.get(shape, _OTHERS)
