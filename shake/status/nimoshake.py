"""Writes a snapshot as the JSON of NimoShake's two pages, for existing monitoring."""

from __future__ import annotations

from typing import Any

from shake.status.figures import COMPLETE, IDLE, expected, fraction, iso
from shake.status.snapshot import ShardStatus, Snapshot, TableStatus


def progress(snapshot: Snapshot) -> dict[str, Any]:
    """``/progress``, of the full copy: collections by state, and how far each has come."""
    tables = snapshot.tables
    done = sum(table.state in COMPLETE for table in tables)
    busy = sum(table.state not in IDLE | COMPLETE for table in tables)
    return {
        "progress": f"{done / len(tables) if tables else 1:.2%}",
        "total_collection_number": len(tables),
        "finished_collection_number": done,
        "processing_collection_number": busy,
        "wait_collection_number": len(tables) - done - busy,
        "collection_metric": {table.name: _collection(table) for table in tables},
    }


def _collection(table: TableStatus) -> str:
    part = fraction(table)
    if part is None or table.state == "waiting":
        return "-"
    return f"{part:.2%} ({table.scanned}/{expected(table)})"


def metric(snapshot: Snapshot) -> dict[str, Any]:
    """``/metric``, of the incremental sync: records read and written, and checkpoints.

    What is counted is applied. ``checkpoint_update_times`` has the shards of each table that are
    read.
    """
    changes = sum(table.changes for table in snapshot.tables)
    return {
        "records_get": changes,
        "records_write": changes,
        "checkpoint_times": snapshot.saves,
        "checkpoint_update_times": {
            table.name: {one.id: _shard(snapshot, one) for one in table.open_shards}
            for table in snapshot.tables
        },
        "error": snapshot.reason if snapshot.state == "failed" else "",
    }


def _shard(snapshot: Snapshot, shard: ShardStatus) -> dict[str, str]:
    return {
        "update_time": iso(snapshot.saved_at) or "",
        "sync_approximate_time": iso(shard.applied_through) or "",
        "father_shard_id": shard.parent,
        "SequenceNumber": shard.sequence,
    }
