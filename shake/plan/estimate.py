"""Estimates what a copy reads, how long that takes at least, and which limit makes it so long."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shake.config import Config
from shake.plan.plan import TablePlan, capacity_rate
from shake.schema import Table
from shake.status.figures import count, many

#: A Scan call reads 1 MB at most; a unit reads 4 KB, or 8 KB when eventually consistent.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
PAGE_BYTES = 1024 * 1024
UNIT_BYTES = 4096

#: Read units a second that AWS allows an on-demand table, unless its account has a higher quota.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
TABLE_QUOTA = 40_000

_PRICED_UNITS = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """The seconds that a scan takes at least, what makes it so, and how to change that."""

    seconds: float
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Margin:
    """A table whose copy takes so many seconds from the moment its position was chosen."""

    table: str
    limit: Limit


def scan_calls(config: Config, plan: TablePlan) -> float:
    """The Scan calls that read the rest of a table."""
    pages = max(plan.table.bytes / PAGE_BYTES, len(plan.segments))
    if config.qps_full_batch_num:
        pages = max(pages, plan.table.items / config.qps_full_batch_num)
    return plan.left * pages


def read_units(config: Config, plan: TablePlan) -> float:
    """Capacity units that reading what is left consumes; each call takes one block at least."""
    if config.sync_schema_only:
        return 0.0
    blocks = max(plan.left * plan.table.bytes / UNIT_BYTES, scan_calls(config, plan))
    return blocks if config.source_consistent_read else blocks / 2


def dollars(config: Config, plan: TablePlan) -> float:
    """What these units cost: nothing where the capacity is provisioned, which is paid anyway."""
    if plan.table.read_capacity:
        return 0.0
    return read_units(config, plan) / _PRICED_UNITS * config.source_price


def slowest(config: Config, plan: TablePlan) -> Limit:
    """The limit that decides how long the rest of a table's scan takes at least."""
    if config.sync_schema_only:
        return Limit(0.0)
    return max(_limits(config, plan), key=lambda limit: limit.seconds)


def _limits(config: Config, plan: TablePlan) -> Iterator[Limit]:
    units = read_units(config, plan)
    for rate, reason, remedy in _rates(config, plan.table):
        yield Limit(units / rate, f"{count(rate)} units a second: {reason}", remedy)
    calls = f"{count(config.qps_full)} Scan calls a second"
    keys = "qps.full"
    if items := config.qps_full_batch_num:
        calls, keys = f"{calls} of {many(items, 'item')}", f"{keys}, qps.full.batch_num"
    yield Limit(scan_calls(config, plan) / config.qps_full, f"{calls}: {keys}", f"raise {keys}")


def _rates(config: Config, table: Table) -> Iterator[tuple[float, str, str]]:
    """Limits in units a second, with reason and remedy; of equal ones the first counts."""
    if budget := capacity_rate(config, table):
        chosen = config.source_read_budget
        share = f" = {chosen.amount:g}%" if chosen.share else ""
        by_default = "" if chosen.chosen else ", the default"
        yield budget, f"source.read_budget{share}{by_default}", "raise source.read_budget"
    if table.read_capacity:
        yield table.read_capacity, "its provisioned capacity", "provision more read capacity"
    elif table.read_maximum:
        yield table.read_maximum, "its on-demand maximum", "raise the table's on-demand maximum"
    else:
        yield TABLE_QUOTA, "the default quota of AWS for a table", "ask AWS for a higher quota"


def finishes(config: Config, plans: Sequence[TablePlan]) -> list[float]:
    """Seconds from the start until each table is copied at the earliest, 0.0 if nothing is left.

    Tables begin in their order, ``full.concurrency`` at once. Their limits do not add up.
    """
    lanes = [0.0] * config.full_concurrency
    ends = []
    for plan in plans:
        if not plan.copies:
            ends.append(0.0)
            continue
        ends.append(heapq.heappop(lanes) + slowest(config, plan).seconds)
        heapq.heappush(lanes, ends[-1])
    return ends


def whole(config: Config, plans: Sequence[TablePlan]) -> Limit:
    """The limit that decides how long all tables take together at least."""
    ends = finishes(config, plans)
    seconds = max(ends, default=0.0)
    if not seconds:
        return Limit(0.0)
    alone = slowest(config, last := plans[ends.index(seconds)])
    if alone.seconds >= seconds:
        return Limit(seconds, f"table {last.table.name}, {alone.reason}", alone.remedy)
    copied = sum(plan.copies for plan in plans)
    return Limit(
        seconds,
        f"{count(copied)} tables, {count(config.full_concurrency)} at once: full.concurrency",
        "raise full.concurrency",
    )


def margins(config: Config, plans: Sequence[TablePlan], now: float) -> list[Margin]:
    """How long only the streams hold the changes of each table, the longest first.

    Positions are chosen before the first table is copied, so waiting for others counts, and what
    passed since an earlier run chose them. ``now`` is Unix seconds.
    """
    found = []
    for plan, end in zip(plans, finishes(config, plans), strict=True):
        if not plan.copies or plan.stream is None or config.incr_sync_parallel:
            continue
        began = plan.stream.record.began if plan.stream.record else 0.0
        seconds = end + max(0.0, now - began if began else 0.0)
        found.append(Margin(plan.table.name, _of_margin(config, plan, end, seconds)))
    return sorted(found, key=lambda margin: -margin.limit.seconds)


def _of_margin(config: Config, plan: TablePlan, end: float, seconds: float) -> Limit:
    limit = slowest(config, plan)
    if limit.seconds < end / 2:  # it mostly waits for others
        return Limit(seconds, "full.concurrency", "raise full.concurrency")
    return Limit(seconds, limit.reason, limit.remedy)
