"""What the supervisor knows at one moment, as plain data for every view: bars, log, page, metrics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table's progress.

    ``items``, ``bytes`` and ``scanned`` count what the target has acknowledged (``bytes`` as
    written, ``scanned`` before any filter); ``expected_items`` and ``expected_bytes`` are
    DynamoDB's estimates, 0 when unknown. ``rate`` is items a second of late; ``seconds_left`` is
    None when it cannot be told. ``state`` is the table's state by name.
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
    """The whole task. ``state`` is running, degraded, stopping, finished or failed."""

    id: str
    sync_mode: str
    state: str
    started: float  # Unix time, seconds
    seconds: float  # since this run started
    tables: tuple[TableStatus, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    reason: str = ""  # why degraded or failed
    notices: tuple[str, ...] = field(default=())
