"""Estimates what a copy reads, how long that takes at least, and which limit makes it so long."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from shake.config import Config
from shake.config.windows import budget_at, seconds_until_change
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

#: Seconds of one core of mongod for an item and an index, as measured: see docs/sizing.md.
INDEX_SECONDS = 1e-6

_PRICED_UNITS = 1_000_000
#: What a unit costs in the table class Standard-IA, where one of the class Standard costs 1.
#: https://aws.amazon.com/dynamodb/pricing/on-demand/
INFREQUENT_FACTOR = 1.24
_DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Limit:
    """The seconds that a scan takes at least, what makes it so, and how to change that."""

    seconds: float
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class StreamWait:
    """A table whose copy takes so many seconds from the moment its position was chosen.

    The target then needs about ``index_seconds`` more, while changes still wait in the stream.
    """

    table: str
    limit: Limit
    index_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """All that its stream has to last for."""
        return self.limit.seconds + self.index_seconds


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
    factor = INFREQUENT_FACTOR if plan.table.infrequent_access else 1.0
    return read_units(config, plan) / _PRICED_UNITS * config.source_price * factor


def slowest(config: Config, plan: TablePlan, start: float = 0.0) -> Limit:
    """The limit that decides how long the rest of a table's scan takes at least.

    ``start`` is when it begins, in Unix seconds.
    """
    if config.sync_schema_only:
        return Limit(0.0)
    return max(_limits(config, plan, start), key=lambda limit: limit.seconds)


def _limits(config: Config, plan: TablePlan, start: float) -> Iterator[Limit]:
    units = read_units(config, plan)
    for rate, reason, remedy in _rates(config, plan.table):
        yield Limit(units / rate, f"{count(rate)} units a second: {reason}", remedy)
    if config.source_windows:
        seconds = _in_windows(config, plan.table, units, start)
        reason = f"the budgets of {windows(config)}{_raised(config, plan.table)}"
        yield Limit(seconds, reason, "raise them")
    calls = f"{count(config.qps_full)} Scan calls a second"
    keys = "qps.full"
    if items := config.qps_full_batch_num:
        calls, keys = f"{calls} of {many(items, 'item')}", f"{keys}, qps.full.batch_num"
    yield Limit(scan_calls(config, plan) / config.qps_full, f"{calls}: {keys}", f"raise {keys}")


def _rates(config: Config, table: Table) -> Iterator[tuple[float, str, str]]:
    """Limits in units a second, with reason and remedy; of equal ones the first counts."""
    budget, raised = capacity_rate(config, table), _raised(config, table)
    if budget and not config.source_windows:
        chosen = config.source_read_budget
        share = f" = {chosen.amount:g}%" if chosen.share else ""
        by_default = "" if chosen.chosen else ", the default"
        reason = f"source.read_budget{share}{by_default}{raised}"
        yield budget, reason, "raise source.read_budget"
    if table.read_capacity:
        yield table.read_capacity, "its provisioned capacity", "provision more read capacity"
    elif table.read_maximum:
        yield table.read_maximum, "its on-demand maximum", "raise the table's on-demand maximum"
    elif not raised:
        yield TABLE_QUOTA, "the default quota of AWS for a table", "ask AWS for a higher quota"


def _quota(config: Config, table: Table) -> float:
    """Read units a second that AWS allows the table: a budget above it says that AWS raised it."""
    budgets = [config.source_read_budget, *(window.budget for window in config.source_windows)]
    rates = (one.units(table.read_capacity, in_aws=table.in_aws) for one in budgets)
    return max(TABLE_QUOTA, *(rate or 0.0 for rate in rates))


def _raised(config: Config, table: Table) -> str:
    """Words for a budget that only a raised quota allows; empty for others."""
    if not _on_demand(table) or _quota(config, table) <= TABLE_QUOTA:
        return ""
    return f", above the default quota of {count(TABLE_QUOTA)}"


def _on_demand(table: Table) -> bool:
    """Whether only the quota limits the table."""
    return not table.read_capacity and not table.read_maximum


def windows(config: Config) -> str:
    """``source.windows`` in words; empty where there are none."""
    if not config.source_windows:
        return ""
    return "source.windows = " + ";".join(map(str, config.source_windows)) + " (UTC)"


def _in_windows(config: Config, table: Table, units: float, start: float) -> float:
    """Seconds from ``start`` until so many units are read within the budgets of each time of day.

    Without a limit, the quota of an on-demand table counts; other tables have a limit of their own.
    """
    unlimited = _quota(config, table) if _on_demand(table) else math.inf
    spans, passed = [], 0.0
    while passed < _DAY:
        moment = start + passed
        length = min(seconds_until_change(config.source_windows, moment), _DAY - passed)
        budget = budget_at(config.source_windows, config.source_read_budget, moment)
        rate = budget.units(table.read_capacity, in_aws=table.in_aws)
        spans.append((length, unlimited if rate is None else rate))
        passed += length
    days, units = divmod(units, sum(length * rate for length, rate in spans))
    seconds = days * _DAY
    for length, rate in spans:
        if length * rate >= units:
            return seconds + units / rate
        units -= length * rate
        seconds += length
    return seconds


def finishes(config: Config, plans: Sequence[TablePlan], now: float = 0.0) -> list[float]:
    """Seconds from ``now`` until each table is copied at the earliest, 0.0 if nothing is left.

    Tables begin in their order, ``full.concurrency`` at once. Their limits do not add up.
    """
    free_at = [0.0] * config.full_concurrency
    ends = []
    for plan in plans:
        if not plan.copies:
            ends.append(0.0)
            continue
        begin = heapq.heappop(free_at)
        ends.append(begin + slowest(config, plan, now + begin).seconds)
        heapq.heappush(free_at, ends[-1])
    return ends


def slowest_of_all(config: Config, plans: Sequence[TablePlan], now: float = 0.0) -> Limit:
    """The limit that decides how long all tables take together at least, from ``now`` on."""
    ends = finishes(config, plans, now)
    seconds = max(ends, default=0.0)
    if not seconds:
        return Limit(0.0)
    alone = slowest(config, last := plans[ends.index(seconds)], now)
    if alone.seconds >= seconds:
        return Limit(seconds, f"table {last.table.name}, {alone.reason}", alone.remedy)
    copied = sum(plan.copies for plan in plans)
    return Limit(
        seconds,
        f"{count(copied)} tables, {count(config.full_concurrency)} at once: full.concurrency",
        "raise full.concurrency",
    )


def index_seconds(plan: TablePlan) -> float:
    """About how long the target builds the indexes of a table, by one core."""
    return plan.table.items * len(plan.indexes) * INDEX_SECONDS if plan.copies else 0.0


def stream_waits(config: Config, plans: Sequence[TablePlan], now: float) -> list[StreamWait]:
    """How long only the streams hold the changes of each table, the longest first.

    Positions are chosen before the first table is copied, so waiting for others counts, and what
    passed since an earlier run chose them. ``now`` is Unix seconds.
    """
    found = []
    for plan, end in zip(plans, finishes(config, plans, now), strict=True):
        if not plan.copies or plan.stream is None or config.incr_sync_parallel:
            continue
        began = plan.stream.record.began if plan.stream.record else 0.0
        seconds = end + max(0.0, now - began if began else 0.0)
        limit = slowest(config, plan, now)
        if limit.seconds < end / 2:  # it mostly waits for others
            limit = Limit(seconds, "full.concurrency", "raise full.concurrency")
        limit = replace(limit, seconds=seconds)
        found.append(StreamWait(plan.table.name, limit, index_seconds(plan)))
    return sorted(found, key=lambda one: -one.seconds)
