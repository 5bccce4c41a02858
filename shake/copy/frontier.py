"""The frontier of a segment: which of its pages are published, and below which all are stored."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from shake.checkpoint.records import SegmentRecord
from shake.farm.messages import Page


@dataclass(slots=True)
class FlyingPage:
    """A page (or one slot of one) that a worker has published and the target has not yet stored.

    ``after`` is the position behind it; None for all but the last slot of a page.
    """

    segment: int
    worker: int
    slot: int
    length: int
    after: SegmentRecord | None
    stored: bool = False


class SegmentFrontier:
    """One segment: a lease goes on from ``published``, a checkpoint saves ``stored``.

    Pages may be stored in any order; ``stored`` moves over them in the order of the scan, so
    everything below it is in the target, whatever dies above.
    """

    __slots__ = ("_documents", "_flying", "_length", "_run", "published", "stored")

    def __init__(self, record: SegmentRecord, run: int) -> None:
        self._run = run
        self.stored = record
        self.published = record
        self._flying: deque[FlyingPage] = deque()
        self._documents = 0  # of the slots of a page that is not complete yet
        self._length = 0

    def publish(self, worker: int, page: Page) -> FlyingPage:
        """Take note of a slot that the worker has filled."""
        self._documents += page.documents
        self._length += page.length
        before, after = self.published, None
        if page.complete:
            after = self.published = SegmentRecord(
                before.segment,
                page.last_key,
                before.documents + self._documents,
                before.bytes + self._length,
                before.scanned + page.scanned,
                before.capacity + page.capacity,
                page.last_key is None,
                self._run,
            )
            self._documents = self._length = 0
        flying = FlyingPage(before.segment, worker, page.slot, page.length, after)
        self._flying.append(flying)
        return flying

    def abandon(self) -> None:
        """The lease has ended: a page of which only some slots came is fetched again as a whole."""
        self._documents = self._length = 0

    def adopt(self) -> None:
        """Nothing of another run lies behind what is stored."""
        self.stored = self.published = self.stored._replace(run=self._run)

    @property
    def cut(self) -> bool:
        """Slots of an abandoned page are on their way to the target.

        Fetched again, the page may hold other items under the same ``_id``; what was read first
        must not be stored last.
        """
        return bool(self._flying) and self._flying[-1].after is None

    def acknowledge(self, page: FlyingPage) -> bool:
        """The target has stored a page; return whether ``stored`` has moved."""
        page.stored = True
        before = self.stored
        while self._flying and self._flying[0].stored:
            after = self._flying.popleft().after
            if after is not None:
                self.stored = after
        return self.stored is not before
