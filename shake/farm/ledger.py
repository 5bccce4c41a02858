"""The ledger of leases: which worker reads what, and what of it is not acknowledged yet."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from shake.farm.worker_messages import OfLease

Table = TypeVar("Table")
Part = TypeVar("Part")
Content = TypeVar("Content")


class SlotOwner(Protocol):
    """Owns the slots of workers."""

    def free(self, worker: int, slot: int) -> None:
        """A slot can be filled again."""


class Job(Protocol[Table, Part, Content]):
    """Whose leases these are: the full copy, the changes, or the journal."""

    def received(self, lease: Lease[Table, Part, Content], message: OfLease) -> None:
        """A worker reports on a lease that it holds."""

    def acknowledged(
        self, lease: Lease[Table, Part, Content], published: Published[Content]
    ) -> None:
        """The target has this and all that was published before it under this lease."""

    def closed(self, lease: Lease[Table, Part, Content]) -> None:
        """It has ended and all of it is acknowledged: the rest of its part can be leased again."""


class End(Enum):
    """How a lease has ended."""

    STOPPED = "its reader reads no further"
    FINISHED = "its part is read to the end"
    LOST = "its worker crashed"


@dataclass(slots=True, eq=False)
class Published(Generic[Content]):
    """Something published that the target has not acknowledged. ``slot`` is -1 if it fills none.

    ``skipped`` counts its changes that found nothing to modify.
    """

    number: int
    lease: Lease[Any, Any, Content]
    slot: int
    content: Content
    acknowledged: bool = False
    skipped: int = 0


@dataclass(slots=True, eq=False)
class Lease(Generic[Table, Part, Content]):
    """The right of a worker to read a part of a table, since a moment of the loop's clock.

    ``waiting`` is published and not sent to the target. ``sent`` is at the target and not
    acknowledged, oldest first. ``end`` is None while the worker holds the lease.
    """

    number: int
    job: Job[Table, Part, Content]
    table: Table
    part: Part
    worker: int
    since: float
    waiting: deque[Published[Content]] = field(default_factory=deque)
    sent: deque[Published[Content]] = field(default_factory=deque)
    end: End | None = None

    @property
    def closed(self) -> bool:
        return self.end is not None and not self.waiting and not self.sent

    @property
    def unacknowledged(self) -> Iterator[Published[Content]]:
        """What is not acknowledged in its order yet, the oldest first."""
        return itertools.chain(self.sent, self.waiting)


class Ledger:
    """Holds each lease from :meth:`grant` until it is closed.

    What is published under a lease is acknowledged to its job in the order of publication,
    whatever the order of the target's answers. What was sent of a lost lease still counts when the
    target acknowledges it; what was not sent is read again. So a part must not be leased before its
    last lease is closed.
    """

    def __init__(self, slots: SlotOwner) -> None:
        self._slots = slots
        self._numbers = itertools.count(1)  # of leases and of what is published
        self._leases: dict[int, Lease[Any, Any, Any]] = {}
        self._unacknowledged: dict[int, Published[Any]] = {}

    @property
    def drained(self) -> bool:
        """All that was published is acknowledged. What is still being read is read again."""
        return not self._unacknowledged

    @property
    def awaited(self) -> set[int]:
        """The workers that have published what is not acknowledged."""
        return {published.lease.worker for published in self._unacknowledged.values()}

    def grant(
        self, job: Job[Table, Part, Content], table: Table, part: Part, worker: int, since: float
    ) -> Lease[Table, Part, Content]:
        """Lease a part of a table to a worker."""
        lease = Lease(next(self._numbers), job, table, part, worker, since)
        self._leases[lease.number] = lease
        return lease

    def held(self, number: int) -> Lease[Any, Any, Any] | None:
        """The lease of this number; None where its worker holds it no longer."""
        lease = self._leases.get(number)
        return lease if lease and lease.end is None else None

    def report(self, message: OfLease) -> None:
        """A worker reports on a lease; its job hears of it if the worker still holds it."""
        if lease := self.held(message.lease):
            lease.job.received(lease, message)

    def publish(self, lease: Lease[Table, Part, Content], slot: int, content: Content) -> None:
        """A worker has read more."""
        published = Published(next(self._numbers), lease, slot, content)
        self._unacknowledged[published.number] = published
        lease.waiting.append(published)

    def send(self, lease: Lease[Table, Part, Content]) -> Published[Content]:
        """Take the oldest that waits: it goes to the target now."""
        published = lease.waiting.popleft()
        lease.sent.append(published)
        return published

    def acknowledge(self, number: int, skipped: int = 0) -> None:
        """The target has acknowledged something; a second acknowledgement changes nothing."""
        published = self._unacknowledged.get(number)
        if published is None:
            return
        self._take(published)
        published.acknowledged, published.skipped = True, skipped
        lease = published.lease
        while lease.sent and lease.sent[0].acknowledged:
            lease.job.acknowledged(lease, lease.sent.popleft())
        self._close(lease)

    def end(self, lease: Lease[Table, Part, Content], end: End = End.STOPPED) -> None:
        """Its worker reads it no further."""
        lease.end = end
        self._close(lease)

    def lose(self, worker: int) -> None:
        """A worker has crashed: the leases that it held are lost."""
        held = [one for one in self._leases.values() if one.worker == worker and one.end is None]
        for lease in held:
            while lease.waiting:
                self._take(lease.waiting.popleft())
            self.end(lease, End.LOST)

    def abandon(self, worker: int) -> None:
        """No target gets what this worker has published: its machine is lost.

        Its leases are never closed: the run ends, and the next one reads from what is acknowledged.
        """
        published = self._unacknowledged.items()
        self._unacknowledged = {n: one for n, one in published if one.lease.worker != worker}

    def _take(self, published: Published[Any]) -> None:
        del self._unacknowledged[published.number]
        if published.slot >= 0:
            self._slots.free(published.lease.worker, published.slot)

    def _close(self, lease: Lease[Any, Any, Any]) -> None:
        # Its job's ``acknowledged`` can have closed it already.
        if lease.closed and lease.number in self._leases:
            del self._leases[lease.number]
            lease.job.closed(lease)
