"""What a source promises to all who read it, whatever it speaks.

Positions are opaque: a page says where the next one begins, and that goes back as it came. Pages
are in the form of Scan and GetRecords responses, which the codec reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shake.schema import UNKNOWN, Origin, Question, Table
from shake.source.connection import Buffer
from shake.source.scan import ScanPlan
from shake.stream.listing import Listed
from shake.stream.suspicion import ShardAnswer

if TYPE_CHECKING:
    from shake.config import ScanFilter
    from shake.source.clock import SourceClock


@dataclass(frozen=True, slots=True)
class Stream:
    """The stream of a table, and whether it takes changes; ``arn`` is empty where there is none."""

    arn: str = ""
    enabled: bool = False
    view: str = ""
    table: Origin = UNKNOWN


class Pending(Protocol):
    """A request under way. The thread that sent it can do other work before it takes the answer."""

    def result(self) -> memoryview:
        """The answer and a closing 0, until the caller's next request. Faults are retried.

        Raises SourceError for what no waiting cures, Stopped when the process stops.
        """

    def cancel(self) -> None:
        """The answer is no longer needed."""


class WorkerSource(Protocol):
    """What workers ask of a source. Thread-safe, but each thread has its own ``buffer``."""

    def scan(self, plan: ScanPlan, segment: int, start: bytes | None, buffer: Buffer) -> Pending:
        """Request the page of a segment at ``start``; None is the beginning."""

    def iterator(self, arn: str, shard: str, start: str, sequence: str, buffer: Buffer) -> str:
        """An iterator behind ``sequence``; without it at ``start``, or at the oldest record."""

    def records(self, iterator: str, limit: int, buffer: Buffer) -> memoryview:
        """The records at an iterator. This and ``iterator`` raise as Pending.result does."""

    def pause(self, tries: int) -> None:
        """Wait before the next try, after so many damaged answers in a row."""


class Source(Protocol):
    """What plan and supervisor ask of a source. Thread-safe.

    A request is tried again as long as its faults last, or ``max_tries`` times in all. It raises
    SourceError for what no waiting cures.
    """

    clock: SourceClock

    def wait(self, seconds: float) -> None:
        """Wait; return at once when the process stops."""

    def close(self) -> None: ...

    # ---- tables

    def list_tables(self, *, max_tries: int | None = None) -> list[str]:
        """The names of all tables."""

    def describe(self, name: str, *, max_tries: int | None = None) -> Table:
        """The table's keys, indexes, size and origin. Raises RefusedError where it is not ready."""

    def holds_items(
        self, name: str, filter: ScanFilter | None = None, *, max_tries: int | None = None
    ) -> bool:
        """Whether the table holds any item, which proves that it can be read by this filter."""

    def sample(
        self,
        plan: ScanPlan,
        segment: int,
        start: bytes | None = None,
        *,
        max_tries: int | None = None,
    ) -> bytes:
        """The page at ``start`` of a segment, or its first one, for the codec."""

    # ---- streams

    def find_stream(self, table: str, *, max_tries: int | None = None) -> Stream:
        """The table's latest stream."""

    def look_at_stream(self, table: str) -> Stream | None:
        """The table's latest stream, None where there is no such table."""

    def try_changes(self, table: Table, stream: Stream, *, max_tries: int | None = None) -> None:
        """Make the requests that following the table needs; change nothing.

        Where the table has no stream, this tries the rights to enable and to read one.
        """

    def await_active(self, table: str) -> None:
        """Return when the table is neither created nor updated any more."""

    def enable_stream(self, table: str) -> Stream:
        """Enable a stream with new and old images; return it when it takes changes.

        Raises RunError where it cannot be enabled, or cannot be read then.
        """

    def list_shards(self, arn: str) -> list[Listed]:
        """All shards of a stream."""

    def look_at_shards(self, arn: str) -> list[Listed] | None:
        """All shards of a stream, None where there is no such stream."""

    def list_children(self, arn: str, parent: str) -> list[Listed] | None:
        """The children of a shard; None where it does not list them, or there is no stream."""

    def answer(self, arn: str, question: Question, *, max_tries: int | None = None) -> ShardAnswer:
        """Ask directly whether a shard, and what follows a position in it, is there."""

    def is_lost(self, table: str, arn: str, question: Question) -> bool:
        """Ask once more, directly, whether what seemed to be lost is."""
