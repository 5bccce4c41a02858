"""One shard of a stream: where it is, and how far it is applied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import NamedTuple

from shake.schema import Question
from shake.stream.suspicion import ShardAnswer


class ShardState(Enum):
    """Where a shard is; :data:`NEXT` says what may follow. The values stand in checkpoints."""

    WAITING = "waiting"  # for its parent
    READY = "ready"
    READING = "reading"  # leased to a worker
    APPLIED = "applied"  # to its end


NEXT = {
    ShardState.WAITING: {ShardState.READY},
    ShardState.READY: {ShardState.READING},
    ShardState.READING: {ShardState.READY, ShardState.APPLIED},
    ShardState.APPLIED: set[ShardState](),
}


@dataclass(slots=True)
class ShardJournal:
    """What the journal holds of a shard.

    ``sequence`` is that of the last record, "" before the first; every record created before
    ``through``, in Unix seconds, is applied or in it; ``left`` counts those that are not applied
    yet; ``size`` is bytes on disk. ``ended``: the journal holds the shard to its end, so that the
    stream can trim it.
    """

    sequence: str = ""
    through: float = 0.0
    left: int = 0
    size: int = 0
    ended: bool = False


class TipIterator(NamedTuple):
    """A shard iterator that was at the shard's tip, "" where there is none.

    In seconds of the boot clock: when it was last used, and since when no record has come.
    """

    text: str = ""
    asked: float = inf
    since: float = inf


NO_ITERATOR = TipIterator()


@dataclass(slots=True)
class Shard:
    """One shard and how far it is applied.

    ``start`` is its first sequence number, where reading begins; ``sequence`` that of the last
    applied record, "" before the first. ``applied_through`` is Unix seconds: every record created
    before it is applied, or in the copy, or was gone when following began. ``journal`` is None
    where it was never journaled. ``horizon``: following begins with what the stream still holds of
    it, of which nothing is read yet.

    These are not saved: ``oldest``: read from the oldest record that is left; ``journaling``: a
    worker reads it into the journal; ``suspected``: the source said that it is gone, or what is
    unread of it trimmed, so it is not read until the source has said more; ``iterator``: reads on
    from its position.
    """

    id: str
    parent: str
    start: str
    sequence: str = ""
    applied_through: float = 0.0
    state: ShardState = ShardState.WAITING
    journal: ShardJournal | None = None
    horizon: bool = False
    oldest: bool = False
    journaling: bool = False
    suspected: ShardAnswer | None = None
    iterator: TipIterator = NO_ITERATOR

    @property
    def fully_journaled(self) -> bool:
        """The journal holds it to its end."""
        return self.journal is not None and self.journal.ended

    @property
    def read_through(self) -> float:
        """Unix seconds: every record created before is applied, or in the copy or the journal."""
        return max(self.applied_through, self.journal.through if self.journal else 0.0)

    @property
    def position(self) -> tuple[str, str]:
        """Where it starts, "" for its oldest record, and the last number that is applied."""
        return ("" if self.oldest else self.start, self.sequence)

    @property
    def question(self) -> Question:
        """What to ask the source where it is not certain that what is unread is there."""
        trimmed = self.suspected is ShardAnswer.TRIMMED
        return Question(self.id, *self.reached) if trimmed else Question(self.id)

    @property
    def reached(self) -> tuple[str, str]:
        """Where it starts, and the last number that is applied or in the journal."""
        journaled = self.journal.sequence if self.journal else ""
        return self.start, max(self.sequence, journaled, key=as_number)


def as_number(sequence: str) -> int:
    """A sequence number to compare; the empty one is less than all others."""
    return int(sequence or 0)
