"""The shards of one stream: a parent is applied to its end before its children begin.

No I/O, no clock: listings and events go in, what may be read comes out.
Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from math import inf

from shake.errors import GapError

#: Listings of a stream are eventually consistent: what is new may be missing from the next one, a
#: shard may be listed before its parent is. After so many seconds they are believed.
SETTLED_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A shard as DescribeStream lists it; ``closed``: no record comes any more."""

    id: str
    parent: str
    start: str  # sequence number
    closed: bool


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
class Shard:
    """One shard and how far it is applied.

    ``start`` is its first sequence number, where reading begins; ``sequence`` that of the last
    applied record, "" before the first. ``safe`` is Unix seconds: every record created before it
    is applied, or in the copy. ``oldest``: read from the oldest record that is left; not saved.
    """

    id: str
    parent: str
    start: str
    sequence: str = ""
    safe: float = 0.0
    state: State = State.WAITING
    oldest: bool = False

    @property
    def position(self) -> tuple[str, str]:
        """Where to read on: at a number, or behind one; both empty: from the oldest record."""
        return ("", "") if self.oldest else (self.start, self.sequence)


class Shards:
    """All shards of a stream that count: those that are to be read, and parents of what may come.

    ``table`` is for errors.
    """

    def __init__(self, table: str, shards: Iterable[Shard] = ()) -> None:
        self._table = table
        self._shards: dict[str, Shard] = {}
        self._children: dict[str, set[str]] = {}
        self._ready: set[str] = set()
        self._queue: list[tuple[float, str]] = []  # of the ready ones, and of some that were
        self._young: dict[str, float] = {}  # when they were first listed, while not SETTLED_AFTER
        self._orphans: dict[str, float] = {}  # when they were first listed without their parent
        self._ends: dict[str, float] = {}  # applied, without a child: since when; inf: settled
        #: Removed by :meth:`learn`: nothing will ask for them again.
        self.forgotten: list[str] = []
        for shard in shards:
            self._take(shard)
        for shard in self:
            if shard.state is State.APPLIED:
                self._begin_children(shard)
            else:
                self._hold(shard)

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
        orphans = _orphans(found, self._shards.keys() | past)
        new = [self._take(_shard(one)) for i, one in found.items() if i not in orphans]
        for shard in new:
            self._young[shard.id] = now
            self._ends.pop(shard.parent, None)
            self._orphans.pop(shard.id, None)
            parent = self._shards.get(shard.parent)
            if parent is not None:
                shard.safe = parent.safe
            if parent is None or parent.state is State.APPLIED:
                self._enter(shard, State.READY)
        if whole:
            self._settle(now)
            self._adopt({i: found[i].parent for i in orphans}, now)
            self._forget(listed.keys())
        return new

    def _past(self, listed: dict[str, Listed]) -> set[str]:
        """Listed shards from which known ones descend: what they held is in the copy."""
        found: set[str] = set()
        for shard in self:
            if shard.state is State.WAITING:
                continue  # its parent is known, or may yet be listed, and then counts
            parent = shard.parent
            while parent not in found and parent not in self._shards and parent in listed:
                found.add(parent)
                parent = listed[parent].parent
        return found

    def _settle(self, now: float) -> None:
        """What has been so for long enough will stay so."""
        self._young = {one: t for one, t in self._young.items() if now - t < SETTLED_AFTER}
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

    def _forget(self, listed: Collection[str]) -> None:
        """Shards that the stream has forgotten: done with, or lost."""
        for shard in [one for one in self if one.id not in listed and one.id not in self._young]:
            if shard.state is not State.APPLIED:
                raise GapError(
                    self._table, f"shard {shard.id} is gone, and was not read to its end"
                )
            self._children.pop(shard.id, None)
            self._children.get(shard.parent, set()).discard(shard.id)
            self._ends.pop(shard.id, None)
            del self._shards[shard.id]
            self.forgotten.append(shard.id)

    def has_children(self, shard_id: str) -> bool:
        """Whether some of what follows a shard is known."""
        return bool(self._children.get(shard_id))

    @property
    def childless(self) -> bool:
        """Some shard is applied to its end, and what follows it may not be listed yet."""
        return any(since != inf for since in self._ends.values())

    # ---- reading

    @property
    def waiting(self) -> int:
        """How many shards may be read and are not."""
        return len(self._ready)

    def first(self) -> Shard:
        """The one of them that is furthest behind; there must be one."""
        while True:
            safe, one = self._queue[0]
            if one in self._ready and self._shards[one].safe == safe:
                return self._shards[one]
            heapq.heappop(self._queue)

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
        shard.safe = max(shard.safe, safe)

    def finish(self, shard: Shard) -> None:
        """A shard is applied to its end: its children may begin."""
        self._enter(shard, State.APPLIED)
        self._begin_children(shard)

    def _begin_children(self, shard: Shard) -> None:
        children = self._children.get(shard.id, set())
        if not children:
            self._ends[shard.id] = 0.0
        for child in map(self._shards.__getitem__, children):
            if child.state is State.WAITING:
                child.safe = max(child.safe, shard.safe)
                self._enter(child, State.READY)

    def _hold(self, shard: Shard) -> None:
        """What follows a shard that is not applied begins anew after it.

        Only a stop in the midst of saving leaves such shards behind: the parent's last records are
        read again, and what came after them must be too.
        """
        left = [shard]
        while left:
            parent = left.pop()
            for child in map(self._shards.__getitem__, self._children.get(parent.id, set())):
                if child.state is not State.WAITING or child.sequence:
                    child.state, child.sequence = State.WAITING, ""
                    child.safe = min(child.safe, parent.safe)
                    self._ready.discard(child.id)
                    left.append(child)

    def safe(self) -> float | None:
        """Every record created before this moment is applied; None: no shard is left to be read.

        What follows an end and may not be listed yet counts too.
        """
        left = [shard.safe for shard in self if shard.state is not State.APPLIED]
        left += [self[one].safe for one, since in self._ends.items() if since != inf]
        return min(left, default=None)

    def _take(self, shard: Shard) -> Shard:
        self._shards[shard.id] = shard
        self._children.setdefault(shard.parent, set()).add(shard.id)
        self._queue_up(shard)
        return shard

    def _enter(self, shard: Shard, state: State) -> None:
        if state not in NEXT[shard.state]:
            raise AssertionError(f"shard {shard.id}: {shard.state.name} to {state.name}")
        shard.state = state
        self._ready.discard(shard.id)
        self._queue_up(shard)

    def _queue_up(self, shard: Shard) -> None:
        if shard.state is State.READY:
            self._ready.add(shard.id)
            heapq.heappush(self._queue, (shard.safe, shard.id))


def first_shards(listing: Iterable[Listed], now: float) -> list[Shard]:
    """Where following begins beside a copy: the shards that may hold a change of this moment.

    A Scan is eventually consistent, so what was written just before may be missing from it: every
    open shard counts, the parent of each, and every closed shard whose child is not listed yet,
    each from its beginning. What came before them is in the copy. And all that follows what is
    read is read too: where a shard was split, one half may have rolled over since, more than once,
    and the other not, so that an older change of a key would come again, and the later one not.
    """
    listed = {one.id: one for one in listing}
    parents = {one.parent for one in listed.values()}
    kept = {one.id for one in listed.values() if not one.closed or one.id not in parents}
    kept |= {listed[one].parent for one in kept if listed[one].parent in listed}
    kept |= _below(kept, listed)
    chosen = {one: listed[one] for one in kept}
    return _begun(chosen, _orphans(chosen, listed), now)


def all_shards(listing: Iterable[Listed], now: float) -> list[Shard]:
    """Everything that the stream still holds, where parents may be gone for long."""
    return _begun({one.id: one for one in listing}, (), now)


def _begun(chosen: dict[str, Listed], late: Collection[str], now: float) -> list[Shard]:
    """Shards that wait for no other begin at once.

    ``late``: their parent is not listed, or that of one above them: it is waited for, and if it
    does not come it was gone before (see Shards.learn).
    """
    return [
        replace(
            _shard(one),
            safe=now,
            state=State.WAITING if one.parent in chosen or one.id in late else State.READY,
        )
        for one in chosen.values()
    ]


def _orphans(found: dict[str, Listed], known: Collection[str]) -> set[str]:
    """Shards of ``found`` whose parent is neither in it nor known, and what descends from them."""
    orphans = {
        one.id
        for one in found.values()
        if one.parent and one.parent not in found and one.parent not in known
    }
    return orphans | _below(orphans, found)


def _below(tops: Collection[str], found: dict[str, Listed]) -> set[str]:
    """What descends from these shards."""
    children: dict[str, list[str]] = {}
    for one in found.values():
        children.setdefault(one.parent, []).append(one.id)
    below: set[str] = set()
    left = list(tops)
    while left:
        more = children.pop(left.pop(), [])
        below.update(more)
        left += more
    return below


def _shard(one: Listed) -> Shard:
    return Shard(one.id, one.parent, one.start)
