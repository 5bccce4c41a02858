"""Plans how a check reads a table, and the lowest cost of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.config import Config
from shake.plan.estimate import PAGE_BYTES, UNIT_BYTES, read_units, slowest
from shake.plan.plan import Action, TablePlan, capacity_rate, count_segments
from shake.schema import Table
from shake.status.figures import count, duration, many, size

#: One process more is started for so much of a table. Its start costs a third of a second of CPU;
#: so many items cost one to two.
ITEMS_A_PROCESS = 100_000
BYTES_A_PROCESS = 100_000_000


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """A table is read in ``segments``, by so many ``processes``."""

    table: Table
    holds_items: bool
    segments: int
    processes: int

    def describe(self, config: Config) -> str:
        """The line for the user."""
        table = self.table
        segments = tuple(SegmentRecord(number) for number in range(self.segments))
        record = TableRecord(table.name, config.namespace(table.name), 0, self.segments)
        whole = TablePlan(table, Action.CREATE, record, segments)
        limit = slowest(replace(config, source_windows=()), whole)  # a check does not keep them
        reads = " (consistent reads; --eventual halves that)" * config.source_consistent_read
        about = f"about {many(table.items, 'item')}, {size(table.bytes)}"
        if self.holds_items and not table.items:
            about = "DynamoDB counts 0 items; this count can be 6 hours old; the least"
        return (
            f"table {table.name}: {about}, to be read once more by "
            f"{count(self.processes)} process{'es' * (self.processes > 1)}: "
            f"{many(ceil(read_units(config, whole)), 'read capacity unit')}{reads}, and "
            f"{duration(ceil(limit.seconds))} at least ({limit.reason})"
        )


def plan(config: Config, table: Table, workers: int, *, holds_items: bool) -> CheckPlan:
    """How a table is read by at most so many processes."""
    processes = min(workers, _allowed(config, table))
    if table.items or not holds_items:  # or else its size is not known, and may be large
        worth = max(table.items // ITEMS_A_PROCESS, table.bytes // BYTES_A_PROCESS)
        processes = min(processes, 1 + worth)
    segments = count_segments(
        config, table, processes * config.full_document_parser, holds_items=holds_items
    )
    return CheckPlan(table, holds_items, segments, min(processes, segments))


def _allowed(config: Config, table: Table) -> int:
    """Into how many shares the limits can be divided: each allows a page a second."""
    pages: float = config.qps_full
    if budget := capacity_rate(config, table):
        unit = UNIT_BYTES if config.source_consistent_read else 2 * UNIT_BYTES
        pages = min(pages, budget * unit / PAGE_BYTES)
    return max(1, int(pages))
