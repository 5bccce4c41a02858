"""The parts of a run: built, and connected with each other and with the task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from shake.checkpoint.kept import NOTHING_KEPT, Tally
from shake.checkpoint.task_lock import TaskLock
from shake.clock import boot_clock
from shake.config import Config
from shake.control.desk import Desk
from shake.copy.phases import CopyPhases
from shake.copy.scheduler import CopyScheduler, CopyWriters
from shake.copy.table import CopiedTable
from shake.farm.checkpointer import Checkpointer
from shake.farm.farm import Farm, TableTask
from shake.farm.pool import WorkerPool
from shake.farm.writer import LockGuard, WriterHandle, WriterProcess
from shake.follow.journaling import Journaling
from shake.follow.phases import FollowPhases
from shake.follow.scheduler import FollowScheduler
from shake.follow.stream_monitor import StreamMonitor
from shake.follow.table import FollowedTable
from shake.limits import Budget
from shake.plan.machine import APPLIERS, READERS, workers_needed, writers_of
from shake.plan.plan import Plan, capacity_rate
from shake.plan.positions import StreamPosition
from shake.process.loop import Loop
from shake.process.site import HERE, Site, Sites
from shake.run.connections import RunConnections
from shake.run.status_pages import StatusPages
from shake.source.contract import Source
from shake.status.progress import Reporter


@dataclass(frozen=True, slots=True)
class RunResources:
    """What a run needs of the world outside: source, store of checkpoints, screen, commands, sites.

    ``positions`` are those of the tables whose changes are followed, by name, and ``watch`` is a
    client for their streams.
    """

    opened: RunConnections
    watch: Source
    positions: Mapping[str, StreamPosition]
    lock: TaskLock
    screen: StatusPages
    desk: Desk
    sites: Sites


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is asked for; ``reporter`` shows it every ``refresh`` seconds.

    Changes are followed until a signal ends the run, or, with ``until_consistent``, until every
    change made before its start is applied. A ``standby`` first waits until no other supervisor
    runs the task. ``on_good_end`` is called at a good end, while the status page is still up. After
    the end it stays for ``linger_seconds``. The closing summary is not wider than ``width`` where
    that is not 0. ``open_sites`` gives the sites of children, where that is not this machine.
    """

    config: Config
    workers: int
    reporter: Reporter
    refresh: float
    until_consistent: bool
    standby: bool
    on_good_end: Callable[[], None]
    linger_seconds: float
    width: int
    open_sites: Callable[[], AbstractContextManager[Sites]] | None = None


class Parts:
    """All parts of a run."""

    def __init__(
        self, options: RunOptions, plan: Plan, resources: RunResources, loop: Loop, task: TableTask
    ) -> None:
        self._config = config = options.config
        self._loop = loop
        self._task = task
        self._lock = lock = resources.lock
        opened, now = resources.opened, loop.clock()
        self.guard = LockGuard(lambda: lock.fresh(boot_clock()))
        self.checkpointer = Checkpointer(opened.checkpoints, lock, boot_clock, loop.post, task)
        workers = min(options.workers, workers_needed(config, plan))
        self.sites = resources.sites
        sites = self.sites.places(workers)
        names = [table.table.name for table in plan.tables]
        kept = opened.checkpoints.kept_tallies(names, writes=True)
        self.copies = _copies(config, plan, workers, len(set(sites)), now, kept)
        homes = list(dict.fromkeys(sites))
        self.followed_tables = _followed_tables(plan, resources.positions, homes, now)
        self.pool = WorkerPool(
            loop,
            config,
            opened.endpoint,
            opened.credentials(),
            sites,
            READERS if self.followed_tables else 0,
            task,
        )
        farm = Farm(config, loop, self.pool, self.checkpointer, task, resources.watch)
        self._connect_copy(farm)
        self._connect_follow(farm)

    def _connect_copy(self, farm: Farm) -> None:
        copies, writers = self.copies, dict[int, CopyWriters]()
        self._copy_writers = writers
        self.copy_scheduler = CopyScheduler(farm, copies, writers)
        self.copy_phases = CopyPhases(farm, copies, writers, self.copy_scheduler)

    def _connect_follow(self, farm: Farm) -> None:
        followed_tables = self.followed_tables
        writers, appliers = dict[int, WriterHandle](), dict[int, WriterHandle]()
        self._follow_writers, self._appliers = writers, appliers
        self.monitor = monitor = StreamMonitor(farm, followed_tables)
        journaling = Journaling(farm, followed_tables, monitor)
        self.follow_scheduler = FollowScheduler(
            farm, followed_tables, appliers, monitor, journaling
        )
        self.follow_phases = FollowPhases(
            farm, followed_tables, writers, appliers, self.follow_scheduler, monitor, journaling
        )

    @property
    def complete(self) -> bool:
        """All tables are copied, and no changes are followed."""
        return self.copy_phases.over and self.follow_phases.over

    @property
    def writing(self) -> list[WriterProcess]:
        """The processes that write to the target."""
        copying = itertools.chain.from_iterable(self._copy_writers.values())
        return _processes([*copying, *self._follow_writers.values(), *self._appliers.values()])

    def process(self, *, alone: bool, number: int = 1, site: Site = HERE) -> WriterProcess:
        """A process to write a collection: a new one or, where there are many, a shared one.

        Changes cost little, so followed tables can share processes. ``number``: see WriterProcess.
        """
        sharing = [*self._follow_writers.values(), *self._appliers.values()]
        shared = [process for process in _processes(sharing) if process.site is site]
        if not alone and len(shared) >= APPLIERS:
            return min(shared, key=lambda one: len(one.writers))
        return WriterProcess(
            self._loop,
            self._config,
            tuple(worker.arena for worker in self.pool.at[site]) if site in self.pool.at else (),
            number=number,
            until=lambda: self._lock.until,
            task=self._task,
            site=site,
        )


def _processes(writers: Iterable[WriterHandle]) -> list[WriterProcess]:
    return list(dict.fromkeys(writer.process for writer in writers))


def _copies(
    config: Config, plan: Plan, workers: int, sites: int, now: float, kept: Mapping[str, Tally]
) -> list[CopiedTable]:
    copies = []
    for number, table in enumerate(plan.tables):
        budget = Budget(config.qps_full, capacity_rate(config, table.table), now)
        writers = math.ceil(writers_of(config, table, workers) / max(1, sites))
        tally = kept.get(table.table.name, NOTHING_KEPT)
        copies.append(CopiedTable(number, table, budget, now, writers, tally))
    return copies


def _followed_tables(
    plan: Plan, positions: Mapping[str, StreamPosition], sites: Sequence[Site], now: float
) -> dict[int, FollowedTable]:
    """The followed tables by number, each with the next site as its home."""
    homes = itertools.cycle(sites)
    return {
        number: FollowedTable(number, table, one.record, one.shards, now, next(homes))
        for number, table in enumerate(plan.tables)
        if (one := positions.get(table.table.name))
    }
