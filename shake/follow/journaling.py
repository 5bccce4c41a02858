"""Has shards read into the journal while they, or what comes before them, cannot be applied yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from shake.clock import boot_clock
from shake.config import Config
from shake.farm import messages
from shake.farm.pool import Worker, WorkerPool
from shake.follow.table import FollowedTable
from shake.process.loop import Loop
from shake.process.outlet import Outlet
from shake.source.clock import SourceClock
from shake.stream.journal import Journal
from shake.stream.shard import Shard, State

log = logging.getLogger("shake.farm")

#: Seconds that nothing is journaled after the disk took no more.
_FULL_PAUSE = 60.0


@dataclass(slots=True)
class Keeping:
    """A lease: a worker reads a shard into the journal."""

    following: FollowedTable
    shard: Shard
    worker: int
    since: float


class Journaling:
    """Manages the leases of shards that are read into the journal, and the journal's disk space.

    ``ended`` is called with each lease that has ended, and with whether the journal contains the
    shard to its end. ``refused`` is called with a shard if the stream no longer has the records
    after the shard's position. ``trouble`` is called each second while the journal has no room.
    """

    def __init__(
        self,
        config: Config,
        loop: Loop,
        pool: WorkerPool,
        followings: list[FollowedTable],
        source: SourceClock,
        *,
        ended: Callable[[FollowedTable, Shard, bool], None],
        trouble: Callable[[str], None],
        refused: Callable[[FollowedTable, Shard, messages.ShardGap], None],
    ) -> None:
        self._on = config.incr_sync_parallel
        self._most = config.journal_max_mb * 10**6
        self._path = config.journal_folder
        self._loop = loop
        self._pool = pool
        self._source = source
        self._ended = ended
        self._trouble = trouble
        self._refused = refused
        self._journal = Journal(config.journal_folder)
        self._deletions = Outlet("the journal")  # the loop waits for no disk
        self._keepings: dict[int, Keeping] = {}
        self._by_table: dict[int, dict[int, Keeping]] = {f.number: {} for f in followings}
        self._followings = followings
        self._refusal, self._paused = "", 0.0  # why the disk took no more, and until when it rests
        for following in followings:
            open_ = [one.id for one in following.shards if one.state is not State.APPLIED]
            self._journal.clear(following.name, but=open_)
        self._size = 0  # in bytes, at most: each second what is not needed any more is taken off
        self._measure()

    def leases(self, following: FollowedTable) -> int:
        """How many shards of a table are read into the journal."""
        return len(self._by_table[following.number])

    def waiting(self, following: FollowedTable) -> int:
        """How many shards of a table wait for a reader, if the journal has room."""
        return following.shards.keepable if self._on and self._room else 0

    def _measure(self) -> None:
        self._size = sum(following.journal_bytes for following in self._followings)

    @property
    def _room(self) -> bool:
        return self._size < self._most and self._loop.clock() >= self._paused

    def lease(self, following: FollowedTable, worker: Worker, lease: int) -> messages.ShardLease:
        """Lease the shard that is furthest behind."""
        shard = following.shards.first_keepable()
        following.shards.keep(shard)
        kept = shard.kept
        assert kept is not None
        keeping = Keeping(following, shard, worker.number, self._loop.clock())
        self._keepings[lease] = self._by_table[following.number][lease] = keeping
        start, sequence = shard.position
        return messages.ShardLease(
            *(lease, following.number, shard.id, start, sequence),
            keep=True,
            kept=kept.sequence,
            size=kept.size,
        )

    def held(self, following: FollowedTable) -> list[tuple[int, int, float]]:
        """(lease, worker, since) of a table, the longest held first."""
        held = self._by_table[following.number].items()
        return [(lease, one.worker, one.since) for lease, one in held]

    def worker_died(self, leases: Iterable[int]) -> None:
        """What its shards have in the journal stays there."""
        for lease in leases:
            self._end(lease, over=False)

    def from_worker(self, worker: Worker, message: messages.FromReader) -> None:
        keeping = self._keepings.get(message.lease)
        if keeping is None:
            return
        match message:
            case messages.Journaled():
                before = self._size
                limit = self._source.earliest(boot_clock())
                keeping.following.kept(keeping.shard, message, limit, self._loop.clock())
                self._size += message.size
                if before < self._most <= self._size:
                    self._stop()
            case messages.JournalFull(_, reason):
                self._paused = self._loop.clock() + _FULL_PAUSE
                self._refusal = reason
                self._stop()
            case messages.ShardEnd(lease, over):
                worker.shards.discard(lease)
                self._end(lease, over=over)
            case messages.ShardGap(lease):
                self._refused(keeping.following, keeping.shard, message)
                worker.shards.discard(lease)
                self._end(lease, over=False)

    def give_way(self, following: FollowedTable) -> None:
        """Its shards that are to be applied now are not journaled any more."""
        held = self._by_table[following.number].items()
        self._tell(lease for lease, one in held if one.shard.state is State.READY)

    def give_up(self, table: int) -> None:
        """It is not followed. What the journal holds of it takes no room from the others."""
        self._tell(self._by_table.get(table, {}))
        self._followings = [one for one in self._followings if one.number != table]
        self._measure()

    def tend(self) -> None:
        """Each second: say what is the matter for as long as it is."""
        self._measure()
        if self._on and not self._room and any(f.shards.keepable for f in self._followings):
            self._trouble(self._full)

    @property
    def _full(self) -> str:
        """Why nothing is journaled."""
        reason = self._refusal
        if self._size >= self._most:
            size, most = self._size // 10**6, self._most // 10**6
            reason = f"{self._path} has {size} MB and has reached journal.max_mb = {most}"
        return f"journal: {reason}: changes wait in the stream, which keeps them 24 hours"

    def drop(self, following: FollowedTable, shards: Iterable[str]) -> None:
        """Delete what the journal has of shards that are applied to their end, as is saved."""
        for shard in shards:
            self._deletions.put(partial(self._delete, following.name, shard))

    def close(self) -> None:
        """Delete what is left; :attr:`deleting` tells for how long that takes."""
        self._deletions.close(0)

    @property
    def deleting(self) -> bool:
        """Whether a file might still be deleted."""
        return self._deletions.is_alive()

    def _delete(self, table: str, shard: str) -> None:
        try:
            self._journal.drop(table, shard)
        except OSError as error:  # the next start tries it again
            text = f"journal: {error.filename} cannot be deleted: {error.strerror}"
            self._loop.post(lambda: self._trouble(text))

    def _end(self, lease: int, *, over: bool) -> None:
        one = self._keepings.pop(lease)
        del self._by_table[one.following.number][lease]
        one.following.end_keeping(one.shard, over=over)
        self._ended(one.following, one.shard, over)

    def _stop(self) -> None:
        self._trouble(self._full)
        self._tell(self._keepings)

    def _tell(self, leases: Iterable[int]) -> None:
        """Have their workers end them."""
        for lease in leases:
            self._pool.workers[self._keepings[lease].worker].send(messages.EndLease(lease))
