"""Finds sites that make no progress with their work, while others do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from shake.farm.contract import Task
from shake.farm.pool import Worker, WorkerPool
from shake.process.site import Site

#: Seconds without progress after which a site is reported, and after which it is used no longer.
REPORT_AFTER, GIVE_UP_AFTER = 30.0, 120.0


class Kind(Enum):
    """What a site does; the value is for messages."""

    READS = "read"
    WRITES = "written"


@dataclass(slots=True)
class _Work:
    """What a site does of one kind."""

    moved: float  # when it last made progress, or had nothing to do
    done: int = 0
    problem: str = ""  # of its last request that failed


class Permits(Protocol):
    """Grants the permits to read."""

    def waits(self, worker: int) -> bool:
        """Whether a worker waits for one."""

    def drop(self, worker: int) -> None:
        """It gets none until it asks again."""


class Fitness:
    """Looks at the work of all sites. A single site is never given up: its requests are retried."""

    def __init__(
        self,
        pool: WorkerPool,
        task: Task,
        clock: Callable[[], float],
        permits: Permits,
    ) -> None:
        self._pool = pool
        self._task = task
        self._clock = clock
        self._permits = permits
        now = clock()
        self._works = {kind: {site: _Work(now) for site in pool.at} for kind in Kind}

    def failed(self, site: Site, kind: Kind, reason: str, *, throttled: bool = False) -> None:
        """A request of a site has failed. Where it was ``throttled``, it did reach its server."""
        if work := self._works[kind].get(site):
            work.problem = reason
            if throttled:
                work.moved = self._clock()

    def each_second(self) -> None:
        """Report what makes no progress, and have it used no longer after a while."""
        if len(self._pool.at) < 2 or self._task.draining:
            return
        now = self._clock()
        for site, workers in self._pool.at.items():
            if not site.reachable:  # what it was granted would be lost
                for worker in workers:
                    self._permits.drop(worker.number)
            stored = sum(worker.freed for worker in workers)
            self._note(Kind.WRITES, site, now, stored, busy=_unwritten(workers))
            read = sum(worker.reports for worker in workers)
            self._note(Kind.READS, site, now, read, busy=self._reading(workers))
        for kind, works in self._works.items():
            for site, work in works.items():
                self._judge(kind, site, work, now)

    def _note(self, kind: Kind, site: Site, now: float, done: int, *, busy: bool) -> None:
        work = self._works[kind][site]
        if done != work.done or (site.reachable and not busy):
            work.done, work.moved = done, now

    def _reading(self, workers: Sequence[Worker]) -> bool:
        """They are to read, and nothing but the source can hold them up."""
        if self._pool.paused or _unwritten(workers):
            return False
        leased = any(worker.shards or any(worker.scanners) for worker in workers)
        return leased and not any(self._permits.waits(worker.number) for worker in workers)

    def _judge(self, kind: Kind, site: Site, work: _Work, now: float) -> None:
        others = [other for one, other in self._works[kind].items() if one is not site]
        ahead = max(other.moved for other in others) - work.moved
        why = f": {work.problem}" if work.problem else ""
        for seconds, act in (REPORT_AFTER, self._report), (GIVE_UP_AFTER, self._give_up):
            # Where all sites stand still, so they do since about the same moment.
            if site.reachable and now - work.moved >= seconds and ahead >= seconds / 2:
                act(
                    site,
                    f"has {kind.value} nothing for {seconds:.0f} s, while others did, or had "
                    f"nothing to do{why}",
                )

    def _report(self, site: Site, what: str) -> None:
        self._task.uncertain(f"node {site.node} {what}")

    def _give_up(self, site: Site, what: str) -> None:
        self._task.give_up(site, f"it {what}")


def _unwritten(workers: Sequence[Worker]) -> bool:
    """Something that they have read is not stored yet."""
    return any(worker.busy for worker in workers)
