"""How many processes a run starts on this machine, and how much memory they take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shake.config import Config
from shake.plan.plan import Plan, TablePlan
from shake.process.arena import SLOTS_PER_READER, SLOTS_PER_SCANNER

#: Shards that one worker reads at the same time at most: a shard is mostly waited for.
READERS = 16
#: Processes that apply changes at most: each takes some 24 MB. So 500 followed tables share them.
APPLIERS = 16
#: Without full.writers a copy gets one writer for each 100 GB of the table, at most one for each 3
#: workers, and at most 8. It gets at least one. One writer serves two workers that never wait (make
#: bench ARGS=roles).
WRITER_TABLE_BYTES, WORKERS_PER_WRITER, MAX_WRITERS = 100_000_000_000, 3, 8

#: Private memory of each role, and what a slot holds of a 1 MB page, in bytes: measured as PSS
#: (make bench ARGS=memory) on Python 3.10.
SUPERVISOR_BYTES, WORKER_BYTES, WRITER_BYTES = 42_000_000, 30_000_000, 24_000_000
SLOT_MEMORY_BYTES = 1_700_000


@dataclass(frozen=True, slots=True)
class MachineReport:
    """Processes at most, segments read at the same time, and memory of all processes.

    ``nodes``: on which machines workers run, "" for this one.
    """

    workers: int
    writers: int
    processes: int
    segments_at_once: int
    tables_at_once: int
    bytes: int
    nodes: str = ""


def workers_needed(config: Config, plan: Plan) -> int:
    """Workers that would read all segments, or all shards, that are allowed at once."""
    readers = math.ceil(_shards(config, plan) / READERS)  # shards can split
    if config.sync_schema_only:
        return readers
    segments = sum(map(segments_left, plan.tables))
    return max(readers, math.ceil(segments / config.full_document_parser))


def segments_left(plan: TablePlan) -> int:
    return sum(not record.done for record in plan.segments) if plan.copies else 0


def writers_of(config: Config, plan: TablePlan, workers: int) -> int:
    """Writers of a table's copy at most, where a run has so many workers: see full.writers."""
    by_size = math.ceil(plan.table.bytes / WRITER_TABLE_BYTES)
    default = min(by_size, workers // WORKERS_PER_WRITER, MAX_WRITERS)
    readable = min(segments_left(plan), workers * config.full_document_parser)
    used = 1 if config.sync_schema_only else readable
    return max(1, min(config.full_writers or default, used))


def machine(config: Config, plan: Plan, workers: int) -> MachineReport:
    """What a run with at most so many workers takes, while it copies and follows."""
    workers = min(workers, workers_needed(config, plan))
    left = sorted(map(segments_left, plan.tables), reverse=True)
    readable = 0 if config.sync_schema_only else sum(left[: config.full_concurrency])
    scanners = min(workers * config.full_document_parser, readable)
    readers = min(workers * READERS, _shards(config, plan))
    copied = (writers_of(config, table, workers) for table in plan.tables if table.copies)
    writers = sum(sorted(copied, reverse=True)[: config.full_concurrency])
    writers += min(APPLIERS, len(plan.followed))
    slots = scanners * SLOTS_PER_SCANNER + readers * SLOTS_PER_READER
    memory = SUPERVISOR_BYTES + workers * WORKER_BYTES + writers * WRITER_BYTES
    return MachineReport(
        workers=workers,
        writers=writers,
        processes=1 + workers + writers,
        segments_at_once=scanners,
        tables_at_once=config.full_concurrency,
        bytes=memory + slots * SLOT_MEMORY_BYTES,
    )


def _shards(config: Config, plan: Plan) -> int:
    """Shards that are read at the same time at most."""
    return config.increase_concurrency * len(plan.followed)
