"""The roles of the farm's children, worker and writer, and the set-up of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from shake.farm.worker_messages import FromWorker, ToWorker
from shake.farm.writer_messages import FromWriter, ToWriter
from shake.process.channel import ChildChannel
from shake.process.role import Role
from shake.source.endpoint import Credentials, Endpoint
from shake.status.figures import in_short


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


class WriterSetup(NamedTuple):
    """The second message: of the process's right to write.

    ``number`` is 1, or a higher one of the further writers of a collection. ``process`` numbers its
    commands: see targets.contract.Fence. ``until``: see WriteUntil. ``arenas`` are the descriptors
    of all workers' memory.
    """

    number: int
    process: int
    until: float
    arenas: tuple[int, ...]


def writer_name(number: int, namespaces: list[str]) -> str:
    """``writer a.b``, ``writer 2 of a.b``, ``writer a.b and 3 more``."""
    return f"writer {f'{number} of ' if number > 1 else ''}{in_short(namespaces)}"


WORKER = Role[WorkerSetup, ToWorker, FromWorker](
    "shake.worker.process", WorkerSetup, ToWorker, FromWorker
)
WRITER = Role[WriterSetup, ToWriter, FromWriter](
    "shake.worker.writer", WriterSetup, ToWriter, FromWriter
)
WorkerChannel: TypeAlias = ChildChannel[WorkerSetup, ToWorker, FromWorker]
WriterChannel: TypeAlias = ChildChannel[WriterSetup, ToWriter, FromWriter]
