"""Measures a copy in several nodes on this machine: speed, CPU of an item, CPU of the head."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.measure import Usage, running, typical
from benchmarks.pages import page_items
from benchmarks.programs import Bench, bench, table_of
from benchmarks.report import Options, Report, Value

_NODES = (1, 2, 4)
_ROUNDS = 3
#: A page takes so many seconds at the source, so that only the number of scanners limits the copy.
_DELAY, _SLOW_PAGES = 0.2, 240
_ITEMS = 3_000_000
#: Small pages, which cost the head as much as full ones.
_SMALL_PAGE, _SMALL_PAGES = 50, 8000
#: A table of so few items starts all processes.
_FEW = 800


def run(options: Options) -> Report:
    """Copy the same tables in 1, 2 and 4 nodes."""
    shape, rounds = options.shape("medium"), options.rounds or _ROUNDS
    report = Report(f"nodes: {shape} items, median of {rounds} rounds")
    for rows, findings in (_speed(shape), _cpu(shape, options, rounds), _head(shape, rounds)):
        report.rows += rows
        report.findings += findings
    report.rows.append({"measured": "work of a lost node is leased again", "s": _lost(shape)})
    return report


def _copy(place: Bench, table: str, nodes: int, workers: int, *settings: str) -> Usage:
    """Copy a table in so many nodes, each with so many workers; 0 nodes: by this machine alone."""
    command = place.shake_command(table, workers, *settings)
    if nodes:
        command += ["--nodes", f"local:{nodes}"]
    return place.copy(table, command)


def _speed(shape: str) -> tuple[list[dict[str, Value]], Iterator[str]]:
    """Pages a second where each takes its time, and each node has one worker."""
    table = table_of(shape, round(_SLOW_PAGES * page_items(shape)))
    speeds: dict[int, float] = {}
    with bench("--delay", str(_DELAY)) as place:
        for nodes in _NODES:
            _copy(place, table, nodes, 1, "full.read.concurrency=48")
            segments = place.reading(table)["segments"].values()
            spent = max(last for _, last in segments) - min(first for first, _ in segments)
            speeds[nodes] = _SLOW_PAGES / spent
    rows: list[dict[str, Value]] = [
        {"measured": f"{_DELAY * 1e3:.0f} ms a page", "nodes": nodes, "pages/s": speed}
        for nodes, speed in speeds.items()
    ]
    return rows, (
        f"{nodes} nodes: {speed / speeds[1]:.2f} times the pages/s of one"
        for nodes, speed in speeds.items()
        if nodes > 1
    )


def _lost(shape: str) -> float:
    """Seconds from the death of a node until all segments are read again."""
    table = table_of(shape, round(10 * _SLOW_PAGES * page_items(shape)))
    with bench("--delay", str(_DELAY)) as place:
        command = [*place.shake_command(table, 1, "log.buffer=false"), "--nodes", "local:2"]
        log = place.folder / "lost"
        with running(command, log) as process:
            _await_copying(log, 1)
            node = next(one for one in psutil.Process(process.pid).children() if _is_node(one))
            node.kill()
            began = time.monotonic()
            _await_copying(log, 2)
            spent = time.monotonic() - began
            process.terminate()
            process.wait()
        return spent


def _await_copying(log: Path, times: int) -> None:
    """Wait until the table is being copied for the n-th time."""
    while log.read_text().count(": copying\n") < times:
        time.sleep(0.05)


def _is_node(process: psutil.Process) -> bool:
    return "shake: node" in " ".join(process.cmdline())


def _cpu(shape: str, options: Options, rounds: int) -> tuple[list[dict[str, Value]], Iterator[str]]:
    """CPU of an item, with four workers in one node, and with one in each of four."""
    items = options.items or _ITEMS
    runs: dict[int, list[Usage]] = {0: [], 1: [], 4: []}
    with bench() as place:
        for _ in range(rounds):
            for nodes, used in runs.items():
                whole, start = (
                    _copy(place, table_of(shape, one), nodes, 4 // (nodes or 1), "full.writers=4")
                    for one in (items, _FEW)
                )
                used.append(whole - start)
    cpu = {nodes: typical(used).cpu / items * 1e6 for nodes, used in runs.items()}
    rows: list[dict[str, Value]] = [
        {"measured": "4 workers", "nodes": nodes, "CPU us/item": one} for nodes, one in cpu.items()
    ]
    finding = f"4 nodes: {cpu[4] / cpu[1]:.2f} times the CPU of an item in one node"
    return rows, iter([finding])


def _head(shape: str, rounds: int) -> tuple[list[dict[str, Value]], Iterator[str]]:
    """CPU of the head for a page, by whether messages are collected."""
    runs: dict[str, list[Usage]] = {"no nodes": [], "one by one": [], "collected": []}
    limit = f"qps.full.batch_num={_SMALL_PAGE}", "qps.full=1000000", "full.writers=4"
    with bench() as place:
        for _ in range(rounds):
            for kind, used in runs.items():
                whole, start = (
                    _small(place, table_of(shape, pages * _SMALL_PAGE), kind, *limit)
                    for pages in (_SMALL_PAGES, 16)
                )
                used.append(whole - start)
    cpu = {kind: typical(used).roles["supervisor"] / _SMALL_PAGES for kind, used in runs.items()}
    rows: list[dict[str, Value]] = [
        {"measured": f"head, {kind}", "nodes": 0 if kind == "no nodes" else 4, "us/page": one * 1e6}
        for kind, one in cpu.items()
    ]
    share = cpu["collected"] / cpu["one by one"]
    return rows, iter([f"collected messages: {share:.2f} times the head's CPU of a page"])


def _small(place: Bench, table: str, kind: str, *settings: str) -> Usage:
    if kind != "one by one":
        return _copy(place, table, 0 if kind == "no nodes" else 4, 1, *settings)
    command = place.shake_command(table, 1, *settings)
    command[1:2] = ["-m", "benchmarks.uncollected"]
    return place.copy(table, [*command, "--nodes", "local:4"])
