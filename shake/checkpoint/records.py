"""What a checkpoint contains of the copy of a table, and how that is written down."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, get_args

from shake.checkpoint.contract import Document
from shake.checkpoint.document import FORMAT, Fields, Record, pairs
from shake.phase import SAVED, SAVED_WORDS, Phase, next_saved
from shake.targets.contract import CopyRun, OnExisting

#: The collection of the task itself; a table of this name has no place for its checkpoints.
STATUS_TABLE = "status_table"

#: Collections of which the UUIDs are remembered: a copy takes its time, and no command is expected
#: after a day.
_REPLACED = 16

#: How :func:`named` ends a name.
_ENDING = re.compile("@[0-9a-f]{16}$")


def new_generation() -> str:
    """Identifies a record, and what belongs to it, until a user removes the checkpoint.

    Runs are counted from 0 again then. What an earlier run has sent late is of another
    generation, and changes nothing. Records of older versions have none: "".
    """
    return uuid.uuid4().hex[:16]


def suffix(generation: str) -> str:
    return f"@{generation}" if generation else ""


def named(document: dict[str, Any], generation: str) -> dict[str, Any]:
    """The document by a name that no other generation has. So none of another one is in its way."""
    return document | {"_id": document["_id"] + suffix(generation)}


def of_generation(
    documents: Iterable[Document], kind: str, generation: str
) -> Iterator[dict[str, Any]]:
    """The documents of a kind and generation, as they were before they were :func:`named`."""
    for one in documents:
        name: str = one["_id"]
        found = _ENDING.search(name)
        if name.startswith(kind) and (found[0] if found else "") == suffix(generation):
            yield {**one, "_id": name.removesuffix(suffix(generation))}


@dataclass(frozen=True, slots=True)
class TableRecord(Record):
    """The copy of one table.

    ``namespace`` is ``database.collection``; ``stamp`` the Unix time in seconds at which the copy
    was begun, and ``run`` how often it was resumed: ObjectIds begin with their sum. ``on_existing``
    is what happens to a collection that is there already (``resync``: it is our own, and dropped),
    and ``backup`` the name it is renamed to, fixed before the rename so that a restart finds it
    again. ``settings`` are the configuration keys that shape the data. ``gap`` is the last loss of
    changes for which the table was copied anew. ``staged``: the copy fills a staging collection,
    and what is there already stays until the copy is complete. ``replaces`` is the UUID of the
    task's own collection that a new copy replaces. ``replaced`` are those of earlier ones, the last
    one first: commands for them can still arrive. ``drops`` are the UUIDs of all
    collections that the copy, or an unfinished one before it, was to drop. ``first_stamp`` is the
    stamp of the task's first copy, 0 while this is it. ``generation``: see :func:`new_generation`.
    """

    ID = "table"
    NAMES: ClassVar = {
        "namespace": "Place",
        "on_existing": "",
        "settings": "",
        "phase": "",
        "generation": "Life",
    }
    LATER = ("gap", "staged", "replaces", "first_stamp", "drops", "generation", "replaced")

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
    first_stamp: int = 0
    drops: tuple[str, ...] = ()
    generation: str = ""
    replaced: tuple[str, ...] = ()

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
        record = self.replacing(collection_uuid) if ours else self
        return replace(
            record,
            stamp=max(now, self.stamp + self.run + 1),
            segments=segments,
            on_existing="resync" if ours else self.on_existing,
            phase=Phase.PREPARING,
            run=self.run + 1,
            gap=gap,
            first_stamp=self.first_stamp or self.stamp,
            drops=() if ours else self.drops,
        )

    def replacing(self, collection_uuid: str) -> TableRecord:
        """The record of a copy that replaces this collection of the task; "" is none."""
        if collection_uuid in ("", self.replaces):
            return self
        earlier = [one for one in self.fenced if one != collection_uuid]
        return replace(self, replaces=collection_uuid, replaced=tuple(earlier[:_REPLACED]))

    @property
    def fenced(self) -> tuple[str, ...]:
        """The UUIDs of all replaced collections for which a late command can arrive."""
        return (self.replaces, *self.replaced) if self.replaces else ()

    @property
    def copy_run(self) -> CopyRun:
        return CopyRun(self.stamp, self.run, self.first_stamp or self.stamp)

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

    def own(self) -> dict[str, Any]:
        return {
            "Status": SAVED_WORDS[self.phase],
            "Fate": self.on_existing,
            "Settings": pairs(self.settings),
        }

    @classmethod
    def read_own(cls, collection: str, found: Fields) -> dict[str, Any]:
        if found.text("Table") != collection:
            raise found.wrong("Table", found.text("Table"))
        return {
            "phase": SAVED[found.choice("Status", SAVED)],
            "on_existing": found.choice("Fate", get_args(OnExisting)),
            "settings": found.pairs("Settings"),
        }


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
        record = cls(
            segment=fields.number("Segment"),
            last_key=fields.text("LastEvaluatedKey").encode() or None,
            documents=fields.number("Documents"),
            run=fields.number("StoredInRun"),
            bytes=fields.number("Bytes"),
            scanned=fields.number("Scanned"),
            capacity=fields.real("Capacity"),
            done=fields.choice("Status", ("running", "done")) == "done",
        )
        if record.document()["_id"] != document["_id"]:
            raise fields.wrong("Segment", record.segment)
        return record
