"""Which shards of a table have moved since they were saved."""

from __future__ import annotations

from collections.abc import Iterable

from shake.checkpoint.stream_records import shard_document
from shake.stream.shard import Shard
from shake.stream.shards import Shards

#: Seconds after which it is saved that a shard has no news: what was saved of it stays true.
_QUIET_EVERY = 60.0


class UnsavedShards:
    """Collects shards that have moved; true while there are any."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._saved: dict[str, float] = {}  # by shard: the time through which it was read then

    def __bool__(self) -> bool:
        return bool(self._ids)

    def add(self, *shards: Shard) -> None:
        self._ids.update(shard.id for shard in shards)

    def add_quiet(self, shard: Shard) -> None:
        """It has no news, which is worth a save now and then: there may be thousands."""
        if shard.read_through - self._saved.get(shard.id, 0.0) > _QUIET_EVERY:
            self.add(shard)

    def remove(self, shards: Iterable[str]) -> None:
        """Nothing will be saved of these shards any more."""
        for shard in shards:
            self._saved.pop(shard, None)

    def take(self, shards: Shards) -> list[dict[str, object]]:
        """The documents of those of ``shards`` that have moved since the last call.

        Parents come first: where a save ends midway, no shard is saved without its parent. A later
        run would take a parent that is gone by then for one that the copy holds.
        """
        ids, self._ids = self._ids, set()
        moved = [shard for shard in shards if shard.id in ids]
        moved.sort(key=lambda shard: len(list(shards.lineage(shard))))
        self._saved |= {shard.id: shard.read_through for shard in moved}
        return list(map(shard_document, moved))
