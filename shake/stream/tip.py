"""Decides from answers without records whether a reader is at the tip of its shard."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

#: Answers without records, in a row, after which the reader counts as at the tip of the shard. One
#: such answer is not enough: it can also mean that there is a gap between records.
TIP_AFTER = 8

#: Answers without records, in all, before a new iterator counts as at the tip. Each call covers a
#: part of the shard, and AWS does not say how long that part is: "it might take multiple calls to
#: get to a portion of the shard that contains stream records". A shard takes records for about four
#: hours. So 64 calls reach its tip if each covers about four minutes. The calls follow each other
#: without a pause. An iterator that has reached the tip stays there, so this is done only once.
#: Sources: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
#: https://docs.aws.amazon.com/streams/latest/dev/troubleshooting-consumers.html
COLD = 64

#: Seconds at the tip after which a shard counts as quiet.
QUIET_AFTER = 60.0


@dataclass(slots=True)
class Silence:
    """Answers without records since an iterator was new, and what they prove.

    All times are of the boot clock, in seconds. ``cold``: so many more are needed before a tip
    counts. ``row``: when the last answers, none of which had records, were asked for. ``since``:
    the shard has been at its tip since then, without a record; inf where it is not known to be.
    ``last``: when the last answer was asked for.
    """

    cold: int = COLD
    since: float = inf
    last: float = inf
    row: deque[float] = field(default_factory=lambda: deque(maxlen=TIP_AFTER))

    def tip(self, records: int, asked: float) -> float | None:
        """Take in an answer, asked for at ``asked``.

        Return a time before which all that could be read has been read, None where that is unknown.
        """
        self.last = asked
        if records:
            self.end()
            return None
        self.row.append(asked)
        self.cold = max(0, self.cold - 1)
        if self.cold or len(self.row) < TIP_AFTER:
            return None
        self.since = min(self.since, self.row[0])
        return self.row[0]

    def end(self) -> None:
        """There was a record, or an answer that cannot be read."""
        self.row.clear()
        self.since = inf

    @property
    def quiet(self) -> bool:
        """The shard has been at its tip for long. A new reader of it first finds its tip again."""
        return len(self.row) == TIP_AFTER and self.last - self.since >= QUIET_AFTER

    @property
    def undecided(self) -> bool:
        """No record comes, and it is not known yet whether that is the tip."""
        return bool(self.row) and self.cold > 0
