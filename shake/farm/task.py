"""The interface of a running task to the processes and threads of its farm."""

from __future__ import annotations

from typing import Protocol

from shake.errors import ShakeError
from shake.farm.worker_messages import OfWorker


class Task(Protocol):
    """A running task. All of it is called in the loop."""

    @property
    def draining(self) -> bool:
        """The task ends: nothing more is begun, and what was published is acknowledged."""

    def fail(self, error: ShakeError) -> None:
        """Something that waiting does not cure: the task ends."""

    def retrying(self, text: str) -> None:
        """Something has failed again, and is tried again."""

    def uncertain(self, text: str) -> None:
        """Something is uncertain; the text says what is done about it."""

    def from_worker(self, worker: int, message: OfWorker) -> None:
        """A worker reports something that belongs to no lease."""

    def worker_crashed(self, worker: int) -> None:
        """Its leases are lost already."""
