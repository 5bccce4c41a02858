"""What the supervisor knows at one moment, as plain data for bars, log, page and metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table's progress.

    ``items``, ``bytes`` and ``scanned`` count what the target has acknowledged (``bytes`` as
    written, ``scanned`` before any filter); ``expected_items`` and ``expected_bytes`` are
    DynamoDB's estimates, 0 when unknown. ``rate`` is items a second of late; ``seconds_left`` is
    None when it cannot be told. ``state`` is waiting, preparing,
    cleaning, copying, settling, indexing, done, broken (copied, but an index was refused), or
    following: ``changes`` are applied, ``skipped`` of them found nothing to modify; ``lag`` is the
    age in seconds of the oldest change that may not be applied, None where none is followed yet;
    ``pending`` counts those that are read and not applied, ``journaled`` of them wait in the
    journal; ``unread`` is the age of the oldest that may be in neither, which the stream keeps for
    24 hours, None without a stream; ``consistent`` says that all that changed during the copy is
    applied.
    ``seconds`` is how long this run has worked on the table; ``items_before`` and ``bytes_before``
    are what earlier runs had brought of ``items`` and ``bytes``, so that averages stay true.
    """

    name: str
    namespace: str
    state: str
    items: int = 0
    bytes: int = 0
    scanned: int = 0
    capacity: float = 0.0
    expected_items: int = 0
    expected_bytes: int = 0
    segments: int = 0
    segments_done: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    throttles: int = 0
    retries: int = 0
    filtered: bool = False
    error: str = ""
    seconds: float = 0.0
    items_before: int = 0
    bytes_before: int = 0
    changes: int = 0
    skipped: int = 0
    change_rate: float = 0.0
    shards: int = 0
    shards_reading: int = 0
    lag: float | None = None
    pending: int = 0
    journaled: int = 0
    unread: float | None = None
    consistent: bool = False


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of the farm: its role (``supervisor``, ``worker 3``, ``writer db.name``).

    ``slots`` and ``slots_used`` are of a worker's arena.
    """

    role: str
    pid: int
    slots: int = 0
    slots_used: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole task. ``state`` is running, degraded, stopping, stopped, finished or failed."""

    id: str
    sync_mode: str
    state: str
    started: float  # Unix time, seconds
    seconds: float  # since this run started
    tables: tuple[TableStatus, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    reason: str = ""  # why degraded or failed
    notices: tuple[str, ...] = ()
