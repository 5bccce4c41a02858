"""Source to target: every item, or some, against the documents of its key.

A difference is believed only when both sides, read once more, still say so: a live table changes
between two reads.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool

from shake.check.fingerprint import Fingerprint
from shake.check.keys import Identity
from shake.check.meaning import Item, differing_fields
from shake.check.sides import Sides
from shake.check.source import Page
from shake.check.target import content, opened
from shake.errors import Stopped

#: Segments of a table that are read at the same time.
THREADS = 8
#: Items that the target is asked for in one query.
_AT_ONCE = 1000

#: A sample visits random segments and reads this many items in each; where DynamoDB does not know
#: the table's size, the table has this many segments.
_VISIT = 50
_SEGMENTS = 64
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html (TotalSegments)
_MOST_SEGMENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one document of the source: ``kind`` is empty where the target agrees.

    ``copies`` are the target's documents of its key, the one that differs least first; ``item``
    is known where ``kind`` is not empty.
    """

    document: bytes
    copies: list[bytes]
    item: Item
    kind: str = ""
    fields: tuple[str, ...] = ()


class Items:
    """Compares items; ``compared`` and ``scanned`` grow while it does, for whoever shows them.

    ``found`` holds the keys of the documents that were found in the target.
    """

    def __init__(self, sides: Sides, stop: threading.Event) -> None:
        self.compared = self.scanned = 0
        self.found = Fingerprint()
        self._sides = sides
        self._stop = stop
        self._lock = threading.Lock()

    def all(self, segments: int) -> None:
        """Compare every item, the table read in so many segments."""

        def read(segment: int) -> None:
            for page in self._sides.source.pages(segment, segments):
                if self._stop.is_set():
                    raise Stopped
                self._check(page)

        # Not an Executor, which waits for its threads: one may hang in a request.
        with ThreadPool(THREADS) as threads:
            try:
                for _ in threads.imap_unordered(read, range(segments)):
                    pass
            except BaseException:
                self._stop.set()  # so that the others end at once
                raise

    def some(self, count: int, chance: random.Random, *, holds_items: bool) -> None:
        """Compare ``count`` items chosen at random, or all where there are no more."""
        table, source = self._sides.table, self._sides.source
        segments = min(-(-table.items // _VISIT), _MOST_SEGMENTS) or 1
        if holds_items and not table.items:
            segments = _SEGMENTS
        chosen = chance.sample(range(segments), min(segments, count))
        visits: deque[tuple[int, bytes | None]] = deque((segment, None) for segment in chosen)
        while visits and self.compared < count:
            segment, start = visits.popleft()
            page = source.page(segment, segments, start, min(_VISIT, count - self.compared))
            self._check(page)
            if page.last_key is not None:
                visits.append((segment, page.last_key))

    def _check(self, page: Page) -> None:
        self._name_unfit(page)
        for first in range(0, len(page.documents), _AT_ONCE):
            verdicts = self._judge(page, first, scanned=self._sides.config.scan_filter is None)
            self._count(verdict for verdict in verdicts if not verdict.kind)
            if doubtful := [self._key(verdict.item) for verdict in verdicts if verdict.kind]:
                self._look_again(doubtful)
        with self._lock:
            self.compared += len(page.documents) + len(page.unfit)
            self.scanned += page.scanned

    def _judge(self, page: Page, first: int = 0, *, scanned: bool = False) -> list[Verdict]:
        """At most _AT_ONCE documents of a page; ``scanned``: see StoredKeys.queries."""
        config = self._sides.config
        documents = page.documents[first : first + _AT_ONCE]
        found = self._sides.stored.copies(documents, scanned=scanned)
        verdicts = []
        for number, copies in enumerate(found, first):
            document = page.documents[number]
            same = len(copies) == 1 and content(document, config) == content(copies[0], config)
            verdicts.append(
                Verdict(document, copies, {})
                if same
                else self._compare(document, copies, page.items[number])
            )
        return verdicts

    def _compare(self, document: bytes, copies: list[bytes], item: Item) -> Verdict:
        if not copies:
            return Verdict(document, copies, item, "missing")
        keys, config = self._sides.table.keys, self._sides.config
        differing = [tuple(differing_fields(item, document, c, keys, config)) for c in copies]
        ranks = sorted(range(len(copies)), key=lambda number: len(differing[number]))
        fields = differing[ranks[0]]
        kind = "different" if fields else ""
        if len(copies) > 1 and not self._sides.stored.keys.lossy:
            kind = "duplicate"
        return Verdict(document, [copies[number] for number in ranks], item, kind, fields)

    def _look_again(self, keys: list[Item]) -> None:
        """Read both sides anew; name, and mend, what differs still."""
        sides = self._sides
        page = sides.source.get(keys)
        self._name_unfit(page)
        verdicts = self._judge(page)
        wrong = [verdict for verdict in verdicts if verdict.kind]
        if wrong and sides.repair:
            for verdict in wrong:
                self._mend(verdict)
            verdicts = self._judge(sides.source.get(keys))
        still = {self._identity(verdict) for verdict in verdicts if verdict.kind}
        for verdict in wrong:
            repaired = self._identity(verdict) not in still
            key = self._key(verdict.item)
            sides.differ(verdict.kind, key, fields=verdict.fields, repaired=repaired)
        self._count(verdicts)

    def _mend(self, verdict: Verdict) -> None:
        """Make the item's document the only one of its key."""
        for copy in verdict.copies[1:]:
            self._sides.stored.delete(opened(copy))
        self._sides.stored.put(verdict.document)

    def _name_unfit(self, page: Page) -> None:
        for item, reason in page.unfit:
            self._sides.differ("missing", self._key(item), note=f"it cannot be stored: {reason}")

    def _count(self, verdicts: Iterable[Verdict]) -> None:
        """Note which keys the target holds, each as often as it does."""
        lossy = self._sides.stored.keys.lossy
        self.found.add(
            self._identity(verdict)
            for verdict in verdicts
            for _ in (verdict.copies[:1] if lossy else verdict.copies)
        )

    def _identity(self, verdict: Verdict) -> Identity:
        return self._sides.stored.keys.identity(opened(verdict.document))

    def _key(self, item: Item) -> Item:
        return {key.name: item[key.name] for key in self._sides.table.keys if key.name in item}
