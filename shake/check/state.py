"""How far the check of a table is, as it is saved, so that a later process can go on."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import msgpack

from shake.check.fingerprint import NO_SUMS, Fingerprint, Sums
from shake.check.sides import Advanced
from shake.check.snapshot import CheckSnapshot, ScanPosition
from shake.check.stored import KeyRange


class CheckPhase(Enum):
    """What is done at a time: compare items, read the target's keys, name its extra documents."""

    ITEMS = "items"
    KEYS = "keys"
    EXTRAS = "extras"


@dataclass(frozen=True, slots=True)
class CheckState:
    """``over`` are the parts of the target (``ranges``) that are done in the present phase."""

    segments: int
    phase: CheckPhase = CheckPhase.ITEMS
    done: Advanced = field(default_factory=Advanced)
    positions: Mapping[int, ScanPosition] = field(default_factory=dict)
    ranges: tuple[KeyRange, ...] = ()
    over: frozenset[int] = frozenset()
    found: Sums = field(default=NO_SUMS)
    theirs: Sums = field(default=NO_SUMS)
    item_doubts: tuple[bytes, ...] = ()
    extra_doubts: tuple[bytes, ...] = ()

    def plus(self, one: CheckSnapshot) -> CheckState:
        """This state, and what a process has done since."""
        return replace(
            self,
            done=self.done.plus(one.done),
            positions={**self.positions, **{p.segment: p for p in one.positions}},
            over=self.over.union(self._over(one)),
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
        return replace(self, phase=phase, ranges=tuple(ranges), over=frozenset())

    def unequal(self) -> set[int]:
        """The buckets of keys that differ."""
        seed = (self.found if self.found.keys else self.theirs).seed
        ours, theirs = Fingerprint(seed), Fingerprint(seed)
        for fingerprint, sums in ((ours, self.found), (theirs, self.theirs)):
            if sums.keys:
                fingerprint.merge(sums)
        return ours.unequal(theirs)

    # ---- as bytes

    def packed(self) -> bytes:
        found, theirs = _reduced(self.found, self.theirs)
        return zlib.compress(
            msgpack.packb(
                [
                    self.segments,
                    self.phase.value,
                    self.done,
                    list(self.positions.values()),
                    self.ranges,
                    sorted(self.over),
                    found,
                    theirs,
                    self.item_doubts,
                    self.extra_doubts,
                ]
            ),
            1,
        )

    @classmethod
    def of(cls, packed: bytes) -> CheckState:
        """The state that :meth:`packed` wrote."""
        saved = msgpack.unpackb(zlib.decompress(packed), use_list=False)
        segments, phase, done, positions, ranges, over, found, theirs, *doubts = saved
        items, extras = doubts
        return cls(
            segments,
            CheckPhase(phase),
            Advanced(*done),
            {number: ScanPosition(number, *rest) for number, *rest in positions},
            tuple(KeyRange(*one) for one in ranges),
            frozenset(over),
            Sums(*found),
            Sums(*theirs),
            items,
            extras,
        )


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
