"""Makes the tables of metrics and alerts in ``docs/metrics.md``; the rest of the page stays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from shake.process.site import NodeStatus
from shake.status.metrics import metrics
from shake.status.snapshot import ProcessStatus, Snapshot, TableStatus

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/metrics.md"


def metrics_page() -> str:
    """The page with tables that are up to date."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for name, table in (("alerts", _alerts()), ("metrics", _metrics())):
        begin, end = f"<!-- made by make generated: {name} -->\n", f"<!-- end: {name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table}\n\n{end}{rest.partition(end)[2]}"
    return text


def _metrics() -> str:
    """All metrics, by a task of one table and one process in which every figure is known."""
    table = TableStatus("orders", "shop.orders", "copying", **_known(TableStatus))
    tables, processes = (table,), (ProcessStatus("worker 0", 1, **_known(ProcessStatus)),)
    nodes = (NodeStatus("a", "10.0.0.5", "member", 8, 1.0, 1),)
    snapshot = Snapshot("shop", "all", "running", 1.0, 1.0, tables, processes, nodes=nodes)
    rows = []
    for family in text_string_to_metric_families(metrics(snapshot).decode()):
        sample = family.samples[0]
        labels = ", ".join(f"`{label}`" for label in sample.labels)
        rows.append((f"`{sample.name}`", family.type, labels, family.documentation))
    return _table(("metric", "type", "labels", "meaning"), rows)


def _known(status: type[TableStatus | ProcessStatus]) -> dict[str, Any]:
    """A value for each figure that can be unknown."""
    return {one.name: 1.0 for one in fields(status) if one.default is None}


def _alerts() -> str:
    rules = yaml.safe_load((ROOT / "deploy/prometheus-rules.yaml").read_text(encoding="utf-8"))
    rows = [
        (
            f"`{rule['alert']}`",
            rule["labels"]["severity"],
            rule.get("for", "at once"),
            re.sub(r"task \{\{.*?\}\}", "the task", rule["annotations"]["description"]),
        )
        for group in rules["groups"]
        for rule in group["rules"]
    ]
    return _table(("alert", "severity", "after", "meaning"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
