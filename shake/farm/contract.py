"""The interface of a running task to the processes and threads of its farm."""

from __future__ import annotations

from typing import Protocol

from shake.errors import RunError, ShakeError
from shake.farm.worker_messages import OfWorker
from shake.process.site import Site


class Task(Protocol):
    """A running task. All of it is called in the loop."""

    @property
    def draining(self) -> bool:
        """The task ends: nothing more is begun, and what was published is acknowledged."""

    def fail(self, error: ShakeError) -> None:
        """Something that waiting does not cure: the task ends."""

    def fail_at(self, site: Site, error: RunError) -> None:
        """The same at a site only: the task ends where there is no other one."""

    def give_up(self, site: Site, why: str) -> bool:
        """Use a site no longer, which cannot do its work; False where there is no other one."""

    def failing_at(self, site: Site, reason: str) -> None:
        """A write of a site has failed, and is tried again."""

    def retrying(self, text: str) -> None:
        """Something has failed again, and is tried again."""

    def uncertain(self, text: str) -> None:
        """Something is uncertain; the text says what is done about it."""

    def from_worker(self, worker: int, message: OfWorker) -> None:
        """A worker reports something that belongs to no lease."""

    def worker_crashed(self, worker: int) -> None:
        """A worker has crashed. Ledger.lose has ended its leases."""
