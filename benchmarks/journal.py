"""Measures what the journal adds to the cost of a change."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.records import TRAFFIC, record_pages, records_body
from benchmarks.report import Options, Report
from shake.stream.journal import Appender, entries

_SHAPE = "medium"
_ROUNDS = 3
_RECORDS = 200_000


def run(options: Options) -> Report:
    """Append answers of GetRecords to a shard's file, and read them back; best of the rounds.

    Counts the CPU of one core, without the time of the disk.
    """
    shape, rounds = options.shape(_SHAPE), options.rounds or _ROUNDS
    report = Report(f"journal: {shape} changes, by one core, best of {rounds} rounds")
    for traffic in TRAFFIC:
        pages = record_pages(shape, traffic)
        bodies = [records_body(page) for page in pages]
        records = sum(len(page.ends) for page in pages) // len(pages)
        turns = [_turn(bodies, records, options.items or _RECORDS) for _ in range(rounds)]
        appending, reading, kept = (min(figures) for figures in zip(*turns, strict=True))
        report.rows.append(
            {
                "changes": traffic,
                "append, CPU s per million": appending,
                "read back, CPU s per million": reading,
                "bytes on disk per byte of JSON": kept,
            }
        )
    return report


def _turn(bodies: list[bytes], records: int, number: int) -> tuple[float, float, float]:
    """CPU seconds per million records to append and to read back, and the share of bytes."""
    calls = max(1, number // records)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t" / "shard.journal"
        appender = Appender(file, "", 0, lambda: None)
        began, written = time.process_time(), 0
        for call in range(calls):
            body = bodies[call % len(bodies)]
            written += appender.append(records, 0.0, str(10**21 + call), memoryview(body))
        appending = time.process_time() - began
        appender.close()
        began, read = time.process_time(), 0
        for entry in entries(file, "", ""):
            read += len(entry.body)
        reading = time.process_time() - began
    million = calls * records / 1e6
    return appending / million, reading / million, written / read
