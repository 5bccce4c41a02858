"""What is remembered of each table, segment, stream and shard, and how it is written down."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, cast, get_args

from shake.checkpoint.contract import Document
from shake.checkpoint.document import FORMAT, Fields
from shake.phase import SAVED, SAVED_WORDS, Phase, next_saved
from shake.stream.shard import Shard, ShardJournal, ShardState

#: The collection of the task itself; a table of this name has no place for its checkpoints.
STATUS_TABLE = "status_table"

#: What happens to a collection that has the name already.
OnExisting = Literal["create", "rename", "drop", "resync"]


def new_life() -> str:
    """Identifies a record, and what belongs to it, until a user removes the checkpoint.

    Runs are counted from 0 again then. What an earlier run has sent late is of another life, and
    changes nothing. Records of older versions have none: "".
    """
    return uuid.uuid4().hex[:16]


def _life(life: str) -> dict[str, str]:
    return {"Life": life} if life else {}


class CopyRun(NamedTuple):
    """A run of a copy: the copy's stamp, the run's number, the stamp of the task's first copy."""

    stamp: int
    run: int
    first: int


@dataclass(frozen=True, slots=True)
class TableRecord:
    """The copy of one table.

    ``namespace`` is ``database.collection``; ``stamp`` the Unix time in seconds at which the copy
    was begun, and ``run`` how often it was resumed: ObjectIds begin with their sum. ``on_existing``
    is what happens to a collection that is there already (``resync``: it is our own, and dropped),
    and ``backup`` the name it is renamed to, fixed before the rename so that a restart knows it
    again. ``settings`` are the configuration keys that shape the data. ``gap`` is the last loss of
    changes for which the table was copied anew. ``staged``: the copy fills a staging collection,
    and what is there already stays until the copy is complete. ``replaces`` is the UUID of the
    task's own collection that a new copy replaces. ``drops`` are the UUIDs of all collections that
    the copy, or an unfinished one before it, was to drop. ``first`` is the stamp of the task's
    first copy, 0 while this is it. ``life``: see :func:`new_life`.
    """

    table: str
    namespace: str
    stamp: int
    segments: int
    on_existing: OnExisting = "create"
    backup: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    phase: Phase = Phase.PREPARING
    run: int = 0
    gap: str = ""
    staged: bool = False
    replaces: str = ""
    first: int = 0
    drops: tuple[str, ...] = ()
    life: str = ""

    def moved(self, phase: Phase) -> TableRecord:
        """The record in its next phase; ValueError for a step that shake.phase does not allow."""
        if phase not in next_saved(self.phase):
            raise ValueError(f"table {self.table} cannot go from {self.phase} to {phase}")
        return replace(self, phase=phase)

    def anew(self, now: int, segments: int, gap: str, collection_uuid: str = "") -> TableRecord:
        """The record of another copy of the table, in so many segments, which ``gap`` made needful.

        By its stamp all that was saved of this one is void, and stamp and run together are greater
        than ever before: no ObjectId is given twice. ``collection_uuid`` is the UUID of what this
        copy filled. Only a collection that has its final name is the task's own: another is not
        touched before ``target.db.exist`` was asked.
        """
        ours = self.published if self.staged else self.phase is not Phase.PREPARING
        return replace(
            self,
            stamp=max(now, self.stamp + self.run + 1),
            segments=segments,
            on_existing="resync" if ours else self.on_existing,
            phase=Phase.PREPARING,
            run=self.run + 1,
            gap=gap,
            replaces=(collection_uuid if ours else "") or self.replaces,
            first=self.first or self.stamp,
            drops=() if ours else self.drops,
        )

    @property
    def copy_run(self) -> CopyRun:
        return CopyRun(self.stamp, self.run, self.first or self.stamp)

    @property
    def published(self) -> bool:
        """Whether the copy has its final name for certain."""
        return self.phase in (Phase.BROKEN, Phase.DONE)

    def owns(self, document: Document) -> bool:
        """Whether a segment's or stream's document is of this copy, and not of one before it.

        Before a table could be copied anew, documents had no stamp.
        """
        stamp: object = document.get("Stamp", None if self.gap else self.stamp)
        return stamp == self.stamp

    def document(self) -> dict[str, Any]:
        return {
            "_id": "table",
            "Format": FORMAT,
            "Table": self.table,
            "Place": self.namespace,
            "Status": SAVED_WORDS[self.phase],
            "Stamp": self.stamp,
            "Run": self.run,
            "Segments": self.segments,
            "Fate": self.on_existing,
            "Backup": self.backup,
            "Gap": self.gap,
            "Staged": self.staged,
            "Replaces": self.replaces,
            "FirstStamp": self.first,
            "Drops": list(self.drops),
            # Not as fields: older servers take no dots in their names.
            "Settings": [f"{key}={value}" for key, value in self.settings.items()],
            **_life(self.life),
        }

    @classmethod
    def of(cls, collection: str, document: Document) -> TableRecord:
        """The record that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        phase, on_existing = fields.text("Status"), fields.text("Fate")
        if phase not in SAVED:
            raise fields.wrong("Status", phase)
        if on_existing not in get_args(OnExisting):
            raise fields.wrong("Fate", on_existing)
        if fields.text("Table") != collection:
            raise fields.wrong("Table", fields.text("Table"))
        pairs = (line.partition("=") for line in fields.texts("Settings"))
        return cls(
            table=collection,
            namespace=fields.text("Place"),
            stamp=fields.number("Stamp"),
            run=fields.number("Run"),
            segments=fields.number("Segments"),
            on_existing=cast(OnExisting, on_existing),
            backup=fields.text("Backup"),
            settings={key: value for key, _, value in pairs},
            phase=SAVED[phase],
            gap=fields.text("Gap") if "Gap" in document else "",
            staged=document.get("Staged") is True,
            replaces=fields.text("Replaces") if "Replaces" in document else "",
            first=fields.number("FirstStamp") if "FirstStamp" in document else 0,
            drops=tuple(fields.texts("Drops")) if "Drops" in document else (),
            life=fields.text("Life") if "Life" in document else "",
        )


class SegmentRecord(NamedTuple):
    """What the target has acknowledged of one segment, without a hole from its beginning.

    ``last_key`` is the raw typed JSON of LastEvaluatedKey, None before the first page;
    ``documents`` is also the running number of the next ObjectId; ``run`` is the last run that may
    have left something behind it; ``scanned`` counts items before
    the filter; ``capacity`` is in read units.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
    """

    segment: int
    last_key: bytes | None = None
    documents: int = 0
    bytes: int = 0
    scanned: int = 0
    capacity: float = 0.0
    done: bool = False
    run: int = 0

    def document(self) -> dict[str, Any]:
        return {
            "_id": f"segment-{self.segment:06d}",
            "Format": FORMAT,
            "Segment": self.segment,
            "LastEvaluatedKey": "" if self.last_key is None else self.last_key.decode(),
            "Documents": self.documents,
            "StoredInRun": self.run,
            "Bytes": self.bytes,
            "Scanned": self.scanned,
            "Capacity": self.capacity,
            "Status": "done" if self.done else "running",
        }

    @classmethod
    def of(cls, collection: str, document: Document) -> SegmentRecord:
        """The record that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        status = fields.text("Status")
        if status not in ("running", "done"):
            raise fields.wrong("Status", status)
        record = cls(
            segment=fields.number("Segment"),
            last_key=fields.text("LastEvaluatedKey").encode() or None,
            documents=fields.number("Documents"),
            run=fields.number("StoredInRun"),
            bytes=fields.number("Bytes"),
            scanned=fields.number("Scanned"),
            capacity=fields.real("Capacity"),
            done=status == "done",
        )
        if record.document()["_id"] != document["_id"]:
            raise fields.wrong("Segment", record.segment)
        return record


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """The stream that a table's changes come from.

    ``run`` counts the runs that followed it: what an earlier one saves late alters nothing.
    ``since`` and ``began`` are Unix seconds on the source's clock: changes made before ``since``
    are left out (incr.start = latest); the positions were chosen at ``began``, or later. ``stamp``
    is that of the copy that the stream follows. ``skipped`` counts the changes that all runs left
    out because the target lacked their key: the target does not hold all items then. ``repairs``
    is the number of repair sessions that this run has ended. ``life``: see :func:`new_life`.
    """

    table: str
    arn: str
    run: int = 0
    since: float = 0.0
    stamp: int = 0
    began: float = 0.0
    skipped: int = 0
    repairs: int = 0
    life: str = ""

    def document(self) -> dict[str, Any]:
        return {
            "_id": "stream",
            "Format": FORMAT,
            "Table": self.table,
            "StreamArn": self.arn,
            "Run": self.run,
            "Since": self.since,
            "Stamp": self.stamp,
            "Began": self.began,
            "Skipped": self.skipped,
            "Repairs": self.repairs,
            **_life(self.life),
        }

    @classmethod
    def of(cls, collection: str, document: Document) -> StreamRecord:
        """The record that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        return cls(
            table=collection,
            arn=fields.text("StreamArn"),
            run=fields.number("Run"),
            since=fields.real("Since"),
            stamp=fields.number("Stamp") if "Stamp" in document else 0,
            began=fields.real("Began") if "Began" in document else 0.0,
            skipped=fields.number("Skipped") if "Skipped" in document else 0,
            repairs=fields.number("Repairs") if "Repairs" in document else 0,
            life=fields.text("Life") if "Life" in document else "",
        )


def repair_sessions(count: int) -> list[str]:
    """The names of the first ``count`` repair sessions of a table, in the place of shard ids."""
    return [f"repair-{number}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class RepairRecord:
    """The last repair of a table by ``shake-check --repair``, which counts as a run of the task.

    ``run`` is above those of all runs before it. ``sessions`` is the largest number of sessions
    that any repair of the table has used: one for each process. See :func:`repair_sessions`.
    """

    table: str
    run: int = 0
    sessions: int = 0

    def document(self) -> dict[str, Any]:
        return {"_id": "repair", "Format": FORMAT, "Run": self.run, "Sessions": self.sessions}

    @classmethod
    def of(cls, collection: str, document: Document) -> RepairRecord:
        """The record that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        return cls(collection, fields.number("Run"), fields.number("Sessions"))


@dataclass(frozen=True, slots=True)
class AppliedRecord:
    """How far a run has applied the changes of the tables that it follows.

    ``through`` has a time for each table, in Unix seconds on the source's clock: every change made
    before it is applied. ``run`` names the run, and ``number`` counts what it has saved of this.
    """

    run: str
    number: int = 0
    through: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "_id": "applied",
            "Format": FORMAT,
            "FollowRun": self.run,
            "Number": self.number,
            # Not as fields: older servers take no dots in their names.
            "Through": [f"{table}={moment!r}" for table, moment in self.through.items()],
        }

    @classmethod
    def of(cls, collection: str, document: Document) -> AppliedRecord:
        """The record that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        pairs = (line.partition("=") for line in fields.texts("Through"))
        try:
            through = {table: float(moment) for table, _, moment in pairs}
        except ValueError:
            raise fields.wrong("Through", document["Through"]) from None
        return cls(fields.text("FollowRun"), fields.number("Number"), through)


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
    status = fields.text("Status")
    if status not in {state.value for state in ShardState} - {ShardState.READING.value}:
        raise fields.wrong("Status", status)
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
    if (status := fields.text("JournalStatus")) not in ("open", "ended"):
        raise fields.wrong("JournalStatus", status)
    return ShardJournal(
        fields.text("JournalSequenceNumber"),
        fields.real("JournalTime"),
        fields.number("JournalRecords"),
        fields.number("JournalBytes"),
        status == "ended",
    )
