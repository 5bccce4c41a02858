"""A snapshot as Prometheus text.

Names and units follow https://prometheus.io/docs/practices/naming/: base units, ``_total`` for
what only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shake.phase import Phase
from shake.status.snapshot import ProcessStatus, Snapshot, TableStatus

__all__ = ["CONTENT_TYPE_LATEST", "metrics"]

_STATES = ("running", "degraded", "stopping", "stopped", "finished", "failed")
_TABLE_STATES = tuple(phase.value for phase in Phase)

_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]
_TABLE: tuple[tuple[_Family, str, str, Callable[[TableStatus], float | None]], ...] = (
    (CounterMetricFamily, "items", "Items that the target has acknowledged.", lambda t: t.items),
    (CounterMetricFamily, "bytes", "Bytes of them, as written to the target.", lambda t: t.bytes),
    (CounterMetricFamily, "scanned_items", "Items read, before any filter.", lambda t: t.scanned),
    (
        CounterMetricFamily,
        "read_capacity_units",
        "Read capacity that the scan consumed.",
        lambda t: t.capacity,
    ),
    (
        CounterMetricFamily,
        "throttles",
        "Requests that the source throttled.",
        lambda t: t.throttles,
    ),
    (CounterMetricFamily, "retries", "Requests that were made again.", lambda t: t.retries),
    (CounterMetricFamily, "changes", "Changes that are applied.", lambda t: t.changes),
    (
        CounterMetricFamily,
        "skipped_changes",
        "Changes of what the target does not hold, left out as configured.",
        lambda t: t.skipped,
    ),
    (
        GaugeMetricFamily,
        "lag_seconds",
        "Age of the oldest change not yet confirmed as applied; absent where none is followed.",
        lambda t: t.lag,
    ),
    (
        GaugeMetricFamily,
        "applied_through_timestamp_seconds",
        "Every change made before this time (source's clock) is applied; absent until known.",
        lambda t: t.applied_through,
    ),
    (GaugeMetricFamily, "pending_changes", "Changes read and not applied.", lambda t: t.pending),
    (
        GaugeMetricFamily,
        "journaled_changes",
        "Changes in the journal that are not applied.",
        lambda t: t.journaled,
    ),
    (
        GaugeMetricFamily,
        "unread_seconds",
        "Age of the oldest change that only the stream holds, which forgets it after 24 hours.",
        lambda t: t.unread,
    ),
    (
        GaugeMetricFamily,
        "consistent",
        "1 once the table is applied through the end of its copy and the start of this run.",
        lambda t: float(t.consistent),
    ),
    (GaugeMetricFamily, "expected_items", "DynamoDB's estimate.", lambda t: t.expected_items),
    (GaugeMetricFamily, "expected_bytes", "DynamoDB's estimate.", lambda t: t.expected_bytes),
    (GaugeMetricFamily, "segments", "Scan segments of the table.", lambda t: t.segments),
    (GaugeMetricFamily, "segments_done", "Scan segments at their end.", lambda t: t.segments_done),
    (
        GaugeMetricFamily,
        "remaining_seconds",
        "Time left at the present rate; absent when it cannot be told.",
        lambda t: t.seconds_left,
    ),
)
_PROCESS: tuple[tuple[_Family, str, str, Callable[[ProcessStatus], float | None]], ...] = (
    (CounterMetricFamily, "process_restarts", "Times it was replaced.", lambda p: p.restarts),
    (GaugeMetricFamily, "arena_slots", "Slots of its shared memory.", lambda p: p.slots),
    (GaugeMetricFamily, "arena_slots_used", "Slots not yet acknowledged.", lambda p: p.slots_used),
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
        yield _states("shake_state", "1 for the state of the task.", _STATES, {(): now.state})
        yield GaugeMetricFamily("shake_start_time_seconds", "Unix time of start.", now.started)
        yield GaugeMetricFamily("shake_run_seconds", "Seconds since the start.", now.seconds)
        states: dict[tuple[str, ...], str] = {(t.name,): t.state for t in now.tables}
        text = "1 for the state of the table."
        yield _states("shake_table_state", text, _TABLE_STATES, states, "table")
        for family, name, text, value in _TABLE:
            metric = family(f"shake_{name}", text, labels=["table"])
            for table in now.tables:
                if (number := value(table)) is not None:
                    metric.add_metric([table.name], number)
            yield metric
        for family, name, text, value_of in _PROCESS:
            metric = family(f"shake_{name}", text, labels=["role"])
            for process in now.processes:
                if (number := value_of(process)) is not None:
                    metric.add_metric([process.role], number)
            yield metric


def _states(
    name: str,
    text: str,
    known: tuple[str, ...],
    states: Mapping[tuple[str, ...], str],
    *labels: str,
) -> Metric:
    """One series for each state, 1 for the present one, as Prometheus's own state sets do."""
    metric = GaugeMetricFamily(name, text, labels=[*labels, "state"])
    for values, state in states.items():
        for each in dict.fromkeys((*known, state)):
            metric.add_metric([*values, each], each == state)
    return metric
