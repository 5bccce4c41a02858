"""Which shards follow which, and where a child can still be unlisted. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from shake.stream import suspicion
from shake.stream.shard import Shard
from shake.stream.suspicion import Suspicions

#: A child that is listed alone for so many seconds has no sibling. A shard is split into two
#: children, or has one.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
SIBLING_AFTER = 3.0


class ShardChildren:
    """The known children of each shard, by its name."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}
        self._ends: set[str] = set()  # read to their end, and a child may still be listed
        self._childless = Suspicions()  # those among them that may have none
        self._single: dict[str, float] = {}  # of which one child is listed: since when

    def __getitem__(self, shard: str) -> Collection[str]:
        return self._known.get(shard, ())

    def add(self, shard: Shard) -> None:
        self._known.setdefault(shard.parent, set()).add(shard.id)

    def remove(self, shard: Shard) -> None:
        self._known.pop(shard.id, None)
        self._known.get(shard.parent, set()).discard(shard.id)
        self._single.pop(shard.id, None)
        self.resolve_end(shard.id)

    def end(self, shard: Shard) -> None:
        """It is read to its end: what follows it should be listed, now or soon."""
        if not self[shard.id]:
            self._ends.add(shard.id)

    def resolve_end(self, shard: str) -> None:
        """A child of it is listed, or none will be."""
        self._ends.discard(shard)
        self._childless.clear(shard)

    def expect_sibling(self, parent: str, since: float) -> None:
        """If one child of a shard is listed, another one can follow. No shard has three."""
        if len(self[parent]) == 1:
            self._single[parent] = since
        else:
            self._single.pop(parent, None)

    def resolve_siblings(self, parents: Collection[str], now: float) -> None:
        """The children of these shards that exist at ``now`` are listed."""
        for parent in self._single.keys() & parents:
            since = self._single[parent] = min(self._single[parent], now)
            if now - since >= SIBLING_AFTER:
                del self._single[parent]

    def resolve_ends(self, now: float) -> None:
        """A shard that is read to its end has no child if none is listed for long enough."""
        for one in list(self._ends):
            if self._childless.add(one, "", now, suspicion.LOSS):
                self.resolve_end(one)

    @property
    def may_be_missing(self) -> bool:
        """Some shard is read to its end, and what follows it might not be listed yet."""
        return bool(self._ends)

    @property
    def siblings_may_be_missing(self) -> bool:
        """Some shard has one listed child, and a second one can follow."""
        return bool(self._single)

    def incomplete(self) -> Iterator[str]:
        """Shards whose children, or one of whose children, can still be unlisted."""
        yield from self._ends
        yield from self._single
