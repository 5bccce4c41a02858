"""Tells whether two large sets of keys are the same, and where not, in little memory.

Keys fall into buckets by a hash, and a bucket keeps the sum of its keys' hashes. Buckets with
equal sums hold the same keys; a key that only one side has leaves one bucket unequal, so that only
the keys of that bucket need a closer look: one in 65,536.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from shake.check.keys import Identity, digest

BUCKETS = 1 << 16


class Fingerprint:
    """The sums of one side. Thread-safe."""

    def __init__(self) -> None:
        self.keys = 0
        self._sums = [0] * BUCKETS
        self._lock = threading.Lock()

    def add(self, identities: Iterable[Identity]) -> None:
        """Count in these keys; one that comes twice counts twice."""
        digests = [digest(identity) for identity in identities]
        with self._lock:
            self.keys += len(digests)
            for one in digests:
                self._sums[_bucket(one)] += int.from_bytes(one[2:], "big")

    def unequal(self, other: Fingerprint) -> set[int]:
        """The buckets that do not hold the same keys in both."""
        pairs = zip(self._sums, other._sums, strict=True)
        return {number for number, (ours, theirs) in enumerate(pairs) if ours != theirs}


def bucket(identity: Identity) -> int:
    """The bucket that a key falls into."""
    return _bucket(digest(identity))


def _bucket(one: bytes) -> int:
    return int.from_bytes(one[:2], "big")
