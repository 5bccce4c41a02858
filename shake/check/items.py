"""Source to target: every item, or some, against the documents of its key.

A difference counts only when both sides, read once more, still differ: a live table changes
between two reads (see doubts).
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from shake.check.documents import opened
from shake.check.doubts import Doubts, Mismatch
from shake.check.findings import UNDECIDED
from shake.check.fingerprint import Fingerprint
from shake.check.keys import Identity, SourceKey, key_of_item
from shake.check.meaning import Item
from shake.check.sides import Advanced, Sides
from shake.check.source import SourcePage
from shake.check.state import ScanPosition
from shake.check.stored import DocumentRefused
from shake.checkpoint.kept import entry_id
from shake.errors import Stopped

#: Unmatched items that are looked at together.
_AT_ONCE = 1000
#: Up to so many of a page are read anew at once. Typed items of a whole page take 40 MB and more.
_FEW = 10

#: Why a key is undecided that is no text.
_NO_TEXT = "its key is not UTF-8, so it cannot be compared"

#: A sample visits random segments and reads this many items in each; where DynamoDB does not say
#: the table's size, the table has this many segments.
_VISIT = 50
_SEGMENTS = 64
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html (TotalSegments)
_MAX_SEGMENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one document of the source: ``kind`` is empty where the target agrees.

    ``key`` is that of the document; ``copies`` are the target's documents of it, the one that
    differs least first. An item that no document can be made of has an empty one, and no copies.
    """

    document: bytes
    key: SourceKey
    copies: list[bytes]
    item: Item
    kind: str = ""
    fields: tuple[str, ...] = ()
    note: str = ""


class Items:
    """Compares items; ``found`` has the keys of all documents that were found in the target.

    ``positions`` say how far segments are compared. It is the Comparer for its ``doubts``, each by
    the typed key as JSON. A page is one step of the gate.
    """

    def __init__(self, sides: Sides, seed: bytes) -> None:
        self.found = Fingerprint(seed)
        self.positions: dict[int, ScanPosition] = {}
        self.doubts = Doubts(sides.table.name, self, sides.following, sides.gate, sides.stop)
        self._sides = sides
        self._lossy = sides.stored.keys.lossy

    def all(self, segment: int, segments: int, start: bytes | None = None) -> None:
        """Compare every item of a segment from ``start`` on, the table read in so many."""
        for page in self._sides.source.pages(segment, segments, start):
            if self._sides.stop.is_set():
                raise Stopped
            self.doubts.make_room()
            with self._sides.gate.step():
                self._check(page)
                last = page.last_key
                self.positions[segment] = ScanPosition(segment, last, last is None)

    def some(self, count: int, rng: random.Random, *, holds_items: bool) -> None:
        """Scan ``count`` items chosen at random, or all where there are no more; compare them.

        A scan filter leaves out some of them.
        """
        table, source = self._sides.table, self._sides.source
        segments = min(-(-table.items // _VISIT), _MAX_SEGMENTS) or 1
        if holds_items and not table.items:
            segments = _SEGMENTS
        chosen = rng.sample(range(segments), min(segments, count))
        visits: deque[tuple[int, bytes | None]] = deque((segment, None) for segment in chosen)
        while visits and count > 0:
            segment, start = visits.popleft()
            page = source.page(segment, segments, start, min(_VISIT, count))
            with self._sides.gate.step():
                self._check(page)
            count -= page.scanned
            if page.last_key is not None:
                visits.append((segment, page.last_key))

    def _check(self, page: SourcePage) -> None:
        """Compare a page."""
        self._doubt([self._key(verdict.item) for verdict in self._unfit(page)])
        scanned = self._sides.config.scan_filter is None
        matcher = self._sides.stored.match(page, scanned=scanned)
        self.found.add_matched(matcher)
        unmatched = matcher.unmatched()
        if few := self._keys_of_few(page, unmatched):
            self._doubt(few)
            unmatched = []
        for first in range(0, len(unmatched), _AT_ONCE):
            same, verdicts = self._judge(page, unmatched[first : first + _AT_ONCE])
            self._count(same, (verdict for verdict in verdicts if not verdict.kind))
            self._doubt([self._key(verdict.item) for verdict in verdicts if verdict.kind])
        items = page.count + len(page.unfit)
        self._sides.listener.advanced(Advanced(items, page.scanned, len(page.packed)))

    def _keys_of_few(self, page: SourcePage, numbers: Sequence[int]) -> list[Item]:
        """The typed keys of these documents; none where they are many, or not exact."""
        ours = self._sides.stored.keys.ours
        if len(numbers) > _FEW or page.holds_all or ours.lossy:
            return []
        typed = [ours.typed(opened(page.documents[number])) for number in numbers]
        keys = [key for key in typed if key is not None]
        return keys if len(keys) == len(numbers) else []

    def _doubt(self, keys: list[Item]) -> None:
        if keys and self._sides.repair:
            self._repair(keys)
        else:
            self.put(keys)

    def _judge(
        self, page: SourcePage, numbers: Sequence[int] | None = None
    ) -> tuple[list[SourceKey], list[Verdict]]:
        """Look at the documents of a page, or at those of these numbers.

        Returns the keys of those whose one copy is the same, byte for byte, and what became of all
        others.
        """
        chosen = range(page.count) if numbers is None else numbers
        documents = [page.documents[n] for n in chosen]
        keys = [page.keys[n] for n in chosen]
        copies, equal = self._sides.stored.copies(documents, keys)
        others = [n for n, some in enumerate(copies) if len(some) != 1 or n not in equal]
        verdicts = [
            self._compare(documents[n], keys[n], copies[n], page.items[chosen[n]]) for n in others
        ]
        return [keys[n] for n in sorted(equal.difference(others))], verdicts

    def _compare(self, document: bytes, key: SourceKey, copies: list[bytes], item: Item) -> Verdict:
        if not copies:
            return Verdict(document, key, copies, item, "missing")
        stored = self._sides.stored
        differing = [tuple(stored.differing(item, document, copy)) for copy in copies]
        ranks = sorted(range(len(copies)), key=lambda number: len(differing[number]))
        fields = differing[ranks[0]]
        kind = "different" if fields else ""
        if len(copies) > 1 and not self._lossy:
            kind = "duplicate"
        return Verdict(document, key, [copies[number] for number in ranks], item, kind, fields)

    def put(self, keys: Iterable[Item]) -> None:
        """Look at typed keys, within a step of the gate."""
        self.doubts.put(map(self._named, keys))

    # ---- as the Comparer

    def look(self, keys: Sequence[bytes]) -> list[Mismatch[Verdict]]:
        """See Comparer. An item that the source has deleted is no difference of this side."""
        page = self._sides.source.get(list(map(json.loads, keys)))
        same, verdicts = self._judge(page)
        self._count(same, (verdict for verdict in verdicts if not verdict.kind))
        return [
            Mismatch(self._named(verdict.item), _state(verdict), verdict)
            for verdict in [*verdicts, *self._unfit(page)]
            if verdict.kind
        ]

    def moment(self) -> float:
        return self._sides.source.moment()

    def differs(self, mismatch: Mismatch[Verdict]) -> None:
        self._count([], [mismatch.verdict])
        self._name(mismatch.verdict)

    def _name(self, verdict: Verdict, *, repaired: bool = False, note: str = "") -> None:
        stored = self._sides.stored
        self._sides.differ(
            verdict.kind,
            self._key(verdict.item),
            fields=verdict.fields,
            repaired=repaired,
            note=note or verdict.note,
            source=json.dumps(verdict.item),
            target=tuple(map(stored.shown, verdict.copies)),
        )

    def undecided(self, key: bytes, why: str) -> None:
        self._sides.differ(UNDECIDED, json.loads(key), note=why)

    # ---- repairs

    def replay(self, keys: list[Item]) -> set[str]:
        """Store kept items of these keys that can be stored by now, and name those alone.

        Returns the entry_id of all that need not be kept any more: both sides are equal.
        """
        with self._sides.gate.step():
            self._repair(keys, replays=True)
            page = self._sides.source.get(keys)
            _, verdicts = self._judge(page)
        wrong = [self._key(verdict.item) for verdict in verdicts if verdict.kind]
        wrong += [self._key(item) for item, _ in page.unfit]
        return set(map(entry_id, keys)) - set(map(entry_id, wrong))

    def _repair(self, keys: list[Item], *, replays: bool = False) -> None:
        """Read both sides anew; repair, and name, what differs still.

        ``replays``: what is not repaired is named later, by the comparison.
        """
        sides, identity_of = self._sides, self._sides.stored.keys.identity_of
        page = sides.source.get(keys)
        for verdict in [] if replays else self._unfit(page):
            self._name(verdict)
        same, verdicts = self._judge(page)
        wrong = [verdict for verdict in verdicts if verdict.kind]
        refusals: dict[Identity, str] = {}
        right: set[Identity] = set()
        there: set[Identity] = set()
        if wrong:
            sides.listener.advanced(Advanced(to_repair=len(wrong)))
            sides.report_before_repair(
                (self._key(one.item), one.copies) for one in wrong if one.copies
            )
            added: list[tuple[Identity, bytes]] = []
            for verdict in wrong:
                identity = identity_of(verdict.key)
                try:
                    if inserted := self._repair_item(verdict):
                        added.append((identity, inserted))
                except DocumentRefused as error:
                    refusals[identity] = str(error)
                sides.listener.advanced(Advanced(repaired=1))
            same, verdicts = self._judge(sides.source.get(keys))
            right = set(map(identity_of, same))
            right |= {identity_of(verdict.key) for verdict in verdicts if not verdict.kind}
            there = right | {identity_of(verdict.key) for verdict in verdicts}
            # Of what was inserted, the source can have deleted items since. The replaced document
            # of such an item is an extra document, as it was before.
            for identity, document in added:
                if identity not in there:
                    sides.stored.delete_unchanged(document)
        for verdict in wrong:
            identity = identity_of(verdict.key)
            if identity not in there and not self._holds(verdict):
                continue  # the source has deleted it meanwhile, so both sides agree
            repaired = identity in right
            if repaired or not replays:
                self._name(verdict, repaired=repaired, note=refusals.get(identity, ""))
        if not replays:
            self._count(same, verdicts)

    def _repair_item(self, verdict: Verdict) -> bytes:
        """Make the item's document the only one of its key; return it if it was inserted."""
        stored = self._sides.stored
        for copy in verdict.copies[1:]:
            stored.delete_unchanged(copy)
        if not verdict.copies:
            return stored.add(verdict.document)
        if verdict.fields:
            stored.replace(verdict.copies[0], verdict.document)
        return b""

    def _holds(self, verdict: Verdict) -> bool:
        """Whether the target holds a document of the item's key now."""
        stored = self._sides.stored
        [copies], _ = stored.copies([verdict.document], [verdict.key])
        return bool(copies)

    def _unfit(self, page: SourcePage) -> list[Verdict]:
        """Name the unfit items that are kept; the others, which the task might keep soon."""
        found = []
        for item, reason in page.unfit:
            key, note = self._key(item), f"it cannot be stored: {reason}"
            verdict = Verdict(b"", (None, ()), [], item, "missing", note=note)
            if page.holds_all and not _is_text(key):
                self._sides.differ(UNDECIDED, key, note=_NO_TEXT)
            elif not page.holds_all and self._sides.kept.is_kept(key, item):
                self._name(verdict)
            else:
                found.append(verdict)
        return found

    def _count(self, same: list[SourceKey], verdicts: Iterable[Verdict]) -> None:
        """Note which keys the target holds, each as often as it does."""
        others = [
            verdict.key
            for verdict in verdicts
            for _ in (verdict.copies[:1] if self._lossy else verdict.copies)
        ]
        self.found.add(values for _, values in same + others)

    def _key(self, item: Item) -> Item:
        return key_of_item(self._sides.table, item)

    def _named(self, item: Item) -> bytes:
        """What a doubt of an item, or of its key, is known by."""
        return json.dumps(self._key(item)).encode()


def _is_text(key: Item) -> bool:
    """Whether a typed key is UTF-8."""
    try:
        json.dumps(key, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _state(verdict: Verdict) -> bytes:
    """What stands for both sides; the order of attributes does not count."""
    state = blake2b(json.dumps(verdict.item, sort_keys=True).encode(), digest_size=16)
    for copy in sorted(verdict.copies):
        state.update(copy)
    return state.digest()
