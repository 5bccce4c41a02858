"""Chooses, and saves, where each table's changes are read from, before anything else is done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.pool import ThreadPool

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.records import new_generation
from shake.checkpoint.stream_records import StreamRecord
from shake.config import Config
from shake.plan.plan import Action, Plan, StreamPlan, TablePlan
from shake.source.contract import Source
from shake.stream.beginning import all_shards, first_shards
from shake.stream.journal import Journal
from shake.stream.shard import Shard

#: Tables that are prepared at the same time.
_THREADS = 8

#: Seconds by which a change's creation time is rounded down at most: DynamoDB Local rounds to the
#: minute. ``incr.start = latest`` begins so much earlier.
_ROUNDED = 60.0


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where one table's changes are read from, as it is saved."""

    record: StreamRecord
    shards: list[Shard]


def choose_positions(
    config: Config,
    source: Source,
    checkpoints: Checkpoints,
    plan: Plan,
    ours: Callable[[], None],
    now: Callable[[], float],
) -> dict[str, StreamPosition]:
    """The position of each followed table, by name; durable on return.

    Missing streams are enabled, which takes minutes. The first one is enabled when every table can
    be changed, and the others when that one can be read. ``ours`` is called before each write, and
    raises where another run has taken over the task. Whether the stream of a checkpoint is still
    there is found out while it is followed: one answer does not prove it gone. ``now`` is the
    source's time, or an earlier one.
    """
    chooser = _Chooser(config, source, checkpoints, ours, now)
    missing = [table for table in plan.followed if table.enables_stream]
    with ThreadPool(_THREADS) as threads:
        threads.map(source.await_active, [table.table.name for table in missing])
        positions = {table.table.name: chooser.choose(table) for table in missing[:1]}
        others = [table for table in plan.followed if table.table.name not in positions]
        names = [table.table.name for table in others]
        return positions | dict(zip(names, threads.map(chooser.choose, others), strict=True))


@dataclass(frozen=True, slots=True)
class _Chooser:
    config: Config
    source: Source
    checkpoints: Checkpoints
    ours: Callable[[], None]
    now: Callable[[], float]
    lock: threading.Lock = field(default_factory=threading.Lock)  # for one write at a time

    def choose(self, table: TablePlan) -> StreamPosition:
        assert table.stream is not None
        name, begun = table.table.name, table.stream.record
        if begun:
            # The source's clock can have been set back since then, and show a later time by now.
            chosen = StreamPosition(replace(begun, since=0.0), list(table.stream.shards))
        else:
            chosen = self._begin(table, table.stream)
        record = replace(
            chosen.record,
            run=self.checkpoints.run,
            stamp=table.record.stamp,
            repairs=self.checkpoints.load_repair(name).sessions,
        )
        copied = table.record if table.action is Action.COMPLETE else None
        if table.action is Action.FOLLOW:  # its plan has no segments
            copied, _ = self.checkpoints.load(name)
        with self.lock:
            if begun is None:
                self.checkpoints.begin_stream(record, self.ours)
            self.ours()
            if copied:  # no earlier run begins another copy from now on
                self.checkpoints.save_table(copied)
            self.checkpoints.save_stream(record, chosen.shards)
        return replace(chosen, record=record)

    def _begin(self, table: TablePlan, plan: StreamPlan) -> StreamPosition:
        """From now on, and a little earlier; where nothing is copied, as ``incr.start`` says.

        ``latest`` is no iterator of that type, which would be lost with the process that holds it:
        it is this moment, durable like any position. Shards are read from their oldest record, and
        what is older than the moment is left out.
        """
        name, now = table.table.name, self.now()
        earlier, _ = self.checkpoints.load_stream(name)
        self.ours()
        Journal(self.config.journal_folder).clear(name)  # of a copy that is given up
        stream = plan.stream if plan.stream.enabled else self.source.enable_stream(name)
        listing = self.source.list_shards(stream.arn)
        whole = not table.copies and self.config.incr_start == "trim_horizon"
        latest = not table.copies and not whole
        shards = all_shards(listing, now) if whole else first_shards(listing, now)
        record = StreamRecord(
            name,
            stream.arn,
            since=now - _ROUNDED if latest else 0.0,
            began=now,
            # Of an unfinished start's shards, those of the same names are replaced then.
            generation=earlier.generation if earlier else new_generation(),
        )
        return StreamPosition(record, shards)
