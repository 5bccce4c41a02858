"""Measures what a viewer of the status page costs the farm."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.request import urlopen

import orjson

from benchmarks.measure import Failed, cpu_clock, running
from benchmarks.programs import bench, table_of
from benchmarks.report import Options, Report

_TABLES = 300
_WORKERS = 2
_SHAPE = "medium"
#: The page asks once in so many seconds (``PAUSE`` in page.js).
_PAUSE = 2.0
#: What it asks for.
_PARTS = ("view", "charts")
#: Requests that are measured: many in a row, so that the rest of the supervisor weighs nothing.
_REQUESTS = 200
_PATIENCE = 120.0


def run(options: Options) -> Report:
    """CPU of the supervisor for one refresh of the page, while a farm works on 300 tables.

    The share is that of one refresh in 2 s beside a farm that keeps one core busy.
    """
    report = Report(f"status page: CPU of the supervisor for one viewer at {_TABLES} tables")
    costs = viewing(_TABLES, _REQUESTS, options.seconds)
    for name, cost in costs.items():
        share = 100 * cost / _PAUSE
        report.rows.append({"what": name, "CPU ms": 1000 * cost, "% of a core": share})
    share = 100 * sum(costs.values()) / _PAUSE
    report.findings.append(f"a viewer takes {share:.2f} % of a farm that keeps one core busy")
    return report


def viewing(tables: int, requests: int, seconds: float) -> dict[str, float]:
    """CPU seconds of a request of each kind.

    The source is silent, so that the supervisor does nothing else. What it uses without a viewer
    is subtracted.
    """
    with bench("--delay", "86400") as place:
        port = _free_port()
        names = [table_of(_SHAPE, 1_000_000 + number) for number in range(tables)]
        settings = f"http_profile={port}", f"full.concurrency={tables}"
        command = place.shake_command(";".join(names), _WORKERS, *settings)
        log = place.folder / "log"
        with running(command, log) as process:
            _wait_for_tables(tables, port, log)
            idle = _cpu_per_second(process.pid, seconds)
            return {name: _cost(process.pid, port, name, idle, requests) for name in _PARTS}


def _cost(pid: int, port: int, what: str, idle: float, requests: int) -> float:
    """CPU seconds of one request, beyond ``idle`` CPU seconds per second."""
    before, began = cpu_clock(pid), time.monotonic()
    for _ in range(requests):
        _ask(port, what)
    return (cpu_clock(pid) - before - idle * (time.monotonic() - began)) / requests


def _cpu_per_second(pid: int, seconds: float) -> float:
    before = cpu_clock(pid)
    time.sleep(seconds)
    return (cpu_clock(pid) - before) / seconds


def _wait_for_tables(tables: int, port: int, log: Path) -> None:
    """Wait until the page shows all tables."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            body = _ask(port, "view")
        except OSError:
            body = b"{}"
        if sum(len(group["rows"]) for group in orjson.loads(body).get("groups", ())) >= tables:
            return
        time.sleep(1.0)
    raise Failed(f"the page does not show {tables} tables:\n{log.read_text()[-2000:]}")


def _ask(port: int, what: str) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/{what}", timeout=10) as answer:
        body: bytes = answer.read()
    return body


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
