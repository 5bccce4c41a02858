"""The life of a table, in the words that users see: its phases, and which can follow which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Phase(Enum):
    """Where a table is. :data:`NEXT` says what can follow."""

    WAITING = "waiting"  # for its turn (full.concurrency)
    PREPARING = "preparing"  # the collection that the copy fills is created
    CLEANING = "cleaning"  # it is taken over; what is behind the checkpoint is deleted
    COPYING = "copying"
    TRIMMING = "trimming"  # what late inserts have left behind the ends of segments is deleted
    INDEXING = "indexing"
    PUBLISHING = "publishing"  # the complete collection gets its final name
    DONE = "done"
    BROKEN = "broken"  # copied, but the target refused an index
    FOLLOWING = "following"  # its changes are applied


NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.PREPARING, Phase.CLEANING, Phase.INDEXING, Phase.DONE}),
    Phase.PREPARING: frozenset({Phase.COPYING, Phase.INDEXING}),  # INDEXING: sync_schema_only
    Phase.CLEANING: frozenset({Phase.COPYING, Phase.INDEXING}),
    Phase.COPYING: frozenset({Phase.TRIMMING}),
    Phase.TRIMMING: frozenset({Phase.INDEXING}),
    Phase.INDEXING: frozenset({Phase.PUBLISHING, Phase.DONE, Phase.BROKEN}),
    Phase.PUBLISHING: frozenset({Phase.DONE, Phase.BROKEN}),
    Phase.DONE: frozenset({Phase.FOLLOWING}),
    Phase.BROKEN: frozenset({Phase.FOLLOWING, Phase.DONE}),  # DONE: a later run built the index
    Phase.FOLLOWING: frozenset(),
}

#: The phases that are saved, by their words in checkpoints.
SAVED: Mapping[str, Phase] = {
    "preparing": Phase.PREPARING,
    "copying": Phase.COPYING,
    "indexing": Phase.INDEXING,
    "unindexed": Phase.BROKEN,
    "done": Phase.DONE,
}
SAVED_WORDS: Mapping[Phase, str] = {phase: word for word, phase in SAVED.items()}

#: Phases in which nothing is being done for the table right now.
IDLE = frozenset({Phase.WAITING, Phase.DONE, Phase.BROKEN})
#: Phases in which all items are copied, but something is left to be done.
COPIED = frozenset({Phase.TRIMMING, Phase.INDEXING, Phase.PUBLISHING, Phase.BROKEN})
#: Phases in which the copy is complete.
COMPLETE = frozenset({Phase.DONE, Phase.FOLLOWING})


def next_saved(phase: Phase) -> frozenset[Phase]:
    """The saved phases that can follow a phase, with only unsaved ones in between."""
    found = frozenset[Phase]()
    for one in NEXT[phase]:
        found |= {one} if one in SAVED_WORDS else next_saved(one)
    return found
