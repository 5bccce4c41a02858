"""Compares two large sets of keys in little memory, and finds where they differ.

Keys fall into buckets by their digests, and a bucket keeps the sum of its keys' digests. Buckets
with equal sums hold the same keys; a key that only one side has leaves one bucket unequal, so that
only the keys of that bucket need a closer look: a few of every million. Sums of parts of a set add
up to the sums of the whole, in any order, so that many processes can each read a part. Digests are
keyed with a random seed, so that no keys can be chosen whose sums are equal.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import bson

from shake import codec
from shake.codec.contract import KeyForm

#: Of 8 bytes each: 2 MB are what a process holds, sends, and saves.
BUCKETS = 1 << 18
_SUM_BYTES = 8

#: Of a document that holds nothing but the values of a key. A digest depends on these alone.
_NAMES = (b"0", b"1")


class Sums(NamedTuple):
    """How many keys a fingerprint has, and its sums in this machine's byte order.

    Without any bytes they are all zero. Only sums of one ``seed`` can be added up, or compared.
    """

    seed: bytes
    keys: int
    packed: bytes

    def numbers(self) -> memoryview:
        """The sums, one after the other."""
        return memoryview(self.packed or bytes(BUCKETS * _SUM_BYTES)).cast("Q")

    def unequal(self, other: Sums) -> set[int]:
        """The buckets that do not hold the same keys in both."""
        if self.packed == other.packed:
            return set()
        pairs = zip(self.numbers(), other.numbers(), strict=True)
        return {number for number, (ours, theirs) in enumerate(pairs) if ours != theirs}


#: Those of no key.
NO_SUMS = Sums(b"", 0, b"")


class Fingerprint:
    """The sums of one side, modulo 2**64. Thread-safe."""

    def __init__(self, seed: bytes) -> None:
        self.keys = 0
        self._seed = seed
        # A mapping takes no memory until it is written.
        self._sums = memoryview(mmap.mmap(-1, BUCKETS * _SUM_BYTES)).cast("Q")
        self._lock = threading.Lock()

    def add(self, keys: Iterable[tuple[Any, ...]]) -> None:
        """Count in keys, by the values of their attributes; one that comes twice counts twice."""
        for key in keys:
            names = _NAMES[: len(key)]
            document = dict(zip((name.decode() for name in names), key, strict=True))
            form = KeyForm(False, False, names, (b"S",) * len(key))
            self.add_documents(codec.digests(self._seed, form), bson.encode(document))

    def add_documents(self, digests: codec.Digests, documents: bytes | memoryview) -> int:
        """Count in the keys of documents, one behind the other; return how many there are."""
        with self._lock:
            added = digests.add(documents, self._sums)
            self.keys += added
        return added

    def add_matched(self, matcher: codec.Matcher) -> None:
        """Count in the keys of all documents of a page that are matched."""
        with self._lock:
            self.keys += matcher.add(self._sums)

    def merge(self, other: Sums) -> None:
        """Count in all keys of another part of the set."""
        if other.seed != self._seed:
            raise ValueError("sums of another seed")
        with self._lock:
            if other.packed:
                codec.add_sums(self._sums, other.packed)
            self.keys += other.keys

    def add_all(self, other: Fingerprint) -> None:
        """Count in all keys of another one of the same seed."""
        with self._lock:
            codec.add_sums(self._sums, other._sums)
            self.keys += other.keys

    def sums(self) -> Sums:
        """All that it holds, to be sent to another process and merged there, or saved."""
        with self._lock:
            return Sums(self._seed, self.keys, self._sums.tobytes() if self.keys else b"")


def marks(buckets: Iterable[int]) -> bytes:
    """A bit for each bucket, set for these: see codec.Digests."""
    marked = bytearray(BUCKETS // 8)
    for number in buckets:
        marked[number // 8] |= 1 << number % 8
    return bytes(marked)
