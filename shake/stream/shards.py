"""The shards of one stream: a parent is applied to its end before its children begin.

No I/O, no clock: listings and events go in, what may be read comes out.
Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from math import inf

from shake.schema import Question
from shake.stream.absence import Absence
from shake.stream.listing import Listed, ancestors, listed_late, orphans_of
from shake.stream.queue import Queue
from shake.stream.shard import NEXT, NO_ITERATOR, Shard, ShardJournal, ShardState
from shake.stream.shard_children import ShardChildren
from shake.stream.suspicion import ShardAnswer


class Shards:
    """All shards of a stream that count: those that are to be read, and parents of what may come.

    A shard may be read twice: into the journal while nothing is applied yet, or what comes before
    it is not; and to be applied. ``table`` is for errors. What was created before ``began``, in
    Unix seconds, is in the copy. Times of changes are on the source's clock; ``now`` is on any
    clock that cannot be set.
    """

    def __init__(self, table: str, shards: Iterable[Shard] = (), began: float = 0.0) -> None:
        self._began = began
        self._shards: dict[str, Shard] = {}
        #: Where what follows a shard can still be unlisted.
        self.offspring = ShardChildren()
        self._ready = Queue[str, float]()
        self._journalable = Queue[str, float]()
        self._applying = False
        self._before: set[str] = set()  # see _past
        self._absence = Absence(table)
        #: Removed by :meth:`learn`: nothing will ask for them again.
        self.removed: list[str] = []
        for shard in shards:
            self._take(shard)
        for shard in self:
            if shard.state is ShardState.APPLIED:
                self._begin_children(shard)
            else:
                self._reset_children(shard)
                if shard.fully_journaled:
                    self.offspring.end(shard)
        for shard in self:
            self.offspring.expect_sibling(shard.id, inf)
            self._offer(shard)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards.values())

    def __getitem__(self, shard_id: str) -> Shard:
        return self._shards[shard_id]

    def __len__(self) -> int:
        return len(self._shards)

    # ---- listings

    def learn(
        self,
        listing: Iterable[Listed],
        *,
        whole: bool,
        now: float,
        answers: Mapping[str, ShardAnswer] | None = None,
    ) -> list[Shard]:
        """Take in a listing, of all shards or of some; return the shards that are new.

        ``answers`` are those to some of :meth:`questions`. ``now`` is when the source was asked for
        all of this, in seconds of a clock that never goes back. Raises GapError where an unread
        shard has vanished, or a shard is new whose parent has vanished unread.
        """
        listed = {one.id: one for one in listing}
        past = self._past(listed)
        found = {i: one for i, one in listed.items() if i not in self._shards and i not in past}
        before = listed_late(self._unlisted_parents(), found)
        late = {i: one for i, one in found.items() if i not in before}
        orphans = orphans_of(late, self._shards.keys() | past | before.keys())
        known = (one for i, one in found.items() if i not in orphans)
        new = [self._take(Shard(one.id, one.parent, one.start)) for one in known]
        for shard in new:
            self._place(shard, before.get(shard.id), now)
        self.offspring.resolve_siblings({one.parent for one in listed.values()}, now)
        if whole:
            self.offspring.resolve_ends(now)
            parents = {found[one].parent for one in orphans} - orphans
            self._judge(listed.keys(), parents, now, answers or {})
        return new

    def _place(self, shard: Shard, below: Shard | None, now: float) -> None:
        """A shard is new; ``below`` is the one with which following began that descends from it."""
        self.offspring.resolve_end(shard.parent)
        parent = self._shards.get(shard.parent)
        if parent:
            self.offspring.expect_sibling(shard.parent, now)
        if below:
            shard.applied_through, shard.horizon = below.applied_through, below.horizon
        else:
            shard.applied_through = self._inherited(shard)
        begins = parent.state is ShardState.APPLIED if parent else not (below and shard.parent)
        if begins:
            self._enter(shard, ShardState.READY)
        self._offer(shard)

    def _inherited(self, shard: Shard) -> float:
        """The applied-through time of the nearest ancestor that has one."""
        above = self._shards.get(shard.parent)
        while above is not None and not above.applied_through:
            above = self._shards.get(above.parent)
        return above.applied_through if above else self._began

    def _past(self, listed: dict[str, Listed]) -> set[str]:
        """Shards from which known ones descend: what they held is in the copy.

        They stay so when a listing lacks what links them.
        """
        # The parent of one that waits is known, or may yet be listed, and then counts.
        parents = {shard.parent for shard in self if shard.state is not ShardState.WAITING}
        self._before |= ancestors(parents, listed, self._shards.keys())
        return self._before

    def _unlisted_parents(self) -> dict[str, Shard]:
        """Parents of shards with which following began that were never listed, with the shard."""
        waiting = (one for one in self if one.state is ShardState.WAITING)
        return {one.parent: one for one in waiting if one.parent not in self._shards}

    def _judge(
        self,
        listed: Collection[str],
        parents: set[str],
        now: float,
        answers: Mapping[str, ShardAnswer],
    ) -> None:
        """What a listing lacks is late, or gone; ``parents`` are those of shards left out of it."""
        for parent in self._unlisted_parents().keys() & self._before:
            self._begin_behind(parent)
        absence, began = self._absence, self._unlisted_parents().keys()
        absence.keep_to(began | parents | self._shards.keys())
        for parent in began:
            if absence.is_past(parent, now, answers.get(parent)):
                self._begin_behind(parent)
        for parent in parents - began:
            absence.judge_parent(parent, now, answers.get(parent))
        for shard in list(self):
            suspected = shard.suspected
            if absence.judge(shard, shard.id in listed, now, answers.get(shard.id)):
                self._remove(shard)
            elif suspected and not shard.suspected:
                self._offer(shard)

    def _begin_behind(self, parent: str) -> None:
        """What this shard held is in the copy, so what follows it begins."""
        for child in map(self.__getitem__, self.offspring[parent]):
            if child.state is ShardState.WAITING:
                self._enter(child, ShardState.READY)

    def suspect(self, shard: Shard, answer: ShardAnswer, now: float) -> None:
        """The source says that a shard, which has no reader now, is gone, or its position trimmed.

        It is not read until the source answers again. Raises GapError where enough answers agree.
        """
        shard.suspected, shard.iterator = answer, NO_ITERATOR
        self._offer(shard)
        self._absence.judge(shard, True, now, answer)

    def suspect_stream(self, text: str, now: float) -> None:
        """The source says why the stream counts as gone, "" where it does not."""
        self._absence.judge_stream(text, now)

    def _remove(self, shard: Shard) -> None:
        self.offspring.remove(shard)
        del self._shards[shard.id]
        self.removed.append(shard.id)

    def questions(self) -> list[Question]:
        """What to ask the source directly, since listings lack it, or a reader has said so."""
        names = self._unlisted_parents().keys() | set(self._absence.names)
        return [self[one].question if one in self._shards else Question(one) for one in names]

    @property
    def suspicions(self) -> list[str]:
        """Lines about shards that can be lost, and about shards that are not listed yet."""
        return self._absence.texts

    @property
    def beginning(self) -> bool:
        """Some shard waits for a parent that is not listed, which can have expired long ago."""
        return bool(self._unlisted_parents())

    # ---- reading

    @property
    def waiting(self) -> int:
        """How many shards can be read and are not."""
        return len(self._ready)

    def first(self) -> Shard:
        """The shard that is furthest behind, of those that can be read; there must be one."""
        return self._shards[self._ready.first()]

    def lease(self, shard: Shard) -> None:
        self._enter(shard, ShardState.READING)

    def end_lease(self, shard: Shard) -> None:
        """It is read on later, from what is applied of it."""
        self._enter(shard, ShardState.READY)

    def rewind(self, shard: Shard) -> None:
        """Its position is trimmed, but nothing behind it: read the oldest record that is left."""
        shard.oldest, shard.iterator = True, NO_ITERATOR

    def advance(self, shard: Shard, sequence: str, through: float) -> None:
        """A batch is applied up to this record; without one, all from before ``through`` is."""
        if sequence:
            if shard.sequence and int(sequence) <= int(shard.sequence):
                raise AssertionError(f"shard {shard.id}: {sequence} after {shard.sequence}")
            shard.sequence, shard.oldest = sequence, False
            self._lift(shard, through)
        shard.horizon = False
        shard.applied_through = max(shard.applied_through, through)
        self._absence.was_read(shard)

    def _lift(self, shard: Shard, through: float) -> None:
        """Raise the applied-through time of the shards that wait for this one.

        Their changes were made after those that are applied of it.
        """
        left = self.children(shard)
        while left:
            child = left.pop()
            if child.state is ShardState.WAITING:
                child.applied_through = max(child.applied_through, through)
                left += self.children(child)

    def finish(self, shard: Shard) -> None:
        """A shard is applied to its end: its children may begin."""
        self._enter(shard, ShardState.APPLIED)
        self._begin_children(shard)

    def _begin_children(self, shard: Shard) -> None:
        self.offspring.end(shard)
        for child in self.children(shard):
            if child.state is ShardState.WAITING:
                child.applied_through = max(child.applied_through, shard.applied_through)
                child.horizon &= shard.horizon  # behind what was read, nothing may be missing
                self._enter(child, ShardState.READY)

    # ---- journal

    @property
    def journalable(self) -> int:
        """How many shards can be read into the journal and are not."""
        return len(self._journalable)

    def first_journalable(self) -> Shard:
        """The shard that is furthest behind, of those that can be journaled; there must be one."""
        return self._shards[self._journalable.first()]

    def begin_applying(self) -> None:
        """What may be applied is not for the journal any more."""
        self._applying = True
        for shard in self:
            self._offer(shard)

    def begin_journaling(self, shard: Shard) -> None:
        if shard.journal is None:
            parent = self._shards.get(shard.parent)
            above = parent.read_through if parent else 0.0
            shard.journal = ShardJournal(through=max(shard.applied_through, above))
        shard.journaling = True
        self._offer(shard)

    def add_to_journal(
        self, shard: Shard, sequence: str, records: int, size: int, through: float
    ) -> None:
        """More is in the journal, up to this record; without one, all from before ``through``."""
        assert shard.journal is not None
        if sequence:
            shard.journal.sequence, shard.oldest = sequence, False
        shard.horizon = False
        shard.journal.left += records
        shard.journal.size += size
        shard.journal.through = max(shard.journal.through, through)
        self._absence.was_read(shard)

    def end_journaling(self, shard: Shard, *, over: bool) -> None:
        """The worker has ended, at the shard's end or before."""
        assert shard.journal is not None
        shard.journaling, shard.journal.ended = False, over
        self._offer(shard)
        if over:
            self.offspring.end(shard)
            for child in self.children(shard):
                self._offer(child)

    def children(self, shard: Shard) -> list[Shard]:
        """The known children of a shard."""
        return [self._shards[one] for one in self.offspring[shard.id]]

    def _offer(self, shard: Shard) -> None:
        """Queue a shard for the kind of reader that is allowed to read it now."""
        self._ready.discard(shard.id)
        self._journalable.discard(shard.id)
        if shard.journaling or shard.suspected:
            return
        ready = shard.state is ShardState.READY
        if ready:
            self._ready.add(shard.id, shard.applied_through)
        parent = self._shards.get(shard.parent)
        behind = shard.state is ShardState.WAITING and parent is not None and parent.fully_journaled
        if not shard.fully_journaled and (behind or (ready and not self._applying)):
            self._journalable.add(shard.id, shard.read_through)

    def _reset_children(self, shard: Shard) -> None:
        """What follows a shard that is not applied begins anew after it.

        Only a stop in the midst of saving leaves such shards behind: the parent's last records are
        read again, and what came after them must be too.
        """
        left = [shard]
        while left:
            parent = left.pop()
            for child in self.children(parent):
                if child.state is not ShardState.WAITING or child.sequence:
                    child.state, child.sequence = ShardState.WAITING, ""
                    child.applied_through = min(child.applied_through, parent.applied_through)
                    left.append(child)

    def applied_through(self) -> float | None:
        """Every change made before this time is applied; None: no shard is left to be read.

        A shard whose children are not listed yet counts too; so does the first shard of all.
        """
        if not self._shards:
            return self._began
        return min((shard.applied_through for shard in self.unread()), default=None)

    def unread(self) -> Iterator[Shard]:
        """Shards of which something is left to be applied, or of whose children."""
        yield from (shard for shard in self if shard.state is not ShardState.APPLIED)
        yield from self._incomplete()

    def _incomplete(self) -> Iterator[Shard]:
        return map(self.__getitem__, self.offspring.incomplete())

    def lineage(self, shard: Shard) -> Iterator[str]:
        """The names of a shard, its parent, and so on, as far as they are known."""
        above: Shard | None = shard
        while above is not None:
            yield above.id
            above = self._shards.get(above.parent)

    def read_through(self) -> float | None:
        """Every record created before this moment is applied, or in the journal.

        None: no shard is left to be read.
        """
        if not self._shards:
            return self._began
        open_ = (shard for shard in self if shard.state is not ShardState.APPLIED)
        left = [one.read_through for one in open_ if not one.fully_journaled]
        left += [shard.read_through for shard in self._incomplete()]
        return min(left, default=None)

    def set_back(self, most: float) -> list[Shard]:
        """The source's clock was set back: nothing is proved beyond this time on it.

        Return the shards whose times this has changed.
        """
        changed = []
        self._began = min(self._began, most)
        for shard in self:
            if shard.read_through > most:
                shard.applied_through = min(shard.applied_through, most)
                if shard.journal is not None:
                    shard.journal.through = min(shard.journal.through, most)
                self._offer(shard)
                changed.append(shard)
        return changed

    def _take(self, shard: Shard) -> Shard:
        self._shards[shard.id] = shard
        self.offspring.add(shard)
        return shard

    def _enter(self, shard: Shard, state: ShardState) -> None:
        if state not in NEXT[shard.state]:
            raise AssertionError(f"shard {shard.id}: {shard.state.name} to {state.name}")
        shard.state = state
        self._offer(shard)
