"""A snapshot as Prometheus text.

Names and units follow https://prometheus.io/docs/practices/naming/: base units, ``_total`` for
what only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from shake import __version__
from shake.phase import Phase
from shake.process.site import WORKING, NodeStatus
from shake.status.snapshot import ProcessStatus, Snapshot, TableStatus

__all__ = ["CONTENT_TYPE_LATEST", "metrics"]

_STATES = ("running", "paused", "degraded", "stopping", "stopped", "finished", "failed")
_TABLE_STATES = tuple(phase.value for phase in Phase)

Status = TypeVar("Status")
_Family = type[Counter] | type[Gauge]
#: Kind, name, meaning, and how it is found.
_Figures = Sequence[tuple[_Family, str, str, Callable[[Status], float | None]]]
_TABLE: _Figures[TableStatus] = (
    (Counter, "items", "Items that the target has acknowledged.", lambda t: t.items),
    (Counter, "bytes", "Bytes of them, as written to the target.", lambda t: t.bytes),
    (Counter, "scanned_items", "Items read, before any filter.", lambda t: t.scanned),
    (Counter, "read_capacity_units", "Read capacity that the scan consumed.", lambda t: t.capacity),
    (
        Gauge,
        "read_budget_units",
        "Read capacity units a second that the scan is allowed; absent without a limit.",
        lambda t: t.budget,
    ),
    (Counter, "throttles", "Requests that the source throttled.", lambda t: t.throttles),
    (Counter, "retries", "Requests that were made again.", lambda t: t.retries),
    (Counter, "changes", "Changes that are applied.", lambda t: t.changes),
    (
        Counter,
        "skipped_changes",
        "Changes of what the target does not hold, left out as configured.",
        lambda t: t.skipped,
    ),
    (
        Gauge,
        "bad_items",
        "Items that cannot be stored, and are kept beside the checkpoints.",
        lambda t: t.kept,
    ),
    (
        Gauge,
        "lag_seconds",
        "Age of the oldest change not yet confirmed as applied; absent where none is followed.",
        lambda t: t.lag,
    ),
    (
        Gauge,
        "applied_through_timestamp_seconds",
        "Every change made before this time (source's clock) is applied; absent until known.",
        lambda t: t.applied_through,
    ),
    (Gauge, "pending_changes", "Changes read and not applied.", lambda t: t.pending),
    (
        Gauge,
        "journaled_changes",
        "Changes in the journal that are not applied.",
        lambda t: t.journaled,
    ),
    (
        Gauge,
        "unread_seconds",
        "Age of the oldest change that only the stream holds; its retention is 24 hours.",
        lambda t: t.unread,
    ),
    (
        Gauge,
        "consistent",
        "1 once the table is applied through the end of its copy and the start of this run.",
        lambda t: float(t.consistent),
    ),
    (Gauge, "expected_items", "DynamoDB's estimate.", lambda t: t.expected_items),
    (Gauge, "expected_bytes", "DynamoDB's estimate.", lambda t: t.expected_bytes),
    (Gauge, "segments", "Scan segments of the table.", lambda t: t.segments),
    (Gauge, "segments_done", "Scan segments at their end.", lambda t: t.segments_done),
    (
        Gauge,
        "remaining_seconds",
        "Time left at the present rate; absent when it is not known.",
        lambda t: t.seconds_left,
    ),
    (
        Gauge,
        "index_build_ratio",
        "How much of the present step of an index build is done, 0 to 1; absent when unknown.",
        lambda t: t.index_progress,
    ),
)
_PROCESS: _Figures[ProcessStatus] = (
    (Counter, "process_restarts", "Times it was replaced.", lambda p: p.restarts),
    (Counter, "process_cpu_seconds", "CPU time that it has used.", lambda p: p.cpu_seconds),
    (Gauge, "process_resident_memory_bytes", "Its memory.", lambda p: p.memory),
    (Gauge, "arena_slots", "Slots of its shared memory.", lambda p: p.slots),
    (Gauge, "arena_slots_used", "Slots not yet acknowledged.", lambda p: p.slots_used),
)
_NODE: _Figures[NodeStatus] = (
    (Gauge, "node_up", "1 while it works, or is ready to.", lambda n: float(n.state in WORKING)),
    (Gauge, "node_workers", "Workers that it has room for.", lambda n: n.workers),
    (Gauge, "node_cpus", "CPUs that its processes use of late.", lambda n: n.cpu),
    (Gauge, "node_resident_memory_bytes", "Memory of its processes.", lambda n: n.memory),
)


def metrics(snapshot: Snapshot) -> bytes:
    """The text for ``/metrics``; its content type is prometheus_client's CONTENT_TYPE_LATEST."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(snapshot))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot
        # What does not change while a run lasts, to be joined to other series by its labels.
        labels = {"version": __version__, "task": now.id, "sync_mode": now.sync_mode}
        info = Gauge("shake_info", "1, with version and task as labels.", labels=[*labels])
        info.add_metric([*labels.values()], 1)
        yield info
        yield _states("shake_state", "1 for the state of the task.", _STATES, {(): now.state})
        yield Gauge("shake_start_time_seconds", "Unix time of start.", now.started)
        yield Gauge("shake_run_seconds", "Seconds since the start.", now.seconds)
        states: dict[tuple[str, ...], str] = {(t.name,): t.state for t in now.tables}
        text = "1 for the state of the table."
        yield _states("shake_table_state", text, _TABLE_STATES, states, "table")
        yield from _figures(_TABLE, "table", {table.name: table for table in now.tables})
        yield from _figures(_PROCESS, "role", {one.role: one for one in now.processes})
        yield from _figures(_NODE, "node", {one.name: one for one in now.nodes})


def _figures(
    figures: _Figures[Status], label: str, statuses: Mapping[str, Status]
) -> Iterator[Metric]:
    """The figures of all tables, processes or nodes, by name."""
    for family, name, text, value in figures:
        metric = family(f"shake_{name}", text, labels=[label])
        for labelled, status in statuses.items():
            if (number := value(status)) is not None:
                metric.add_metric([labelled], number)
        yield metric


def _states(
    name: str,
    text: str,
    known: tuple[str, ...],
    states: Mapping[tuple[str, ...], str],
    *labels: str,
) -> Metric:
    """One series for each state, 1 for the present one, as Prometheus's own state sets do."""
    metric = Gauge(name, text, labels=[*labels, "state"])
    for values, state in states.items():
        for each in dict.fromkeys((*known, state)):
            metric.add_metric([*values, each], each == state)
    return metric
