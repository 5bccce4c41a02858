"""Snapshots of a task as the views get them."""

from __future__ import annotations

from typing import Any

from shake.status.snapshot import Snapshot, TableStatus


def table(name: str = "orders", state: str = "copying", **figures: Any) -> TableStatus:
    """A table of 1,000 expected items in 4 segments, unless given otherwise."""
    figures = {"expected_items": 1000, "segments": 4} | figures
    if "items" in figures:
        figures.setdefault("scanned", figures["items"])
    if "rate" in figures:
        figures.setdefault("pace", figures["rate"])
    return TableStatus(name, f"shop.{name}", state, **figures)


def task(*tables: TableStatus, state: str = "running", **figures: Any) -> Snapshot:
    figures = {"started": 1_562_000_000.0, "seconds": 10.0} | figures
    return Snapshot("moving", "full", state, tables=tables, **figures)
