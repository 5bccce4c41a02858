"""Which table's shards are read next, and which give way where others wait."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from shake.farm.farm import Farm
from shake.farm.ledger import Lease
from shake.follow.journaling import Journaling
from shake.follow.table import ApplyingLease, FollowedTable
from shake.process.site import Site
from shake.stream.queue import Queue

#: Seconds that a shard is read while others wait for their turn, where there is something to read.
TURN = 5.0
#: Seconds between two turns of a shard that is read to its tip, where few others wait.
TIP_TURN = 1.0


class ReadDemand(NamedTuple):
    """Shards of a table that are read for one purpose: to be applied, or for the journal."""

    followed: FollowedTable
    journal: bool
    leases: Mapping[int, Lease[Any, Any, Any]]
    waiting: int

    @property
    def name(self) -> tuple[int, bool]:
        return self.followed.number, self.journal

    @property
    def held(self) -> list[Lease[Any, Any, Any]]:
        """Its leases that have not ended, the longest held first."""
        return [lease for lease in self.leases.values() if lease.end is None]


class Turns:
    """The demands for the readers of one site, of the tables whose home that is.

    ``followed_tables`` are those of all sites, by number.
    """

    def __init__(
        self,
        farm: Farm,
        followed_tables: Mapping[int, FollowedTable],
        journaling: Journaling,
        site: Site,
    ) -> None:
        self._most = farm.config.increase_concurrency
        self._loop, self._pool = farm.loop, farm.pool
        self._followed_tables = followed_tables
        self._site = site
        self._journaling = journaling
        self._served: dict[tuple[int, bool], int] = {}  # by demand: the number of its last lease
        #: Demands that have shards to be read, by readers and last lease; and some that had.
        self._waiting = Queue[tuple[int, bool], tuple[int, int]]()
        #: Demands without a reader for which no idle reader is left, by the last count.
        self._unserved = 0

    def next(self) -> ReadDemand | None:
        """Of the demands that have the fewest readers, the one that was served longest ago."""
        while len(self._waiting):
            table, journal = self._waiting.first()
            found = self._followed_tables.get(table)
            if found and (demand := self._demands(found)[journal]).waiting:
                return demand
            self._waiting.discard((table, journal))
        return None

    def served(self, demand: ReadDemand, lease: int) -> None:
        """A demand has been given a lease."""
        self._served[demand.name] = lease
        self.queue(demand.followed)

    def queue(self, followed: FollowedTable) -> None:
        """Take in what a table needs now."""
        full = self._full(followed)
        for demand in self._demands(followed):
            if demand.waiting and not full:
                figure = len(demand.leases), self._served.get(demand.name, 0)
                self._waiting.add(demand.name, figure)
            else:
                self._waiting.discard(demand.name)

    def _demands(self, one: FollowedTable) -> tuple[ReadDemand, ReadDemand]:
        """What a table needs readers for: what it applies, and what it journals."""
        return (
            ReadDemand(one, False, one.leases, one.shards.waiting if one.active else 0),
            ReadDemand(one, True, one.journal_leases, self._journaling.waiting(one)),
        )

    def _full(self, followed: FollowedTable) -> bool:
        """The table has all the readers that it is allowed."""
        return followed.readers >= self._most

    def end_long_turns(self) -> None:
        """Where shards wait, end the leases of those that were read the longest.

        Of the same demand; where that has no reader at all, of the table's other one, if the table
        is full, or else of those that have most.
        """
        self._unserved = -self._pool.idle_readers(self._site)
        ours = [one for one in self._followed_tables.values() if one.home is self._site]
        pairs = [self._demands(followed) for followed in ours]
        for demand, other in [*pairs, *(pair[::-1] for pair in pairs)]:
            if demand.waiting and demand.leases:
                self._end_turns(demand.held[: demand.waiting])
            elif demand.waiting and self._full(demand.followed):
                self._end_turns(other.held[:1])
            elif demand.waiting:
                self._unserved += 1
        self._unserved = max(0, self._unserved)
        if self._unserved:
            demands = (demand for pair in pairs for demand in pair)
            most = sorted(
                (demand for demand in demands if demand.leases),
                key=lambda demand: -len(demand.leases),
            )
            held = (one for demand in most for one in demand.held)
            self._end_turns(list(itertools.islice(held, self._unserved)))

    def end_turn_at_tip(self, lease: ApplyingLease) -> None:
        """A shard that is read to its tip gives way soon: the more wait, the sooner."""
        if waiting := self._unserved or lease.table.shards.waiting:
            readers = self._pool.busy_readers(self._site)
            turn = TIP_TURN * readers / (readers + waiting)
            if self._loop.clock() - lease.since >= turn:
                self._unserved = max(0, self._unserved - 1)
                self._pool.end_lease(lease)

    def _end_turns(self, held: list[Lease[Any, Any, Any]]) -> None:
        for lease in held:
            if self._loop.clock() - lease.since >= TURN:
                self._pool.end_lease(lease)
