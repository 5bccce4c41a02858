"""A task in each phase, with two hours of its past, as the page gets it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shake.status.monitor import Monitor
from shake.status.snapshot import CheckStatus, ProcessStatus, Snapshot, TableStatus

NOW = 1_796_000_000.0  # 2026-11-30 00:53:20 UTC
_GB = 10**9


def _table(name: str, state: str, **figures: Any) -> TableStatus:
    return TableStatus(name, f"shop.{name}", state, **figures)


def _copying(name: str, part: float, gigabytes: float, **figures: Any) -> TableStatus:
    items = int(gigabytes * 1_250_000)
    done = int(items * part)
    figures = {
        "rate": done / 7200,
        "byte_rate": done * 862 / 7200,
        "unit_rate": 2_250.0,
        "budget": 2_500.0,
        "seconds_left": (items - done) / max(1, done) * 7200,
        "throttles": 12,
        "retries": 14,
        "answers": 40_000,
    } | figures
    return _table(
        name,
        "copying",
        items=done,
        scanned=done,
        bytes=int(done * 862),
        capacity=done / 10,
        expected_items=items,
        expected_bytes=int(gigabytes * _GB),
        segments=960,
        segments_done=int(960 * part),
        **figures,
    )


def _complete(name: str, gigabytes: float, state: str = "done", **figures: Any) -> TableStatus:
    items = int(gigabytes * 1_250_000)
    figures = {"answers": 52_000} | figures
    return _table(
        name,
        state,
        items=items,
        scanned=items,
        bytes=items * 862,
        expected_items=items,
        expected_bytes=int(gigabytes * _GB),
        segments=240,
        segments_done=240,
        **figures,
    )


def _followed(name: str, gigabytes: float = 4.0, **figures: Any) -> TableStatus:
    figures = {
        "lag": 11.2,
        "unread": 11.2,
        "applied_through": NOW - 11.2,
        "newest_change": NOW - 3600.0,
        "quiet_seconds": 3600.0,
        "consistent": True,
        "changes": 182_400,
        "change_rate": 31.5,
        "shards": 8,
        "shards_reading": 8,
        "answers": 9_000,
    } | figures
    return _complete(name, gigabytes, "following", **figures)


def _farm(workers: int = 4, **figures: Any) -> tuple[ProcessStatus, ...]:
    ours = ProcessStatus("supervisor", 4001, cpu=0.08, cpu_seconds=96.0, memory=92_000_000)
    return (
        ours,
        *(
            ProcessStatus(
                f"worker {number}",
                4002 + number,
                slots=24,
                slots_used=5 + number % 7,
                cpu=0.41 + number % 5 / 50,
                cpu_seconds=1200.0,
                memory=131_000_000 + 700_000 * number,
            )
            for number in range(workers)
        ),
        ProcessStatus("writer shop.orders", 4900, cpu=0.55, cpu_seconds=900.0, memory=74_000_000),
    )


def _task(*tables: TableStatus, state: str = "running", **figures: Any) -> Snapshot:
    named: dict[str, Any] = {
        "processes": _farm(),
        "time": NOW,
        "source_time": NOW - 0.4,
        "margin": 10.0,
        "whole": True,
    }
    return Snapshot("shop", "all", state, NOW - 7200.0, 7200.0, tables, **(named | figures))


SMALL = (
    _complete("customers", 3.1),
    _complete("coupons", 0.2),
    _table("audit", "waiting", expected_items=900_000, expected_bytes=_GB),
)
FILTER = (
    "SCAN FILTER ON: only items that match full.read.filter_expression (status = :s) are copied, "
    "while all are read and paid for"
)
FENCE = (
    "NO FENCE: a change that was held up on its way to the target cannot be refused, and can "
    "overwrite a later one"
)
WEAK = (
    "WEAK WRITE CONCERN: target.address names w=1: a fail-over can undo what was acknowledged; "
    "use w=majority"
)


def _copy() -> Snapshot:
    return _task(_copying("orders", 0.41, 320.0), _copying("events", 0.58, 226.0), *SMALL)


def _paused() -> Snapshot:
    still: dict[str, Any] = {"byte_rate": 0.0, "unit_rate": 0.0, "seconds_left": None}
    return _task(
        _copying("orders", 0.41, 320.0, **still),
        _copying("events", 0.58, 226.0, **still),
        *SMALL,
        state="paused",
        reason="nothing is read since 2026-11-30T00:48:20Z, by a command; shake control "
        "resume ends that",
        paused_at=NOW - 300.0,
    )


def _indexing() -> Snapshot:
    orders = _complete(
        "orders", 38.0, "indexing", index_step="scanning collection", index_progress=0.43
    )
    return _task(orders, *SMALL[:2])


def _follow() -> Snapshot:
    return _task(_followed("orders", 38.0), _followed("events", 21.0), _followed("customers", 3.1))


def _arriving() -> Snapshot:
    return _task(
        _followed("orders", 38.0, pending=212, quiet_seconds=0.4),
        _followed("events", 21.0, change_rate=410.0, changes=9_120_000),
        check=CheckStatus(
            "running", "orders", 1, 2, 18_200_000, 47_500_000, 140_000.0, 209.0, 1_820_000.0, 0, NOW
        ),
    )


def _degraded() -> Snapshot:
    lagging = _followed(
        "orders", 38.0, lag=50_400.0, unread=50_400.0, applied_through=NOW - 50_400, pending=99_000
    )
    broken = replace(
        _complete("events", 21.0),
        state="broken",
        error="shop.events: 1 of 3 indexes of table events could not be built; the copied data is "
        "complete, a restart tries again: {by_day: 1} (secondary index by_day): not enough disk "
        "space",
    )
    return _task(
        lagging,
        broken,
        _followed("customers", 3.1),
        state="degraded",
        reason="target: mongo-2:27017: connection refused",
        notices=(
            FILTER,
            FENCE,
            WEAK,
            "table coupons: DynamoDB counts 0 items; this count can be 6 hours old",
        ),
        processes=(*_farm()[:3], replace(_farm()[3], pid=0, restarts=2, cpu=None, memory=None)),
    )


def _gap() -> Snapshot:
    return _task(
        _followed("orders", 38.0, lag=88_000.0, unread=88_000.0, applied_through=NOW - 88_000),
        _followed("events", 21.0),
        state="failed",
        reason="table orders: changes are lost: shard shardId-00000001-a1 was trimmed before it "
        "was read; start again with gap.policy = resync to copy the table again; its collection is "
        "replaced when the new copy is complete",
        gap=True,
        processes=_farm()[:1],
    )


def _ended() -> Snapshot:
    tables = [_complete("orders", 38.0), _complete("events", 21.0), *SMALL[:2]]
    return _task(*tables, state="finished", processes=_farm()[:1], whole=True)


def _many() -> Snapshot:
    tables = [
        _complete(f"tenant-{number:03d}-orders", 0.4)
        if number < 140
        else _copying(f"tenant-{number:03d}-orders", (1 + number % 10) / 12, 200.0)
        if number < 148
        else _table(
            f"tenant-{number:03d}-orders", "waiting", expected_items=9000, expected_bytes=9 * _GB
        )
        for number in range(300)
    ]
    return _task(*tables, processes=_farm(64))


#: Every phase that the page is looked at in, by name.
SCENES: dict[str, Callable[[], Snapshot]] = {
    "copy": _copy,
    "paused": _paused,
    "indexing": _indexing,
    "follow": _follow,
    "arriving": _arriving,
    "degraded": _degraded,
    "gap": _gap,
    "ended": _ended,
    "many": _many,
}


def monitored(scene: Callable[[], Snapshot], steps: int = 2400) -> Monitor:
    """A monitor that has watched the task come to this scene in so many steps of three seconds."""
    last = scene()
    moment = 0

    def at() -> Snapshot:
        left = steps - moment
        tables = tuple(
            _earlier(table, left, moment) if moment > number or not table.rate else _unbegun(table)
            for number, table in enumerate(last.tables)
        )
        state = last.state if left < 100 else "running"
        reason = last.reason if left < 100 else ""
        time = NOW - 3.0 * left
        return replace(
            last, tables=tables, time=time, state=state, reason=reason, seconds=3.0 * moment
        )

    monitor = Monitor(at, lambda: last.check, lambda: 3.0 * moment, cpus=64)
    monitor.ask_check()
    for _ in range(steps):
        monitor.look()
        moment += 1
    monitor.measure = lambda: None  # type: ignore[method-assign]
    return monitor


def _unbegun(table: TableStatus) -> TableStatus:
    return _table(
        table.name,
        "waiting",
        expected_items=table.expected_items,
        expected_bytes=table.expected_bytes,
    )


def _work(moment: int) -> float:
    """Seconds of work until this step, at a rate that goes up and down by a tenth."""
    return 3.0 * moment + 12 * math.sin(moment / 80) + 2 * math.sin(moment / 11)


def _earlier(table: TableStatus, left: int, moment: int) -> TableStatus:
    """The table so many steps before."""
    if not table.rate and not table.change_rate:
        return table
    part = _work(moment) / _work(moment + left)
    lag = table.lag and max(10.5, table.lag * part + math.sin(moment / 9))
    return replace(
        table,
        items=int(table.items * part) if table.rate else table.items,
        scanned=int(table.scanned * part) if table.rate else table.scanned,
        bytes=int(table.bytes * part) if table.rate else table.bytes,
        capacity=table.unit_rate * 7200 * part,
        answers=int(table.answers * part),
        throttles=int(table.throttles * part),
        changes=int(table.changes * part),
        lag=lag,
    )
