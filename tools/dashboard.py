"""Makes the Grafana dashboard of a few rows of panels.

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
#: What limits a query to the tables that are chosen, and to the task.
_TABLE = 'instance=~"$instance",table=~"$table"'
_TASK = 'instance=~"$instance"'


@dataclass(frozen=True)
class Panel:
    """``queries`` are pairs of an expression and a legend. ``alarm`` is where a value turns red."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    text: str
    kind: str = "timeseries"
    alarm: float | None = None


def _rate(metric: str) -> tuple[str, str]:
    return f"rate({metric}{{{_TABLE}}}[$__rate_interval])", "{{table}}"


def _gauge(metric: str) -> tuple[str, str]:
    return f"{metric}{{{_TABLE}}}", "{{table}}"


_COPIED = f"sum(shake_items_total{{{_TABLE}}}) / sum(shake_expected_items{{{_TABLE}}} > 0)"
_BEHIND = f"time() - min(shake_applied_through_timestamp_seconds{{{_TABLE}}})"
_CONSISTENT = f"sum(shake_consistent{{{_TABLE}}}) / count(shake_consistent{{{_TABLE}}})"
_SLOTS = f"shake_arena_slots_used{{{_TASK}}} / (shake_arena_slots{{{_TASK}}} > 0)"
_PHASES = f"sum by (state) (shake_table_state{{{_TABLE}}})"

_STATE = Panel(
    "State",
    "none",
    [(f"shake_state{{{_TASK}}} == 1", "{{state}}")],
    "State of the task.",
    "stat",
)
ROWS: Sequence[Sequence[Panel]] = (
    (
        _STATE,
        Panel("Copied", "percentunit", [(_COPIED, "")], "By DynamoDB's own estimate.", "stat"),
        Panel(
            "Time left",
            "s",
            [(f"max(shake_remaining_seconds{{{_TABLE}}})", "")],
            "Of the copy, at the present rate.",
            "stat",
        ),
        Panel(
            "Applied through, behind now",
            "s",
            [(_BEHIND, "")],
            "Every change older than this is applied.",
            "stat",
            300,
        ),
        Panel(
            "Tables consistent",
            "percentunit",
            [(_CONSISTENT, "")],
            "Applied through the end of the copy and the start of this run.",
            "stat",
        ),
    ),
    (
        Panel("Written", "Bps", [_rate("shake_bytes_total")], "Acknowledged by the target."),
        Panel("Items", "ops", [_rate("shake_items_total")], "Acknowledged by the target."),
        Panel("Read", "ops", [_rate("shake_scanned_items_total")], "Items, before any filter."),
    ),
    (
        Panel(
            "Read capacity units",
            "ops",
            [
                _rate("shake_read_capacity_units_total"),
                (f"shake_read_budget_units{{{_TABLE}}}", "{{table}}: budget"),
            ],
            "Consumed by the scan, and the budget, which windows and commands change.",
        ),
        Panel(
            "Throttles", "ops", [_rate("shake_throttles_total")], "Requests that were throttled."
        ),
        Panel("Retries", "ops", [_rate("shake_retries_total")], "Requests that were made again."),
    ),
    (
        Panel("Lag", "s", [_gauge("shake_lag_seconds")], "Oldest change not yet applied."),
        Panel(
            "Changes",
            "ops",
            [
                _rate("shake_changes_total"),
                (
                    f"rate(shake_skipped_changes_total{{{_TABLE}}}[$__rate_interval])",
                    "{{table}}: skipped",
                ),
            ],
            "Applied, and left out as increase.executor.upsert says.",
        ),
        Panel(
            "Oldest change that only the stream holds",
            "s",
            [_gauge("shake_unread_seconds")],
            "The retention of a stream is 24 hours.",
            alarm=12 * 3600,
        ),
    ),
    (
        Panel("Pending changes", "short", [_gauge("shake_pending_changes")], "Read, not applied."),
        Panel("Journaled changes", "short", [_gauge("shake_journaled_changes")], "Kept on disk."),
        Panel("Tables by phase", "short", [(_PHASES, "{{state}}")], "How many are in each phase."),
    ),
    (
        Panel(
            "Shared memory in use",
            "percentunit",
            [(_SLOTS, "{{role}}")],
            "Full: the target is what limits. Empty: the source.",
        ),
        Panel(
            "Processes replaced",
            "short",
            [(f"increase(shake_process_restarts_total{{{_TASK}}}[$__rate_interval])", "{{role}}")],
            "They crashed or hung.",
        ),
        Panel(
            "Segments done",
            "percentunit",
            [
                (
                    f"shake_segments_done{{{_TABLE}}} / (shake_segments{{{_TABLE}}} > 0)",
                    "{{table}}",
                )
            ],
            "Scan segments at their end.",
        ),
    ),
    (
        Panel(
            "Index builds",
            "percentunit",
            [_gauge("shake_index_build_ratio")],
            "How much of the present step is done; empty where the target does not show it.",
        ),
        Panel(
            "Bad items kept",
            "short",
            [_gauge("shake_bad_items")],
            "They cannot be stored: shake bad lists them.",
            alarm=1,
        ),
        Panel(
            "State over time",
            "short",
            [(f"sum by (state) (shake_state{{{_TASK}}})", "{{state}}")],
            "When it was paused, or degraded.",
        ),
    ),
    (
        Panel(
            "CPU",
            "percentunit",
            [
                (
                    f"sum by (role) (rate(shake_process_cpu_seconds_total{{{_TASK}}}"
                    "[$__rate_interval]))",
                    "{{role}}",
                )
            ],
            "Of all processes of a role: 100% is one core.",
        ),
        Panel(
            "Memory",
            "bytes",
            [(f"sum by (role) (shake_process_resident_memory_bytes{{{_TASK}}})", "{{role}}")],
            "Of all processes of a role. Shared memory counts for each.",
        ),
        Panel(
            "Size",
            "bytes",
            [_gauge("shake_expected_bytes")],
            "DynamoDB's estimate, up to six hours old.",
        ),
    ),
    (
        Panel(
            "Nodes",
            "none",
            [
                (f"sum(shake_node_up{{{_TASK}}})", "nodes"),
                (f"shake_node_workers{{{_TASK}}}", "workers on {{node}}"),
            ],
            "Those that work, and the workers on each; only with --nodes.",
        ),
        Panel(
            "CPU of nodes",
            "percentunit",
            [(f"shake_node_cpus{{{_TASK}}}", "{{node}}")],
            "Of all processes of a node: 100% is one core.",
        ),
        Panel(
            "Memory of nodes",
            "bytes",
            [(f"shake_node_resident_memory_bytes{{{_TASK}}}", "{{node}}")],
            "Of all processes of a node. Shared memory counts for each.",
        ),
    ),
)


def dashboard() -> str:
    """The dashboard as JSON, to be imported into Grafana."""
    model = {
        "title": "shake",
        "uid": "shake",
        "description": "Migration of DynamoDB tables into MongoDB.",
        "tags": ["shake", "dynamodb", "mongodb"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-2h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }
    return json.dumps(model, indent=1) + "\n"


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus"}
    for name, of, several in (
        ("task", "label_values(shake_info, task)", False),
        ("instance", 'label_values(shake_info{task="$task"}, instance)', True),
        ("table", 'label_values(shake_items_total{instance=~"$instance"}, table)', True),
    ):
        yield {
            "name": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": of, "refId": name},
            "definition": of,
            "refresh": 2,
            "sort": 1,
            "multi": several,
            "includeAll": several,
            "current": {"text": "All", "value": "$__all"} if several else {},
        }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in ROWS:
        height = 4 if row[0].kind == "stat" else 8
        for column, panel in enumerate(row):
            left, right = (round(_COLUMNS * at / len(row)) for at in (column, column + 1))
            number += 1
            place = {"x": left, "y": top, "w": right - left, "h": height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.alarm is not None:
        steps.append({"color": "red", "value": panel.alarm})
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        style = "line" if panel.alarm is not None else "off"
        defaults |= {"min": 0, "custom": {"thresholdsStyle": {"mode": style}}}
    # Of the state the name counts, not the 1.
    options = {"textMode": "name"} if panel is _STATE else {}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(65 + at), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for at, (expr, legend) in enumerate(panel.queries)
        ],
    }
