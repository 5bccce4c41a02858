"""A task that only notes what its parts report, and what the ledger needs of workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from shake.errors import RunError, ShakeError
from shake.farm.farm import Phases
from shake.farm.ledger import Lease, Published
from shake.farm.writer import WriterHandle
from shake.farm.writer_messages import Done
from shake.plan.plan import TablePlan
from shake.process.site import Site


class Notes:
    """Implements shake.farm.farm.TableTask. Tests read what was noted, and say when it drains."""

    def __init__(self, writer: Any = None) -> None:
        self.draining = False
        self.writer = writer
        self.told: list[Any] = []  # errors and texts
        self.heard: list[Any] = []
        self.given_up: defaultdict[Site, list[RunError]] = defaultdict(list)
        self.died: list[int] = []
        self.read: list[int] = []
        self.over: list[int] = []

    @property
    def errors(self) -> list[ShakeError]:
        return [one for one in self.told if isinstance(one, ShakeError)]

    def fail(self, error: ShakeError) -> None:
        self.told.append(error)

    def fail_at(self, site: Site, error: RunError) -> None:
        self.given_up[site].append(error)
        self.fail(error)

    def give_up(self, site: Site, why: str) -> bool:
        self.told.append((site.node, why))
        return True

    def failing_at(self, site: Site, reason: str) -> None:
        pass

    def retrying(self, text: str) -> None:
        self.told.append(text)

    def uncertain(self, text: str) -> None:
        self.told.append(text)

    def start_writer(self, table: int, run: int, staged: bool, phases: Phases) -> WriterHandle:
        writer: WriterHandle = self.writer
        return writer

    def start_another_writer(self, first: WriterHandle, number: int) -> WriterHandle:
        return first

    def start_applier(self, first: WriterHandle, site: Site) -> WriterHandle:
        return first

    def from_worker(self, worker: int, message: Any) -> None:
        self.heard.append(message)

    def worker_crashed(self, worker: int) -> None:
        self.died.append(worker)

    def verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        then()

    def all_stored(self, table: int) -> None:
        self.read.append(table)

    def copied(self, table: int) -> None:
        self.over.append(table)

    def indexed(self, table: int, done: Done) -> None:
        pass

    def shards_changed(self, table: int) -> None:
        pass

    def consistent(self) -> None:
        pass


class Slots:
    """Counts how often each slot of a worker was freed."""

    def __init__(self) -> None:
        self.freed: list[tuple[int, int]] = []

    def free(self, worker: int, slot: int) -> None:
        self.freed.append((worker, slot))


class TableJob:
    """Passes on to a table what the ledger says of its leases, as its scheduler does."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock

    def received(self, lease: Lease[Any, Any, Any], message: Any) -> None:
        pass

    def acknowledged(self, lease: Lease[Any, Any, Any], published: Published[Any]) -> None:
        lease.table.acknowledge(lease, published, self.clock())

    def closed(self, lease: Lease[Any, Any, Any]) -> None:
        lease.table.close_lease(lease)
