"""What a checkpoint contains of the changes of a table, and how that is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

from shake.checkpoint.contract import Document
from shake.checkpoint.document import FORMAT, Fields, Record, pairs
from shake.stream.shard import Shard, ShardJournal, ShardState


@dataclass(frozen=True, slots=True)
class StreamRecord(Record):
    """The stream that a table's changes come from.

    ``run`` is the number of the last run that followed it (see shake.checkpoint.order).
    ``since`` and ``began`` are Unix seconds on the source's clock: changes made before ``since``
    are left out (incr.start = latest, in the first run, until all of them are read); the positions
    were chosen at ``began``, or later. ``stamp`` is that of the copy that the stream follows.
    ``skipped`` counts the changes that all runs left out because the target lacked their key: the
    target does not hold all items then. ``repairs`` is the number of repair sessions that this run
    has ended. ``generation``: see :func:`new_generation`. ``set_back``: not 0 where the source's
    clock was set back, and changes from before that can still be unread. They are of this time at
    most, which is infinite where it is unknown.
    """

    ID = "stream"
    NAMES: ClassVar = {"table": "", "arn": "StreamArn", "generation": "Life", "set_back": ""}
    LATER = ("stamp", "began", "skipped", "repairs", "generation")

    table: str
    arn: str
    run: int = 0
    since: float = 0.0
    stamp: int = 0
    began: float = 0.0
    skipped: int = 0
    repairs: int = 0
    generation: str = ""
    set_back: float = 0.0

    def own(self) -> dict[str, Any]:
        set_back = 1 if self.set_back == inf else self.set_back
        return {"Table": self.table, "SetBack": set_back}

    @classmethod
    def read_own(cls, collection: str, found: Fields) -> dict[str, Any]:
        set_back = found.real("SetBack") if "SetBack" in found.document else 0.0
        return {"table": collection, "set_back": inf if set_back == 1 else set_back}


def repair_sessions(count: int) -> list[str]:
    """The names of the first ``count`` repair sessions of a table, in the place of shard ids."""
    return [f"repair-{number}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class RepairRecord(Record):
    """The last repair of a table by ``shake-check --repair``, which counts as a run.

    ``run`` is its number. ``sessions`` is the largest number of sessions that any repair of the
    table has used: one for each process. See :func:`repair_sessions`.
    """

    ID = "repair"

    run: int = 0
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class AppliedRecord(Record):
    """How far a run has applied the changes of the tables that it follows.

    ``through`` has a time for each table, in Unix seconds on the source's clock: every change made
    before it is applied. ``run`` names the run, and ``number`` counts what it has saved of this.
    """

    ID = "applied"
    NAMES: ClassVar = {"run": "FollowRun", "through": ""}

    run: str
    number: int = 0
    through: Mapping[str, float] = field(default_factory=dict)

    def own(self) -> dict[str, Any]:
        return {"Through": pairs(self.through)}

    @classmethod
    def read_own(cls, collection: str, found: Fields) -> dict[str, Any]:
        through = found.pairs("Through")
        try:
            return {"through": {table: float(moment) for table, moment in through.items()}}
        except ValueError:
            raise found.wrong("Through", found.document["Through"]) from None


_SAVED_STATES = {state.value for state in ShardState} - {ShardState.READING.value}


def shard_document(shard: Shard) -> dict[str, Any]:
    """A shard as it is saved; one that is being read counts as one that may be."""
    state = ShardState.READY if shard.state is ShardState.READING else shard.state
    document = {
        "_id": f"shard-{shard.id}",
        "Format": FORMAT,
        "ShardId": shard.id,
        "FatherId": shard.parent,
        "Start": shard.start,
        "SequenceNumber": shard.sequence,
        "Status": state.value,
        "ApproximateTime": shard.applied_through,
    }
    if shard.horizon:
        document["TrimHorizon"] = True
    if (journal := shard.journal) is not None:
        document |= {
            "JournalSequenceNumber": journal.sequence,
            "JournalTime": journal.through,
            "JournalRecords": journal.left,
            "JournalBytes": journal.size,
            "JournalStatus": "ended" if journal.ended else "open",
        }
    return document


def shard_of(collection: str, document: Document) -> Shard:
    """The shard of :func:`shard_document`. Raises RefusedError for what is none."""
    fields = Fields(collection, document)
    status = fields.choice("Status", _SAVED_STATES)
    journaled = "JournalStatus" in document
    for name in ("Start", "SequenceNumber") + ("JournalSequenceNumber",) * journaled:
        if (text := fields.text(name)) and not text.isdecimal():
            raise fields.wrong(name, text)
    return Shard(
        fields.text("ShardId"),
        fields.text("FatherId"),
        fields.text("Start"),
        fields.text("SequenceNumber"),
        fields.real("ApproximateTime"),
        ShardState(status),
        _journal_of(fields) if journaled else None,
        horizon="TrimHorizon" in document,
    )


def _journal_of(fields: Fields) -> ShardJournal:
    return ShardJournal(
        fields.text("JournalSequenceNumber"),
        fields.real("JournalTime"),
        fields.number("JournalRecords"),
        fields.number("JournalBytes"),
        fields.choice("JournalStatus", ("open", "ended")) == "ended",
    )
