"""Keys whose two sides differ, until it is decided whether that is a difference.

Where no task applies changes, a key is compared once more. If it still differs, that is a
difference; but where a task has ended while the check ran, the key is undecided. Beside a task, a
change can be on its way to the target. So each look notes the time on the source's clock, and the
next one comes when the task has applied all changes made before. A key counts as different when
CONFIRMATIONS such looks have shown the same on both sides. Where they show something new, the key
changes, and it is looked at again, later each time. After TRIES of them it is undecided, which is
neither equal nor a difference.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Generic, Protocol, TypeVar

from shake.backoff import Backoff
from shake.check.findings import TASK_ENDED
from shake.check.following import Following, SavedPoint, Wait
from shake.check.gate import Gate
from shake.errors import Stopped

#: Keys that are looked at together: one request to the source.
AT_ONCE = 100
#: Keys in doubt that a process holds; while there are more, no page is read.
MOST = 10_000
#: Looks, each after all earlier changes were applied, that must show what the one before showed.
CONFIRMATIONS = 2
#: Looks that may show something new.
TRIES = 10
#: The pause before the next look at a key that has changed.
PAUSES = Backoff(1.0, 30.0)

#: Seconds between two questions whether a key is due.
_EVERY = 0.2

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Mismatch(Generic[V]):
    """A key whose sides differ: ``state`` stands for what both hold, ``verdict`` says what."""

    key: bytes
    state: bytes
    verdict: V


class Comparer(Protocol[V]):
    """Compares both sides of some keys."""

    def look(self, keys: Sequence[bytes]) -> Iterable[Mismatch[V]]:
        """Read both sides now; give the keys that differ, and count the others as compared."""

    def moment(self) -> float:
        """The time on the source's clock, or a later one."""

    def differs(self, mismatch: Mismatch[V]) -> None:
        """It is a difference."""

    def undecided(self, key: bytes, why: str) -> None:
        """It cannot be decided whether the key differs."""


@dataclass(slots=True)
class _Doubt:
    """One key. ``moment`` and ``point`` are of the last look, ``state`` is what it has shown.

    ``since`` is when that was, and ``due`` before when the next one does not come, both by the
    clock of the doubts.
    """

    key: bytes
    due: float
    state: bytes = b""
    moment: float = 0.0
    point: SavedPoint = field(default_factory=SavedPoint)
    since: float = 0.0
    confirmed: int = 0
    tries: int = 0


class Doubts(Generic[V]):
    """The keys of a table that are in doubt. Thread-safe: the threads that read pages resolve them.

    What becomes of some keys is one step of ``gate``.
    """

    def __init__(
        self,
        table: str,
        comparer: Comparer[V],
        following: Following,
        gate: Gate,
        stop: threading.Event,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._table = table
        self._comparer = comparer
        self._following = following
        self._gate = gate
        self._stop = stop
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._waiting: dict[bytes, _Doubt] = {}
        self._busy: set[bytes] = set()  # looked at just now
        self._asked = -inf  # when it was last asked which keys are due

    def put(self, keys: Iterable[bytes]) -> None:
        """Look at keys, and hold those that are in doubt then; within a step of the gate."""
        now = self._clock()
        with self._lock:
            new = [key for key in dict.fromkeys(keys) if key not in self._waiting]
            self._waiting |= {key: _Doubt(key, now) for key in new}
            self._busy |= set(new)
        for first in range(0, len(new), AT_ONCE):
            self._look(new[first : first + AT_ONCE])

    def make_room(self) -> None:
        """Resolve what is due; return when there are not too many keys. Raises Stopped."""
        self._look_until(lambda: len(self._waiting) <= MOST)

    def resolve(self) -> None:
        """Return when no key is in doubt. Raises Stopped when the check ends."""
        self._look_until(lambda: not self._waiting)

    def held(self) -> list[bytes]:
        """The keys that are in doubt."""
        with self._lock:
            return list(self._waiting)

    def _look_until(self, over: Callable[[], bool]) -> None:
        self._look_at_due()
        while not over():
            if self._stop.wait(_EVERY):
                raise Stopped
            self._look_at_due()

    def _look_at_due(self) -> None:
        """Look at the keys whose time has come."""
        ready, stuck = self._due()
        for first in range(0, len(stuck), AT_ONCE):
            with self._gate.step():
                why = f"{Wait.STUCK.value}: {self._following.through(self._table)}"
                for key in stuck[first : first + AT_ONCE]:
                    self._comparer.undecided(key, why)
                    self._end(key)
        for first in range(0, len(ready), AT_ONCE):
            with self._gate.step():
                self._look(ready[first : first + AT_ONCE])

    def _due(self) -> tuple[list[bytes], list[bytes]]:
        """The keys to be looked at, and those for which the wait was too long; busy from now on."""
        with self._lock:
            now = self._clock()
            if now - self._asked < _EVERY:
                return [], []
            self._asked = now
            due = [
                one
                for one in self._waiting.values()
                if one.due <= now and one.key not in self._busy
            ]
            waits = {
                one.key: self._following.wait(self._table, one.moment, one.point, one.since)
                for one in due
            }
            ready = [key for key, wait in waits.items() if wait in (Wait.APPLIED, Wait.NO_TASK)]
            stuck = [key for key, wait in waits.items() if wait is Wait.STUCK]
            self._busy |= {*ready, *stuck}
        return ready, stuck

    def _look(self, keys: list[bytes]) -> None:
        """Look at busy keys, and decide what can be decided."""
        point = self._following.saved_point()
        mismatches = {one.key: one for one in self._comparer.look(keys)}
        if unknown := mismatches.keys() - set(keys):
            raise AssertionError(f"differs, but was not asked for: {unknown}")
        moment, since = self._comparer.moment(), self._clock()
        for key in keys:
            doubt = self._waiting[key]
            if key not in mismatches or self._judge(doubt, mismatches[key]):
                self._end(key)  # not busy any more: another thread may have it put again
                continue
            doubt.moment, doubt.point, doubt.since = moment, point, since
            doubt.due = since + PAUSES.pause(doubt.tries, self._jitter)
            self._busy.discard(key)

    def _judge(self, doubt: _Doubt, mismatch: Mismatch[V]) -> bool:
        """Decide about a key whose sides differ; return whether it is decided."""
        same = mismatch.state == doubt.state
        doubt.confirmed = doubt.confirmed + 1 if same else 0
        doubt.tries += not same
        doubt.state = mismatch.state
        confirmed, runs = doubt.confirmed >= CONFIRMATIONS, self._following.runs
        if not (confirmed or runs) and self._following.ended:
            self._comparer.undecided(doubt.key, TASK_ENDED)
            return True
        if confirmed or not runs:
            self._comparer.differs(mismatch)
            return True
        if doubt.tries > TRIES:
            self._comparer.undecided(doubt.key, f"it has changed between {doubt.tries} looks")
            return True
        return False

    def _end(self, key: bytes) -> None:
        with self._lock:
            self._waiting.pop(key, None)
            self._busy.discard(key)
