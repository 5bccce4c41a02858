"""The records of a task in a store: a collection per table, and one of the task itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, cast, get_args

from shake.checkpoint.contract import Document, Store, Superseded, read_one
from shake.checkpoint.document import FORMAT, Fields, Record
from shake.checkpoint.identity import UNKNOWN, Identity
from shake.checkpoint.kept import PREFIX, KeptItems, Tally
from shake.checkpoint.order import numbered, take_number
from shake.checkpoint.records import (
    STATUS_TABLE,
    SegmentRecord,
    TableRecord,
    named,
    of_generation,
    suffix,
)
from shake.checkpoint.stream_records import (
    AppliedRecord,
    RepairRecord,
    StreamRecord,
    shard_document,
    shard_of,
)
from shake.checkpoint.summary import TaskSummary
from shake.config.names import CHECKED, bad_name, is_shortened, stored_name
from shake.errors import RefusedError
from shake.schema import Origin
from shake.stream.shard import Shard

SyncStatus = Literal["full_sync", "incr_sync"]

R = TypeVar("R", bound=Record)

#: Documents of a table that the task has begun with.
_BEGUN = frozenset({TableRecord.ID, StreamRecord.ID})
#: All of them, but for those of its segments and shards.
_OF_TABLE = frozenset({*_BEGUN, Identity.ID, RepairRecord.ID})


class Checkpoints:
    """The records of a task in a store: a collection per table, and ``status_table``.

    Documents of other kinds (a stream's shards, or of other software) are not changed. ``run`` is
    the number of the run that saves, see :meth:`take_number`.
    """

    def __init__(self, store: Store, *, run: int = 0, now: Callable[[], float] = time.time) -> None:
        self.run = run
        self._store = store
        self._now = now

    def take_number(self, tables: Iterable[str], renew: Callable[[], None]) -> None:
        """Begin a run of the task, which changes the checkpoints of these tables.

        ``renew`` renews the task lock. What was saved by earlier runs is to be read before.
        """
        names = [STATUS_TABLE, *map(stored_name, tables)]
        self.run = take_number(self._store, (STATUS_TABLE, "run"), names, renew)

    def others(self) -> str:
        return self._store.others()

    def begun(self, selected: Callable[[str], bool]) -> dict[str, Origin]:
        """The selected tables whose copy, or whose changes, the task has begun with.

        Each with its source table, as far as it is saved.
        """
        found = {}
        for name in self._store.collections():
            if (
                name == STATUS_TABLE
                or name.endswith(CHECKED)
                or not (selected(name) or is_shortened(name))
            ):
                continue
            documents = self._store.read(name, _BEGUN | {Identity.ID})
            table = next((str(one["Table"]) for one in documents if "Table" in one), name)
            if selected(table) and any(one["_id"] in _BEGUN for one in documents):
                found[table] = (_record(table, documents, Identity) or UNKNOWN).origin
        return found

    def knows(self, table: str) -> bool:
        """Whether anything was ever saved of a table; what :meth:`forget` leaves counts too."""
        return not {stored_name(table), bad_name(table)}.isdisjoint(self._store.collections())

    def kept(self, table: str, *, writes: bool = False) -> KeptItems:
        """The items of a table that cannot be stored; ``writes``: to be changed."""
        return KeptItems(self._store, table, writes=writes)

    def kept_tallies(self, tables: Iterable[str], *, writes: bool = False) -> dict[str, Tally]:
        """How many items are kept, of those tables that have some.

        ``writes``: what an earlier process has sent to keep one is void then (see KeptItems).
        """
        collections = set(self._store.collections())
        there = [one for one in tables if bad_name(one) in collections]
        found = {one: self.kept(one, writes=writes).tally for one in there}
        return {table: tally for table, tally in found.items() if tally.items}

    def forget(self, table: str) -> int:
        """Remove the checkpoint of a table; return how many documents it had.

        The first removal makes all of it void. Where that is all that happens, a start is refused.
        The number of this run stays: the target refuses changes of a lower one.
        """
        name, kept = stored_name(table), bad_name(table)
        found = self._store.read(name)
        ours = [one for one in found if _is_of_table(one["_id"]) and one["_id"] != "repair"]
        if ours:
            self.begin_repair(table, 0)
        bad = [one for one in self._store.read(kept) if one["_id"].startswith(PREFIX)]
        for document in sorted(ours, key=lambda one: one["_id"] != "table"):
            self._store.swap(name, document, None)  # this one alone: it can land late
        for document in bad:
            self._store.swap(kept, document, None)
        return len(ours)

    def load(self, table: str) -> tuple[TableRecord | None, list[SegmentRecord]]:
        """The table's record, None where its copy never began, and its segments in order.

        Only segments of this copy that were saved are listed. Raises RefusedError for what cannot
        be read.
        """
        documents = self._read(table)
        record = _record(table, documents, TableRecord)
        segments = sorted(
            (
                SegmentRecord.of(table, one)
                for one in of_generation(documents, "segment-", record.generation if record else "")
                if record is None or record.owns(one)
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

        A stream that an earlier copy of the table followed does not count. Shards count if they
        were saved by the run that the stream's record names, or by a later one. Shards of older
        runs are ignored.
        """
        documents = self._read(table)
        copy = _record(table, documents, TableRecord)
        stream = _find(documents, "stream")
        if stream is None or "Begun" in stream or (copy is not None and not copy.owns(stream)):
            return None, []
        record = StreamRecord.of(table, stream)
        return record, [
            shard_of(table, one)
            for one in of_generation(documents, "shard-", record.generation)
            if one["Run"] >= record.run
        ]

    def shard_names(self, table: str) -> list[str]:
        """The shards of which something is saved, also of streams that were followed before."""
        saved = self._read(table)
        return sorted({str(one["ShardId"]) for one in saved if one["_id"].startswith("shard-")})

    def load_identity(self, table: str) -> Identity | None:
        """What the table's checkpoint is of; None where that was never saved."""
        return self._load(table, Identity)

    def save_identity(
        self, table: str, old: Identity | None, new: Identity, generation: str = ""
    ) -> None:
        """Replace ``old``, which is what was read, or what an earlier run has saved since.

        ``generation`` is the copy's. Raises Superseded where a later run has saved another one.
        """
        document = self._numbered(new.document() | {"Life": generation})
        if not self._swap(table, old.document() if old else None, document):
            self._store.write(stored_name(table), [document])

    def load_repair(self, table: str) -> RepairRecord:
        """The last repair of the table; one without sessions where there was none."""
        return self._load(table, RepairRecord) or RepairRecord()

    def begin_repair(self, table: str, sessions: int) -> RepairRecord:
        """Save that a repair of the table begins, which uses so many sessions."""
        before = self.load_repair(table).sessions
        record = RepairRecord(self.run, max(sessions, before))
        self._write(table, [record.document()])
        return record

    def begin_stream(self, record: StreamRecord, check: Callable[[], None]) -> None:
        """Make room for the first record of a stream, which does not count before it is saved.

        ``check`` raises where the task lock is lost. It comes between the look at what is saved
        and the exchange, so what an earlier run sends late replaces nothing of a later run. Raises
        Superseded where another run has begun.
        """
        saved = self._read_one(record.table, "stream")
        check()
        begun = self._numbered(record.document() | {"Begun": True})
        if not self._swap(record.table, saved, begun):
            raise Superseded(
                f"the stream of table {record.table} was begun by another run: start again"
            )

    def save_stream(self, record: StreamRecord, shards: Iterable[Shard]) -> None:
        """Save shards, then the stream, as its run; the stream counts once it is there."""
        self.save_shards(record, map(shard_document, shards))
        self._write(record.table, [record.document()])

    def save_shards(self, record: StreamRecord, documents: Iterable[dict[str, Any]]) -> None:
        """Save shards (see :func:`shard_document`), unless a later run has begun."""
        run = {"Run": record.run}
        self._write(record.table, [named(one, record.generation) | run for one in documents])

    def delete_shards(self, record: StreamRecord, shard_ids: Iterable[str]) -> None:
        """Delete the documents of shards that are no longer needed."""
        gone = {f"shard-{shard_id}{suffix(record.generation)}" for shard_id in shard_ids}
        for document in self._read(record.table):
            if document["_id"] in gone and document.get("Run") == record.run:
                self._swap(record.table, document, None)

    def begin_table(self, record: TableRecord) -> None:
        """Save the first record of a table.

        Raises Superseded where another run has begun it: its record comes late.
        """
        self._begin(None, record)

    def begin_anew(
        self,
        record: TableRecord,
        segments: int,
        gap: str,
        check: Callable[[], None] = lambda: None,
    ) -> TableRecord:
        """Begin another copy of a table, by one write: all that was saved of the last one is void.

        ``record`` is the table's where none is saved, since its changes alone were followed.
        ``check``: see :meth:`begin_stream`. Raises Superseded where another run is at work.
        """
        documents = self._read(record.table)
        saved = _find(documents, "table")
        last = _record(record.table, documents, TableRecord) or record
        uuid = (_record(record.table, documents, Identity) or UNKNOWN).collection_uuid
        fresh = last.anew(int(self._now()), segments, gap, uuid)
        check()
        self._begin(saved, fresh)
        return fresh

    def begin_run(self, record: TableRecord, segments: Iterable[SegmentRecord]) -> None:
        """Save all of a copy's checkpoint as this run: from then on no run before it alters it.

        The table comes last. Before that the run has sent nothing to the target, and the next one
        takes the same number: it cleans up behind the run that has.
        """
        self.save_segments(record, segments)
        self.save_table(record)

    def _begin(self, old: Document | None, record: TableRecord) -> None:
        if not self._swap(record.table, old, self._numbered(record.document())):
            stored, _ = self.load(record.table)
            if stored != record:  # else a try of our own, which the store did not confirm
                raise Superseded(
                    f"the copy of table {record.table} was begun by another run: start again"
                )

    def save_table(self, record: TableRecord) -> None:
        self._write(record.table, [record.document()])

    def save_segments(self, record: TableRecord, segments: Iterable[SegmentRecord]) -> None:
        """Save segments as the run of the table's copy, unless a later one has begun."""
        copy = {"Run": record.run, "Stamp": record.stamp}
        documents = [named(one.document(), record.generation) | copy for one in segments]
        self._write(record.table, documents)

    def status(self) -> SyncStatus | None:
        """Which sync the task is in; None before it began."""
        document = self._read_one(STATUS_TABLE, "status_key")
        if document is None:
            return None
        found = Fields(STATUS_TABLE, document).choice("StatusValue", get_args(SyncStatus))
        return cast(SyncStatus, found)

    def set_status(self, value: SyncStatus) -> None:
        self._write(STATUS_TABLE, [_status(value)])

    def load_applied(self) -> AppliedRecord | None:
        """How far the task has applied changes; None where it never said so."""
        return self._load(STATUS_TABLE, AppliedRecord)

    def save_applied(self, record: AppliedRecord) -> None:
        """Save how far the task has applied changes."""
        self._write(STATUS_TABLE, [record.document()])

    def load_summary(self) -> TaskSummary | None:
        """How the task stands, or how it ended, as it was last saved; None where it never was."""
        return self._load(STATUS_TABLE, TaskSummary)

    def save_summary(self, summary: TaskSummary, check: Callable[[], None]) -> bool:
        """Save a summary; whether that was done.

        ``check`` raises where the task lock is lost. It comes between the look at what is saved
        and the exchange, so what an earlier run sends late replaces nothing of a later run.
        """
        saved = self.load_summary()
        check()
        old = None
        if saved:
            summary = summary.after(saved)
            old = {"_id": "summary", "Token": saved.token, "At": saved.at}
        return self._swap(STATUS_TABLE, old, self._numbered(summary.document()))

    def _read(self, table: str) -> list[dict[str, Any]]:
        return self._store.read(stored_name(table))

    def _read_one(self, table: str, id: str) -> dict[str, Any] | None:
        return read_one(self._store, stored_name(table), id)

    def _load(self, table: str, kind: type[R]) -> R | None:
        return _record(table, self._store.read(stored_name(table), [kind.ID]), kind)

    def _swap(self, table: str, old: Document | None, new: Document | None) -> bool:
        return self._store.swap(stored_name(table), old, new)

    def _write(self, table: str, documents: list[dict[str, Any]]) -> None:
        self._store.write(stored_name(table), list(map(self._numbered, documents)))

    def _numbered(self, document: dict[str, Any]) -> dict[str, Any]:
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))
        return numbered(document | {"UpdateDate": date}, self.run)


def _find(documents: Iterable[Document], key: str) -> Document | None:
    return next((one for one in documents if one["_id"] == key), None)


def _status(value: SyncStatus) -> dict[str, Any]:
    document = {"_id": "status_key", "Format": FORMAT, "Key": "status_key"}
    return document | {"StatusValue": value}


def _is_of_table(key: str) -> bool:
    return key in _OF_TABLE or key.startswith(("segment-", "shard-"))


def _record(table: str, documents: Iterable[Document], kind: type[R]) -> R | None:
    found = _find(documents, kind.ID)
    return kind.of(table, found) if found else None
