"""What times of changes prove after the source's clock was set back."""

from __future__ import annotations

from math import inf

from shake.stream.shard import Shard
from shake.stream.shards import Shards


class SetBack:
    """The last time that the clock was set back, of which some shards can still hold changes.

    A creation time of before can be later than the clock shows now, so it proves nothing.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._most, self._moment = -inf, -inf
        self._proved: set[str] = set()  # shards that were read to a later tip

    def begin(self, most: float, moment: float) -> None:
        """It was set back by ``moment`` on it; times of before prove nothing beyond ``most``."""
        self._most, self._moment, self._proved = most, moment, set()

    def reach_tip(self, shard: Shard, moment: float) -> None:
        """All that was written to a shard before this moment is read."""
        if -inf < self._moment <= moment:
            self._proved.add(shard.id)

    @property
    def over(self) -> bool:
        """All that was written before the clock was set back is read, or it never was.

        What descends from such a shard was written later still.
        """
        if self._moment > -inf:
            unread = self._shards.unread()
            if any(self._proved.isdisjoint(self._shards.lineage(shard)) for shard in unread):
                return False
            self._moment = -inf
        return True

    def believed(self, created: float, limit: float) -> float:
        """A creation time, or an earlier one; the clock has reached ``limit``, or a later time."""
        return min(created, limit if self.over else self._most)
