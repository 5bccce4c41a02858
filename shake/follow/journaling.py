"""Has shards read into the journal while they, or what comes before them, cannot be applied yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial

from shake.farm import worker_messages as messages
from shake.farm.farm import Farm
from shake.farm.ledger import End, Published
from shake.farm.pool import Worker
from shake.follow.stream_monitor import StreamMonitor
from shake.follow.table import FollowedTable, JournalingLease
from shake.process.outlet import Outlet
from shake.stream.journal import Journal
from shake.stream.shard import ShardState

log = logging.getLogger("shake.farm")

#: Seconds that nothing is journaled after the disk took no more.
_FULL_PAUSE = 60.0


class Journaling:
    """Decides which shards are read into the journal, and watches the journal's disk space."""

    def __init__(
        self, farm: Farm, followed_tables: Mapping[int, FollowedTable], monitor: StreamMonitor
    ) -> None:
        config = farm.config
        self._on = config.incr_sync_parallel
        self._most = config.journal_max_mb * 10**6
        self._path = config.journal_folder
        self._loop, self._pool, self._task = farm.loop, farm.pool, farm.task
        self._source_clock = farm.source.clock
        self._monitor = monitor
        self._journal = Journal(config.journal_folder)
        self._deletions = Outlet("the journal")  # the loop waits for no disk
        self._followed_tables = followed_tables
        self._refusal, self._paused = "", 0.0  # why the disk took no more, and until when it rests
        for followed in followed_tables.values():
            open_ = [one.id for one in followed.shards if one.state is not ShardState.APPLIED]
            self._journal.clear(followed.name, but=open_)
        self._size = 0  # in bytes, at most: each second what is not needed any more is taken off
        self._measure()

    def waiting(self, followed: FollowedTable) -> int:
        """How many shards of a table wait for a reader, if the journal has room."""
        return followed.shards.journalable if self._on and self._room else 0

    def _measure(self) -> None:
        self._size = sum(one.journal_bytes for one in self._followed_tables.values())

    @property
    def _room(self) -> bool:
        return self._size < self._most and self._loop.clock() >= self._paused

    # ---- leases

    def lease(self, followed: FollowedTable, worker: Worker) -> messages.LeaseShard:
        """Lease the shard that is furthest behind."""
        shard = followed.shards.first_journalable()
        lease = self._pool.ledger.grant(self, followed, shard, worker.number, self._loop.clock())
        followed.journal_leases[lease.number] = lease
        followed.shards.begin_journaling(shard)
        journal = shard.journal
        assert journal is not None
        start, sequence = shard.position
        return messages.LeaseShard(
            lease=lease.number,
            table=followed.number,
            shard=shard.id,
            start=start,
            sequence=sequence,
            to_journal=True,
            journaled=journal.sequence,
            size=journal.size,
        )

    def closed(self, lease: JournalingLease) -> None:
        """Its reader has ended, at the shard's end or not."""
        followed, shard = lease.table, lease.part
        del followed.journal_leases[lease.number]
        followed.end_journaling(shard, over=lease.end is End.FINISHED)
        if lease.end is End.FINISHED:
            self.shard_over(followed, shard.id)
        self._task.shards_changed(followed.number)

    def shard_over(self, followed: FollowedTable, shard: str) -> None:
        """A shard is applied, or in the journal, to its end: what follows it can be read."""
        if not followed.shards.offspring[shard]:
            self._monitor.watcher.look(followed, shard)
        if followed.active:
            self.stop_journaling_ready_shards(followed)

    def received(self, lease: JournalingLease, message: messages.OfLease) -> None:
        match message:
            case messages.Journaled():
                before = self._size
                limit = self._source_clock.earliest()
                lease.table.add_to_journal(lease.part, message, limit, self._loop.clock())
                self._size += message.size
                if before < self._most <= self._size:
                    self._stop()
            case messages.JournalFull(_, reason):
                self._paused = self._loop.clock() + _FULL_PAUSE
                self._refusal = reason
                self._stop()
            case messages.ShardEnd(_, over):
                self._pool.ledger.end(lease, End.FINISHED if over else End.STOPPED)
            case messages.ShardGap():
                self._monitor.from_reader(lease.table, lease.part, message)
                self._pool.ledger.end(lease)

    def acknowledged(self, lease: JournalingLease, published: Published[None]) -> None:
        """Nothing that is journaled goes to the target."""

    def stop_journaling_ready_shards(self, followed: FollowedTable) -> None:
        """Its shards that are to be applied now are not journaled any more."""
        for lease in followed.journal_leases.values():
            if lease.part.state is ShardState.READY:
                self._pool.end_lease(lease)

    def give_up(self, followed: FollowedTable) -> None:
        """It is not followed. What the journal holds of it takes no room from the others."""
        self._end_leases(followed)
        self._measure()

    def each_second(self) -> None:
        """Each second: say what is the matter for as long as it is."""
        self._measure()
        waiting = any(one.shards.journalable for one in self._followed_tables.values())
        if self._on and not self._room and waiting:
            self._task.retrying(self._full)

    @property
    def _full(self) -> str:
        reason = self._refusal
        if self._size >= self._most:
            size, most = self._size // 10**6, self._most // 10**6
            reason = f"{self._path} has {size} MB and has reached journal.max_mb = {most}"
        return f"journal: {reason}: changes wait in the stream, which keeps them 24 hours"

    def drop(self, followed: FollowedTable, shards: Iterable[str]) -> None:
        """Delete what the journal has of shards that are applied to their end, as is saved."""
        for shard in shards:
            self._deletions.put(partial(self._delete, followed.name, shard))

    def close(self) -> None:
        """Delete what is left; :attr:`deleting` is true until that is done."""
        self._deletions.close(0)

    @property
    def deleting(self) -> bool:
        return self._deletions.is_alive()

    def _delete(self, table: str, shard: str) -> None:
        try:
            self._journal.drop(table, shard)
        except OSError as error:  # the next start tries it again
            text = f"journal: {error.filename} cannot be deleted: {error.strerror}"
            self._loop.post(lambda: self._task.retrying(text))

    def _stop(self) -> None:
        self._task.retrying(self._full)
        for followed in self._followed_tables.values():
            self._end_leases(followed)

    def _end_leases(self, followed: FollowedTable) -> None:
        for lease in followed.journal_leases.values():
            self._pool.end_lease(lease)
