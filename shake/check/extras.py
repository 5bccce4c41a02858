"""Target to source: the documents whose key no item of the source has."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from bson.raw_bson import RawBSONDocument

from shake.check.fingerprint import BUCKETS, Fingerprint, bucket
from shake.check.keys import Identity, digest
from shake.check.sides import Sides
from shake.check.target import opened

#: Keys that the source is asked for in one request.
_AT_ONCE = 100
#: Keys that are held in memory when the source has to be scanned for them.
_HELD = 100_000


class Extras:
    """Finds, names and deletes what the target has too much."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._keys = sides.stored.keys
        self._named: set[bytes] = set()

    def all(self, found: Fingerprint, segments: int) -> None:
        """Look at every document; ``found`` are the keys that items of the source have.

        The source is asked only for the few keys that share a bucket with one too many.
        """
        stored = self._sides.stored
        unequal = found.unequal(theirs := stored.patiently(self._fingerprint))
        if self._keys.lossy:
            at_once = max(1, _HELD * BUCKETS // max(1, found.keys + theirs.keys))
            rest = sorted(unequal)
            while rest:
                self._scan_for(set(rest[:at_once]), segments)
                rest = rest[at_once:]
        elif unequal:
            stored.patiently(lambda: self._check(self._within(unequal)))

    def some(self, count: int) -> None:
        """Look at ``count`` documents chosen at random."""
        self._check(self._sides.stored.some_keys(count))

    def _fingerprint(self) -> Fingerprint:
        fingerprint = Fingerprint()
        for keys in self._sides.stored.all_keys():
            fingerprint.add(map(self._keys.identity, keys))
        return fingerprint

    def _within(self, buckets: set[int]) -> Iterator[RawBSONDocument]:
        for keys in self._sides.stored.all_keys():
            for key in keys:
                if bucket(self._keys.identity(key)) in buckets:
                    yield key

    def _check(self, keys: Iterable[RawBSONDocument]) -> None:
        some: list[RawBSONDocument] = []
        for key in keys:
            some.append(key)
            if len(some) == _AT_ONCE:
                self._name_absent(some)
                some = []
        self._name_absent(some)

    def _name_absent(self, keys: list[RawBSONDocument]) -> None:
        absent = self._absent(keys)
        # Once more: a deletion may be on its way from the source to the target.
        absent = self._absent([key for key in absent if self._sides.stored.holds(key)])
        for key in absent:
            self._name(key)

    def _absent(self, keys: list[RawBSONDocument]) -> list[RawBSONDocument]:
        typed = [one for one in map(self._keys.typed, keys) if one is not None]
        page = self._sides.source.get(typed, whole=False)
        present = {self._keys.identity(opened(document)) for document in page.documents}
        return [key for key in keys if self._keys.identity(key) not in present]

    def _name(self, key: RawBSONDocument) -> None:
        """Once, also where a failure of the target makes the search begin anew."""
        one = digest((*self._keys.identity(key), repr(key["_id"])))
        if one in self._named:
            return
        self._named.add(one)
        stored, repaired = self._sides.stored, False
        if self._sides.repair:
            stored.delete(key)
            repaired = not stored.holds(key)
        self._sides.differ("extra", self._keys.shown(key), repaired=repaired)

    # ---- keys that have become doubles, from which no way leads back to the item

    def _scan_for(self, buckets: set[int], segments: int) -> None:
        """Compare the keys of some buckets by reading the whole source once more."""
        theirs = self._sides.stored.patiently(lambda: self._held(buckets))
        filtered = self._sides.config.scan_filter is not None
        ours: Counter[Identity] = Counter()
        for segment in range(segments):
            for page in self._sides.source.pages(segment, segments, filtered=False):
                identities = map(self._keys.identity, map(opened, page.documents))
                ours.update(one for one in identities if bucket(one) in buckets)
        for identity, keys in theirs.items():
            here, shown = ours[identity], self._keys.shown(keys[0])
            if not here:
                for key in filter(self._sides.stored.holds, keys):
                    self._name(key)
            elif len(keys) > here:
                self._sides.differ("duplicate", shown)
            elif here > len(keys) and not filtered:
                note = "convert.type = mchange makes one double of several keys"
                self._sides.differ("folded", shown, note=note)

    def _held(self, buckets: set[int]) -> dict[Identity, list[RawBSONDocument]]:
        held: dict[Identity, list[RawBSONDocument]] = defaultdict(list)
        for key in self._within(buckets):
            held[self._keys.identity(key)].append(key)
        return held
