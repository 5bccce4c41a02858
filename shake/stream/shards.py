"""The shards of one stream: a parent is applied to its end before its children begin.

No I/O, no clock: listings and events go in, what may be read comes out.
Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from math import inf

from shake.errors import GapError
from shake.stream.listing import Listed, orphans_of

#: Listings of a stream are eventually consistent: what is new may be missing from the next one, a
#: shard may be listed before its parent is. After so many seconds they are believed.
SETTLED_AFTER = 60.0

#: Seconds for which a shard must be missing from every listing of all shards until it is gone.
MISSING_AFTER = 10.0

#: Seconds for which a child is listed without a sibling until it has none. A shard is split in two,
#: or has one child.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
SIBLING_AFTER = 3.0


class State(Enum):
    """Where a shard is; :data:`NEXT` says what may follow. The values stand in checkpoints."""

    WAITING = "waiting"  # for its parent
    READY = "ready"
    READING = "reading"  # leased to a worker
    APPLIED = "applied"  # to its end


NEXT = {
    State.WAITING: {State.READY},
    State.READY: {State.READING},
    State.READING: {State.READY, State.APPLIED},
    State.APPLIED: set[State](),
}


@dataclass(slots=True)
class Kept:
    """What the journal holds of a shard.

    ``sequence`` is that of the last record, "" before the first; every record created before
    ``safe``, in Unix seconds, is applied or in it; ``left`` counts those that are not applied yet;
    ``size`` is bytes on disk. ``ended``: the journal holds the shard to its end, so that the stream
    may forget it.
    """

    sequence: str = ""
    safe: float = 0.0
    left: int = 0
    size: int = 0
    ended: bool = False


@dataclass(slots=True)
class Shard:
    """One shard and how far it is applied.

    ``start`` is its first sequence number, where reading begins; ``sequence`` that of the last
    applied record, "" before the first. ``safe`` is Unix seconds: every record created before it
    is applied, or in the copy, or was gone when following began. ``kept`` is what the journal
    holds, None where it never held any. ``horizon``: following begins with what the stream still
    holds of it, of which nothing is read yet.
    ``oldest``: read from the oldest record that is left, and ``keeping``: a worker reads it into
    the journal; neither is saved.
    """

    id: str
    parent: str
    start: str
    sequence: str = ""
    safe: float = 0.0
    state: State = State.WAITING
    kept: Kept | None = None
    horizon: bool = False
    oldest: bool = False
    keeping: bool = False

    @property
    def held(self) -> bool:
        """The journal holds it to its end."""
        return self.kept is not None and self.kept.ended

    @property
    def covered(self) -> float:
        """Unix seconds: every record created before is applied, or in the copy or the journal."""
        return max(self.safe, self.kept.safe) if self.kept else self.safe

    @property
    def position(self) -> tuple[str, str]:
        """Where it starts, "" for its oldest record, and the last number that is applied."""
        return ("" if self.oldest else self.start, self.sequence)

    @property
    def reached(self) -> tuple[str, str]:
        """Where it starts, and the last number that is applied or in the journal."""
        kept = self.kept.sequence if self.kept else ""
        return self.start, max(self.sequence, kept, key=lambda number: int(number or 0))


class Shards:
    """All shards of a stream that count: those that are to be read, and parents of what may come.

    A shard may be read twice: into the journal while nothing is applied yet, or what comes before
    it is not; and to be applied. ``table`` is for errors. What was created before ``began``, in
    Unix seconds, is in the copy. Times of changes are on the source's clock; ``now`` is on any
    clock that nobody sets.
    """

    def __init__(self, table: str, shards: Iterable[Shard] = (), began: float = 0.0) -> None:
        self._table = table
        self._began = began
        self._shards: dict[str, Shard] = {}
        self._children: dict[str, set[str]] = {}
        self._ready = _Queue()
        self._keepable = _Queue()
        self._applying = False
        self._before: set[str] = set()  # see _past
        self._missing: dict[str, float] = {}  # known and not listed: since when
        self._orphans: dict[str, float] = {}  # when they were first listed without their parent
        self._ends: dict[str, float] = {}  # read, without a child: since when; inf: settled
        self._single: dict[str, float] = {}  # of which one child is listed: since when
        #: Removed by :meth:`learn`: nothing will ask for them again.
        self.forgotten: list[str] = []
        for shard in shards:
            self._take(shard)
        for shard in self:
            if shard.state is State.APPLIED:
                self._begin_children(shard)
            else:
                self._hold(shard)
                if shard.held:
                    self._end(shard)
        for shard in self:
            self._expect_sibling(shard.id, inf)
            self._offer(shard)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards.values())

    def __getitem__(self, shard_id: str) -> Shard:
        return self._shards[shard_id]

    def __len__(self) -> int:
        return len(self._shards)

    # ---- listings

    def learn(self, listing: Iterable[Listed], *, whole: bool, now: float) -> list[Shard]:
        """Take in a listing, of all shards or of some; return the shards that are new.

        Raises GapError where an unread shard has vanished, or one appears behind one that did.
        """
        listed = {one.id: one for one in listing}
        past = self._past(listed)
        found = {i: one for i, one in listed.items() if i not in self._shards and i not in past}
        orphans = orphans_of(found, self._shards.keys() | past)
        new = [self._take(new_shard(one)) for i, one in found.items() if i not in orphans]
        for shard in new:
            self._ends.pop(shard.parent, None)
            self._orphans.pop(shard.id, None)
            self._expect_sibling(shard.parent, now)
            shard.safe = self._inherited(shard)
            parent = self._shards.get(shard.parent)
            if parent is None or parent.state is State.APPLIED:
                self._enter(shard, State.READY)
            self._offer(shard)
        self._settle_single({one.parent for one in listed.values()}, now)
        if whole:
            self._settle(now)
            self._adopt({i: found[i].parent for i in orphans}, now)
            self._forget(listed.keys(), now)
        return new

    def _inherited(self, shard: Shard) -> float:
        """What is safe of the nearest shard above it of which that is known."""
        above = self._shards.get(shard.parent)
        while above is not None and not above.safe:
            above = self._shards.get(above.parent)
        return above.safe if above else self._began

    def _past(self, listed: dict[str, Listed]) -> set[str]:
        """Shards from which known ones descend: what they held is in the copy.

        They stay so when a listing lacks what links them.
        """
        found: set[str] = set()
        for shard in self:
            if shard.state is State.WAITING:
                continue  # its parent is known, or may yet be listed, and then counts
            parent = shard.parent
            while parent not in found and parent not in self._shards and parent in listed:
                found.add(parent)
                parent = listed[parent].parent
        self._before |= found
        return self._before

    def _expect_sibling(self, parent: str, since: float) -> None:
        """One child of a shard is listed: another one can follow. No shard has three."""
        if parent in self._shards and len(self._children.get(parent, ())) == 1:
            self._single[parent] = since
        else:
            self._single.pop(parent, None)

    def _settle_single(self, parents: Collection[str], now: float) -> None:
        """Children of these are listed, all that there are by ``now``."""
        for parent in self._single.keys() & parents:
            since = self._single[parent] = min(self._single[parent], now)
            if now - since >= SIBLING_AFTER:
                del self._single[parent]

    def _settle(self, now: float) -> None:
        """What has been so for long enough will stay so."""
        for one, since in self._ends.items():
            since = since or now
            self._ends[one] = since if now - since < SETTLED_AFTER else inf

    def _adopt(self, orphans: dict[str, str], now: float) -> None:
        """Shards whose parent is not listed: it is late, or gone."""
        began = [s for s in self if s.state is State.WAITING and s.parent not in self._shards]
        waiting = {shard.id: shard.parent for shard in began} | orphans
        self._orphans = {one: self._orphans.get(one, now) for one in waiting}
        settled = {one for one, t in self._orphans.items() if now - t >= SETTLED_AFTER}
        for shard in began:
            if shard.id in settled:  # the parent was gone before following began
                self._enter(shard, State.READY)
        for one in settled & orphans.keys():
            raise GapError(
                self._table, f"shard {one} follows shard {orphans[one]}, which is gone unread"
            )

    def _forget(self, listed: Collection[str], now: float) -> None:
        """Shards that the stream has forgotten: done with, or lost."""
        missing = [one.id for one in self if one.id not in listed]
        self._missing = {one: self._missing.get(one, now) for one in missing}
        for shard in [self[one] for one, t in self._missing.items() if now - t >= MISSING_AFTER]:
            if shard.state is not State.APPLIED:
                if shard.held:
                    continue
                raise GapError(
                    self._table, f"shard {shard.id} is gone, and was not read to its end"
                )
            self._children.pop(shard.id, None)
            self._children.get(shard.parent, set()).discard(shard.id)
            self._ends.pop(shard.id, None)
            self._single.pop(shard.id, None)
            del self._shards[shard.id], self._missing[shard.id]
            self.forgotten.append(shard.id)

    @property
    def missing(self) -> bool:
        """Some shard that is still to be read was not listed the last time."""
        left = [self[one] for one in self._missing]
        return any(one.state is not State.APPLIED and not one.held for one in left)

    def has_children(self, shard_id: str) -> bool:
        """Whether some of what follows a shard is known."""
        return bool(self._children.get(shard_id))

    @property
    def childless(self) -> bool:
        """Some shard is read to its end, and what follows it may not be listed yet."""
        return any(since != inf for since in self._ends.values())

    @property
    def single(self) -> bool:
        """Some shard has one listed child, and a second one can follow."""
        return bool(self._single)

    def _unlisted(self) -> Iterator[Shard]:
        """Shards whose children, or one of whose children, can still be unlisted."""
        for one, since in self._ends.items():
            if since != inf:
                yield self._shards[one]
        yield from (self._shards[one] for one in self._single)

    # ---- reading

    @property
    def waiting(self) -> int:
        """How many shards may be read and are not."""
        return len(self._ready)

    def first(self) -> Shard:
        """The one of them that is furthest behind; there must be one."""
        return self._shards[self._ready.first()]

    def lease(self, shard: Shard) -> None:
        self._enter(shard, State.READING)

    def end_lease(self, shard: Shard) -> None:
        """It is read on later, from what is applied of it."""
        self._enter(shard, State.READY)

    def rewind(self, shard: Shard) -> None:
        """Its position is trimmed, but nothing behind it: read the oldest record that is left."""
        shard.oldest = True

    def advance(self, shard: Shard, sequence: str, safe: float) -> None:
        """A batch is applied up to this record; without one, all that came before ``safe`` is."""
        if sequence:
            if shard.sequence and int(sequence) <= int(shard.sequence):
                raise AssertionError(f"shard {shard.id}: {sequence} after {shard.sequence}")
            shard.sequence, shard.oldest = sequence, False
            self._lift(shard, safe)
        shard.horizon = False
        shard.safe = max(shard.safe, safe)

    def _lift(self, shard: Shard, safe: float) -> None:
        """What waits for a shard was written after what is applied of it."""
        left = self.children(shard)
        while left:
            child = left.pop()
            if child.state is State.WAITING:
                child.safe = max(child.safe, safe)
                left += self.children(child)

    def finish(self, shard: Shard) -> None:
        """A shard is applied to its end: its children may begin."""
        self._enter(shard, State.APPLIED)
        self._begin_children(shard)

    def _begin_children(self, shard: Shard) -> None:
        self._end(shard)
        for child in self.children(shard):
            if child.state is State.WAITING:
                child.safe = max(child.safe, shard.safe)
                child.horizon &= shard.horizon  # behind what was read, nothing may be missing
                self._enter(child, State.READY)

    def _end(self, shard: Shard) -> None:
        """It is read to its end: what follows it should be listed, now or soon."""
        if not self.has_children(shard.id):
            self._ends[shard.id] = 0.0

    # ---- journal

    @property
    def keepable(self) -> int:
        """How many shards may be read into the journal and are not."""
        return len(self._keepable)

    def first_keepable(self) -> Shard:
        """The one of them that is furthest behind; there must be one."""
        return self._shards[self._keepable.first()]

    def begin_applying(self) -> None:
        """What may be applied is not for the journal any more."""
        self._applying = True
        for shard in self:
            self._offer(shard)

    def keep(self, shard: Shard) -> None:
        """A worker reads it into the journal."""
        if shard.kept is None:
            parent = self._shards.get(shard.parent)
            shard.kept = Kept(safe=max(shard.safe, parent.covered if parent else 0.0))
        shard.keeping = True
        self._offer(shard)

    def kept(self, shard: Shard, sequence: str, records: int, size: int, safe: float) -> None:
        """So many records and bytes more, up to this one, are in the journal.

        With them all that came before ``safe`` is. Without a sequence number, there is none more.
        """
        assert shard.kept is not None
        if sequence:
            shard.kept.sequence, shard.oldest = sequence, False
        shard.horizon = False
        shard.kept.left += records
        shard.kept.size += size
        shard.kept.safe = max(shard.kept.safe, safe)

    def end_keeping(self, shard: Shard, *, over: bool) -> None:
        """The worker has ended, at the shard's end or before."""
        assert shard.kept is not None
        shard.keeping = False
        self._offer(shard)
        if not over:
            return
        shard.kept.ended = True
        self._keepable.discard(shard.id)
        self._end(shard)
        for child in self.children(shard):
            self._offer(child)

    def children(self, shard: Shard) -> list[Shard]:
        """What of what follows a shard is known."""
        return [self._shards[one] for one in self._children.get(shard.id, ())]

    def _offer(self, shard: Shard) -> None:
        """Queue a shard for whoever may read it now."""
        self._ready.discard(shard.id)
        self._keepable.discard(shard.id)
        if shard.keeping:
            return
        ready = shard.state is State.READY
        if ready:
            self._ready.add(shard.id, shard.safe)
        parent = self._shards.get(shard.parent)
        behind = shard.state is State.WAITING and parent is not None and parent.held
        if not shard.held and (behind or (ready and not self._applying)):
            self._keepable.add(shard.id, shard.covered)

    def _hold(self, shard: Shard) -> None:
        """What follows a shard that is not applied begins anew after it.

        Only a stop in the midst of saving leaves such shards behind: the parent's last records are
        read again, and what came after them must be too.
        """
        left = [shard]
        while left:
            parent = left.pop()
            for child in self.children(parent):
                if child.state is not State.WAITING or child.sequence:
                    child.state, child.sequence = State.WAITING, ""
                    child.safe = min(child.safe, parent.safe)
                    left.append(child)

    def applied_through(self) -> float | None:
        """Every change made before this time is applied; None: no shard is left to be read.

        A shard whose children are not listed yet counts too; so does the first shard of all.
        """
        if not self._shards:
            return self._began
        return min((shard.safe for shard in self.unread()), default=None)

    def unread(self) -> Iterator[Shard]:
        """Shards of which something is left to be applied, or of whose children."""
        yield from (shard for shard in self if shard.state is not State.APPLIED)
        yield from self._unlisted()

    def lineage(self, shard: Shard) -> Iterator[str]:
        """The names of a shard, its parent, and so on, as far as they are known."""
        above: Shard | None = shard
        while above is not None:
            yield above.id
            above = self._shards.get(above.parent)

    def read_through(self) -> float | None:
        """Every record created before this moment is applied, or in the journal; None as above."""
        if not self._shards:
            return self._began
        open_ = (shard for shard in self if shard.state is not State.APPLIED)
        left = [one.covered for one in open_ if not one.held]
        left += [shard.covered for shard in self._unlisted()]
        return min(left, default=None)

    def set_back(self, most: float) -> list[Shard]:
        """The source's clock was set back: nothing is proved beyond this time on it.

        Return the shards whose times this has changed.
        """
        changed = []
        for shard in self:
            if shard.covered > most:
                shard.safe = min(shard.safe, most)
                if shard.kept is not None:
                    shard.kept.safe = min(shard.kept.safe, most)
                self._offer(shard)
                changed.append(shard)
        return changed

    def _take(self, shard: Shard) -> Shard:
        self._shards[shard.id] = shard
        self._children.setdefault(shard.parent, set()).add(shard.id)
        return shard

    def _enter(self, shard: Shard, state: State) -> None:
        if state not in NEXT[shard.state]:
            raise AssertionError(f"shard {shard.id}: {shard.state.name} to {state.name}")
        shard.state = state
        self._offer(shard)


class _Queue:
    """Names that wait, the one with the lowest figure first."""

    def __init__(self) -> None:
        self._figures: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # of these, and of some that were

    def __len__(self) -> int:
        return len(self._figures)

    def add(self, name: str, figure: float) -> None:
        self._figures[name] = figure
        heapq.heappush(self._heap, (figure, name))

    def discard(self, name: str) -> None:
        self._figures.pop(name, None)

    def first(self) -> str:
        while True:
            figure, name = self._heap[0]
            if self._figures.get(name) == figure:
                return name
            heapq.heappop(self._heap)


def new_shard(one: Listed) -> Shard:
    """A shard of which nothing is applied."""
    return Shard(one.id, one.parent, one.start)
