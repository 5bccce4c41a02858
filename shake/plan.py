"""The plan: what a run will do with each table, decided before anything is changed anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from shake.checkpoint.records import SegmentRecord, StreamRecord, TableRecord
from shake.config import Config
from shake.schema import Table
from shake.source.streams import Stream
from shake.status.figures import count, duration, size
from shake.stream.shards import Shard, State

#: A segment covers at most about so many bytes, less while each lane has not got several: segments
#: differ in size, and the last ones of a few large ones would be read alone.
SEGMENT_BYTES = 64 * 1024 * 1024
SMALLEST_SEGMENT_BYTES = 4 * 1024 * 1024
SEGMENTS_PER_LANE = 8
MOST_SEGMENTS = 8192

#: A Scan call reads 1 MB at most; a unit reads 4 KB, or 8 KB when eventually consistent.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
PAGE_BYTES = 1024 * 1024
UNIT_BYTES = 4096


class Action(Enum):
    """What the run does with a table, in words for the person."""

    CREATE = "copy into a new collection"
    RENAME = "rename the existing collection, then copy"
    DROP = "DROP the existing collection, then copy"
    RESYNC = "DROP what was copied, then copy again"
    RESUME = "go on where the last run was stopped"
    COMPLETE = "nothing: the copy is complete"
    FOLLOW = "follow its changes, copy nothing"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Where a table's changes come from.

    ``record`` and ``shards`` are their checkpoint; None where they are still to be chosen, which is
    done before the first Scan. ``stream`` is what the table has now.
    """

    stream: Stream
    record: StreamRecord | None = None
    shards: tuple[Shard, ...] = ()


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table. ``record`` and ``progress`` (all segments) are its checkpoint, or a fresh one."""

    table: Table
    action: Action
    record: TableRecord
    progress: tuple[SegmentRecord, ...]
    indexes: tuple[str, ...] = ()
    stream: StreamPlan | None = None

    @property
    def copies(self) -> bool:
        """Whether anything is left to be copied."""
        return self.action not in (Action.COMPLETE, Action.FOLLOW)

    @property
    def place(self) -> str:
        return self.record.place

    @property
    def gap(self) -> str:
        """The loss of changes for which the table is being copied anew, if it is."""
        return self.record.gap if self.copies else ""

    @property
    def left(self) -> float:
        """The share of the table that is still to be read."""
        done = sum(record.done for record in self.progress)
        return 1 - done / len(self.progress) if self.copies else 0.0

    def read_capacity(self, config: Config) -> float:
        """Capacity units that reading what is left consumes."""
        if config.sync_schema_only:
            return 0.0
        unit = UNIT_BYTES if config.source_consistent_read else 2 * UNIT_BYTES
        return self.left * max(self.table.bytes / unit, 0.5 * len(self.progress))

    def seconds_at_least(self, config: Config) -> float:
        """How long the configured limits alone make the rest of the scan last."""
        if config.sync_schema_only:
            return 0.0
        pages = self.table.bytes / PAGE_BYTES
        if config.qps_full_batch_num:
            pages = max(pages, self.table.items / config.qps_full_batch_num)
        seconds = self.left * max(pages, len(self.progress)) / config.qps_full
        if budget := capacity_rate(config, self.table):
            seconds = max(seconds, self.read_capacity(config) / budget)
        return seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """All tables of a run, what stands against it, and what the person should know first."""

    tables: tuple[TablePlan, ...]
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return all(table.action is Action.COMPLETE for table in self.tables)

    @property
    def follows(self) -> bool:
        """Whether changes are followed, which ends only when it is told to."""
        return any(table.stream for table in self.tables)


def capacity_rate(config: Config, table: Table) -> float | None:
    """``source.read_budget`` for a table, in capacity units a second; None: no limit."""
    budget = config.source_read_budget
    return None if budget is None else budget.units(table.read_capacity)


def count_segments(config: Config, table: Table, lanes: int, *, holds_items: bool) -> int:
    """How many Scan segments a table is read in; fixed once the copy begins.

    ``lanes`` is how many segments the whole farm reads at once. DynamoDB's size may be six hours
    old: a table that holds items but counts none is of unknown size, and may be large.
    """
    if config.full_read_concurrency:
        return config.full_read_concurrency
    if holds_items and table.items == 0:
        return min(SEGMENTS_PER_LANE * lanes, MOST_SEGMENTS)
    by_size = math.ceil(table.bytes / SEGMENT_BYTES)
    for_all = min(math.ceil(table.bytes / SMALLEST_SEGMENT_BYTES), SEGMENTS_PER_LANE * lanes)
    return min(max(by_size, for_all, 1), MOST_SEGMENTS)


def describe(plan: Plan, config: Config, workers: int) -> list[str]:
    """The plan as lines for the person, as ``--dry-run`` prints it: the whole, then each table."""
    tables = plan.tables
    items = count(sum(table.table.items for table in tables))
    stored = size(sum(table.table.bytes for table in tables))
    units = count(sum(table.read_capacity(config) for table in tables))
    times = [table.seconds_at_least(config) for table in tables]
    seconds = max([sum(times) / config.full_concurrency, *times])
    actions = [table.action for table in tables]
    lines = [
        f"task {config.id}, sync_mode = {config.sync_mode}: {_many(len(tables), 'table')}, "
        f"{items} items, {stored} (DynamoDB's own counts, up to six hours old)",
        f"  to be read: about {units} read capacity units, in {duration(seconds)} at the least",
        f"  by: {_many(workers, 'worker')}, which read "
        f"{_many(workers * config.full_document_parser, 'segment')} at once, of "
        f"{_many(config.full_concurrency, 'table')} at most",
        f"  existing collections: {actions.count(Action.DROP) + actions.count(Action.RESYNC)} "
        "DROPPED, "
        f"{actions.count(Action.RENAME)} renamed",
    ]
    for table in tables:
        lines += _describe_table(table, config)
    lines += [f"warning: {text}" for text in plan.warnings]
    return lines + [f"REFUSED: {text}" for text in plan.refusals]


def _describe_table(plan: TablePlan, config: Config) -> list[str]:
    table = plan.table
    keys = " + ".join(f"{key.name} ({key.type})" for key in table.keys)
    lines = [
        f"table {table.name} -> {plan.place}: {plan.action.value}",
        f"  {count(table.items)} items, {size(table.bytes)}, key {keys}",
    ]
    if plan.action is Action.RENAME:
        lines.append(f"  the existing collection becomes {plan.record.backup}")
    if plan.gap:
        lines.append(f"  a gap: {plan.gap}")
    if plan.copies:
        lines += [_reading(plan, config), f"  indexes: {', '.join(plan.indexes) or 'none'}"]
    return lines + ([_changes(plan.stream, config, plan.copies)] if plan.stream else [])


def _changes(plan: StreamPlan, config: Config, copies: bool) -> str:
    if plan.record is not None:
        open_shards = sum(shard.state is not State.APPLIED for shard in plan.shards)
        return f"  changes: {_many(open_shards, 'shard')} to be read on from the checkpoint"
    stream = plan.stream.arn if plan.stream.enabled else "a stream that will be ENABLED"
    start = _journal(config) if copies else f", from incr.start = {config.incr_start}"
    return f"  changes: by {stream}{start}"


def _journal(config: Config) -> str:
    """What becomes of changes while the copy runs."""
    if not config.incr_sync_parallel:
        return "; kept for 24 hours: a longer copy needs incr_sync_parallel = true"
    return f"; journaled in {config.journal_folder}, up to {config.journal_max_mb} MB"


def _reading(plan: TablePlan, config: Config) -> str:
    if config.sync_schema_only:
        return "  sync_schema_only: collection and indexes, no item is read"
    left = sum(not record.done for record in plan.progress)
    if not left:
        return "  all segments are copied, the indexes are left"
    return (
        f"  {count(left)} of {_many(len(plan.progress), 'segment')} to read: about "
        f"{count(plan.read_capacity(config))} read capacity units, "
        f"{duration(plan.seconds_at_least(config))} at the least ({_limits(plan, config)})"
    )


def _many(number: int, what: str) -> str:
    return f"{count(number)} {what}{'s' if number != 1 else ''}"


def _limits(plan: TablePlan, config: Config) -> str:
    calls = f"{count(config.qps_full)} Scan calls a second"
    budget = capacity_rate(config, plan.table)
    return f"{calls}, {count(budget)} capacity units a second" if budget else calls
