"""What a target promises to the farm, whatever it speaks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from shake.schema import Item, Table

#: What happens to a collection that has the name already.
OnExisting = Literal["create", "rename", "drop", "resync"]


class CopyRun(NamedTuple):
    """A run of a copy: the copy's stamp, the run's number, the stamp of the task's first copy."""

    stamp: int
    run: int
    first_stamp: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a type of target takes, and what it can do.

    ``documents``: the codec makes BSON, or each item's own DynamoDB JSON. ``deletes_ranges``:
    ranges of ObjectIds can be deleted (see Writer.delete_ranges), so a copy stores no item twice.
    ``updates_only``: it can leave out a change of an item that it does not hold. ``renames``: a
    collection can get another name; where that depends on the server, see Target.staging.
    ``holds_checkpoints``: the target can be the checkpoint store too; then ``target.address`` is a
    connection string of MongoDB, else a URL. ``folds_case``: it refuses databases whose names
    differ only in upper and lower case.
    """

    documents: Literal["bson", "json"]
    deletes_ranges: bool
    updates_only: bool
    renames: bool
    holds_checkpoints: bool
    folds_case: bool


class Changes(NamedTuple):
    """Statements of one batch of changes (see codec.contract.Statements), each of another key."""

    updates: memoryview
    inserts: memoryview
    deletes: memoryview


class BuildProgress(NamedTuple):
    """The step of an index build, in the server's words, and how much of it is done, 0 to 1."""

    step: str
    share: float


class Refusal(NamedTuple):
    """A document or statement (see codec.contract) that the target does not store, and why."""

    document: bytes
    reason: str


class Writer(Protocol):
    """Writes one collection. Thread-safe: several ``write`` calls run at the same time.

    With a list for ``refused``, what the target refuses for its own sake is added to that, where
    without it ItemError is raised.
    """

    def write(self, documents: memoryview, refused: list[Refusal] | None = None) -> int:
        """Store the documents of one slot (see codec.contract); return how many replaced others.

        Returns only when the target has acknowledged every one. Writing the same documents again
        is harmless. Transient errors are retried for as long as they last. Raises ItemError for a
        document that the target refuses, Stopped when the task stops while it waits.
        """

    def apply(self, changes: Changes, shard: str, refused: list[Refusal] | None = None) -> int:
        """Carry out changes; return how many were skipped because the document is missing.

        Those of a ``shard`` are applied one after the other: what was sent and never answered is
        not to land behind a later change of its shard, if the target can be kept from it.

        Returns when the target has acknowledged all of them. Doing it again is harmless. Raises
        as ``write`` does, and ItemError for an insert of a key that is there with other content.
        """

    def holds(self, key: Item) -> bool:
        """Whether a document of a typed key is there; False also where that is not known."""

    def missing(self, documents: int) -> int:
        """How many of so many written documents are missing, where that can be counted."""

    def delete_ranges(self, ranges: Sequence[tuple[bytes, bytes]]) -> int:
        """Delete what lies in the ``_id`` ranges [from, to), 12 raw bytes each; return how many."""

    def keep_fences(self, shards: Sequence[str]) -> None:
        """Keep the target from deleting the numbers by which it refuses late changes of shards."""

    def end_shards(self, shards: list[str]) -> None:
        """Have the target refuse all that was sent for these shards and has not arrived yet.

        Call this before a copy replaces the collection. Else a late command without a UUID could
        change the new collection.
        """

    def build_indexes(self, notice: Callable[[str], None], segments: int = 0) -> None:
        """Build every index that is missing.

        Where a copy in so many ``segments`` was interrupted it may have left an item twice: one of
        its documents is kept. Of documents that it cannot have stored none is removed.

        Raises RunError that names each refused one: IndexRefused, where changes can be applied
        nevertheless.
        """

    def build_progress(self) -> BuildProgress | None:
        """How far ``build_indexes`` is in another thread; None where there is no progress."""


#: The number of a process that ends what all others have sent: above those of a run's writers, of
#: which there can be so many, and below the next run's.
LAST_PROCESS = 1023


class Fence(NamedTuple):
    """By what the target refuses the late commands of a writer.

    ``collection_uuid`` is the UUID of the collection that is written, "" where it is unknown.
    Commands are numbered; the numbers rise with ``run``, which the checkpoint counts, and within it
    with ``process``.
    """

    collection_uuid: str = ""
    run: int = 0
    process: int = 0


#: The fence of a writer that numbers no commands, into a collection of unknown UUID.
NO_FENCE = Fence()


class Found(NamedTuple):
    """A collection that is there: its UUID, "" if unknown, and whether it has its key index.

    ``collation`` is what it compares strings by, "" where different strings are never equal.
    """

    collection_uuid: str
    has_key_index: bool
    collation: str = ""


class Location(NamedTuple):
    """Where documents are stored now: ``database.collection``, and its UUID, "" if unknown."""

    namespace: str
    collection_uuid: str


class Staging(Protocol):
    """The collection that a copy fills; it gets its final name when it is complete.

    Each method can be called again, by another run too, after a call that was not answered.
    ``collection_uuid`` is the UUID that the last answer gave.
    """

    def begin(self) -> Location:
        """Create it, empty."""

    def look(self, collection_uuid: str) -> Location | None:
        """Where it is now, under whatever run's name; None where it is gone. Changes nothing."""

    def resume(self, collection_uuid: str) -> Location:
        """Take it over from an earlier run, whose late commands cannot reach it any more.

        Its place is the final one where that run had already renamed it. Raises RunError where it
        is gone.
        """

    def publish(
        self, collection_uuid: str, on_existing: OnExisting, backup: str, drops: Collection[str]
    ) -> Location:
        """Give it the final name.

        What has that name is renamed to ``backup`` or dropped, as ``on_existing`` says; for
        ``resync`` only if its UUID is one of ``drops`` (see TableRecord). Raises RunError for a
        collection that is not expected. Where the answer gives another UUID than
        ``collection_uuid``, it is called again with that, once it is saved.
        """

    def sweep(self, *, published: bool) -> None:
        """Remove what commands of the task's earlier runs have created late.

        ``published``: this run's own name is not used any more either.
        """

    def others(self, drops: Collection[str]) -> list[tuple[str, int]]:
        """Names and documents of collections like this one that the task has not made.

        Another task can be using them. ``drops``: see TableRecord.
        """


class Target(Protocol):
    """A place that holds collections; ``namespace`` is ``database.collection``."""

    @property
    def weaknesses(self) -> tuple[str, ...]:
        """What can undo acknowledged writes or changes, as warnings. Known after :meth:`probe`."""

    @property
    def takes_uuids(self) -> bool:
        """Whether no command reaches another collection of the same name."""

    @property
    def unfenced(self) -> str:
        """Why it cannot refuse all late commands of a lost machine; "" where it can.

        Known after :meth:`probe`.
        """

    @property
    def user(self) -> str:
        """A digest of the user that changes are sent as; "" where that does not matter."""

    def probe(self, namespaces: list[str]) -> None:
        """Raise RefusedError unless the target answers and can be written to."""

    def missing_rights(self, namespaces: list[str]) -> list[str]:
        """What the target does not allow of what a run will do there, a line each.

        Empty also where the target does not show that.
        """

    def find(self, namespace: str, table: Table) -> Found | None:
        """The collection of this name, None where there is none."""

    def seen(self, namespace: str, table: Table) -> Found | None:
        """The same as it is seen now, which a fail-over might undo."""

    def drop(self, namespace: str) -> None: ...

    def create(self, namespace: str, table: Table) -> None:
        """Create the collection (sharded, where so configured). Harmless when it is there."""

    def staging(
        self, namespace: str, table: Table, copy: CopyRun, notice: Callable[[str], None]
    ) -> Staging | None:
        """The staging collection of a run; None where the target cannot rename."""

    def writer(self, namespace: str, table: Table, fence: Fence = NO_FENCE) -> Writer: ...

    def close(self) -> None: ...
