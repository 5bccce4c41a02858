"""The messages of workers. Item data never goes this way: a page is named by its slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from shake.process.channel import ChildChannel
from shake.process.messages import FromChild, Report
from shake.process.role import Role
from shake.schema import Keys
from shake.source.clock import Bounds
from shake.source.endpoint import Credentials, Endpoint
from shake.stream.shard import NO_ITERATOR, TipIterator

# ---- supervisor to worker


class WorkerSetup(NamedTuple):
    """The second message: of the source, and of the worker's place in the pool.

    ``arena`` is a descriptor. ``free`` are the slots that hold nothing of an earlier process.
    """

    number: int
    endpoint: Endpoint
    credentials: Credentials
    arena: int
    scanners: int
    free: Sequence[int]


class Drain(NamedTuple):
    """Finish the page in hand, read no further."""


class OpenTable(NamedTuple):
    """Describes a table before its first lease: key attributes, scan, start of its ObjectIds."""

    table: int
    name: str
    keys: Keys
    segments: int
    stamp: int


class LeaseSegment(NamedTuple):
    """Scan a segment on a scanner, from a position."""

    lease: int
    scanner: int
    table: int
    segment: int
    start: bytes | None  # raw LastEvaluatedKey JSON
    documents: int  # documents of the segment before this position


class OpenStream(NamedTuple):
    """Describes a table's stream.

    Sent before the first lease of a shard, and again when ``since`` or ``strict`` changes.
    ``since`` is Unix seconds: answers whose last change is older are left out. ``strict``: an
    INSERT of a key that the target holds is an error.
    """

    table: int
    name: str
    keys: Keys
    arn: str
    since: float
    strict: bool


class LeaseShard(NamedTuple):
    """Read a shard on, from behind ``sequence``; without it from ``start``, where it begins.

    Without ``start`` read the oldest record that is left, whatever was read before. ``to_journal``:
    read it into its journal, behind what that holds. ``journaled`` is the last record that it is
    known to hold, "" before the first; None: there is no journal to be read first. ``size`` is how
    many bytes it has up to there.
    """

    lease: int
    table: int
    shard: str
    start: str
    sequence: str
    to_journal: bool
    journaled: str | None
    size: int = 0
    iterator: TipIterator = NO_ITERATOR


class EndLease(NamedTuple):
    """Read this shard no further: others wait, or, with ``at_once``, the task is paused.

    Without it the reader first finds out whether it is at the tip of the shard.
    """

    lease: int
    at_once: bool = False


class PollQuickly(NamedTuple):
    """Until this moment of the boot clock, in seconds, ask about quiet shards as about others.

    It is sent while ``/ready`` is asked, or a run waits until all is consistent.
    """

    until: float


class Free(NamedTuple):
    """The target has acknowledged a slot: it may be filled again."""

    slot: int


class Permit(NamedTuple):
    """So many more Scan calls of a table are allowed."""

    table: int
    calls: int


class Revoke(NamedTuple):
    """Permitted Scan calls of a table that have not gone out are not allowed any more."""

    table: int


# ---- worker to supervisor


class RawAnswer(NamedTuple):
    """What a slot holds behind its documents or statements where bad items are to be kept.

    ``size`` bytes of the response as it was received, and (number, reason) of what the codec has
    left out (see codec.contract.Reject).
    """

    size: int = 0
    rejects: Sequence[tuple[int, str]] = ()


#: Bad items are not to be kept.
NO_RAW_ANSWER = RawAnswer()


class Page(NamedTuple):
    """A slot, or the last of several, of a Scan page.

    ``complete`` is False for all but the last slot of a page that needed several; only the last
    one has a position. ``slot`` is -1 for a page of which nothing is to be stored or kept.
    """

    lease: int
    slot: int
    length: int
    documents: int
    complete: bool
    last_key: bytes | None = None  # None with ``complete``: the segment ends here
    scanned: int = 0
    capacity: float = 0.0
    raw_answer: RawAnswer = NO_RAW_ANSWER


class Idle(NamedTuple):
    """A scanner has ended its lease: at the segment's end, or because it drains."""

    scanner: int


class Want(NamedTuple):
    """The worker has used up its permitted calls of a table."""

    table: int


class Batch(NamedTuple):
    """A slot, or the last of several, with the statements of one GetRecords answer.

    ``statement_sizes`` are (bytes, statements) of updates, inserts and deletes. Only the last
    slot moves the position: ``sequence`` is that of the answer's last record, ``created`` its time.
    """

    lease: int
    slot: int
    statement_sizes: Sequence[tuple[int, int]]
    complete: bool
    records: int = 0
    sequence: str = ""
    created: float = 0.0
    raw_answer: RawAnswer = NO_RAW_ANSWER


class Tip(NamedTuple):
    """A shard was read to its tip: all that was written before ``moment`` is published.

    Here, and wherever changes have a time, it is Unix seconds on the source's clock.
    """

    lease: int
    moment: float


class Journaled(NamedTuple):
    """So many more records, up to ``sequence``, and all from before ``through``, are durable.

    Without a sequence number, none is: the shard was read to its tip. ``size`` is in bytes on disk.
    """

    lease: int
    sequence: str
    records: int
    size: int
    through: float


class JournalFull(NamedTuple):
    """The disk takes no more; the lease ends."""

    lease: int
    reason: str


class ShardEnd(NamedTuple):
    """A lease has ended, ``over`` at the shard's end; else ``iterator`` reads on from there."""

    lease: int
    over: bool
    iterator: TipIterator = NO_ITERATOR


class ShardGap(NamedTuple):
    """What follows the shard's position cannot be read, so the lease ends.

    ``kind``: it is ``trimmed``, or ``gone`` with the whole shard, or the journal is ``damaged``.
    """

    lease: int
    kind: str
    reason: str


class ReadRetried(NamedTuple):
    """A request to the source is tried again. ``scan``: it is a Scan call, which used a permit."""

    table: int
    throttled: bool
    tries: int
    reason: str
    scan: bool = False


class ClockSetBack(NamedTuple):
    """An answer of the source shows that its clock was set back."""


# ---- the role

ToScanner: TypeAlias = OpenTable | LeaseSegment | Permit | Revoke
ToReader: TypeAlias = OpenStream | LeaseShard | EndLease
ToWorker: TypeAlias = ToScanner | ToReader | PollQuickly | Credentials | Free | Drain | Report
#: What a worker reports on a lease that it holds, each with the lease's number.
OfLease: TypeAlias = Page | Batch | Tip | Journaled | JournalFull | ShardEnd | ShardGap
#: What it reports of itself, or of a table.
OfWorker: TypeAlias = FromChild | Idle | Want | Bounds | ClockSetBack | ReadRetried
FromWorker: TypeAlias = OfWorker | OfLease
WORKER = Role[WorkerSetup, ToWorker, FromWorker](
    "shake.worker.process", WorkerSetup, ToWorker, FromWorker
)
WorkerChannel: TypeAlias = ChildChannel[WorkerSetup, ToWorker, FromWorker]
