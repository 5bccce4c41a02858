"""The state of a task at one moment, as plain data for bars, log, page and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shake.process.site import NodeStatus


class ShardStatus(NamedTuple):
    """A shard that is not applied to its end; its last applied sequence number and time."""

    id: str
    parent: str
    sequence: str
    applied_through: float


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table's progress. Items and bytes count what the target has acknowledged."""

    name: str
    namespace: str  # ``database.collection``
    state: str  # the word of its shake.phase.Phase; a check has other words
    items: int = 0
    bytes: int = 0  # as written
    scanned: int = 0  # items before any filter
    capacity: float = 0.0  # read units
    budget: float | None = None  # read units a second that the scan is allowed, None: no limit
    #: DynamoDB's estimates, 0 when unknown
    expected_items: int = 0
    expected_bytes: int = 0
    segments: int = 0
    segments_done: int = 0
    #: recent rates a second: items, bytes and read units; ``pace``: items of the last minutes
    rate: float = 0.0
    pace: float = 0.0
    byte_rate: float = 0.0
    unit_rate: float = 0.0
    answers: int = 0  # answers to requests that read it, in this run
    seconds_left: float | None = None  # None when it is not known
    throttles: int = 0
    retries: int = 0
    filtered: bool = False  # whether a scan filter is on
    error: str = ""
    seconds: float = 0.0  # for which this run has worked on the table
    #: what earlier runs had brought of items and bytes, so that averages stay true
    items_before: int = 0
    bytes_before: int = 0
    #: applied by this run; left out by all runs, since they found nothing to modify
    changes: int = 0
    skipped: int = 0
    #: items that cannot be stored, and are kept; for how many the target has an older document
    kept: int = 0
    kept_older: int = 0
    change_rate: float = 0.0  # changes a second of late
    shards: int = 0
    shards_reading: int = 0
    #: age in seconds of the oldest change not yet confirmed as applied, None where none is followed
    lag: float | None = None
    #: every change made before is applied; creation time of the newest change that was read. Both
    #: in Unix seconds on the source's clock, None where unknown
    applied_through: float | None = None
    newest_change: float | None = None
    quiet_seconds: float | None = None  # seconds since a change was read, None before the first
    #: changes that are read and not applied; of them, those in the journal
    pending: int = 0
    journaled: int = 0
    #: age of the oldest change not yet confirmed as applied or journaled, None without stream
    unread: float | None = None
    #: whether the table is applied through the end of its copy and the start of this run
    consistent: bool = False
    #: the step of an index build that the target works on, and how much of it is done, 0 to 1
    index_step: str = ""
    index_progress: float | None = None
    open_shards: tuple[ShardStatus, ...] = ()  # shards that can be read now


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of the farm: its role (``supervisor``, ``worker 3``, ``writer db.name``).

    ``slots`` and ``slots_used`` are of a worker's arena. ``cpu`` is how many CPUs it uses of late,
    ``cpu_seconds`` what it has used so far, and ``memory`` its resident bytes, None where unknown.
    ``node`` is where it runs, "" for the supervisor's machine.
    """

    role: str
    pid: int
    slots: int = 0
    slots_used: int = 0
    restarts: int = 0
    cpu: float | None = None
    cpu_seconds: float | None = None
    memory: int | None = None
    node: str = ""


class CheckStatus(NamedTuple):
    """A ``shake-check`` of this task, as it was last saved.

    ``state`` is running, stopped, failed or finished. ``table`` is compared now, the ``number``-th
    of ``tables``. ``items`` of about ``expected`` are compared, ``rate`` a second; ``units`` are
    the read units that the table has cost. ``time`` is when that was, in Unix seconds.
    """

    state: str
    table: str = ""
    number: int = 0
    tables: int = 0
    items: int = 0
    expected: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    units: float = 0.0
    differences: int = 0
    time: float = 0.0


#: The notice of a task that was told to finish.
FINISHING = "FINISHING: the run ends once every change made before the command is applied"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole task.

    ``state`` is running, paused, degraded, stopping, stopped, finished or failed. ``paused_at`` is
    when it was paused, in Unix seconds, None where it is not. ``gap``: it ends, or copies a table
    again, because changes are lost.

    ``time`` is when it was so, in Unix seconds by this machine's clock, and ``source_time`` by the
    source's, or earlier. ``margin`` is ``incr.margin``. ``whole``: the target is to hold all items.
    ``saves``: how often this run has saved checkpoints, for the last time at ``saved_at``.
    """

    id: str
    sync_mode: str
    state: str
    started: float  # Unix time, seconds
    seconds: float  # since this run started
    tables: tuple[TableStatus, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    reason: str = ""  # why degraded or failed
    notices: tuple[str, ...] = ()
    time: float = 0.0
    source_time: float = 0.0
    margin: float = 0.0
    whole: bool = False
    saves: int = 0
    saved_at: float = 0.0
    paused_at: float | None = None
    gap: bool = False
    nodes: tuple[NodeStatus, ...] = ()
    check: CheckStatus | None = None
