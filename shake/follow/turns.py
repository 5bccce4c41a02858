"""Which table's shards are read next, and which give way where others wait."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from shake.farm.ledger import Lease
from shake.farm.task import Farm
from shake.follow.journaling import Journaling
from shake.follow.table import ApplyingLease, FollowedTable
from shake.stream.queue import Queue

#: Seconds that a shard is read while others wait for their turn, where there is something to read.
TURN = 5.0
#: Seconds between two turns of a shard that is read to its tip, where few others wait.
TIP_TURN = 1.0


class Claim(NamedTuple):
    """Shards of a table that are read for one purpose: to be applied, or for the journal."""

    following: FollowedTable
    journal: bool
    leases: Mapping[int, Lease[Any, Any, Any]]
    waiting: int

    @property
    def name(self) -> tuple[int, bool]:
        return self.following.number, self.journal

    @property
    def held(self) -> list[Lease[Any, Any, Any]]:
        """Its leases that have not ended, the longest held first."""
        return [lease for lease in self.leases.values() if lease.end is None]


class Turns:
    """The claims of all tables. ``followings`` are the followed tables by number."""

    def __init__(
        self, farm: Farm, followings: Mapping[int, FollowedTable], journaling: Journaling
    ) -> None:
        self._most = farm.config.increase_concurrency
        self._loop, self._pool = farm.loop, farm.pool
        self._followings = followings
        self._journaling = journaling
        self._served: dict[tuple[int, bool], int] = {}  # by claim: the number of its last lease
        #: Claims that have shards to be read, by readers and last lease; and some that had.
        self._hungry = Queue[tuple[int, bool], tuple[int, int]]()
        #: Claims without a reader for which no idle reader is left, by the last count.
        self._starving = 0

    def next(self) -> Claim | None:
        """Of the claims that have the fewest readers, the one that was served longest ago."""
        while len(self._hungry):
            table, journal = self._hungry.first()
            found = self._followings.get(table)
            if found and (claim := self._claims(found)[journal]).waiting:
                return claim
            self._hungry.discard((table, journal))
        return None

    def served(self, claim: Claim, lease: int) -> None:
        """A claim has got a lease."""
        self._served[claim.name] = lease
        self.queue(claim.following)

    def queue(self, following: FollowedTable) -> None:
        """Take in what a table claims now."""
        full = self._full(following)
        for claim in self._claims(following):
            if claim.waiting and not full:
                figure = len(claim.leases), self._served.get(claim.name, 0)
                self._hungry.add(claim.name, figure)
            else:
                self._hungry.discard(claim.name)

    def _claims(self, one: FollowedTable) -> tuple[Claim, Claim]:
        """What a table wants readers for: for what it applies, and for what it journals."""
        return (
            Claim(one, False, one.leases, one.shards.waiting if one.active else 0),
            Claim(one, True, one.journal_leases, self._journaling.waiting(one)),
        )

    def _full(self, following: FollowedTable) -> bool:
        """The table has all the readers that it is allowed."""
        return following.readers >= self._most

    def take(self) -> None:
        """Where shards wait, those that were read the longest give way.

        Of the same claim; where that has no reader at all, of the table's other one, if the table
        is full, or else of those that have most.
        """
        self._starving = -self._pool.idle_readers
        pairs = [self._claims(following) for following in self._followings.values()]
        for claim, other in [*pairs, *(pair[::-1] for pair in pairs)]:
            if claim.waiting and claim.leases:
                self._give_way(claim.held[: claim.waiting])
            elif claim.waiting and self._full(claim.following):
                self._give_way(other.held[:1])
            elif claim.waiting:
                self._starving += 1
        self._starving = max(0, self._starving)
        if self._starving:
            claims = (claim for pair in pairs for claim in pair)
            most = sorted((claim for claim in claims if claim.leases), key=lambda c: -len(c.leases))
            held = (one for claim in most for one in claim.held)
            self._give_way(list(itertools.islice(held, self._starving)))

    def rest_at_tip(self, lease: ApplyingLease) -> None:
        """A shard that is read to its tip gives way soon: the more wait, the sooner."""
        if waiting := self._starving or lease.table.shards.waiting:
            readers = self._pool.busy_readers
            turn = TIP_TURN * readers / (readers + waiting)
            if self._loop.clock() - lease.since >= turn:
                self._starving = max(0, self._starving - 1)
                self._pool.end_lease(lease)

    def _give_way(self, held: list[Lease[Any, Any, Any]]) -> None:
        for lease in held:
            if self._loop.clock() - lease.since >= TURN:
                self._pool.end_lease(lease)
