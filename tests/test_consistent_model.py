"""Consistency, against a model of a source: no change is claimed that is not applied."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from math import ceil, floor, inf

from hypothesis import given, settings
from hypothesis import strategies as st

from shake.checkpoint.records import TableRecord
from shake.checkpoint.stream_records import StreamRecord, shard_document, shard_of
from shake.farm.ledger import End, Ledger
from shake.farm.worker_messages import Batch
from shake.follow.table import ApplyingLease, FollowedTable
from shake.plan.plan import Action, TablePlan
from shake.schema import Attribute, Keys, Table
from shake.source.clock import EPOCH, STEP, Bounds, SourceClock
from shake.stream.beginning import first_shards
from shake.stream.listing import Listed
from shake.stream.shard import Shard, TipIterator
from shake.stream.shard_children import SIBLING_AFTER
from shake.stream.tip import TIP_AFTER, Silence
from tests.support.task import Slots, TableJob

#: Seconds of a shard that an answer goes through, and how many of them lie before a new iterator's
#: first record at most.
STRETCH, STRETCHES = 225.0, 4

#: Answers, at most, without a record that is there, of an iterator that was at the tip before.
EMPTY = TIP_AFTER - 2

#: ``incr.margin``, and the longest time after which a change can be read.
MARGIN = 3.0


@dataclass
class Change:
    """``made`` is on the source's clock, ``written``, the same time, and ``readable`` are local."""

    number: int
    made: float
    written: float
    readable: float
    applied: bool = False


@dataclass
class SourceShard:
    name: str
    parent: str
    start: int
    listed: float  # local time from which on listings show it
    closed: float | None = None
    changes: list[Change] = field(default_factory=list)


@dataclass
class Reading:
    """A shard that is read: its lease, how far, and what its empty answers have proved.

    ``seen``: the local time up to which its iterator has gone through the shard. ``by_chance``: so
    many answers since it was at the tip were empty for no known reason. ``stops``: its lease ends
    soon.
    """

    lease: ApplyingLease
    name: str
    position: int = 0
    silence: Silence = field(default_factory=lambda: Silence(cold=12))
    seen: float = 0.0
    by_chance: int = 0
    stops: bool = False


class Model:
    """A source with a clock, a delay and empty answers; and what shake makes of it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = rng.uniform(0, 1e6)  # local
        self.offset = rng.uniform(1e8, 1e9)  # of the source's clock
        self.emptiness = rng.choice([0.15, 0.9])  # how often an answer is empty by chance
        self.grain = rng.choice([1, 60])  # of creation times, in seconds
        self.busy = False  # whether each open shard always has a change that is not read
        self.number = 0
        self.shards: dict[str, SourceShard] = {}
        self.readings: dict[int, Reading] = {}
        self.frozen: list[tuple[Reading, float]] = []  # each with the tip to be reported
        self.ledger = Ledger(Slots())
        self.job = TableJob(lambda: self.now)
        self.clock = SourceClock()
        self.add_shard("")
        self.answer()
        began = self.clock.earliest(self.now)
        self.follow(StreamRecord("t", "arn", began=began), first_shards(self.listing(), began))

    def follow(self, record: StreamRecord, shards: list[Shard]) -> None:
        """A run begins."""
        plan = TablePlan(
            Table("t", Keys(Attribute("pk", "S"))), Action.FOLLOW, TableRecord("t", "a.t", 0, 0), ()
        )
        self.followed = FollowedTable(0, plan, record, shards, self.now)
        earliest, latest = self.clock.earliest(self.now), self.clock.latest(self.now)
        self.followed.resume(earliest, latest, MARGIN)
        self.followed.active = True
        self.record = self.followed.record
        self.documents = {shard.id: shard_document(shard) for shard in shards}
        self.begin()

    def begin(self) -> None:
        """Consistent is now once all that was made until now is applied."""
        self.followed.consistent_from = self.clock.latest(self.now)
        self.followed.listed = False

    # ---- the source

    @property
    def source_time(self) -> float:
        return self.now + self.offset

    def add_shard(self, parent: str) -> None:
        name = f"s{len(self.shards)}"
        self.number += 1
        # Siblings are listed one soon after the other.
        siblings = [one.listed for one in self.shards.values() if parent == one.parent]
        late = min(siblings, default=self.now + self.rng.choice([0.0, 4.0, 20.0]))
        late = (late + self.rng.uniform(0, SIBLING_AFTER - 0.1)) if parent else self.now
        self.shards[name] = SourceShard(name, parent, self.number, late)

    def write(self) -> None:
        shard = self.rng.choice([s for s in self.shards.values() if s.closed is None])
        self.number += 1
        before = shard.changes[-1].readable if shard.changes else 0.0
        readable = max(before, self.now + self.rng.choice([0.0, 0.5, 1.0]) * MARGIN)
        shard.changes.append(Change(self.number, self.source_time, self.now, readable))

    def reshape(self) -> None:
        """A shard splits, or rolls over."""
        shard = self.rng.choice([s for s in self.shards.values() if s.closed is None])
        shard.closed = self.now
        for _ in range(self.rng.choice([1, 2])):
            self.add_shard(shard.name)

    def set_clock(self) -> None:
        """The source's clock is set, by more than answers leave open what it shows.

        An answer shows it before the next change is made.
        """
        self.offset += self.rng.choice([-1, 1]) * self.rng.choice([60, 300, 5000])
        self.answer()

    def restart(self, *, set_back: bool) -> None:
        """The run ends, and the next one begins: it knows only what is saved.

        The source's clock can be set back between them, by more than passes until the end.
        """
        self.save()
        self.offset -= 5000 * set_back
        self.readings, self.frozen = {}, []
        self.ledger, self.clock = Ledger(Slots()), SourceClock()
        self.answer()
        self.follow(self.record, [shard_of("t", one) for one in self.documents.values()])

    def listing(self) -> list[Listed]:
        found = [shard for shard in self.shards.values() if shard.listed <= self.now]
        return [Listed(s.name, s.parent, str(s.start), s.closed is not None) for s in found]

    def answer(self) -> float:
        """An answer comes, with a Date; return the local time at which it was made."""
        sent = self.now
        self.wait(self.rng.choice([0.001, 0.02, self.rng.uniform(0, 2)]))
        made, date = self.now, formatdate(floor(self.source_time), usegmt=True)
        self.wait(self.rng.choice([0.001, 0.02, self.rng.uniform(0, 2)]))
        SourceClock(self.learn_time).answered(date, sent, self.now, lambda: 0.0)
        return made

    def learn_time(self, bounds: Bounds) -> None:
        """As a worker's news of the source's clock come to the supervisor."""
        self.clock.on_set_back = self.set_back
        self.clock.learn(bounds, self.now)

    def set_back(self, bounds: Bounds, before: Bounds) -> None:
        most = self.clock.earliest(self.now) - MARGIN
        self.renew(most, self.now + bounds.high, self.now + before.high)

    def renew(self, most: float, latest: float, peak: float) -> None:
        """As FollowScheduler.set_back: the leases end, as soon as their workers hear of it."""
        self.followed.set_back(most, latest, peak)
        for reading in [*self.readings.values(), *(one for one, _ in self.frozen)]:
            reading.stops = True

    def wait(self, seconds: float) -> None:
        self.now += seconds

    # ---- shake

    def learn(self) -> None:
        new = self.followed.shards.learn(self.listing(), whole=True, now=self.now)
        self.followed.unsaved.add(*new)
        self.followed.listed = True

    def save(self) -> None:
        """As Checkpointer.save_shards does it, which is not always when a shard has moved."""
        if self.followed.take_altered():
            self.record = self.followed.record
        for document in self.followed.take_unsaved() or ():
            self.documents[str(document["ShardId"])] = document
        for shard in self.followed.take_removed():
            self.documents.pop(shard, None)

    def lease(self) -> None:
        if self.followed.shards.waiting:
            shard = self.followed.shards.first()
            lease = self.ledger.grant(self.job, self.followed, shard, 0, self.now)
            at_tip = self.followed.lease(lease)
            reading = Reading(lease, shard.id, int(shard.sequence or 0))
            self.readings[lease.number] = reading
            reading.seen = self.now - self.rng.uniform(0, STRETCHES) * STRETCH
            if at_tip.text:
                reading.seen = at_tip.asked
                reading.silence = Silence(cold=0, since=at_tip.since, last=at_tip.asked)

    def read(self) -> None:
        """An answer of GetRecords, which can be empty without a reason."""
        if not self.readings:
            return
        lease = self.rng.choice(list(self.readings))
        reading = self.readings[lease]
        if reading.stops and not reading.silence.undecided:  # else it finds its tip first
            self.end(self.readings.pop(lease))
            return
        shard = self.shards[reading.name]
        news = bool(shard.changes) and shard.changes[-1].number > reading.position
        if self.busy and shard.closed is None and not news:
            self.number += 1
            shard.changes.append(Change(self.number, self.source_time, self.now, self.now))
        asked = self.now
        at = self.answer()
        left = [change for change in shard.changes if change.number > reading.position]
        found: list[Change] = []
        if not self.empty(reading):
            reading.seen = min(reading.seen + STRETCH, at)
            reading.by_chance *= reading.seen < at
            for change in left[: self.rng.randint(1, 5)]:
                if change.readable > at or change.written > reading.seen:
                    break
                found.append(change)
        if found:
            reading.position = found[-1].number
            created = found[-1].made // self.grain * self.grain
            batch = Batch(
                lease, 0, [(1, 1)] * 3, True, len(found), str(reading.position), float(created)
            )
            limit, latest = self.clock.earliest(self.now), self.clock.latest(self.now)
            # As FollowScheduler finds out.
            if created > latest + STEP and not self.followed.explains(reading.lease.part, created):
                self.renew(limit - MARGIN, latest, inf)
            changes = self.followed.note_batch(batch, limit, self.now)
            self.ledger.publish(reading.lease, -1, changes)
        if not left and shard.closed is not None and shard.closed <= at:
            del self.readings[lease]
            self.ledger.end(reading.lease, End.FINISHED)
            return
        tip = reading.silence.tip(len(found), asked)
        if tip is not None and self.now - tip < EPOCH:
            moment = self.clock.earliest(tip) - MARGIN
            if self.rng.random() < 0.05:
                self.frozen.append((self.readings.pop(lease), moment))
            else:
                self.followed.tip(reading.lease, moment, self.clock.earliest(self.now))

    def thaw(self) -> None:
        """A worker was frozen before it has reported a tip."""
        if self.frozen:
            reading, moment = self.frozen.pop(0)
            self.followed.tip(reading.lease, moment, self.clock.earliest(self.now))
            if reading.stops:
                self.end(reading)
            else:
                self.readings[reading.lease.number] = reading

    def empty(self, reading: Reading) -> bool:
        """Whether an answer has no records for no known reason, also of a quiet shard."""
        most = EMPTY - ceil((self.now - reading.seen) / STRETCH)
        by_chance = reading.by_chance < most and self.rng.random() < self.emptiness
        reading.by_chance += by_chance
        return by_chance

    def apply(self) -> None:
        """The target acknowledges a batch of each shard."""
        for lease in list(self.followed.leases.values()):
            if lease.waiting:
                published = self.ledger.send(lease)
                for change in self.shards[lease.part.id].changes:
                    change.applied |= change.number <= int(published.content.batch.sequence)
                self.ledger.acknowledge(published.number)

    def stop_reading(self) -> None:
        """A shard's reader makes room for another one; it is read on later."""
        if self.readings:
            self.end(self.readings.pop(self.rng.choice(list(self.readings))))

    def end(self, reading: Reading) -> None:
        silence = reading.silence
        text = "" if silence.cold else "iterator"
        reading.lease.part.iterator = TipIterator(text, silence.last, silence.since)
        self.ledger.end(reading.lease)

    # ---- what must hold

    def unapplied(self) -> Iterator[float]:
        for shard in self.shards.values():
            yield from (change.made for change in shard.changes if not change.applied)

    def check(self) -> None:
        through = self.followed.applied_through
        oldest = min(self.unapplied(), default=None)
        if oldest is not None:
            assert (through or 0.0) <= oldest
            if oldest < self.followed.consistent_from:
                assert not self.followed.reaches(self.followed.consistent_from)


WEIGHTS = {
    "write": 6,
    "read": 60,
    "apply": 12,
    "learn": 4,
    "lease": 8,
    "reshape": 1,
    "stop_reading": 1,
    "thaw": 1,
    "rest": 6,
    "begin": 1,
    "save": 4,
}


def run(model: Model, steps: int, *, clock_is_set: str = "") -> None:
    rng = model.rng
    for _ in range(steps):
        [action] = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if clock_is_set == "while it runs" and rng.random() < 0.01:
            model.set_clock()
            model.begin()
        if rng.random() < 0.005:
            model.restart(set_back=clock_is_set == "between two runs")
        if action == "rest":
            model.wait(rng.choice([0.2, MARGIN, 30.0]))
        else:
            getattr(model, action)()
        model.check()


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from(["", "while it runs", "between two runs"]))
def test_no_change_is_claimed_that_is_not_applied(seed: int, clock_is_set: str) -> None:
    run(Model(random.Random(seed)), 400, clock_is_set=clock_is_set)


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_once_the_writes_have_stopped_it_gets_consistent(seed: int) -> None:
    model = Model(random.Random(seed))
    run(model, 200)
    model.begin()
    for _ in range(3000):
        for action in ("lease", "read", "apply", "learn", "thaw"):
            getattr(model, action)()
            model.check()
        model.wait(0.1)
        if model.followed.reaches(model.followed.consistent_from):
            break
    assert model.followed.reaches(model.followed.consistent_from)
    assert not list(model.unapplied())


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_a_table_with_news_all_the_time_is_applied_through_a_time_again(seed: int) -> None:
    """Its shards never show their tip. The source's clock was set back, and a run has ended."""
    model = Model(random.Random(seed))
    run(model, 100)
    model.busy = True
    model.offset -= 100
    model.answer()
    for step in range(1000):
        for action in ("lease", "read", "apply", "learn", "save", "thaw"):
            getattr(model, action)()
            model.check()
        model.wait(1.0)
        if step in (10, 40):
            model.restart(set_back=False)
        if step > 40 and not model.record.set_back:
            break
    assert not model.record.set_back
    assert model.followed.applied_through is not None
