"""Leases shards to workers, and has their changes applied in order."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from shake.farm import worker_messages, writer_messages
from shake.farm.farm import Farm
from shake.farm.ledger import End, Published
from shake.farm.pool import Worker
from shake.farm.writer import WriterHandle
from shake.follow.journaling import Journaling
from shake.follow.stream_monitor import StreamMonitor
from shake.follow.table import ApplyingLease, FollowedTable, PublishedBatch
from shake.follow.turns import Turns
from shake.source.clock import STEP
from shake.stream.shard import Shard


class FollowScheduler:
    """Decides which worker reads which shard. It holds no item data.

    ``followed_tables``, and ``appliers``, the running writers of their changes, are by table
    number.
    """

    def __init__(
        self,
        farm: Farm,
        followed_tables: Mapping[int, FollowedTable],
        appliers: Mapping[int, WriterHandle],
        monitor: StreamMonitor,
        journaling: Journaling,
    ) -> None:
        self._loop, self._pool, self._task = farm.loop, farm.pool, farm.task
        self._config = farm.config
        self._ledger = farm.pool.ledger
        self._followed_tables = followed_tables
        self._appliers = appliers
        self._monitor = monitor
        self._journaling = journaling
        self._source_clock = farm.source.clock
        self._turns = {
            site: Turns(farm, followed_tables, journaling, site) for site in farm.pool.at
        }

    # ---- leases

    def assign(self, *changed: FollowedTable) -> None:
        """Lease shards to idle readers, each time of the demand whose turn it is.

        ``changed``: tables that can have other demands than before.
        """
        for followed in changed:
            self._turns[followed.home].queue(followed)
        for site, turns in self._turns.items():
            while not self._task.draining and (worker := self._pool.idle_reader(site)):
                demand = turns.next()
                if demand is None:
                    break
                grant = self._journaling.lease if demand.journal else self._lease
                lease = grant(demand.followed, worker)
                self._pool.lease_shard(worker, self._open_stream(demand.followed), lease)
                turns.served(demand, lease.lease)

    def _lease(self, followed: FollowedTable, worker: Worker) -> worker_messages.LeaseShard:
        clock, shard = self._loop.clock(), followed.shards.first()
        lease = self._ledger.grant(self, followed, shard, worker.number, clock)
        start, sequence = shard.position
        return worker_messages.LeaseShard(
            lease=lease.number,
            table=followed.number,
            shard=shard.id,
            start=start,
            sequence=sequence,
            to_journal=False,
            journaled=shard.journal.sequence if shard.journal else None,
            iterator=followed.lease(lease),
        )

    def closed(self, lease: ApplyingLease) -> None:
        """Its shard is applied to its end, or can be leased again."""
        lease.table.close_lease(lease)
        if lease.end is End.FINISHED:
            self._journaling.shard_over(lease.table, lease.part.id)
        self.assign(lease.table)

    # ---- batches

    def received(self, lease: ApplyingLease, message: worker_messages.OfLease) -> None:
        """A worker has filled a slot, or has read a shard to its tip, or as far as it can."""
        followed, shard = lease.table, lease.part
        match message:
            case worker_messages.Batch():
                followed.answers += message.complete
                self._look_at_time(followed, shard, message.created)
                changes = followed.note_batch(
                    message, self._source_clock.earliest(), self._loop.clock()
                )
                self._ledger.publish(lease, message.slot, changes)
                self._apply(lease)
            case worker_messages.Tip(_, moment):
                followed.answers += 1
                followed.tip(lease, moment, self._source_clock.earliest())
                self._turns[followed.home].end_turn_at_tip(lease)
            case worker_messages.ShardEnd(_, over, iterator):
                shard.iterator = iterator
                self._ledger.end(lease, End.FINISHED if over else End.STOPPED)
                self.assign(followed)
            case worker_messages.ShardGap():
                self._monitor.from_reader(followed, shard, message)
                self._ledger.end(lease)
                self.assign(followed)

    def _look_at_time(self, followed: FollowedTable, shard: Shard, created: float) -> None:
        """A change of a later time than the source's clock shows: it was set back since then.

        So it is where that happened before this run, and the change was not read until now.
        """
        latest = self._source_clock.latest()
        if created > latest + STEP and not followed.explains(shard, created):
            most = self._source_clock.earliest() - self._config.incr_margin
            self.set_back(followed, most, latest, inf)

    def set_back(self, followed: FollowedTable, most: float, latest: float, peak: float) -> None:
        """See FollowedTable.set_back. Shards are read on under new leases, whose tips count."""
        leaves_out = followed.record.since
        followed.set_back(most, latest, peak)
        for lease in followed.leases.values():
            self._pool.end_lease(lease)
        if leaves_out:
            self.open_again(followed)

    def _apply(self, lease: ApplyingLease) -> None:
        """Have the next batch of a shard applied: one at a time, since their order counts."""
        while lease.waiting and not lease.sent:
            published = self._ledger.send(lease)
            batch = published.content.batch
            if published.content.written:
                self._appliers[lease.table.number].write(
                    writer_messages.Apply(
                        table=lease.table.number,
                        publication=published.number,
                        arena=self._pool.workers[lease.worker].place,
                        slot=batch.slot,
                        statement_sizes=batch.statement_sizes,
                        shard=lease.part.id,
                        raw_answer=batch.raw_answer,
                    )
                )
            else:
                self._ledger.acknowledge(published.number)

    def acknowledged(self, lease: ApplyingLease, published: Published[PublishedBatch]) -> None:
        """The target has applied a batch, and all before it."""
        lease.table.acknowledge(lease, published, self._loop.clock())
        if published.content.written:
            self._apply(lease)

    # ---- each second

    def each_second(self) -> None:
        """End long turns where shards wait, and lease what can be read by now."""
        for turns in self._turns.values():
            turns.end_long_turns()
        self.assign(*self._followed_tables.values())

    def open_again(self, followed: FollowedTable) -> None:
        """There is another rule for which changes are left out, or for inserts."""
        self._pool.open_again(self._open_stream(followed))

    def _open_stream(self, followed: FollowedTable) -> worker_messages.OpenStream:
        table, record = followed.plan.table, followed.record
        strict = followed.consistent and not self._config.increase_executor_insert_on_dup_update
        return worker_messages.OpenStream(
            followed.number, table.name, table.keys, record.arn, record.since, strict
        )
