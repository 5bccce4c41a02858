"""How far a check is, as the snapshots that bars and log lines are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from shake.check.items import Items
from shake.schema import Table
from shake.status.progress import Reporter
from shake.status.rate import Rate
from shake.status.snapshot import Snapshot, TableStatus


class Progress:
    """The tables so far; ``filtered`` says that a scan filter is on."""

    def __init__(self, id: str, *, filtered: bool) -> None:
        self._id = id
        self._filtered = filtered
        self._started = time.time()
        self._lock = threading.Lock()
        self._tables: list[TableStatus] = []
        self._items: Items | None = None
        self._rate = Rate(time.monotonic())

    @contextmanager
    def table(self, table: Table, place: str, items: Items) -> Iterator[None]:
        """The table that is being checked now."""
        with self._lock:
            self._items, self._rate = items, Rate(time.monotonic())
            self._tables.append(
                TableStatus(
                    table.name,
                    place,
                    "checking",
                    expected_items=table.items,
                    filtered=self._filtered,
                )
            )
        yield
        with self._lock:
            self._refresh()
            self._items = None
            self._tables[-1] = replace(self._tables[-1], state="done", seconds_left=0.0)

    def snapshot(self) -> Snapshot:
        """The state of now."""
        with self._lock:
            self._refresh()
            now = time.time()
            return Snapshot(
                self._id, "check", "running", self._started, now - self._started, (*self._tables,)
            )

    def _refresh(self) -> None:
        if self._items is None:
            return
        last, now = self._tables[-1], time.monotonic()
        self._rate.add(self._items.compared - last.items, now)
        rate = self._rate.value(now)
        compared, scanned = self._items.compared, self._items.scanned
        # The rate counts what the scan filter keeps, so what is ahead is counted likewise.
        left = max(0, last.expected_items - scanned) * (compared / scanned if scanned else 1.0)
        self._tables[-1] = replace(
            last,
            items=self._items.compared,
            scanned=self._items.scanned,
            rate=rate,
            seconds_left=left / rate if rate > 0 else None,
        )


@contextmanager
def showing(progress: Progress, reporter: Reporter, every: float) -> Iterator[None]:
    """Show the progress every so many seconds, from a thread of its own."""
    over = threading.Event()

    def show() -> None:
        while not over.wait(every):
            reporter.tick(progress.snapshot(), time.monotonic())

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        reporter.close(progress.snapshot())
