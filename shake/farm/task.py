"""The interface of a running task to its parts: the run implements it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shake.errors import ShakeError
from shake.farm import worker_messages, writer_messages

if TYPE_CHECKING:
    from shake.config import Config
    from shake.copy.table import CopiedTable
    from shake.farm.checkpointer import Checkpointer
    from shake.farm.pool import Worker, WorkerPool
    from shake.farm.writer import TableWriter
    from shake.follow.table import FollowedTable
    from shake.plan.plan import TablePlan
    from shake.process.loop import Loop
    from shake.process.site import Site
    from shake.source.contract import Source


class Phases(Protocol):
    """Gives orders to a writer."""

    def carried_out(self, table: int, done: writer_messages.Done) -> None:
        """A writer has carried out its order."""


class Task(Protocol):
    """A running task. All of it is called in the loop."""

    @property
    def draining(self) -> bool:
        """The task ends: nothing more is begun, and what was published is acknowledged."""

    # ---- what goes wrong

    def fail(self, error: ShakeError) -> None:
        """Something that waiting does not cure: the task ends."""

    def retrying(self, text: str) -> None:
        """Something has failed again, and is tried again."""

    def uncertain(self, text: str) -> None:
        """Something is uncertain; the text says what is done about it."""

    # ---- children

    def from_worker(self, worker: Worker, message: worker_messages.OfWorker) -> None:
        """A worker reports something that belongs to no lease."""

    def worker_crashed(self, worker: Worker) -> None:
        """Its leases are lost already."""

    def start_writer(self, table: int, run: int, staged: bool, phases: Phases) -> TableWriter:
        """Start the writer of a table for a run. ``staged``: it fills a staging collection."""

    def start_another_writer(self, first: TableWriter, number: int) -> TableWriter:
        """Start a further process that writes to the collection where ``first`` writes now."""

    def start_applier(self, first: TableWriter, site: Site) -> TableWriter:
        """What applies changes at a site, where ``first`` writes now: it itself, if it is there."""

    # ---- tables

    def verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        """Call ``then`` if the source table is still the one that was copied; else fail."""

    def all_stored(self, copy: CopiedTable) -> None:
        """The target has every page of a table."""

    def copied(self, copy: CopiedTable) -> None:
        """The copy of a table is over: done, done before, or broken."""

    def indexed(self, table: int, done: writer_messages.Done) -> None:
        """A table that is to be followed has its indexes, but for those that were refused."""

    def shards_changed(self, following: FollowedTable) -> None:
        """There can be other shards to be read than before."""

    def consistent(self) -> None:
        """All followed tables are consistent."""


@dataclass(frozen=True, slots=True)
class Farm:
    """What the full copy and the changes of a task both work with.

    ``source`` is asked for tables and streams, and has the source's clock.
    """

    config: Config
    loop: Loop
    pool: WorkerPool
    checkpointer: Checkpointer
    task: Task
    source: Source
