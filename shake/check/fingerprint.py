"""Tells whether two large sets of keys are the same, and where not, in little memory.

Keys fall into buckets by a hash, and a bucket keeps the sum of its keys' hashes. Buckets with
equal sums hold the same keys; a key that only one side has leaves one bucket unequal, so that only
the keys of that bucket need a closer look: one in a million. Sums of parts of a set add up to the
sums of the whole, in any order, so that many processes can each read a part.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable
from operator import add
from typing import NamedTuple

from shake.check.keys import Identity, digest

#: Of 8 bytes each: this much is what a process holds, and sends.
BUCKETS = 1 << 20
_SUM_BYTES = 8
_MODULUS = 1 << (8 * _SUM_BYTES)


class Sums(NamedTuple):
    """How many keys a fingerprint has, and its sums in this machine's byte order."""

    keys: int
    packed: bytes


#: Those of no key.
NO_SUMS = Sums(0, b"")


class Fingerprint:
    """The sums of one side, modulo 2**64. Thread-safe."""

    def __init__(self) -> None:
        self.keys = 0
        self._sums = array("Q", bytes(BUCKETS * _SUM_BYTES))
        self._lock = threading.Lock()

    def add(self, identities: Iterable[Identity]) -> None:
        """Count in these keys; one that comes twice counts twice."""
        digests = [int.from_bytes(digest(identity), "big") for identity in identities]
        sums = self._sums
        with self._lock:
            self.keys += len(digests)
            for one in digests:
                number = one % BUCKETS
                sums[number] = (sums[number] + (one >> 64)) % _MODULUS

    def merge(self, other: Sums) -> None:
        """Count in all keys of another part of the set."""
        with self._lock:
            sums = array("Q", other.packed)
            if self.keys:
                added = map(add, self._sums, sums)
                sums = array("Q", [total % _MODULUS for total in added])
            self._sums = sums
            self.keys += other.keys

    def unequal(self, other: Fingerprint) -> set[int]:
        """The buckets that do not hold the same keys in both."""
        if self._sums.tobytes() == other._sums.tobytes():
            return set()
        pairs = zip(self._sums, other._sums, strict=True)
        return {number for number, (ours, theirs) in enumerate(pairs) if ours != theirs}

    def brief(self) -> Sums:
        """The same as :meth:`sums`, without the sums of no key."""
        return self.sums() if self.keys else NO_SUMS

    def sums(self) -> Sums:
        """All that it holds, to be sent to another process and merged there."""
        with self._lock:
            return Sums(self.keys, self._sums.tobytes())


def bucket(identity: Identity) -> int:
    """The bucket that a key falls into."""
    return int.from_bytes(digest(identity), "big") % BUCKETS
