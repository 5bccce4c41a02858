"""The plan: what a run will do with each table, in how many segments, and from where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from shake.checkpoint.identity import UNKNOWN as NO_IDENTITY
from shake.checkpoint.identity import Identity
from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.config import Config
from shake.schema import Table
from shake.source.contract import Stream
from shake.stream.shard import Shard

#: A segment covers at most about 64 MB. It covers less, down to 4 MB, until each scanner has eight
#: segments. A table has at most 8192 of them.
#: Segments differ in size, and the last ones of a few large ones would be read alone.
SEGMENT_BYTES = 64 * 1024 * 1024
SMALLEST_SEGMENT_BYTES = 4 * 1024 * 1024
SEGMENTS_PER_SCANNER = 8
MAX_SEGMENTS = 8192


class Action(Enum):
    """What the run does with a table, in words for the user."""

    CREATE = "copy into a new collection"
    REFUSE = "REFUSED: the collection exists"
    RENAME = "copy, then rename the existing collection and take its name"
    DROP = "copy, then DROP the existing collection and take its name"
    RESYNC = "copy again, then DROP what was copied before and take its name"
    RESUME = "continue where the last run was stopped"
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
    """One table. ``record`` and ``segments`` (all of them) are its checkpoint, or a fresh one.

    ``identity`` is what the checkpoint is of, and ``saved`` what of that is stored already. Its
    origin is the source table that this run must find: the checkpoint's, or the one there is.
    ``anew``: the checkpoint is of an unfinished copy, which this one replaces.
    """

    table: Table
    action: Action
    record: TableRecord
    segments: tuple[SegmentRecord, ...]
    indexes: tuple[str, ...] = ()
    stream: StreamPlan | None = None
    identity: Identity = NO_IDENTITY
    saved: Identity | None = None
    anew: bool = False

    @property
    def copies(self) -> bool:
        """Whether anything is left to be copied."""
        return self.action not in (Action.COMPLETE, Action.FOLLOW)

    @property
    def fresh(self) -> bool:
        """Whether the copy is to be begun, so that its segments can still be chosen."""
        return self.action in (Action.CREATE, Action.RENAME, Action.DROP)

    @property
    def enables_stream(self) -> bool:
        stream = self.stream
        return stream is not None and stream.record is None and not stream.stream.enabled

    @property
    def namespace(self) -> str:
        return self.record.namespace

    @property
    def gap(self) -> str:
        """The loss of changes for which the table is being copied anew, if it is."""
        return self.record.gap if self.copies else ""

    @property
    def left(self) -> float:
        """The share of the table that is still to be read."""
        done = sum(record.done for record in self.segments)
        return 1 - done / len(self.segments) if self.copies else 0.0

    def whole(self, config: Config) -> bool:
        """Whether the target is to hold all items of the table."""
        return (
            config.sync_mode == "all"
            and config.scan_filter is None
            and not config.sync_schema_only
            and self.action is not Action.FOLLOW
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """All tables of a run, what stands against it, and what the user should know first."""

    tables: tuple[TablePlan, ...]
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return all(table.action is Action.COMPLETE for table in self.tables)

    def whole(self, config: Config) -> bool:
        """Whether the target is to hold all items, so that it can be equal to the source."""
        return all(table.whole(config) for table in self.tables)

    @property
    def followed(self) -> list[TablePlan]:
        """The tables whose changes are followed."""
        return [table for table in self.tables if table.stream]

    @property
    def follows(self) -> bool:
        """Whether the task follows changes. Such a task ends only when the user stops it."""
        return bool(self.followed)


def capacity_rate(config: Config, table: Table) -> float | None:
    """``source.read_budget`` for a table, in capacity units a second; None: no limit."""
    return config.source_read_budget.units(table.read_capacity, in_aws=table.in_aws)


def count_segments(config: Config, table: Table, scanners: int, *, holds_items: bool) -> int:
    """How many Scan segments a table is read in; fixed once the copy begins.

    ``scanners`` is how many segments the whole farm reads at once. DynamoDB's size may be six hours
    old: a table that holds items but counts none is of unknown size, and may be large.
    """
    if config.full_read_concurrency:
        return config.full_read_concurrency
    if holds_items and table.items == 0:
        return min(SEGMENTS_PER_SCANNER * scanners, MAX_SEGMENTS)
    by_size = math.ceil(table.bytes / SEGMENT_BYTES)
    for_all = min(math.ceil(table.bytes / SMALLEST_SEGMENT_BYTES), SEGMENTS_PER_SCANNER * scanners)
    return min(max(by_size, for_all, 1), MAX_SEGMENTS)
