"""The programs that are measured, and what they are measured between."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import executable
from typing import Any
from urllib.request import ProxyHandler, build_opener

import orjson
from pymongo import MongoClient

from benchmarks.measure import Failed, Usage, measure
from benchmarks.serving import ROOT, server


@dataclass(frozen=True, slots=True)
class Bench:
    """A replayed source, a counting sink, and a folder for what programs leave behind."""

    source: str
    target: str
    folder: Path

    def shake(self, table: str, workers: int, *settings: str) -> Usage:
        """Copy a table by shake; ``settings`` as in :meth:`shake_command`."""
        return self._copy(table, self.shake_command(table, workers, *settings))

    def baseline(self, table: str, processes: int, segments: int) -> Usage:
        """Copy a table by the script."""
        command = [executable, "-m", "benchmarks.baseline", "--source", self.source]
        command += ["--target", self.target, "--table", table, "--processes", str(processes)]
        return self._copy(table, [*command, "--segments", str(segments)])

    def shake_command(self, table: str, workers: int, *settings: str) -> list[str]:
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
        }
        command = [executable, str(ROOT / "bin/shake-supervisor"), "--workers", str(workers)]
        settings = (*(f"{key}={value}" for key, value in keys.items()), *settings)
        return command + [f"--set={setting}" for setting in settings]

    def counts(self) -> dict[str, int]:
        """What the sink has got since the last call: documents, bytes, inserts."""
        with MongoClient[dict[str, Any]](self.target) as client:
            return {k: int(v) for k, v in client.admin.command("counts").items() if k != "ok"}

    def reading(self, table: str) -> dict[str, Any]:
        """How the table was read since the last call (see benchmarks.replay)."""
        opener = build_opener(ProxyHandler({}))
        answer: dict[str, Any] = orjson.loads(opener.open(f"{self.source}/{table}").read())
        return answer

    def _copy(self, table: str, command: list[str]) -> Usage:
        self.counts()
        usage = measure(command, self.folder / "log")
        documents = self.counts()["documents"]
        if documents != items_of(table):
            raise Failed(f"{documents} documents arrived of table {table}: {' '.join(command)}")
        return usage


@contextlib.contextmanager
def bench(*replay: str, sink: tuple[str, ...] = ()) -> Iterator[Bench]:
    """Start source and sink with these command line options."""
    with (
        tempfile.TemporaryDirectory(prefix="shake-bench-") as folder,
        server("benchmarks.replay", *replay) as source,
        server("benchmarks.sink", *sink) as target,
    ):
        yield Bench(f"http://127.0.0.1:{source}", f"mongodb://127.0.0.1:{target}/", Path(folder))


def table_of(shape: str, items: int) -> str:
    """The name of a virtual table."""
    return f"{shape}-{items}"


def items_of(table: str) -> int:
    """How many items a virtual table holds."""
    return int(table.rpartition("-")[2])
