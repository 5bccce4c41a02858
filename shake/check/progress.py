"""How far a check is, as the snapshots that bars and log lines are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from shake.check.findings import Findings
from shake.check.sides import Advanced
from shake.schema import Table
from shake.status.figures import count
from shake.status.progress import Reporter
from shake.status.rate import Rates, seconds_left
from shake.status.snapshot import Snapshot, TableStatus

#: A table's states: its items are compared, or the keys of its documents are read.
_CHECKING, _KEYS = "checking", "reading keys"


class CheckProgress:
    """The tables so far, as the Listener of the check; ``filtered``: a scan filter is on."""

    def __init__(self, id: str, findings: Findings, *, filtered: bool) -> None:
        self.done = Advanced()  # of the table that is being checked
        self.differs = findings.add
        self.write_line = findings.write_line
        self.settle = findings.settle
        self._id = id
        self._filtered = filtered
        self._started = time.time()
        self._lock = threading.Lock()
        self._tables: list[TableStatus] = []
        self._state = _CHECKING
        self._rates = Rates(time.monotonic())

    @contextmanager
    def table(self, table: Table, namespace: str, *, whole: bool = True) -> Iterator[None]:
        """The table that is being checked now; how much there is to do is known of a whole one."""
        with self._lock:
            self.done = Advanced()
            self._state = _CHECKING
            self._tables.append(
                TableStatus(
                    table.name,
                    namespace,
                    _CHECKING,
                    expected_items=table.items if whole else 0,
                    filtered=self._filtered,
                )
            )
            self._rates = Rates(time.monotonic())
        yield
        with self._lock:
            self._state = _CHECKING
            self._refresh()
            self._tables[-1] = replace(self._tables[-1], state="done", rate=0.0, seconds_left=0.0)

    def resumed(self, done: Advanced) -> None:
        """An interrupted check of this table has done so much."""
        with self._lock:
            self.done = done
            self._tables[-1] = replace(
                self._tables[-1], items=done.compared, scanned=done.scanned, bytes=done.size
            )

    def reading_keys(self, expected: int) -> None:
        """All items are compared: now the keys of the target are read, about so many."""
        with self._lock:
            self.done = self.done._replace(keys=0)
            self._state = _KEYS
            self._tables[-1] = replace(
                self._tables[-1], state=_KEYS, items=0, scanned=0, expected_items=expected
            )
            self._rates = Rates(time.monotonic())

    def advanced(self, more: Advanced) -> None:
        """See Listener."""
        with self._lock:
            self.done = self.done.plus(more)

    def snapshot(self, state: str = "running") -> Snapshot:
        """The tables now; ``state`` is that of the whole check."""
        with self._lock:
            if self._tables and self._tables[-1].state != "done":
                self._refresh()
            now = time.time()
            return Snapshot(
                self._id, "check", state, self._started, now - self._started, (*self._tables,)
            )

    def _refresh(self) -> None:
        last, done, now = self._tables[-1], self.done, time.monotonic()
        items, scanned = done.compared, done.scanned
        if self._state == _KEYS:
            items = scanned = done.keys
        self._rates.add(items - last.items, done.size - last.bytes, done.units - last.capacity, now)
        pace = self._rates.pace.value(now)
        # The pace counts what the scan filter keeps, so what is ahead is counted likewise.
        left = max(0, last.expected_items - scanned) * (items / scanned if scanned else 1.0)
        unknown = not last.expected_items
        repairing = done.repaired < done.to_repair
        number = f"{count(done.repaired + 1)} of {count(done.to_repair)}"
        self._tables[-1] = replace(
            last,
            state=f"repairing {number}" if repairing else self._state,
            items=items,
            bytes=done.size,
            scanned=scanned,
            capacity=done.units,
            rate=self._rates.items.value(now),
            byte_rate=self._rates.bytes.value(now),
            unit_rate=self._rates.units.value(now),
            pace=pace,
            seconds_left=None if repairing or unknown else seconds_left(left, pace),
        )


@contextmanager
def showing(progress: CheckProgress, reporter: Reporter, every: float) -> Iterator[None]:
    """Show the progress every ``every`` seconds, from a separate thread, and how it ends."""
    over = threading.Event()
    state = "stopped"

    def show() -> None:
        while not over.wait(every):
            reporter.tick(progress.snapshot(), time.monotonic())

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
        state = "finished"
    finally:
        over.set()
        thread.join()
        reporter.close(progress.snapshot(state))
