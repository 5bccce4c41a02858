"""A migration under test: the real supervisor in a child process, and the comparison after."""

from __future__ import annotations

import base64
import contextlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import psutil
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from shake.codec.contract import Options
from shake.schema import Attribute, Keys
from tests.support.expected import expected
from tests.support.starter import Started, starter
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]

#: Small pages and several segments, so that a copy takes a moment, and can be interrupted.
MANY_PAGES = {"full__read__concurrency": 4, "qps__full__batch_num": 20}
#: The same for a table of few items.
SMALL_PAGES = {"full__read__concurrency": 4, "qps__full__batch_num": 5}


Process = subprocess.Popen[bytes] | Started


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """What stderr says, which must be one line, without the program's name."""
        assert self.stderr.count("\n") == 1, self
        return self.stderr.removeprefix("shake-supervisor: ").rstrip("\n")

    def figures(self, table: str) -> dict[str, str]:
        """The table's row of the closing summary: state, items, retries, throttles, units."""
        lines = list(map(str.split, self.stdout.splitlines()))
        [head] = [place for place, cells in enumerate(lines) if cells[:2] == ["table", "state"]]
        [row] = [cells for cells in lines[head:] if cells[0] == table]
        names = ("state", "items", "retries", "throttles", "units")
        return dict(zip(names, [*row[1:3], *row[-3:]], strict=True))


class Migration:
    """A task and its configuration file; ``settings`` are keys with dots as ``__``.

    By default it copies the table of the same name.
    """

    def __init__(
        self, source: str, target: str, name: str, folder: Path, **settings: object
    ) -> None:
        self.folder = folder
        self.target = target
        self.conf = folder / f"{name}.conf"
        keys = {
            "id": name,
            "pid_path": folder,
            "sync_mode": "full",
            "http_profile": -1,
            "http.linger": 0,
            "incr.margin": 0.3,  # the servers of tests show each change at once
            "source.endpoint_url": source,
            "source.region": REGION,
            "source.access_key_id": ACCESS_KEY,
            "source.secret_access_key": SECRET_KEY,
            "target.address": target,
            "filter.collection.white": name,
        }
        keys |= {key.replace("__", "."): value for key, value in settings.items()}
        self.conf.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
        self.running: list[Process] = []
        self.workers = 2  # 0: there is no option for them
        #: Code that the supervisor's process runs first, as to make a time shorter, in a Python of
        #: its own.
        self.first = ""

    def start(self, *arguments: str, workers: int = 0) -> Process:
        """Start the supervisor; what it prints goes to files in the folder.

        ``arguments`` with ``--conf`` replace the usual one.
        """
        conf = (
            []
            if any(one.startswith(("--conf", "-conf")) for one in arguments)
            else ["--conf", str(self.conf)]
        )
        count = workers or self.workers
        given = [*conf, *(["--workers", str(count)] if count else []), *arguments]
        output = self._output(len(self.running))
        with output[0].open("wb") as out, output[1].open("wb") as err:
            process: Process
            if self.first:
                main = "from shake.cli.supervisor import main; raise SystemExit(main())"
                code = f"import sys; sys.path[0] = {str(ROOT)!r}; {self.first}; {main}"
                command = [sys.executable, "-c", code, *given]
                process = subprocess.Popen(command, stdout=out, stderr=err)
            else:
                process = starter().start("shake-supervisor", given, out, err)
        self.running.append(process)
        return process

    def wait(self, process: Process, timeout: float = 60) -> Result:
        """Wait for a run to end."""
        status = process.wait(timeout)
        texts = [one.read_text() for one in self._output(self.running.index(process))]
        return Result(status, *texts)

    def printed(self) -> str:
        """What the last run has printed on stdout so far."""
        return self._output(len(self.running) - 1)[0].read_text()

    def _output(self, run: int) -> tuple[Path, Path]:
        return (
            self.folder / f"{self.conf.stem}.{run}.out",
            self.folder / f"{self.conf.stem}.{run}.err",
        )

    def run(self, *arguments: str, workers: int = 0, timeout: float = 60) -> Result:
        """A whole run."""
        return self.wait(self.start(*arguments, workers=workers), timeout)

    def children(self, role: str = "") -> list[psutil.Process]:
        """The living children of all runs whose title begins so: ``worker 0``, ``writer``."""
        title = f"shake: {role}"
        found = []
        for process in self.running:
            if process.poll() is None:
                found += psutil.Process(process.pid).children()
        return [child for child in found if _title(child).startswith(title)]

    def client(self, port: int) -> psutil.Process:
        """The child that has a connection from this port."""

        def connected() -> psutil.Process | None:
            for child in self.children():
                with contextlib.suppress(psutil.Error):
                    if port in [one.laddr.port for one in child.net_connections("tcp")]:
                        return child
            return None

        return until(connected)

    def child(self, role: str) -> psutil.Process:
        """The first such child, as soon as there is one."""
        return until(lambda: next(iter(self.children(role)), None))

    def kill(self, process: Process) -> None:
        """SIGKILL the supervisor and all its children at once; return when they are gone."""
        tree = [psutil.Process(process.pid)]
        tree += tree[0].children()
        for one in tree:
            one.send_signal(signal.SIGKILL)
        process.wait()
        psutil.wait_procs(tree[1:], timeout=10)

    def close(self) -> None:
        """Leave nothing running."""
        for process in self.running:
            if process.poll() is None:
                self.kill(process)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def compare(
    dynamodb: Any,
    mongo: MongoClient[Any],
    table: str,
    place: str,
    *,
    options: Options | None = None,
) -> None:
    """Assert that the collection holds exactly the table's items, each once, byte for byte."""
    options = options or Options(keys=keys_of(dynamodb, table))
    wanted = Counter(
        _without_id(expected(item, options, 0), options) for item in scan(dynamodb, table)
    )
    database, _, collection = place.partition(".")
    raw = mongo[database].get_collection(collection, CodecOptions(document_class=RawBSONDocument))
    found = Counter(_without_id(document.raw, options) for document in raw.find())
    missing, extra = wanted - found, found - wanted
    assert not missing, f"{missing.total()} of {wanted.total()} missing: {_show(missing)}"
    assert not extra, f"{extra.total()} too many or different: {_show(extra)}"


def filled(mongo: Any, table: str) -> Any:
    """The collection that the copy of a table fills, of a task of the same name."""
    database = mongo.client[table]

    def names() -> list[str]:
        return [one for one in database.list_collection_names() if one.startswith(table)]

    [name] = until(names)
    return database[name]


def _without_id(document: bytes, options: Options) -> bytes:
    """The document with its attributes in one order, without an ``_id`` that only shake knows."""
    fields = bson.decode(document)
    if options.id_mode == "objectid":
        del fields["_id"]
    return bson.encode(dict(sorted(fields.items())))


def _show(documents: Counter[bytes]) -> str:
    return ", ".join(str(bson.decode(one))[:200] for one in list(documents)[:3])


def scan(dynamodb: Any, table: str) -> Iterator[Mapping[str, Any]]:
    """All items, typed, binary values as base64 text."""
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for item in page["Items"]:
            yield {name: _as_text(value) for name, value in item.items()}


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_as_text(element) for element in value]
    if isinstance(value, dict):
        return {name: _as_text(element) for name, element in value.items()}
    return value


def keys_of(dynamodb: Any, table: str) -> Keys:
    """The table's key schema."""
    description = dynamodb.describe_table(TableName=table)["Table"]
    types = {d["AttributeName"]: d["AttributeType"] for d in description["AttributeDefinitions"]}
    names = {part["KeyType"]: part["AttributeName"] for part in description["KeySchema"]}
    sort = names.get("RANGE")
    return Keys(
        Attribute(names["HASH"], types[names["HASH"]]),
        Attribute(sort, types[sort]) if sort else None,
    )
