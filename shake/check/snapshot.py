"""What one process has done of a table's check, at a moment when no step is under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

from shake.check.findings import Difference
from shake.check.fingerprint import Sums
from shake.check.sides import Advanced, Listener

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
