"""Decides which times of changes can be used after the source's clock was set back."""

from __future__ import annotations

from math import inf

from shake.source.clock import DISORDER
from shake.stream.shard import Shard
from shake.stream.shards import Shards


class SetBack:
    """The last time that the source's clock was set back.

    Changes made before it was set back can still be unread. Their creation times can be later than
    what the clock shows now, so these times do not show what is applied.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._most, self._moment = -inf, -inf
        self._peak = -inf
        self._proved: set[str] = set()  # shards of which all from before is read

    def begin(self, most: float, moment: float, peak: float) -> float:
        """The clock was set back. It shows ``moment`` now, or an earlier time.

        A creation time from before counts as ``most`` at the latest. It never showed a later time
        than ``peak``, which is infinite where that is unknown. Return the latest such time of all
        changes that can be unread.
        """
        self._peak = peak if self.resolve() else max(self._peak, peak)
        self._most, self._moment, self._proved = most, moment, set()
        return self._peak

    def reach_tip(self, shard: Shard, moment: float) -> None:
        """All that was written to a shard before this moment is read."""
        if -inf < self._moment <= moment:
            self._proved.add(shard.id)

    def passed(self, created: float) -> bool:
        """Whether a change of this time shows that all from before is read of its shard.

        It is from after that. A shard that always has news never shows its tip.
        """
        return not self.resolve() and created > self._peak + DISORDER

    def prove(self, shard: Shard) -> None:
        """All that was written to a shard before the clock was set back is read."""
        self._proved.add(shard.id)

    def explains(self, shard: Shard, created: float) -> bool:
        """Whether a change that is unread can have this time because of that."""
        unread = not self.resolve() and self._proved.isdisjoint(self._shards.lineage(shard))
        return unread and created <= self._peak + DISORDER

    def resolve(self) -> bool:
        """Return whether all that was written before the clock was set back is read; then end this.

        It is so for a shard where that is proved, and for all its descendants: they were written
        later. True where the clock was never set back.
        """
        if self._moment > -inf:
            unread = self._shards.unread()
            if any(self._proved.isdisjoint(self._shards.lineage(shard)) for shard in unread):
                return False
            self._moment = -inf
        return True

    def usable(self, created: float, limit: float) -> float:
        """What of a creation time can be used.

        ``limit`` is a time that the source's clock has certainly reached.
        """
        return min(created, limit if self.resolve() else self._most)
