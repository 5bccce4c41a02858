"""The changes of one table: what is read of each shard, what is applied, and through which time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypeAlias

from shake.checkpoint.stream_records import StreamRecord
from shake.farm.ledger import End, Lease, Published
from shake.farm.worker_messages import Batch, Journaled
from shake.follow.set_back import SetBack
from shake.follow.unsaved import UnsavedShards
from shake.plan.plan import Action, TablePlan
from shake.process.site import HERE, Site
from shake.schema import RETENTION, TRIM_TOLERANCE
from shake.source.clock import STEP
from shake.status.rate import Rate
from shake.stream.shard import NO_ITERATOR, Shard, ShardState, TipIterator
from shake.stream.shards import Shards

#: How many shards of a table are looked at together: those behind them are trimmed later.
_MAX_PROBED = 20


@dataclass(slots=True)
class PublishedBatch:
    """A batch that a worker has published.

    ``tip``: once it is applied, all that was written to the shard before that moment is.
    ``passed``: and all that was written before the source's clock was set back.
    """

    batch: Batch
    tip: float = 0.0
    passed: bool = False

    @property
    def written(self) -> bool:
        """Whether it has something for the target, or to be kept."""
        return any(count for _, count in self.batch.statement_sizes) or bool(
            self.batch.raw_answer.rejects
        )


ApplyingLease: TypeAlias = "Lease[FollowedTable, Shard, PublishedBatch]"
JournalingLease: TypeAlias = "Lease[FollowedTable, Shard, None]"


class FollowedTable:
    """The state of one table's changes. It holds state only, and sends no orders.

    All its shards are read, and its changes are applied, at ``home``. Batches of one shard are
    applied one after the other. ``clock`` is the loop's, in seconds. All
    other times are on the source's clock, in Unix seconds; no argument is a later time than the
    source's clock can have reached.
    """

    def __init__(
        self,
        number: int,
        plan: TablePlan,
        record: StreamRecord,
        shards: list[Shard],
        clock: float,
        home: Site = HERE,
    ) -> None:
        self.number = number
        self.home = home
        self.plan = plan
        self.record = record
        self.shards = Shards(plan.table.name, shards, record.began)
        self.leases: dict[int, ApplyingLease] = {}
        self.journal_leases: dict[int, JournalingLease] = {}
        self.changes = 0
        self.answers = 0  # to requests for records
        self.active = False
        #: The table is consistent once it is applied through this time: when this run began to
        #: apply changes, or later. That is behind the end of the scan, and the start of this run.
        self.consistent_from = inf
        self.consistent = False
        #: Whether all shards were listed since it became active.
        self.listed = False
        self.disputed = False  # whether the source table seems to be another one
        self.newest = 0.0  # creation time of the newest change that was read
        self.arrived = -inf  # when the last change was read, on the loop's clock
        self._copied_until = record.began  # changes made before are in the copy
        self._set_back = SetBack(self.shards)
        #: Leases from before the source's clock was set back, whose workers can be frozen since.
        self._stale: set[int] = set()
        self.unsaved = UnsavedShards()
        self._altered = False  # whether ``record`` is not saved yet
        #: Whether the positions that show that SetBack is over are among those to be saved.
        self._shown = False
        self._finished: list[str] = []  # see take_finished
        self._rate = Rate(clock)
        open_ = [one for one in self.shards if one.state is not ShardState.APPLIED]
        #: Records in the journal that are not applied yet, and bytes of shards that are not over.
        self.journaled = sum(one.journal.left for one in open_ if one.journal)
        self.journal_bytes = sum(one.journal.size for one in open_ if one.journal)

    @property
    def name(self) -> str:
        return self.plan.table.name

    # ---- leases

    @property
    def readers(self) -> int:
        """How many shards are being read, or have batches that are not acknowledged."""
        return len(self.leases) + len(self.journal_leases)

    def lease(self, lease: ApplyingLease) -> TipIterator:
        """A shard is leased; return the iterator from which it can be read on."""
        self.shards.lease(lease.part)
        self.leases[lease.number] = lease
        iterator, lease.part.iterator = lease.part.iterator, NO_ITERATOR
        return iterator

    def close_lease(self, lease: ApplyingLease) -> None:
        """A lease is closed: its shard is applied to its end, or can be leased again."""
        shard = lease.part
        del self.leases[lease.number]
        self.unsaved.add(shard)
        if lease.end is not End.FINISHED:
            self.shards.end_lease(shard)
            return
        self.shards.finish(shard)
        if shard.journal:
            self._finished.append(shard.id)
            self.journal_bytes -= shard.journal.size

    # ---- batches

    def note_batch(self, batch: Batch, limit: float, clock: float) -> PublishedBatch:
        """A worker has filled a slot. The source's clock has reached ``limit``, or a later time."""
        if batch.records:
            self._saw(batch.created, clock)
        created = self._set_back.usable(batch.created, limit)
        passed = self._set_back.passed(batch.created)
        return PublishedBatch(batch._replace(created=created), passed=passed)

    def _saw(self, created: float, clock: float) -> None:
        self.newest = max(self.newest, self._set_back.usable(created, inf))
        self.arrived = clock

    def acknowledge(
        self, lease: ApplyingLease, published: Published[PublishedBatch], clock: float
    ) -> None:
        """The target has applied a batch, and all before it."""
        batch, shard = published.content.batch, lease.part
        if published.skipped:
            self._alter(skipped=self.record.skipped + published.skipped)
        if batch.complete:
            self.changes += batch.records
            self._rate.add(batch.records, clock)
            self._take_from_journal(shard, batch)
            self.shards.advance(shard, batch.sequence, batch.created)
            self._reach_tip(shard, published.content.tip)
            if published.content.passed:
                self._set_back.prove(shard)
            self.unsaved.add(shard)

    def _take_from_journal(self, shard: Shard, batch: Batch) -> None:
        if (journal := shard.journal) is not None:
            all_of_it = int(batch.sequence) >= int(journal.sequence or 0)
            taken = journal.left if all_of_it else min(batch.records, journal.left)
            journal.left -= taken
            self.journaled -= taken

    def tip(self, lease: ApplyingLease, moment: float, earliest: float) -> None:
        """All that was written to a shard before this moment is published.

        The source's clock shows the time ``earliest`` now, or a later one.
        """
        if lease.number in self._stale:
            return
        moment = min(moment, earliest)
        if left := lease.waiting or lease.sent:
            left[-1].content.tip = moment
        else:
            self._reach_tip(lease.part, moment)
            self.unsaved.add_quiet(lease.part)

    def _reach_tip(self, shard: Shard, moment: float) -> None:
        self.shards.advance(shard, "", moment)
        self._set_back.reach_tip(shard, moment)

    # ---- journal

    def add_to_journal(self, shard: Shard, message: Journaled, limit: float, clock: float) -> None:
        """More of a shard is in the journal; ``limit`` as for :meth:`note_batch`."""
        _, sequence, records, size, through = message
        if records:
            self._saw(through, clock)
        through = self._set_back.usable(through, limit) if records else min(through, limit)
        self.shards.add_to_journal(shard, sequence, records, size, through)
        self.journaled += records
        self.journal_bytes += size
        if records:
            self.unsaved.add(shard)
        else:
            self.unsaved.add_quiet(shard)

    def end_journaling(self, shard: Shard, *, over: bool) -> None:
        """See Shards.end_journaling."""
        self.shards.end_journaling(shard, over=over)
        self.unsaved.add(shard)

    def take_finished(self) -> list[str]:
        """Shards that have been applied to their end since the last call, and had a journal."""
        over, self._finished = self._finished, []
        return over

    # ---- checkpoints

    def take_removed(self) -> list[str]:
        """Shards that have become unneeded since the last call."""
        removed, self.shards.removed = self.shards.removed, []
        self.unsaved.remove(removed)
        return removed

    def take_unsaved(self) -> list[dict[str, object]] | None:
        """The documents of shards that have moved since the last call; None: no shard has."""
        taken = self.unsaved.take(self.shards) if self.unsaved else None
        self._shown = self._set_back.resolve()
        return taken

    def take_altered(self) -> bool:
        """Whether the record has changed since the last call. What is taken is saved in order."""
        if self.record.set_back and self._shown:
            self._alter(set_back=0.0)
        altered, self._altered = self._altered, False
        return altered

    def _alter(self, **fields: Any) -> None:
        self.record, self._altered = replace(self.record, **fields), True

    def leave_nothing_out(self) -> None:
        """No change from before ``since`` is to come, or times do not show which are."""
        if self.record.since:
            self._alter(since=0.0)

    def resume(self, earliest: float, latest: float, margin: float) -> None:
        """A run begins, at a time between these two. ``margin`` is ``incr.margin``.

        Where something is saved of a later time, the source's clock was set back since then.
        """
        saved = [self.record.began, *(shard.read_through for shard in self.shards)]
        if max(saved) > earliest + STEP:
            self.set_back(earliest - margin, latest, inf)
        elif self.record.set_back:
            self.set_back(earliest - margin, latest, self.record.set_back)

    def set_back(self, most: float, latest: float, peak: float) -> None:
        """The source's clock was set back; nothing is proved beyond ``most`` on it.

        It shows ``latest`` now, or an earlier time. All changes so far were made before ``latest``.
        It never showed a later time than ``peak``; infinite where that is unknown.

        Unread changes can have creation times from before the clock was set back. These prove
        nothing either. Nor does a tip that a present lease reports, now or later: it can be of
        the clock from before. So these leases should end.
        """
        self._stale = set(self.leases)
        peak = self._set_back.begin(most, latest, peak)
        self._alter(since=0.0, set_back=peak, began=min(self.record.began, most))
        self._shown = False
        self._copied_until = min(self._copied_until, latest)
        self.consistent_from = min(self.consistent_from, latest)
        self.unsaved.add(*self.shards.set_back(most))
        self.newest = min(self.newest, most)
        for changes in self._published():
            created = min(changes.batch.created, most)
            changes.batch, changes.tip = changes.batch._replace(created=created), 0.0
            changes.passed = False

    def explains(self, shard: Shard, created: float) -> bool:
        """Whether an unread change can have this time because the clock was set back before."""
        return self._set_back.explains(shard, created)

    # ---- progress

    @property
    def certain(self) -> bool:
        """Whether nothing seems to be lost, and the source table to be the one that was copied."""
        return not (self.disputed or self.shards.suspicions)

    def reaches(self, moment: float) -> bool:
        """Whether every change made before this time is applied."""
        through = self.shards.applied_through()
        return self.listed and self._set_back.resolve() and (through is None or through >= moment)

    @property
    def applied_through(self) -> float | None:
        """Every change made before this time is applied; None where that cannot be said yet.

        So it is while changes that the copy holds already are applied once more.
        """
        through = self.shards.applied_through()
        if not self.active or through is None or not self._set_back.resolve():
            return None
        again = self.plan.action is not Action.FOLLOW and through <= self._copied_until
        return None if again else through

    def lag(self, now: float) -> float:
        """Seconds from the time that is applied through to ``now``: how old a change can be."""
        through = self.shards.applied_through()
        return 0.0 if through is None else max(0.0, now - through)

    def unread(self, now: float) -> float:
        """Seconds to ``now`` from the time before which all is applied or in the journal."""
        through = self.shards.read_through()
        return 0.0 if through is None else max(0.0, now - through)

    def possibly_trimmed(self, now: float) -> list[Shard]:
        """Shards without a reader whose unread records might be trimmed; oldest first."""
        idle = [
            shard
            for shard in self.shards
            if shard.state in (ShardState.WAITING, ShardState.READY)
            and not (
                shard.journaling or shard.fully_journaled or shard.suspected or spared(shard, now)
            )
        ]
        return heapq.nsmallest(_MAX_PROBED, idle, key=lambda shard: shard.read_through)

    @property
    def pending(self) -> int:
        """Records that are read, or in the journal, and not applied yet."""
        return self.journaled + sum(changes.batch.records for changes in self._published())

    def _published(self) -> Iterator[PublishedBatch]:
        return (
            published.content
            for lease in self.leases.values()
            for published in lease.unacknowledged
        )

    def rate(self, clock: float) -> float:
        """Changes a second, of late."""
        return self._rate.value(clock)


def spared(shard: Shard, now: float) -> bool:
    """Whether no change is lost where the stream has trimmed records of a shard.

    It is so if all records older than 24 hours are applied, or in the copy or journal, because only
    those can be trimmed. Where following begins with the oldest record that is left (``horizon``),
    records that are trimmed soon after are no loss either.
    """
    tolerance = TRIM_TOLERANCE if shard.horizon else -TRIM_TOLERANCE
    return now - shard.read_through < RETENTION + tolerance
