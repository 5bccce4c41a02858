"""A terminal, a pipe or a log that is not read holds up neither the copy nor its end."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shake.demo.mongo import MongoServer
from shake.demo.servers import free_port
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.followed import Followed
from tests.support.migration import ROOT, SMALL_PAGES, Migration, compare, filled
from tests.support.status import slots_used, status
from tests.support.wait import until

pytestmark = pytest.mark.slow

Migrate = Callable[..., Migration]


def fill(descriptor: int) -> None:
    """Write until it takes no more."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 64)
    os.set_blocking(descriptor, True)


class Stalled:
    """A supervisor whose output is not read: its ``terminal``, ``pipe``, ``fifo`` or ``log``."""

    def __init__(self, what: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self._settings: list[str] = []
        self._output = subprocess.DEVNULL
        self._stack = stack
        if what in ("terminal", "pipe"):
            self.reader, self._output = pty.openpty() if what == "terminal" else os.pipe()
            stack.callback(os.close, self.reader)
            stack.callback(os.close, self._output)
            fill(self._output)
            return
        log = folder / "log"
        os.mkfifo(log)
        self._settings = [f"--set=log.file={log}", "--set=log.level=debug"]
        if what == "log":
            # Open for both, so that neither open waits for the other end.
            full = os.open(log, os.O_RDWR)
            stack.callback(os.close, full)
            fill(full)

    def start(self, migration: Migration) -> subprocess.Popen[bytes]:
        program = [sys.executable, str(ROOT / "bin/shake-supervisor"), "--workers=2"]
        process = subprocess.Popen(
            [*program, "--conf", str(migration.conf), *self._settings],
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, "TERM": "xterm"},
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@pytest.fixture(params=["terminal", "pipe", "fifo", "log"])
def stalled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stalled]:
    with contextlib.ExitStack() as stack:
        yield Stalled(request.param, tmp_path, stack)


def test_a_copy_goes_on_to_its_end(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, stalled: Stalled
) -> None:
    process = stalled.start(migrate(**SMALL_PAGES))
    assert process.wait(90) == 0
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_within_ten_seconds_and_all_is_durable(
    dynamodb: Any,
    mongo: Any,
    table: str,
    migrate: Migrate,
    stalled: Stalled,
    number: signal.Signals,
) -> None:
    answer = forward(dynamodb.url)
    scanned: list[bytes] = []

    def counting(request: Request) -> Reply:
        if b'"Segment"' in request.body:
            scanned.append(request.body)
        return answer(request)

    with Faulty(otherwise=counting) as source:
        migration = migrate(source=source.url, qps__full=10, **SMALL_PAGES)
        process = stalled.start(migration)
        until(lambda: len(scanned) >= 8, deadline=60)
        process.send_signal(number)
        began = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10
        assert 0 < filled(mongo, table).count_documents({}) < 200
        assert migration.run("--set", "qps.full=1000").status == 0
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")
    assert len(scanned) - len(set(scanned)) <= 4  # one page may be under way in each segment


def test_a_run_whose_target_hangs_too_ends_within_ten_seconds(
    own_mongo: MongoServer, table: str, migrate: Migrate, stalled: Stalled
) -> None:
    port = free_port()
    migration = migrate(target=own_mongo.uri, qps__full=5, http_profile=port, **SMALL_PAGES)
    process = stalled.start(migration)
    until(lambda: answers(port) and status(port)["total"]["items"], deadline=60)
    own_mongo.signal(signal.SIGSTOP)
    until(lambda: slots_used(port) >= 2)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(30) == 1
    assert time.monotonic() - began < 10


def answers(port: int) -> bool:
    try:
        return bool(status(port))
    except OSError:
        return False


@pytest.mark.parametrize(
    ("what", "number"), [("terminal", signal.SIGHUP), ("pipe", signal.SIGTERM)]
)
def test_changes_are_applied_and_a_signal_ends_it_well(
    followed: Followed, tmp_path: Path, what: str, number: signal.Signals
) -> None:
    followed.simulator.table(followed.name)
    followed.put("before")
    with contextlib.ExitStack() as stack:
        process = Stalled(what, tmp_path, stack).start(followed.task())
        followed.arrived("before")
        followed.put("after")
        followed.arrived("after")
        process.send_signal(number)
        began = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 10
    saved = followed.checkpoint.find_one({"SequenceNumber": {"$exists": True, "$ne": ""}})
    assert saved is not None
    followed.compare()


def test_nohup_keeps_a_run_alive(dynamodb: Any, mongo: Any, table: str, migrate: Migrate) -> None:
    migration = migrate(qps__full=20, **SMALL_PAGES)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits that
    try:
        process = migration.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    until(lambda: migration.children("writer"), deadline=60)
    process.send_signal(signal.SIGHUP)
    result = migration.wait(process)
    assert "full sync done!" in result.stdout
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


def test_a_terminal_that_is_read_again_shows_the_last_line(
    table: str, migrate: Migrate, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        stalled = Stalled("terminal", tmp_path, stack)
        process = stalled.start(migrate(sync_mode="full", **SMALL_PAGES))
        os.set_blocking(stalled.reader, False)
        seen = bytearray()

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                seen.extend(os.read(stalled.reader, 65536))
            return process.poll() is not None and b"full sync done!" in seen

        until(read, deadline=90)
        assert process.returncode == 0


def test_no_output_fails_for_its_encoding(
    dynamodb: Any, table: str, migrate: Migrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"pk": {"S": "schlüssel"}, "v": {"M": {"\0": {"NULL": True}}}}
    dynamodb.client.put_item(TableName=table, Item=bad)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    migration = migrate(**SMALL_PAGES)
    migration.first = "pass"  # a Python that reads the encoding
    result = migration.run()
    assert result.status == 1
    assert result.line.startswith(f'table {table}: item {{"pk":{{"S":"schl\\xfcssel"}}}}: ')
    assert "schl\\xfcssel" in result.stdout
