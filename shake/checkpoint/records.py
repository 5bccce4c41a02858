"""What is remembered of each table and segment, and how it is written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal, NamedTuple, cast, get_args

from shake.checkpoint.contract import Document, Store, Superseded
from shake.checkpoint.document import FORMAT, Fields
from shake.errors import RefusedError
from shake.stream.shards import Kept, Shard, State

#: The collection of the task itself; a table of this name has no place for its checkpoints.
STATUS_TABLE = "status_table"

Fate = Literal["create", "rename", "drop", "resync"]
SyncStatus = Literal["full_sync", "incr_sync"]


class TableState(Enum):
    """How far the full copy of a table has come."""

    PREPARING = "preparing"  # an existing collection meets its fate, the new one is created
    COPYING = "copying"
    INDEXING = "indexing"
    DONE = "done"


#: From PREPARING straight to INDEXING: ``sync_schema_only``.
TRANSITIONS: Mapping[TableState, frozenset[TableState]] = {
    TableState.PREPARING: frozenset({TableState.COPYING, TableState.INDEXING}),
    TableState.COPYING: frozenset({TableState.INDEXING}),
    TableState.INDEXING: frozenset({TableState.DONE}),
    TableState.DONE: frozenset(),
}


@dataclass(frozen=True, slots=True)
class TableRecord:
    """The copy of one table.

    ``place`` is ``database.collection``; ``stamp`` the Unix time in seconds at which the copy was
    begun, and ``run`` how often it was resumed: ObjectIds begin with their sum. ``fate`` is what
    happens to a collection that is there already (``resync``: it is our own, and dropped), and
    ``backup`` the name it is renamed to, fixed before the rename so that a restart knows it again.
    ``settings`` are the configuration keys that shape the data. ``gap`` is the last loss of changes
    for which the table was copied anew.
    """

    table: str
    place: str
    stamp: int
    segments: int
    fate: Fate = "create"
    backup: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    state: TableState = TableState.PREPARING
    run: int = 0
    gap: str = ""

    def moved(self, state: TableState) -> TableRecord:
        """The record in its next state; ValueError for a step that TRANSITIONS does not allow."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"table {self.table} cannot go from {self.state} to {state}")
        return replace(self, state=state)

    def anew(self, now: int, segments: int, gap: str) -> TableRecord:
        """The record of another copy of the table, in so many segments, which ``gap`` made needful.

        By its stamp all that was saved of this one is void, and stamp and run together are greater
        than ever before: no ObjectId is given twice. What has not met its fate yet is still to:
        it may be somebody else's.
        """
        ours = self.state is not TableState.PREPARING
        return replace(
            self,
            stamp=max(now, self.stamp + 1),
            segments=segments,
            fate="resync" if ours else self.fate,
            state=TableState.PREPARING,
            run=self.run + 1,
            gap=gap,
        )

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
            "Place": self.place,
            "Status": self.state.value,
            "Stamp": self.stamp,
            "Run": self.run,
            "Segments": self.segments,
            "Fate": self.fate,
            "Backup": self.backup,
            "Gap": self.gap,
            # Not as fields: older servers take no dots in their names.
            "Settings": [f"{key}={value}" for key, value in self.settings.items()],
        }

    @classmethod
    def of(cls, collection: str, document: Document) -> TableRecord:
        """The record that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        state, fate = fields.text("Status"), fields.text("Fate")
        if state not in {one.value for one in TableState}:
            raise fields.wrong("Status", state)
        if fate not in get_args(Fate):
            raise fields.wrong("Fate", fate)
        if fields.text("Table") != collection:
            raise fields.wrong("Table", fields.text("Table"))
        pairs = (line.partition("=") for line in fields.texts("Settings"))
        return cls(
            table=collection,
            place=fields.text("Place"),
            stamp=fields.number("Stamp"),
            run=fields.number("Run"),
            segments=fields.number("Segments"),
            fate=cast(Fate, fate),
            backup=fields.text("Backup"),
            settings={key: value for key, _, value in pairs},
            state=TableState(state),
            gap=fields.text("Gap") if "Gap" in document else "",
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
    ``since`` is Unix seconds: older changes are left out (incr.start = latest). ``stamp`` is that
    of the copy that the stream follows.
    """

    table: str
    arn: str
    run: int = 0
    since: float = 0.0
    stamp: int = 0

    def document(self) -> dict[str, Any]:
        return {
            "_id": "stream",
            "Format": FORMAT,
            "StreamArn": self.arn,
            "Run": self.run,
            "Since": self.since,
            "Stamp": self.stamp,
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
        )


def shard_document(shard: Shard) -> dict[str, Any]:
    """A shard as it is saved; one that is being read counts as one that may be."""
    state = State.READY if shard.state is State.READING else shard.state
    document = {
        "_id": f"shard-{shard.id}",
        "Format": FORMAT,
        "ShardId": shard.id,
        "FatherId": shard.parent,
        "Start": shard.start,
        "SequenceNumber": shard.sequence,
        "Status": state.value,
        "ApproximateTime": shard.safe,
    }
    if (kept := shard.kept) is not None:
        document |= {
            "JournalSequenceNumber": kept.sequence,
            "JournalTime": kept.safe,
            "JournalRecords": kept.left,
            "JournalStatus": "ended" if kept.ended else "open",
        }
    return document


def shard_of(collection: str, document: Document) -> Shard:
    """The shard of :func:`shard_document`. Raises RefusedError for what is none."""
    fields = Fields(collection, document)
    status = fields.text("Status")
    if status not in {state.value for state in State} - {State.READING.value}:
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
        State(status),
        _kept_of(fields) if journaled else None,
    )


def _kept_of(fields: Fields) -> Kept:
    if (status := fields.text("JournalStatus")) not in ("open", "ended"):
        raise fields.wrong("JournalStatus", status)
    return Kept(
        fields.text("JournalSequenceNumber"),
        fields.real("JournalTime"),
        fields.number("JournalRecords"),
        status == "ended",
    )


class Progress:
    """The records of a task in a store: a collection per table, and ``status_table``.

    Documents of other kinds (a stream's shards, somebody else's) are left alone.
    """

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    def load(self, table: str) -> tuple[TableRecord | None, list[SegmentRecord]]:
        """The table's record, None where its copy never began, and its segments in order.

        Only segments of this copy that were saved are listed. Raises RefusedError for what cannot
        be read.
        """
        documents = self._store.read(table)
        record = _table_record(table, documents)
        segments = sorted(
            (
                SegmentRecord.of(table, one)
                for one in documents
                if one["_id"].startswith("segment-") and (record is None or record.owns(one))
            ),
            key=lambda one: one.segment,
        )
        expected = record.segments if record else 0
        if segments and segments[-1].segment >= expected:
            raise RefusedError(
                f"checkpoint {table} holds segment {segments[-1].segment} of a copy in {expected} "
                "segments; restore the collection, or move it away to begin again"
            )
        return record, segments

    def load_stream(self, table: str) -> tuple[StreamRecord | None, list[Shard]]:
        """The table's stream and its shards; None, and no shard, where none was chosen yet.

        One that an earlier copy of the table followed does not count. What a run saved of its
        shards counts once the stream says that it has begun, or that the run before it had: what
        remains of an older one is nobody's any more.
        """
        documents = self._store.read(table)
        copy = _table_record(table, documents)
        stream = next((one for one in documents if one["_id"] == "stream"), None)
        if stream is None or (copy is not None and not copy.owns(stream)):
            return None, []
        record = StreamRecord.of(table, stream)
        return record, [
            shard_of(table, one)
            for one in documents
            if one["_id"].startswith("shard-") and one["Run"] >= record.run
        ]

    def fresh_run(self, table: str) -> int:
        """A number for a first run that no document of its stream and shards carries."""
        documents = self._store.read(table)
        runs = [one["Run"] for one in documents if one["_id"].startswith(("stream", "shard-"))]
        return max(runs, default=-1) + 1

    def save_stream(self, record: StreamRecord, shards: Iterable[Shard]) -> None:
        """Save shards, then the stream, as its run; the stream counts once it is there."""
        self.save_shards(record, map(shard_document, shards))
        self._write(record.table, [record.document()])

    def save_shards(self, record: StreamRecord, documents: Iterable[dict[str, Any]]) -> None:
        """Save shards (see :func:`shard_document`), unless a later run has begun."""
        self._write(record.table, [one | {"Run": record.run} for one in documents])

    def forget_shards(self, record: StreamRecord, shard_ids: Iterable[str]) -> None:
        """Delete the documents of shards that nobody asks for any more."""
        gone = {f"shard-{shard_id}" for shard_id in shard_ids}
        for document in self._store.read(record.table):
            if document["_id"] in gone and document.get("Run") == record.run:
                self._store.swap(record.table, document, None)

    def begin_table(self, record: TableRecord) -> None:
        """Save the first record of a table.

        Raises Superseded where another run has begun it: one that died, whose record comes late.
        """
        self._begin(None, record)

    def begin_anew(self, record: TableRecord, segments: int, gap: str) -> TableRecord:
        """Begin another copy of a table, by one write: all that was saved of the last one is void.

        ``record`` is the table's where none is saved, since its changes alone were followed.
        Raises Superseded where another run is at work.
        """
        documents = self._store.read(record.table)
        saved = next((one for one in documents if one["_id"] == "table"), None)
        last = _table_record(record.table, documents) or record
        fresh = last.anew(int(self._now()), segments, gap)
        self._begin(saved, fresh)
        return fresh

    def _begin(self, old: Document | None, record: TableRecord) -> None:
        if not self._store.swap(record.table, old, record.document() | self._date()):
            stored, _ = self.load(record.table)
            if stored != record:  # else an attempt of our own, which the store did not confirm
                raise Superseded(
                    f"the copy of table {record.table} was begun by another run: start again"
                )

    def save_table(self, record: TableRecord) -> None:
        self._write(record.table, [record.document()])

    def save_segments(self, record: TableRecord, segments: Iterable[SegmentRecord]) -> None:
        """Save segments as the run of the table's copy, unless a later one has begun."""
        copy = {"Run": record.run, "Stamp": record.stamp}
        self._write(record.table, [one.document() | copy for one in segments])

    def status(self) -> SyncStatus | None:
        """Which sync the task is in; None before it began."""
        for document in self._store.read(STATUS_TABLE):
            if document["_id"] == "status_key":
                fields = Fields(STATUS_TABLE, document)
                value = fields.text("StatusValue")
                if value not in get_args(SyncStatus):
                    raise fields.wrong("StatusValue", value)
                return cast(SyncStatus, value)
        return None

    def set_status(self, value: SyncStatus) -> None:
        document = {"_id": "status_key", "Format": FORMAT, "Key": "status_key"}
        self._write(STATUS_TABLE, [document | {"StatusValue": value}])

    def _write(self, collection: str, documents: list[dict[str, Any]]) -> None:
        date = self._date()
        self._store.write(collection, [one | date for one in documents])

    def _date(self) -> dict[str, str]:
        return {"UpdateDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))}


def _table_record(table: str, documents: Iterable[Document]) -> TableRecord | None:
    return next((TableRecord.of(table, one) for one in documents if one["_id"] == "table"), None)
