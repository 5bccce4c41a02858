"""What the full copy and the changes of a task work with, and how both speak to the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shake.config import Config
from shake.farm.checkpointer import Checkpointer
from shake.farm.contract import Task
from shake.farm.pool import WorkerPool
from shake.farm.writer import WriterHandle
from shake.farm.writer_messages import Done
from shake.plan.plan import TablePlan
from shake.process.loop import Loop
from shake.process.site import Site
from shake.source.contract import Source


class Phases(Protocol):
    """Gives orders to a writer."""

    def carried_out(self, table: int, done: Done) -> None:
        """A writer has carried out its order."""


class TableTask(Task, Protocol):
    """A running task with its tables, each of which has a number."""

    def start_writer(self, table: int, run: int, staged: bool, phases: Phases) -> WriterHandle:
        """Start the writer of a table for a run. ``staged``: it fills a staging collection."""

    def start_another_writer(self, first: WriterHandle, number: int) -> WriterHandle:
        """Start a further process that writes to the collection where ``first`` writes now."""

    def start_applier(self, first: WriterHandle, site: Site) -> WriterHandle:
        """The writer at a site that applies changes to the collection of ``first``.

        It is ``first`` itself where that runs there.
        """

    def verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        """Call ``then`` if the source table is still the one that was copied; else fail."""

    def all_stored(self, table: int) -> None:
        """The target has every page of a table."""

    def copied(self, table: int) -> None:
        """The copy of a table is over: done, done before, or broken."""

    def indexed(self, table: int, done: Done) -> None:
        """A table that is to be followed has its indexes, but for those that were refused."""

    def shards_changed(self, table: int) -> None:
        """There can be other shards to be read than before."""

    def consistent(self) -> None:
        """All followed tables are consistent."""


@dataclass(frozen=True, slots=True)
class Farm:
    """The parts that copy and changes share. ``source`` has the source's clock, too."""

    config: Config
    loop: Loop
    pool: WorkerPool
    checkpointer: Checkpointer
    task: TableTask
    source: Source
