"""How far the check of a table is, as it is saved, so that a later process can go on."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from shake.check.findings import Difference
from shake.check.fingerprint import NO_SUMS, Fingerprint, Sums
from shake.check.sides import Advanced
from shake.check.snapshot import CheckSnapshot, ScanPosition
from shake.check.target import KeyRange

#: Seconds between two saves.
_EVERY = 30.0


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

    def plus(self, snapshots: Iterable[CheckSnapshot]) -> CheckState:
        """This state, and what some processes have done since."""
        some = list(snapshots)
        done = self.done
        for one in some:
            done = done.plus(one.done)
        return replace(
            self,
            done=done,
            positions={**self.positions, **{p.segment: p for one in some for p in one.positions}},
            over=self.over.union(*map(self._over, some)),
            found=_merged([self.found, *(one.found for one in some)]),
            theirs=_merged([self.theirs, *(one.theirs for one in some)]),
            item_doubts=tuple(key for one in some for key in one.item_doubts),
            extra_doubts=tuple(key for one in some for key in one.extra_doubts),
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

    # ---- as text

    def text(self) -> str:
        return json.dumps(
            {
                "segments": self.segments,
                "phase": self.phase.value,
                "done": self.done,
                "positions": [
                    [one.segment, _packed(one.start), one.over] for one in self.positions.values()
                ],
                "ranges": [[one.order, _packed(one.low), _packed(one.high)] for one in self.ranges],
                "over": sorted(self.over),
                "found": _saved(self.found),
                "theirs": _saved(self.theirs),
                "item_doubts": list(map(_packed, self.item_doubts)),
                "extra_doubts": list(map(_packed, self.extra_doubts)),
            }
        )

    @classmethod
    def of(cls, text: str) -> CheckState:
        """The state that :meth:`text` wrote."""
        saved: dict[str, Any] = json.loads(text)
        positions = [ScanPosition(n, _bytes(start), over) for n, start, over in saved["positions"]]
        return cls(
            saved["segments"],
            CheckPhase(saved["phase"]),
            Advanced(*saved["done"]),
            {one.segment: one for one in positions},
            tuple(
                KeyRange(None if order is None else tuple(order), _bytes(low), _bytes(high))
                for order, low, high in saved["ranges"]
            ),
            frozenset(saved["over"]),
            _sums(saved["found"]),
            _sums(saved["theirs"]),
            tuple(map(b64decode, saved["item_doubts"])),
            tuple(map(b64decode, saved["extra_doubts"])),
        )


class Keeper(Protocol):
    """Where states are saved."""

    def keep(self, state: CheckState, differences: list[Difference]) -> None:
        """Save a state, and differences that were found since the last one."""


class Saving:
    """The state of a table's check, and when it is saved.

    ``base`` is what an earlier process has saved; all processes of this check add to it. Nothing
    is saved before :meth:`begin`.
    """

    def __init__(self, base: CheckState, keeper: Keeper, clock: Callable[[], float]) -> None:
        self.state = base
        self.durable: dict[int, int] = {}  # of each process: how many differences
        self._base = base
        self._keeper = keeper
        self._clock = clock
        self._saved = float("inf")

    def begin(self) -> None:
        """From now on the processes hold all that the base left in doubt."""
        self._saved = self._clock()

    def due(self) -> bool:
        """Whether a state is to be saved now."""
        return self._clock() - self._saved >= _EVERY

    def take(self, snapshots: Mapping[int, CheckSnapshot]) -> None:
        """Save what all processes have done."""
        if self._saved == float("inf"):
            return
        self.state = self._base.plus(snapshots.values())
        new: list[Difference] = []
        for number, one in snapshots.items():
            new += one.differences[max(0, self.durable.get(number, 0) - one.first) :]
        self._keeper.keep(self.state, new)
        for number, one in snapshots.items():
            self.durable[number] = one.first + len(one.differences)
        self._saved = self._clock()

    def enter(self, phase: CheckPhase, ranges: Iterable[KeyRange]) -> None:
        """The next phase begins; it is saved with the next state."""
        self._base = self._base.enter(phase, ranges)
        self.state = self.state.enter(phase, ranges)


def _merged(sums: list[Sums]) -> Sums:
    some = [one for one in sums if one.keys]
    if len(some) <= 1:
        return some[0] if some else NO_SUMS
    whole = Fingerprint(some[0].seed)
    for one in some:
        whole.merge(one)
    return whole.sums()


def _packed(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


def _saved(sums: Sums) -> list[Any]:
    return [_packed(sums.seed), sums.keys, _packed(zlib.compress(sums.packed, 1))]


def _sums(saved: list[Any]) -> Sums:
    seed, keys, packed = saved
    return Sums(b64decode(seed), keys, zlib.decompress(b64decode(packed)))
