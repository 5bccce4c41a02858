"""Target to source: the documents whose key no item of the source has."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

import bson

from shake import codec
from shake.check.documents import DECODED, encoded, opened
from shake.check.doubts import Doubts, Mismatch
from shake.check.findings import UNDECIDED
from shake.check.fingerprint import Fingerprint, marks
from shake.check.keys import digest
from shake.check.meaning import Item
from shake.check.sides import Advanced, Repair, Sides
from shake.check.stored import Key, KeyRange

#: Keys that the source is asked for in one request.
_AT_ONCE = 100

#: Why a key that has become a double is undecided.
_DOUBLES = (
    "with convert.type = mchange, numeric keys cannot be compared while shake follows: check again "
    "when it has ended"
)


class Extras:
    """Finds, reports and deletes extra documents in the target.

    ``theirs`` has the keys of ``read_parts`` of the target; the extra documents of ``named_parts``
    are named. ``marks`` are those of the buckets that have been found unequal (see
    fingerprint.marks): the source is asked only for the few keys that share one of them. It is the
    Comparer for its ``doubts``, each by a Key as BSON.
    """

    def __init__(self, sides: Sides, seed: bytes) -> None:
        self.doubts = Doubts(sides.table.name, self, sides.following, sides.gate, sides.stop)
        self.theirs = Fingerprint(seed)
        self.read_parts: set[int] = set()
        self.named_parts: set[int] = set()
        self.marks = marks(())
        self._seed = seed
        self._sides = sides
        self._keys = sides.stored.keys
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._absent_keys: set[bytes] = set()
        self._named: set[bytes] = set()

    def read(self, number: int, part: KeyRange) -> None:
        """Read the keys of a part, one part at a time: each takes the memory of a fingerprint."""
        with self._reading:
            keys = self._sides.stored.patiently(lambda: self._fingerprint(part))
            with self._sides.gate.step():
                self.theirs.add_all(keys)
                self.read_parts.add(number)

    def name(self, number: int, part: KeyRange) -> None:
        """Name the documents of a part, in the unequal buckets, that the source does not have."""
        self._sides.stored.patiently(lambda: self._check(self._within(part)))
        with self._sides.gate.step():
            self.named_parts.add(number)

    def some(self, count: int) -> None:
        """Look at ``count`` documents chosen at random."""
        self._check(self._sides.stored.some_keys(count))

    def held(self, part: KeyRange) -> list[Key]:
        """The keys of a part that are in the unequal buckets."""
        return self._sides.stored.patiently(lambda: list(self._within(part)))

    def wanted(self, segment: int, segments: int) -> Counter[bytes]:
        """How often the keys of the unequal buckets, by digest, are in a segment of the source."""
        ours: Counter[bytes] = Counter()
        keys = self._keys.ours
        digests = codec.digests(self._seed, keys.form)
        for page in self._sides.source.pages(segment, segments, only_keys=True):
            for document in digests.within(page.packed, self.marks):
                ours[digest(keys.identity(opened(document)))] += 1
        return ours

    def compare(self, ours: Counter[bytes], keys: Iterable[Key]) -> None:
        """Name what is there too often, or too rarely, of keys that have become doubles."""
        filtered = self._sides.config.scan_filter is not None
        theirs: dict[bytes, list[Key]] = defaultdict(list)
        for key in keys:
            theirs[digest(self._keys.identity(key))].append(key)
        for one, keys in theirs.items():
            here, shown = ours[one], self._keys.shown(keys[0])
            if here != len(keys) and not (filtered and here) and self._sides.following.runs:
                self._sides.differ(UNDECIDED, shown, note=_DOUBLES)
            elif not here:
                for document in self._sides.stored.documents_of(keys):
                    self._name(document)
            elif len(keys) > here:
                self._sides.differ("duplicate", shown)
            elif here > len(keys) and not filtered:
                note = "convert.type = mchange makes one double of several keys"
                self._sides.differ("folded", shown, note=note)

    def _fingerprint(self, part: KeyRange) -> Fingerprint:
        stored = self._sides.stored
        fingerprint = Fingerprint(self._seed)
        for batch in stored.batches(part):
            keys = fingerprint.add_documents(stored.digests, batch)
            self._sides.listener.advanced(Advanced(keys=keys))
        return fingerprint

    def _within(self, part: KeyRange) -> Iterator[Key]:
        stored = self._sides.stored
        for batch in stored.batches(part):
            [(_, _, keys)] = codec.batches(memoryview(batch), sys.maxsize, sys.maxsize)
            self._sides.listener.advanced(Advanced(keys=keys))
            for document in stored.digests.within(batch, self.marks):
                yield stored.key(document)

    def _check(self, keys: Iterable[Key]) -> None:
        left = iter(keys)
        while some := list(islice(left, _AT_ONCE)):
            self.doubts.make_room()
            with self._sides.gate.step():
                absent = [key for key in self._absent(some) if self._first(self._absent_keys, key)]
                self.doubts.put(map(encoded, absent))

    def put(self, keys: Iterable[Item]) -> None:
        """Look at typed keys, which the target can hold and the source not, within a step."""
        self.doubts.put(map(encoded, self._sides.source.stored_keys(list(keys))))

    # ---- as the Comparer

    def look(self, keys: Sequence[bytes]) -> list[Mismatch[list[Key]]]:
        """See Comparer: a deletion may be on its way from the source to the target."""
        found: dict[bytes, list[Key]] = defaultdict(list)
        decoded = bson.decode_all(b"".join(keys), DECODED)
        names = {self._document_name(one, one): key for one, key in zip(decoded, keys, strict=True)}
        for document in self._absent(self._sides.stored.documents_of(decoded)):
            # The target also finds an array that holds a key.
            if key := names.get(self._document_name(document, decoded[0])):
                found[key].append(document)
        return [Mismatch(key, self._state(some), some) for key, some in found.items()]

    def _state(self, keys: list[Key]) -> bytes:
        """What stands for all that is stored of some keys, whatever its order.

        The keys alone do not: an item can go and come back between two looks, with other content.
        """
        state = blake2b(digest_size=16)
        for document in sorted(one for key in keys for one in self._sides.stored.whole(key)):
            state.update(document)
        return state.digest()

    def _document_name(self, document: Key, like: Key) -> Any:
        """What a key of the kind of ``like`` names a document by: its ``_id``, or the key alone.

        An ``_id`` that is the key counts by its value, since the target finds 5.0 where 5 is asked.
        """
        if "_id" in like and not (self._keys.by_id and self._keys.typed(document)):
            return encoded({"_id": document["_id"]})
        return self._keys.identity(document)

    def moment(self) -> float:
        return self._sides.source.moment()

    def differs(self, mismatch: Mismatch[list[Key]]) -> None:
        for document in mismatch.verdict:
            self._name(document)

    def undecided(self, key: bytes, why: str) -> None:
        [decoded] = bson.decode_all(key, DECODED)
        self._sides.differ(UNDECIDED, self._keys.shown(decoded), note=why)

    def _absent(self, keys: list[Key]) -> list[Key]:
        typed = [one for one in map(self._keys.typed, keys) if one is not None]
        page = self._sides.source.get(typed, whole=False)
        present = set(map(self._keys.identity_of, page.keys))
        return [key for key in keys if self._keys.identity(key) not in present]

    def _name(self, document: Key) -> None:
        if not self._first(self._named, document):
            return
        stored = self._sides.stored
        whole = stored.whole(document)
        target = tuple(map(stored.shown, whole))
        deletes = self._sides.repair is Repair.EXTRAS
        self._sides.listener.advanced(Advanced(to_repair=deletes))
        deleted = deletes and self._delete(document, whole)
        self._sides.listener.advanced(Advanced(repaired=deletes))
        if deletes and not deleted:
            return
        repaired = deletes and not stored.whole(document)
        self._sides.differ("extra", self._keys.shown(document), repaired=repaired, target=target)

    def _delete(self, key: Key, documents: list[bytes]) -> bool:
        """Delete the documents of a key, unless that comes back at the source; False where it does.

        It can come back, and be gone again, at any moment. So only what was looked at is deleted,
        and the source is asked before and after each change of the target.
        """
        stored = self._sides.stored
        self._sides.report_before_repair([(self._keys.shown(key), documents)])
        for document in documents:
            if not self._absent([key]):
                return False
            stored.delete_unchanged(document)
        if (typed := self._keys.typed(key)) is None:
            return True
        added: list[bytes] = []
        while bool(there := self._sides.source.get([typed]).documents) != bool(added):
            for document in added:
                stored.delete_unchanged(document)
            added = [stored.add(document) for document in there]
        return not there

    def _first(self, known: set[bytes], key: Mapping[str, Any]) -> bool:
        """Whether it comes for the first time: a failing target makes the search begin anew."""
        one = digest((*self._keys.identity(key), repr(key.get("_id"))))
        with self._lock:
            first = one not in known
            known.add(one)
        return first
