"""The shards of one stream: a parent is applied to its end before its children begin.

No I/O, no clock: listings and events go in, what may be read comes out.
Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from shake.errors import GapError


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

    ``sequence`` is the SequenceNumber of the last applied record, "" before the first. ``start`` is
    where reading begins then, "" for the oldest record that is still there. ``safe`` is Unix
    seconds: every record created before it is applied.
    """

    id: str
    parent: str
    start: str
    sequence: str = ""
    safe: float = 0.0
    state: State = State.WAITING

    def enter(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise AssertionError(f"shard {self.id}: {self.state.name} to {state.name}")
        self.state = state


class Shards:
    """All shards of a stream that count: those that are to be read, and parents of what may come.

    ``table`` is for errors.
    """

    def __init__(self, table: str, shards: Iterable[Shard] = ()) -> None:
        self._table = table
        self._shards = {shard.id: shard for shard in shards}
        self._children: dict[str, set[str]] = {}
        for shard in self._shards.values():
            self._children.setdefault(shard.parent, set()).add(shard.id)
        #: Removed by :meth:`learn`: nothing will ask for them again.
        self.forgotten: list[str] = []

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards.values())

    def __getitem__(self, shard_id: str) -> Shard:
        return self._shards[shard_id]

    def __len__(self) -> int:
        return len(self._shards)

    def learn(self, listing: Iterable[Listed], *, whole: bool) -> list[Shard]:
        """Take in a listing, of all shards or of some; return the shards that are new.

        Raises GapError where an unread shard has vanished, or one appears behind one that did.
        """
        listed = {one.id: one for one in listing}
        before_us = self._ancestors(listed)
        new = [
            self._add(one, listed)
            for one in listed.values()
            if one.id not in self._shards and one.id not in before_us
        ]
        for shard in new:
            parent = self._shards.get(shard.parent)
            if parent is None or parent.state is State.APPLIED:
                shard.enter(State.READY)
        if whole:
            self._forget(listed.keys())
        return new

    def _ancestors(self, listed: dict[str, Listed]) -> set[str]:
        """Listed shards from which known ones descend: what they held is in the copy."""
        found: set[str] = set()
        for shard in self._shards.values():
            parent = shard.parent
            while parent not in found and parent not in self._shards and parent in listed:
                found.add(parent)
                parent = listed[parent].parent
        return found

    def _add(self, one: Listed, listed: dict[str, Listed]) -> Shard:
        if one.parent and one.parent not in listed and one.parent not in self._shards:
            raise GapError(
                self._table, f"shard {one.id} follows shard {one.parent}, which is gone unread"
            )
        shard = self._shards[one.id] = Shard(one.id, one.parent, one.start)
        self._children.setdefault(one.parent, set()).add(one.id)
        if parent := self._shards.get(one.parent):
            shard.safe = parent.safe
        return shard

    def _forget(self, listed: Collection[str]) -> None:
        """Shards that the stream has forgotten: done with, or lost."""
        for shard in [one for one in self._shards.values() if one.id not in listed]:
            if shard.state is not State.APPLIED:
                raise GapError(
                    self._table, f"shard {shard.id} is gone, and was not read to its end"
                )
            self._children.pop(shard.id, None)
            self._children.get(shard.parent, set()).discard(shard.id)
            del self._shards[shard.id]
            self.forgotten.append(shard.id)

    def ready(self) -> list[Shard]:
        """Shards that may be read now, those that are furthest behind first."""
        found = [shard for shard in self._shards.values() if shard.state is State.READY]
        return sorted(found, key=lambda shard: shard.safe)

    def lease(self, shard: Shard) -> None:
        shard.enter(State.READING)

    def end_lease(self, shard: Shard) -> None:
        """It is read on later, from what is applied of it."""
        shard.enter(State.READY)

    def advance(self, shard: Shard, sequence: str, safe: float) -> None:
        """A batch is applied up to this record."""
        if sequence and shard.sequence and int(sequence) <= int(shard.sequence):
            raise AssertionError(f"shard {shard.id}: {sequence} after {shard.sequence}")
        shard.sequence = sequence or shard.sequence
        shard.safe = max(shard.safe, safe)

    def finish(self, shard: Shard) -> None:
        """A shard is applied to its end: its children may begin."""
        shard.enter(State.APPLIED)
        for child in self._children.get(shard.id, ()):
            if (found := self._shards.get(child)) and found.state is State.WAITING:
                found.safe = max(found.safe, shard.safe)
                found.enter(State.READY)

    @property
    def childless(self) -> bool:
        """Some shard is applied to its end, and what follows it is not known yet."""
        return any(
            shard.state is State.APPLIED and not self._children.get(shard.id)
            for shard in self._shards.values()
        )

    def safe(self) -> float | None:
        """Every record created before this moment is applied; None: no shard is left to be read."""
        left = [s.safe for s in self._shards.values() if s.state is not State.APPLIED]
        return min(left, default=None)


def first_shards(listing: Iterable[Listed], now: float) -> list[Shard]:
    """Where following begins beside a copy: the shards that may hold a change of this moment.

    A Scan is eventually consistent, so what was written just before may be missing from it: every
    open shard counts, the parent of each, and every closed shard whose child is not listed yet,
    each from its oldest record. What came before them is in the copy.
    """
    listed = {one.id: one for one in listing}
    parents = {one.parent for one in listed.values()}
    kept = {one.id for one in listed.values() if not one.closed or one.id not in parents}
    kept |= {listed[one].parent for one in kept if listed[one].parent in listed}
    return _begun((listed[one] for one in kept), now)


def all_shards(listing: Iterable[Listed], now: float) -> list[Shard]:
    """Everything that the stream still holds."""
    return _begun(listing, now)


def _begun(listing: Iterable[Listed], now: float) -> list[Shard]:
    chosen = {one.id: one for one in listing}
    return [
        Shard(
            one.id,
            one.parent,
            start="",
            safe=now,
            state=State.WAITING if one.parent in chosen else State.READY,
        )
        for one in chosen.values()
    ]
