"""Follows tables: leases shards to workers, has their changes applied in order, watches streams."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from shake.checkpoint.records import repair_sessions
from shake.clock import boot_clock
from shake.config import Config
from shake.errors import RunError, ShakeError
from shake.farm import messages
from shake.farm.checkpointer import Checkpointer
from shake.farm.lock_guard import LockGuard
from shake.farm.pool import Worker, WorkerPool
from shake.farm.writer import TableWriter, WriterProcess
from shake.follow.journaling import Journaling
from shake.follow.stream_monitor import StreamMonitor
from shake.follow.table import Flying, FollowedTable
from shake.plan.plan import TablePlan
from shake.process.loop import Loop
from shake.schema import OLD
from shake.source.clock import Bounds
from shake.source.contract import Source
from shake.status.figures import duration, utc
from shake.status.snapshot import TableStatus
from shake.stream.queue import Queue
from shake.stream.shard import NO_ITERATOR, TipIterator

log = logging.getLogger("shake.farm")

#: Seconds between two looks whether a collection is still the one that was filled.
VERIFY_EVERY = 30.0
#: Seconds between two commands that keep the target from forgetting the numbers of commands: it
#: forgets them after 30 minutes.
#: https://www.mongodb.com/docs/manual/reference/parameters/#mongodb-parameter-param.localLogicalSessionTimeoutMinutes
FENCES_EVERY = 600.0
#: Seconds for which quiet shards are read quickly after somebody has asked whether one can switch.
QUICK = 10.0
#: Seconds that a shard is read while others wait for their turn, where there is something to read.
TURN = 5.0
#: Seconds between two turns of a shard that is read to its tip, where few others wait.
TIP_TURN = 1.0


class Claim(NamedTuple):
    """Shards of a table that are read for one purpose: to be applied, or for the journal."""

    following: FollowedTable
    keep: bool
    leases: int
    waiting: int

    @property
    def name(self) -> tuple[int, bool]:
        return self.following.number, self.keep


class FollowScheduler:
    """The traffic of changes. ``start_writer`` starts the writer of a followed table.

    ``consistent`` is called when all tables have reached their consistent point; ``trouble`` and
    ``doubtful`` with what keeps failing, and with what may be lost.
    """

    def __init__(
        self,
        config: Config,
        loop: Loop,
        pool: WorkerPool,
        followings: list[FollowedTable],
        checkpointer: Checkpointer,
        fence: LockGuard,
        source: Source,
        *,
        until_consistent: bool,
        start_writer: Callable[[FollowedTable], TableWriter],
        consistent: Callable[[], None],
        trouble: Callable[[str], None],
        doubtful: Callable[[str], None],
        fatal: Callable[[ShakeError], None],
    ) -> None:
        self._config = config
        self._loop = loop
        self._pool = pool
        self._followings = {following.number: following for following in followings}
        self._checkpointer = checkpointer
        self._fence = fence
        self._until_consistent = until_consistent
        self._start_writer = start_writer
        self._consistent = consistent
        self._fatal = fatal
        self._source = source.clock
        self._monitor = StreamMonitor(
            config,
            loop,
            source,
            followings,
            checkpointer,
            learned=lambda following: self.assign(following),
            doubtful=doubtful,
            fatal=fatal,
        )
        self._journaling = Journaling(
            config,
            loop,
            pool,
            followings,
            self._source,
            ended=lambda following, shard, over: self._settled(following, [shard.id] * over),
            refused=self._monitor.from_reader,
            trouble=trouble,
        )
        self._writers: dict[int, TableWriter] = {}
        self._number = 0  # of leases and batches; leases of segments count on their own
        self._leases: dict[int, FollowedTable] = {}
        self._served: dict[tuple[int, bool], int] = {}  # by claim: the number of its last lease
        #: Claims that have shards to be read, by readers and last lease; and some that had.
        self._hungry = Queue[tuple[int, bool], tuple[int, int]]()
        self._starving = 0  # of those that have no reader, so many get none, by the last look
        self._sent: dict[int, Flying] = {}
        self._warned: dict[int, float] = {}
        self._quick_until = 0.0
        self._draining = False

    @property
    def writers(self) -> list[WriterProcess]:
        """The processes that apply changes."""
        return list(dict.fromkeys(writer.process for writer in self._writers.values()))

    @property
    def over(self) -> bool:
        """Nothing is followed, nor will be."""
        return not self._followings

    @property
    def drained(self) -> bool:
        """All that was published is applied."""
        return not any(following.flying for following in self._followings.values())

    def start(self) -> None:
        """Watch streams; tables are followed as they are given to :meth:`begin`."""
        self._monitor.start()
        if self._followings:
            for following in self._followings.values():
                following.shards.set_back(self._earliest)  # the clock was set back since then
            self._loop.every(1.0, self._tend)
            self._loop.every(VERIFY_EVERY, self._verify)
            self._loop.every(FENCES_EVERY, self._keep_all_fences)

    @property
    def _earliest(self) -> float:
        """The source's time, or an earlier one."""
        return self._source.earliest(boot_clock())

    @property
    def _latest(self) -> float:
        """The source's time, or a later one."""
        return self._source.latest(boot_clock())

    def learn_time(self, bounds: Bounds) -> None:
        """A worker has news of the source's clock."""
        now = boot_clock()
        if self._source.learn(bounds, now):
            most = self._earliest - self._config.incr_margin
            log.warning("the source's clock was set back: it shows about %s", utc(self._earliest))
            for following in self._followings.values():
                following.set_back(most, now + bounds.high)

    def poll_quickly(self) -> None:
        """Somebody waits until changes are applied through a time: read quiet shards quickly."""
        until = boot_clock() + QUICK
        if until > self._quick_until + 1.0:
            self._quick_until = until
            self._pool.send_all(messages.PollQuickly(until))

    def verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        """See StreamMonitor.verify; the table need not be followed."""
        self._monitor.verify(plan, then)

    def drain(self) -> None:
        """Lease no more; what was published is applied. The pool tells readers to stop."""
        self._draining = True

    def close(self) -> None:
        self._monitor.close()
        self._journaling.close()
        for process in self.writers:
            process.close()

    @property
    def closed(self) -> bool:
        """Nothing on disk changes any more."""
        return not self._journaling.deleting

    def begin(self, table: int, *, indexes: bool) -> None:
        """Follow a table from now on; ``indexes``: first see to it that it has its indexes."""
        following = self._followings.get(table)
        if following is None or self._draining:
            return
        following.begun, following.listed = self._latest, False
        self._writers[table] = self._start_writer(following)
        log.info("table %s: following its changes", following.name)
        if indexes:
            self._fence.run(lambda: self._writers[table].order(messages.BuildIndexes(table, 0, 0)))
        else:
            self._activate(following)

    def give_up(self, table: int) -> None:
        """A table is not followed: the target refused the index that keeps its keys apart."""
        self._journaling.give_up(table)
        self._monitor.give_up(table)
        self._followings.pop(table, None)

    def save(self) -> None:
        """Save what has moved; then what the journal held of shards that are over can go."""
        followings = list(self._followings.values())
        over = [(following, following.take_over()) for following in followings]

        def saved() -> None:
            for following, shards in over:
                self._journaling.drop(following, shards)

        self._checkpointer.save_shards(followings, saved)

    def status(self, table: int, status: TableStatus) -> TableStatus:
        """The table's status, with its changes where they are followed."""
        following = self._followings.get(table)
        if following is None:
            return status
        now, clock = self._latest, self._loop.clock()
        figures: dict[str, Any] = {
            "shards": len(following.shards),
            "shards_reading": following.leases + self._journaling.leases(following),
            "journaled": following.journaled,
            "unread": following.unread(now),
            "quiet_seconds": clock - following.arrived if following.newest else None,
            "newest_change": following.newest or None,
        }
        if following.active:
            figures |= {
                "state": "following",
                "changes": following.changes,
                "skipped": following.record.skipped,
                "change_rate": following.rate(clock),
                "lag": following.lag(now),
                "applied_through": following.applied_through,
                "pending": following.pending,
                "consistent": following.consistent,
            }
        return replace(status, **figures)  # once: it takes its time, and there can be thousands

    def _activate(self, following: FollowedTable) -> None:
        following.active = True
        self._writers[following.number].say(messages.Sweep(following.number))
        self._keep_fences(following)
        following.shards.begin_applying()
        self._journaling.give_way(following)
        self._monitor.look(following)
        self.assign(following)

    def _verify(self) -> None:
        """Have each writer make sure that its collection is still the one that was filled."""
        for following in self._followings.values():
            if following.active:
                self._writers[following.number].say(messages.Verify(following.number))

    def _keep_all_fences(self) -> None:
        for following in self._followings.values():
            if following.active:
                self._keep_fences(following)

    def _keep_fences(self, following: FollowedTable) -> None:
        sessions = [shard.id for shard in following.shards]
        sessions += repair_sessions(following.record.repairs)
        self._writers[following.number].say(messages.KeepFences(following.number, sessions))

    # ---- leases

    def assign(self, *changed: FollowedTable) -> None:
        """Lease shards, each time by the claim that has the fewest readers, and was served last.

        ``changed``: tables that may have other claims than before.
        """
        for following in changed:
            self._queue(following)
        while not self._draining and len(self._hungry) and (worker := self._pool.idle_reader()):
            table, keep = self._hungry.first()
            found = self._followings.get(table)
            if found is None or not self._claims(found)[keep].waiting:
                self._hungry.discard((table, keep))
                continue
            self._number += 1
            self._served[table, keep] = self._number
            lease = self._journaling.lease if keep else self._lease
            self._pool.lease_shard(
                worker, self._describe(found), lease(found, worker, self._number)
            )
            self._queue(found)

    def _queue(self, following: FollowedTable) -> None:
        """Take in what a table claims now."""
        full = self._full(following)
        for claim in self._claims(following):
            if claim.waiting and not full:
                figure = claim.leases, self._served.get(claim.name, 0)
                self._hungry.add(claim.name, figure)
            else:
                self._hungry.discard(claim.name)

    def _claims(self, one: FollowedTable) -> tuple[Claim, Claim]:
        """What a table wants readers for: for what it applies, and for what it journals."""
        journaling = self._journaling
        return (
            Claim(one, False, one.leases, one.shards.waiting if one.active else 0),
            Claim(one, True, journaling.leases(one), journaling.waiting(one)),
        )

    def _full(self, following: FollowedTable) -> bool:
        """The table has all the readers that it may have."""
        readers = following.leases + self._journaling.leases(following)
        return readers >= self._config.increase_concurrency

    def _take_turns(self) -> None:
        """Where shards wait, those that were read the longest give way.

        Of the same claim; where that has no reader at all, of the table's other one, if the table
        is full, or else of those that have most.
        """
        self._starving = -self._pool.idle_readers
        pairs = [self._claims(following) for following in self._followings.values()]
        for claim, other in [*pairs, *(pair[::-1] for pair in pairs)]:
            if claim.waiting and claim.leases:
                self._give_way(self._held(claim)[: claim.waiting])
            elif claim.waiting and self._full(claim.following):
                self._give_way(self._held(other)[:1])
            elif claim.waiting:
                self._starving += 1
        self._starving = max(0, self._starving)
        if self._starving:
            claims = (claim for pair in pairs for claim in pair)
            most = sorted((claim for claim in claims if claim.leases), key=lambda c: -c.leases)
            held = (one for claim in most for one in self._held(claim))
            self._give_way(list(itertools.islice(held, self._starving)))

    def _held(self, claim: Claim) -> list[tuple[int, int, float]]:
        """(lease, worker, since) of a claim, the longest held first."""
        following = claim.following
        return self._journaling.held(following) if claim.keep else following.held()

    def _give_way(self, held: list[tuple[int, int, float]]) -> None:
        for lease, worker, since in held:
            if self._loop.clock() - since >= TURN:
                self._end_lease(lease, worker)

    def _rest_at_tip(self, following: FollowedTable, lease: int) -> None:
        """A shard that is read to its tip gives way soon: the more wait, the sooner."""
        if waiting := self._starving or following.shards.waiting:
            reading, readers = following.reading(lease), len(self._leases)
            turn = TIP_TURN * readers / (readers + waiting)
            if reading.then is None and self._loop.clock() - reading.since >= turn:
                self._starving = max(0, self._starving - 1)
                self._end_lease(lease, reading.worker)

    def _end_lease(self, lease: int, worker: int) -> None:
        self._pool.workers[worker].send(messages.EndLease(lease))

    def _lease(self, following: FollowedTable, worker: Worker, lease: int) -> messages.ShardLease:
        shard = following.shards.first()
        iterator = following.lease(lease, worker.number, shard, self._loop.clock())
        self._leases[lease] = following
        kept = shard.kept.sequence if shard.kept else None
        start, sequence = shard.position
        return messages.ShardLease(
            *(lease, following.number, shard.id, start, sequence, False, kept, 0), *iterator
        )

    def _describe(self, following: FollowedTable) -> messages.OpenStream:
        table = following.plan.table
        strict = following.consistent and not self._config.increase_executor_insert_on_dup_update
        record = following.record
        return messages.OpenStream(
            following.number, table.name, table.keys, record.arn, record.since, strict
        )

    def worker_died(self, worker: Worker, leases: set[int]) -> None:
        self._journaling.worker_died(leases - self._leases.keys())
        for lease in leases & self._leases.keys():
            following = self._leases.pop(lease)
            self._queue(following)
            for flying in following.lose_lease(lease):
                if flying.batch.slot >= 0:
                    self._pool.workers[flying.worker].free(flying.batch.slot)
        self.assign()

    def from_worker(self, worker: Worker, message: messages.FromReader) -> None:
        following = self._leases.get(message.lease)
        if following is None:
            self._journaling.from_worker(worker, message)
            return
        match message:
            case messages.Batch(lease):
                following.publish(worker.number, message, self._earliest, self._loop.clock())
                self._apply(following, lease)
            case messages.Tip(lease, moment):
                following.tip(lease, min(moment, self._earliest))
                self._rest_at_tip(following, lease)
            case messages.ShardEnd(lease, over):
                iterator = TipIterator(message.iterator, message.asked, message.since)
                self._end(following, worker, lease, over=over, iterator=iterator)
            case messages.ShardGap(lease):
                shard = following.reading(lease).shard
                self._monitor.from_reader(following, shard, message)
                self._end(following, worker, lease, over=False)

    def _end(
        self,
        following: FollowedTable,
        worker: Worker,
        lease: int,
        *,
        over: bool,
        iterator: TipIterator = NO_ITERATOR,
    ) -> None:
        del self._leases[lease]
        worker.shards.discard(lease)
        self._settled(following, following.end_lease(lease, over=over, iterator=iterator))

    # ---- batches

    def _apply(self, following: FollowedTable, lease: int) -> None:
        flying = following.next(lease)
        if flying is None:
            return
        if not any(count for _, count in flying.batch.runs):
            self._done(following, flying, 0)
            return
        self._number += 1
        page, batch = self._number, flying.batch
        self._sent[page] = flying
        table = following.number
        apply = messages.Apply(table, page, flying.worker, batch.slot, batch.runs, flying.shard.id)
        self._fence.run(lambda: self._writers[table].write(apply))

    def from_writer(
        self, following: FollowedTable, message: messages.Applied | messages.Done
    ) -> None:
        match message:
            case messages.Applied(_, page, skipped):
                self._done(following, self._sent.pop(page), skipped)
            case messages.Done(_, error, keyed):
                if not keyed:
                    self._fatal(RunError(error))
                    return
                if error:
                    log.error("%s", error)
                if not self._draining:
                    self._activate(following)

    def _done(self, following: FollowedTable, flying: Flying, skipped: int) -> None:
        if flying.batch.slot >= 0:
            self._pool.workers[flying.worker].free(flying.batch.slot)
        ended = following.applied(flying, skipped, self._loop.clock())
        self._apply(following, flying.batch.lease)
        self._settled(following, ended)

    def _settled(self, following: FollowedTable, ended: list[str]) -> None:
        for shard in ended:
            if not following.shards.has_children(shard):
                self._monitor.look(following, shard)
        if ended and following.active:
            self._journaling.give_way(following)
        self.assign(following)

    # ---- each second

    def _tend(self) -> None:
        followings = self._followings.values()
        latest = self._latest
        for following in followings:
            self._look_at_lag(following, latest)
        self._journaling.tend()
        self._monitor.tend()
        self._take_turns()
        self.assign(*followings)
        if self._until_consistent and all(one.active for one in followings):
            self.poll_quickly()
        if followings and all(one.consistent and not one.shards.doubts for one in followings):
            self._consistent()

    def _look_at_lag(self, following: FollowedTable, latest: float) -> None:
        unread, now = following.unread(latest), self._loop.clock()
        if unread > OLD and now - self._warned.get(following.number, -inf) > 600:
            self._warned[following.number] = now
            log.warning(
                "table %s: its oldest change that is not read can be %s old; the stream keeps "
                "it for 24 hours%s",
                following.name,
                duration(unread),
                "" if self._config.incr_sync_parallel else "; incr_sync_parallel = true keeps it",
            )
        if not following.active:
            return
        if following.consistent or following.shards.doubts:
            return
        if following.reaches(following.begun):
            following.consistent = True
            self._writers[following.number].say(messages.Sweep(following.number))
            whole = following.plan.whole(self._config) and not following.record.skipped
            log.info(
                "table %s: %s: every change made before %s (source's clock) is applied",
                following.name,
                "consistent point reached" if whole else "caught up",
                utc(following.applied_through or following.begun),
            )
            self._pool.restrict(self._describe(following))
