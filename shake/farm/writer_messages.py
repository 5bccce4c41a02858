"""The messages of writers. Item data never goes this way: a page is named by its slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from shake.checkpoint.kept import Tally
from shake.farm.worker_messages import NO_RAW_ANSWER, RawAnswer
from shake.process.channel import ChildChannel
from shake.process.messages import FromChild, Report
from shake.process.role import Role
from shake.schema import Table
from shake.status.figures import in_short
from shake.targets.contract import CopyRun, Location, OnExisting

# ---- supervisor to writer; ``table`` is the number of the table whose collection is written


class WriterSetup(NamedTuple):
    """The second message: of the process's right to write.

    ``number`` is 1, or a higher one of the further writers of a collection. ``process`` numbers its
    commands: see targets.contract.Fence. ``until``: see WriteUntil. ``arenas`` are the descriptors
    of all workers' memory.
    """

    number: int
    process: int
    until: float
    arenas: tuple[int, ...]


class OpenCollection(NamedTuple):
    """Write a collection too.

    ``namespace`` is where the table's documents are at the end; ``location`` is where they are now:
    elsewhere while a copy fills a staging collection (``staged``). ``run`` numbers the commands:
    see targets.contract.Fence. ``resumed``: earlier runs have written. ``kept``: there can be kept
    items of the table, which are to leave when a change of their keys is stored.
    """

    table: int
    description: Table
    namespace: str
    copy: CopyRun
    staged: bool
    location: Location
    run: int
    resumed: bool
    kept: bool


class Prepare(NamedTuple):
    """Create the collection that the copy fills.

    ``on_existing`` says what to do with an existing collection, where that is decided now.
    """

    table: int
    on_existing: OnExisting


class Resume(NamedTuple):
    """Take over what earlier runs have filled; delete ranges of ``_id``, [from, to), from it."""

    table: int
    collection_uuid: str
    ranges: Sequence[tuple[bytes, bytes]]


class DeleteRanges(NamedTuple):
    """Delete ranges of ``_id``, [from, to)."""

    table: int
    ranges: Sequence[tuple[bytes, bytes]]


class Publish(NamedTuple):
    """Give the staging collection its final name: see targets.contract.Staging."""

    table: int
    collection_uuid: str
    on_existing: OnExisting
    backup: str
    drops: Sequence[str]


class Write(NamedTuple):
    """Store a slot. ``first``: of a lease's first page, which others can have stored in part."""

    table: int
    publication: int
    arena: int
    slot: int
    length: int
    segment: int = 0
    raw_answer: RawAnswer = NO_RAW_ANSWER
    first: bool = False


class Apply(NamedTuple):
    """Carry out the statements in a slot: see Batch. Those of a ``shard`` come one by one."""

    table: int
    publication: int
    arena: int
    slot: int
    statement_sizes: Sequence[tuple[int, int]]
    shard: str
    raw_answer: RawAnswer = NO_RAW_ANSWER


class BuildIndexes(NamedTuple):
    """Make sure that so many documents are there; build indexes: see Writer.build_indexes."""

    table: int
    documents: int
    segments: int


class Sweep(NamedTuple):
    """Remove what late commands of earlier runs have created. Not answered."""

    table: int


class Verify(NamedTuple):
    """Make sure that the collection is still the one that was filled. Answered by errors only."""

    table: int


class KeepFences(NamedTuple):
    """Keep the sessions of these shards from expiring in the target. Not answered."""

    table: int
    shards: Sequence[str]


class WriteUntil(NamedTuple):
    """Begin no write at or after this moment of the boot clock, in seconds."""

    moment: float


# ---- writer to supervisor


class Wrote(NamedTuple):
    """The target has acknowledged every document of a page's slot."""

    table: int
    publication: int


class Applied(NamedTuple):
    """The target has acknowledged all statements; ``skipped`` found nothing to modify."""

    table: int
    publication: int
    skipped: int


class Done(NamedTuple):
    """The writer's order is carried out; ``error`` names the indexes that the target refused.

    ``has_key_index``: an index, or the ``_id``, gives each key one document, so that changes can be
    applied. ``namespace`` and ``collection_uuid`` are where documents are stored now: see
    targets.contract.Location.
    """

    table: int
    error: str = ""
    has_key_index: bool = True
    namespace: str = ""
    collection_uuid: str = ""


class Building(NamedTuple):
    """How far the indexes of a table are: see targets.contract.BuildProgress."""

    table: int
    step: str
    share: float


class Kept(NamedTuple):
    """The kept items of a table are others than before, as of a ``moment`` of the boot clock."""

    table: int
    tally: Tally
    moment: float


class WriteRetried(NamedTuple):
    """A command to the target is tried again."""

    table: int
    reason: str


# ---- the role

#: What a writer does in the order of its orders, each answered by Done.
Order: TypeAlias = Prepare | Resume | DeleteRanges | BuildIndexes | Publish
#: What a writer does beside that.
Aside: TypeAlias = Sweep | Verify | KeepFences
ToWriter: TypeAlias = OpenCollection | Order | Aside | Write | Apply | WriteUntil | Report
#: What a writer reports that acknowledges nothing.
OfWriter: TypeAlias = FromChild | Done | Building | Kept | WriteRetried
FromWriter: TypeAlias = OfWriter | Wrote | Applied
WRITER = Role[WriterSetup, ToWriter, FromWriter](
    "shake.worker.writer", WriterSetup, ToWriter, FromWriter
)
WriterChannel: TypeAlias = ChildChannel[WriterSetup, ToWriter, FromWriter]


def writer_name(number: int, namespaces: list[str]) -> str:
    """``writer a.b``, ``writer 2 of a.b``, ``writer a.b and 3 more``."""
    return f"writer {f'{number} of ' if number > 1 else ''}{in_short(namespaces)}"
