"""Follows each table from the end of its copy on, to its consistent point and beyond."""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from shake.checkpoint.stream_records import AppliedRecord, repair_sessions
from shake.clock import boot_clock
from shake.errors import RunError
from shake.farm import writer_messages
from shake.farm.farm import Farm
from shake.farm.writer import WriterHandle
from shake.follow.journaling import Journaling
from shake.follow.scheduler import FollowScheduler
from shake.follow.stream_monitor import StreamMonitor
from shake.follow.table import FollowedTable
from shake.phase import Phase
from shake.schema import OLD
from shake.source.clock import Bounds, ignore
from shake.status.figures import duration, utc
from shake.status.snapshot import ShardStatus, TableStatus
from shake.stream.shard import ShardState

log = logging.getLogger("shake.farm")

#: Seconds between two looks whether a collection is still the one that was filled.
VERIFY_EVERY = 30.0
#: Seconds between two commands that keep sessions alive in the target: they expire after 30
#: minutes.
#: https://www.mongodb.com/docs/manual/reference/parameters/#mongodb-parameter-param.localLogicalSessionTimeoutMinutes
FENCES_EVERY = 600.0
#: Seconds between two saves of how far changes are applied, which a check of the tables waits for.
APPLIED_EVERY = 2.0
#: Seconds for which quiet shards are read quickly after a question whether one can switch.
QUICK = 10.0


class FollowPhases:
    """Begins to follow each table when it is copied, and says when all of them are consistent.

    ``followed_tables`` are by table number. So are the running writers:
    ``appliers`` apply changes, and ``writers`` do all else.
    """

    def __init__(
        self,
        farm: Farm,
        followed_tables: dict[int, FollowedTable],
        writers: dict[int, WriterHandle],
        appliers: dict[int, WriterHandle],
        scheduler: FollowScheduler,
        monitor: StreamMonitor,
        journaling: Journaling,
    ) -> None:
        self._config, self._loop, self._task = farm.config, farm.loop, farm.task
        self._pool = farm.pool
        self._checkpointer = farm.checkpointer
        self._followed_tables = followed_tables
        self._writers = writers
        self._appliers = appliers
        self._scheduler = scheduler
        self._monitor = monitor
        self._journaling = journaling
        self._source_clock = farm.source.clock
        self._warned: dict[int, float] = {}
        self._applied = AppliedRecord(uuid.uuid4().hex)
        self._quick_until = 0.0
        self._goal = -inf  # see finish

    @property
    def over(self) -> bool:
        """No table is followed, or is to be followed."""
        return not self._followed_tables

    def start(self) -> None:
        """Watch streams; a table is followed from :meth:`begin` on."""
        self._monitor.start()
        if self._followed_tables:
            self._source_clock.on_set_back = lambda bounds, before: self._loop.post(
                partial(self._clock_set_back, bounds, before)
            )
            earliest, latest = self._source_clock.earliest(), self._source_clock.latest()
            for followed in self._followed_tables.values():
                followed.resume(earliest, latest, self._config.incr_margin)
            self._loop.every(1.0, self.each_second)
            self._loop.every(VERIFY_EVERY, self._verify)
            self._loop.every(FENCES_EVERY, self._keep_fences)
            self._loop.every(APPLIED_EVERY, self._save_applied)

    def close(self) -> None:
        """Ask and delete nothing more, and handle nothing."""
        self._source_clock.on_set_back = ignore
        self._monitor.watcher.close()
        self._journaling.close()

    @property
    def closed(self) -> bool:
        """Nothing on disk changes any more."""
        return not self._journaling.deleting

    def learn_time(self, bounds: Bounds) -> None:
        """A worker has news of the source's clock."""
        self._source_clock.learn(bounds, boot_clock())

    def _clock_set_back(self, bounds: Bounds, before: Bounds) -> None:
        """An answer to a worker, or to this process, shows that the source's clock was set back."""
        now = boot_clock()
        earliest = self._source_clock.earliest(now)
        log.warning("the source's clock was set back: it shows about %s", utc(earliest))
        for followed in self._followed_tables.values():
            most = earliest - self._config.incr_margin
            peak = now + before.high
            self._scheduler.set_back(followed, most, now + bounds.high, peak)
        self._goal = min(self._goal, now + bounds.high)

    @property
    def active(self) -> bool:
        """All tables are copied, and their changes are applied."""
        return all(followed.active for followed in self._followed_tables.values())

    def finish(self) -> None:
        """The task is consistent only when all changes that were made until now are applied."""
        self._goal = self._source_clock.latest()

    def resume(self) -> None:
        """A pause is over: shards are read again."""
        self._scheduler.assign(*self._followed_tables.values())

    def poll_quickly(self) -> None:
        """Read quiet shards quickly for a while, so that their tips are known sooner."""
        until = boot_clock() + QUICK
        if until > self._quick_until + 1.0:
            self._quick_until = until
            self._pool.poll_quickly(until)

    # ---- phases

    def begin(self, table: int, *, indexes: bool) -> None:
        """Follow a table from now on; ``indexes``: first see to it that it has its indexes."""
        followed = self._followed_tables.get(table)
        if followed is None or self._task.draining:
            return
        followed.consistent_from, followed.listed = self._source_clock.latest(), False
        self._writers[table] = self._task.start_writer(table, followed.record.run, False, self)
        log.info("table %s: following its changes", followed.name)
        if indexes:
            self._writers[table].order(writer_messages.BuildIndexes(table, 0, 0))
        else:
            self._activate(followed)

    def carried_out(self, table: int, done: writer_messages.Done) -> None:
        """The table has its indexes, but for those that the target refused."""
        self._task.indexed(table, done)
        if not done.has_key_index:
            self._task.fail(RunError(done.error))
            return
        if done.error:
            log.error("%s", done.error)
        if not self._task.draining:
            self._activate(self._followed_tables[table])

    def _activate(self, followed: FollowedTable) -> None:
        followed.active = True
        table = followed.number
        self._appliers[table] = self._task.start_applier(self._writers[table], followed.home)
        self._writers[followed.number].send_aside(writer_messages.Sweep(followed.number))
        self._keep_fence(followed)
        followed.shards.begin_applying()
        self._journaling.stop_journaling_ready_shards(followed)
        self._monitor.watcher.look(followed)
        self._scheduler.assign(followed)

    def give_up(self, table: int) -> None:
        """A table is not followed: the target refused the index that keeps its keys apart."""
        if followed := self._followed_tables.pop(table, None):
            self._journaling.give_up(followed)

    # ---- now and then

    def each_second(self) -> None:
        """Each second: see how far the tables are."""
        followed_tables, latest = self._followed_tables.values(), self._source_clock.latest()
        for followed in followed_tables:
            self._look_at_lag(followed, latest)
            if followed.active and followed.certain and not followed.consistent:
                self._look_at_consistency(followed)
        self._journaling.each_second()
        self._monitor.each_second()
        self._scheduler.each_second()
        if followed_tables and all(map(self._is_consistent, followed_tables)):
            self._task.consistent()

    def _is_consistent(self, followed: FollowedTable) -> bool:
        is_certain = followed.consistent and followed.certain
        return is_certain and followed.reaches(self._goal)

    def _look_at_lag(self, followed: FollowedTable, latest: float) -> None:
        unread, now = followed.unread(latest), self._loop.clock()
        if unread > OLD and now - self._warned.get(followed.number, -inf) > 600:
            self._warned[followed.number] = now
            log.warning(
                "table %s: its oldest change that is not read can be %s old; the stream keeps "
                "it for 24 hours%s",
                followed.name,
                duration(unread),
                "" if self._config.incr_sync_parallel else "; incr_sync_parallel = true keeps it",
            )

    def _look_at_consistency(self, followed: FollowedTable) -> None:
        if followed.reaches(followed.consistent_from):
            followed.consistent = True
            self._writers[followed.number].send_aside(writer_messages.Sweep(followed.number))
            whole = followed.plan.whole(self._config) and not followed.record.skipped
            log.info(
                "table %s: %s: every change made before %s (source's clock) is applied",
                followed.name,
                "consistent point reached" if whole else "caught up",
                utc(followed.applied_through or followed.consistent_from),
            )
            followed.leave_nothing_out()
            self._scheduler.open_again(followed)

    def _verify(self) -> None:
        """Have each writer make sure that its collection is still the one that was filled."""
        for followed in self._active_tables():
            self._writers[followed.number].send_aside(writer_messages.Verify(followed.number))

    def _keep_fences(self) -> None:
        for followed in self._active_tables():
            self._keep_fence(followed)

    def _save_applied(self) -> None:
        through = {
            followed.name: moment
            for followed in self._active_tables()
            if followed.listed and followed.certain
            if (moment := followed.applied_through) is not None
        }
        self._applied = AppliedRecord(self._applied.run, self._applied.number + 1, through)
        self._checkpointer.save_applied(self._applied)

    def _keep_fence(self, followed: FollowedTable) -> None:
        sessions = [shard.id for shard in followed.shards]
        sessions += repair_sessions(followed.record.repairs)
        self._writers[followed.number].send_aside(
            writer_messages.KeepFences(followed.number, sessions)
        )

    def _active_tables(self) -> list[FollowedTable]:
        return [followed for followed in self._followed_tables.values() if followed.active]

    def save(self) -> None:
        """Save what has moved; then delete journal files of finished shards."""
        followed_tables = list(self._followed_tables.values())
        over = [(followed, followed.take_finished()) for followed in followed_tables]

        def saved() -> None:
            for followed, shards in over:
                self._journaling.drop(followed, shards)

        self._checkpointer.save_shards(followed_tables, saved)

    def status(self, table: int, status: TableStatus) -> TableStatus:
        """The table's status, with its changes where they are followed."""
        followed = self._followed_tables.get(table)
        if followed is None:
            return status
        now, clock = self._source_clock.latest(), self._loop.clock()
        figures: dict[str, Any] = {
            "answers": status.answers + followed.answers,
            "shards": len(followed.shards),
            "shards_reading": followed.readers,
            "journaled": followed.journaled,
            "unread": followed.unread(now),
            "quiet_seconds": clock - followed.arrived if followed.newest else None,
            "newest_change": followed.newest or None,
            "open_shards": tuple(
                ShardStatus(one.id, one.parent, one.sequence, one.applied_through)
                for one in followed.shards
                if one.state in (ShardState.READY, ShardState.READING)
            ),
        }
        if followed.active:
            figures |= {
                "state": Phase.FOLLOWING.value,
                "changes": followed.changes,
                "skipped": followed.record.skipped,
                "change_rate": followed.rate(clock),
                "lag": followed.lag(now),
                "applied_through": followed.applied_through,
                "pending": followed.pending,
                "consistent": followed.consistent,
            }
        return replace(status, **figures)  # once: it takes its time, and there can be thousands
