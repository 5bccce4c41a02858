"""The pool of workers: processes that come and go, in places with arenas and scanners that stay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from shake.config import Config
from shake.errors import RunError
from shake.farm import worker_messages as messages
from shake.farm.contract import Task
from shake.farm.ledger import Lease, Ledger
from shake.farm.worker_messages import WORKER, FromWorker, ToWorker, WorkerSetup
from shake.process import arena
from shake.process.loop import Loop
from shake.process.site import HERE, Site
from shake.process.supervised import SupervisedChild
from shake.source.clock import Bounds
from shake.source.endpoint import Credentials, Endpoint
from shake.status.snapshot import ProcessStatus

log = logging.getLogger("shake.farm")

_PROGRESS = messages.Page, messages.Batch, messages.Tip, messages.ShardEnd


class Worker(SupervisedChild[WorkerSetup, ToWorker, FromWorker]):
    """A worker, the ``place``-th of its site. Its next process has the same number and arena."""

    def __init__(
        self, pool: WorkerPool, number: int, site: Site, place: int, scanners: int, readers: int
    ) -> None:
        super().__init__(pool.loop, WORKER, pool.config, site)
        self.number = number
        self.place = place
        self.slots = scanners * arena.SLOTS_PER_SCANNER + readers * arena.SLOTS_PER_READER
        self.arena = site.create_arena(self.slots)
        self.readers = readers  # shards that it may read at once.
        self.shards: set[int] = set()  # leases of shards that it holds.
        self.streams: dict[int, bool] = {}  # strict or not, of each that it was sent.
        self.scanners: list[int | None] = [None] * scanners  # the lease that each scanner holds.
        self.busy: set[int] = set()  # slots that the target has not acknowledged.
        self.freed = 0  # slots freed so far.
        self.reports = 0  # messages about its progress so far.
        self.opened: set[int] = set()  # tables that the present process was sent.
        self._pool = pool

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    @property
    def usable(self) -> bool:
        """Its process runs, and can be reached."""
        return self.child is not None and self.site.reachable

    def set_up(self) -> tuple[WorkerSetup, tuple[int, ...]]:
        self.opened.clear()
        self.streams.clear()
        set_up = WorkerSetup(
            self.number,
            self._pool.endpoint,
            self._pool.credentials,
            self.arena,
            scanners=len(self.scanners),
            free=[slot for slot in range(self.slots) if slot not in self.busy],
        )
        return set_up, (self.arena,)

    def received(self, message: FromWorker) -> None:
        ledger, task = self._pool.ledger, self._pool.task
        self.reports += isinstance(message, _PROGRESS)
        match message:
            case messages.Page() | messages.Batch():
                self.crashes_in_a_row = 0
                if message.slot >= 0:
                    self.busy.add(message.slot)
                ledger.report(message)
            case messages.Tip() | messages.Journaled() | messages.JournalFull():
                ledger.report(message)
            case messages.ShardEnd() | messages.ShardGap():
                self.shards.discard(message.lease)
                ledger.report(message)
            case messages.Idle(scanner):
                number, self.scanners[scanner] = self.scanners[scanner], None
                if number is not None and (lease := ledger.held(number)):
                    ledger.end(lease)
                task.from_worker(self.number, message)
            case Bounds(low, high):  # by the clock of its machine, of which each has another
                if (ahead := self.site.ahead) is not None:
                    bounds = Bounds(low + ahead.least, high + ahead.most)
                    task.from_worker(self.number, bounds)
            case _:
                task.from_worker(self.number, message)

    def lost(self) -> None:
        self.scanners = [None] * len(self.scanners)
        self.shards.clear()
        self._pool.ledger.lose(self.number)
        self._pool.task.worker_crashed(self.number)

    def fail(self, error: RunError) -> None:
        self._pool.task.fail_at(self.site, error)

    def free(self, slot: int) -> None:
        """The target has acknowledged a slot: it may be filled again."""
        self.busy.discard(slot)
        self.freed += 1
        self.send(messages.Free(slot))

    def status(self) -> ProcessStatus:
        used = len(self.busy)
        return ProcessStatus(
            self.label, self.pid, self.slots, used, self.restarts, node=self.site.node
        )


class WorkerPool:
    """Keeps workers alive: one for each entry of ``sites``, where it runs.

    Each reads ``readers`` shards at once at most. What a worker reports on a lease goes to the job
    whose lease it is, everything else to the task.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        endpoint: Endpoint,
        credentials: Credentials,
        sites: Sequence[Site],
        readers: int,
        task: Task,
    ) -> None:
        self.loop = loop
        self.config = config
        self.endpoint = endpoint
        self.credentials = credentials
        self.task = task
        self.paused = False
        self.ledger = Ledger(self)
        self.workers: list[Worker] = []
        self.at: dict[Site, list[Worker]] = {site: [] for site in sites}
        scanners = config.full_document_parser
        for number, site in enumerate(sites):
            worker = Worker(self, number, site, len(self.at[site]), scanners, readers)
            self.workers.append(worker)
            self.at[site].append(worker)
        self._sites = list(self.at)

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    # ---- leases

    def idle_scanner(self) -> tuple[Worker, int] | None:
        """A scanner without a lease, of the worker that has the fewest; none during a pause."""
        candidates = [w for w in self.workers if w.usable and None in w.scanners]
        if self.paused or not candidates:
            return None
        worker = max(candidates, key=lambda w: w.scanners.count(None))
        return worker, worker.scanners.index(None)

    def writer_numbers(self, worker: Worker, each: int) -> range:
        """Numbers of the writers of a copy that can read a worker's arena, ``each`` at a site.

        The first writer, number 1, is on this machine, and is one of them where workers are, too.
        """
        if worker.site is HERE:
            return range(1, each + 1)
        first = 2 + self._sites.index(worker.site) * each
        return range(first, first + each)

    def site_of(self, writer: int, each: int) -> Site:
        return self._sites[(writer - 2) // each] if HERE not in self.at else HERE

    def lease(
        self, worker: Worker, table: messages.OpenTable, lease: messages.LeaseSegment
    ) -> None:
        """Hand a lease to a scanner; first send the table if the process does not have it."""
        if table.table not in worker.opened:
            worker.opened.add(table.table)
            worker.send(table)
        worker.scanners[lease.scanner] = lease.lease
        worker.send(lease)

    def idle_reader(self, site: Site) -> Worker | None:
        """A site's worker that reads the fewest shards; None if all are busy, or in a pause."""
        if self.paused:
            return None
        candidates = [w for w in self.at[site] if w.usable and len(w.shards) < w.readers]
        return min(candidates, key=lambda w: len(w.shards), default=None)

    def idle_readers(self, site: Site) -> int:
        """How many more shards could be read at a site."""
        return sum(w.readers - len(w.shards) for w in self.at[site] if w.child)

    def busy_readers(self, site: Site) -> int:
        """How many shards are read at a site."""
        return sum(len(w.shards) for w in self.at[site])

    def lease_shard(
        self, worker: Worker, stream: messages.OpenStream, lease: messages.LeaseShard
    ) -> None:
        """Have a worker read a shard; first send its stream if the process does not have it."""
        if worker.streams.get(stream.table) is not stream.strict:
            worker.streams[stream.table] = stream.strict
            worker.send(stream)
        worker.shards.add(lease.lease)
        worker.send(lease)

    def end_lease(self, lease: Lease[Any, Any, Any]) -> None:
        """Have a worker read a shard no further; it reports the end."""
        self.workers[lease.worker].send(messages.EndLease(lease.number))

    def pause(self) -> None:
        """Read nothing more: what was asked for at the source comes, and is written."""
        self.paused = True
        for worker in self.workers:
            for lease in worker.shards:
                worker.send(messages.EndLease(lease, at_once=True))
        for table in {table for worker in self.workers for table in worker.opened}:
            self.revoke(table)

    def revoke(self, table: int) -> None:
        """Take back the calls of a table that are permitted and not sent yet."""
        for worker in self.workers:
            if table in worker.opened:
                worker.send(messages.Revoke(table))

    def free(self, worker: int, slot: int) -> None:
        self.workers[worker].free(slot)

    def open_again(self, stream: messages.OpenStream) -> None:
        """Send a changed stream to the workers that have it."""
        for worker in self.workers:
            if stream.table in worker.streams:
                worker.streams[stream.table] = stream.strict
                worker.send(stream)

    # ---- processes

    def send_all(self, message: ToWorker) -> None:
        for worker in self.workers:
            worker.send(message)

    def poll_quickly(self, until: float) -> None:
        """Have quiet shards read quickly until a moment of this machine's boot clock."""
        for worker in self.workers:
            if ahead := worker.site.ahead:
                worker.send(messages.PollQuickly(until + ahead.most))

    def renew_credentials(self, credentials: Credentials) -> None:
        """Pass on what the supervisor's chain has refreshed."""
        self.credentials = credentials
        self.send_all(credentials)

    def drain(self) -> None:
        """Have every scanner finish its page and no more; replace no worker that crashes now.

        Nothing is expected of sites that cannot be reached: what they have is read again.
        """
        self.abandon([site for site in self.at if not site.reachable])
        for worker in self.workers:
            worker.retire()
        self.send_all(messages.Drain())

    @property
    def awaited(self) -> list[str]:
        """The nodes that have published what is not acknowledged; "" is this machine."""
        return sorted({self.workers[number].site.node for number in self.ledger.awaited})

    def abandon(self, sites: Sequence[Site]) -> None:
        """Expect nothing more of workers at sites that are lost."""
        for worker in self.workers:
            if worker.site in sites:
                worker.retire()
                self.ledger.abandon(worker.number)

    def close(self) -> None:
        for worker in self.workers:
            worker.dismiss()
        for worker in self.workers:
            worker.reap()
            worker.site.close_arena(worker.arena)
