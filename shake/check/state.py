"""How far the check of a table is: in one process, in messages, and as it is saved."""

from __future__ import annotations

import threading
import zlib
from array import array
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

import msgpack

from shake.check.findings import Difference
from shake.check.fingerprint import NO_SUMS, Fingerprint, Sums
from shake.check.sides import Advanced, Listener
from shake.check.stored import KeyRange
from shake.process.packing import Packing

#: Bytes of sums in a message.
_PART = 128 * 1024


class ScanPosition(NamedTuple):
    """Where the next page of a segment begins; ``over``: there is none."""

    segment: int
    start: bytes | None
    over: bool


class CheckSnapshot(NamedTuple):
    """All since the process began with the table; the parts agree with each other.

    ``differences`` are those from number ``first`` on. ``read`` and ``named`` are parts of the
    target whose keys are read, and whose extra documents are named. ``found`` and ``theirs`` are
    the sums of keys that items, and keys of the target, gave.
    """

    first: int
    differences: tuple[Difference, ...]
    done: Advanced
    positions: tuple[ScanPosition, ...]
    read: tuple[int, ...]
    named: tuple[int, ...]
    found: Sums
    theirs: Sums
    item_doubts: tuple[bytes, ...]
    extra_doubts: tuple[bytes, ...]


class SumsPart(NamedTuple):
    """A piece of the sums of the next CheckSnapshot: ``theirs``, or else ``found``."""

    theirs: bool
    packed: bytes


def messages_of(snapshot: CheckSnapshot) -> Iterator[SumsPart | CheckSnapshot]:
    """A snapshot as messages, none of them large: a channel keeps room for its largest one."""
    for theirs, sums in enumerate((snapshot.found, snapshot.theirs)):
        for at in range(0, len(sums.packed), _PART):
            yield SumsPart(bool(theirs), sums.packed[at : at + _PART])
    found, others = (one._replace(packed=b"") for one in (snapshot.found, snapshot.theirs))
    yield snapshot._replace(found=found, theirs=others)


class UnsavedFindings:
    """Passes on to a listener what a process finds, and keeps what is not durable yet."""

    def __init__(self, listener: Listener) -> None:
        self.first = 0
        self.differences: list[Difference] = []
        self.done = Advanced()
        self._listener = listener
        self.write_line = listener.write_line
        self.settle = listener.settle
        self._lock = threading.Lock()

    def differs(self, difference: Difference) -> None:
        """See Listener."""
        with self._lock:
            self.differences.append(difference)
        self._listener.differs(difference)

    def advanced(self, more: Advanced) -> None:
        """See Listener."""
        with self._lock:
            self.done = self.done.plus(more)
        self._listener.advanced(more)

    def saved(self, durable: int) -> None:
        """The first differences, so many, are durable."""
        with self._lock:
            if durable > self.first:
                del self.differences[: durable - self.first]
                self.first = durable


class CheckPhase(Enum):
    """What is done at a time: compare items, read the target's keys, name its extra documents."""

    ITEMS = "items"
    KEYS = "keys"
    EXTRAS = "extras"


class CheckState(NamedTuple):
    """What is saved, so that a later process can go on.

    ``over`` are the parts of the target (``ranges``) that are done in the present phase.
    """

    segments: int
    phase: CheckPhase = CheckPhase.ITEMS
    done: Advanced = Advanced()
    positions: tuple[ScanPosition, ...] = ()
    ranges: tuple[KeyRange, ...] = ()
    over: tuple[int, ...] = ()
    found: Sums = NO_SUMS
    theirs: Sums = NO_SUMS
    item_doubts: tuple[bytes, ...] = ()
    extra_doubts: tuple[bytes, ...] = ()

    def plus(self, one: CheckSnapshot) -> CheckState:
        """This state, and what a process has done since."""
        positions = {p.segment: p for p in (*self.positions, *one.positions)}
        return self._replace(
            done=self.done.plus(one.done),
            positions=tuple(positions.values()),
            over=tuple(sorted({*self.over, *self._over(one)})),
            found=_merged(self.found, one.found),
            theirs=_merged(self.theirs, one.theirs),
            item_doubts=self.item_doubts + one.item_doubts,
            extra_doubts=self.extra_doubts + one.extra_doubts,
        )

    def _over(self, snapshot: CheckSnapshot) -> tuple[int, ...]:
        """The parts of the target that a process has done in the present phase."""
        if self.phase is CheckPhase.ITEMS:
            return ()
        return snapshot.read if self.phase is CheckPhase.KEYS else snapshot.named

    def enter(self, phase: CheckPhase, ranges: Iterable[KeyRange]) -> CheckState:
        """The state at the begin of the next phase."""
        return self._replace(phase=phase, ranges=tuple(ranges), over=())

    # ---- as bytes

    def packed(self) -> bytes:
        found, theirs = _reduced(self.found, self.theirs)
        state = self._replace(found=found, theirs=theirs)
        return zlib.compress(msgpack.packb(state, default=lambda phase: phase.value), 1)

    @classmethod
    def of(cls, packed: bytes) -> CheckState:
        """The state that :meth:`packed` wrote."""
        saved = msgpack.unpackb(zlib.decompress(packed), use_list=False)
        return Packing[CheckState]([CheckState]).decode((0, *saved))


def _reduced(ours: Sums, theirs: Sums) -> tuple[Sums, Sums]:
    """Sums that differ by the same as these, in half as many bytes.

    Equal ones, as there are at the end of most checks, become zeros, which take next to none.
    """
    if not ours.keys or not theirs.keys:
        return ours, theirs
    difference = bytes(len(ours.packed))
    if ours.packed != theirs.packed:
        pairs = zip(ours.numbers(), theirs.numbers(), strict=True)
        difference = array("Q", ((one - other) % 2**64 for one, other in pairs)).tobytes()
    return ours._replace(packed=difference), theirs._replace(packed=b"")


def _merged(one: Sums, other: Sums) -> Sums:
    if not one.keys or not other.keys:
        return one if one.keys else other
    whole = Fingerprint(one.seed)
    whole.merge(one)
    whole.merge(other)
    return whole.sums()
