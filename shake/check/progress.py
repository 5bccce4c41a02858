"""How far a check is: shown as it goes on, and saved for the status page of a running task."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from shake.check.findings import Findings
from shake.check.sides import Advanced
from shake.checkpoint.checks import Checks
from shake.errors import ShakeError
from shake.schema import Table
from shake.status.figures import count, expected
from shake.status.progress import Reporter
from shake.status.rate import Rates, seconds_left
from shake.status.snapshot import CheckStatus, Snapshot, TableStatus

log = logging.getLogger("shake.check")

#: Seconds between two saves, and for which the last one is waited for.
_EVERY, _LAST = 5.0, 2.0

#: A table's states: its items are compared, or the keys of its documents are read.
_CHECKING, _KEYS = "checking", "reading keys"


class CheckProgress:
    """The tables so far, as the Listener of the check; ``filtered``: a scan filter is on."""

    def __init__(self, id: str, findings: Findings, *, filtered: bool) -> None:
        self.done = Advanced()  # of the table that is being checked
        self.differs = findings.add
        self.write_line = findings.write_line
        self.settle = findings.settle
        self._findings = findings
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

    def status(self, state: str, tables: int) -> CheckStatus:
        """The same for the status page, of a check of so many tables."""
        known = self.snapshot().tables
        last = known[-1] if known else TableStatus("", "", "")
        return CheckStatus(
            state=state,
            table=last.name,
            number=len(known),
            tables=tables,
            items=last.items,
            expected=expected(last),
            rate=last.rate,
            seconds_left=last.seconds_left,
            units=sum(table.capacity for table in known),
            differences=self._findings.total,
            time=time.time(),
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


def showing(
    progress: CheckProgress, reporter: Reporter, every: float
) -> AbstractContextManager[None]:
    """Show the progress every ``every`` seconds, and how it ends."""

    def show(state: str) -> None:
        if state == "running":
            reporter.tick(progress.snapshot(), time.monotonic())
        else:
            reporter.close(progress.snapshot(state))

    return _repeated(show, every)


def saving(checks: Checks, progress: CheckProgress, tables: int) -> AbstractContextManager[None]:
    """Save how far the check of so many tables is, and how it ends.

    The check does not depend on it: what cannot be saved is left out.
    """

    def save(state: str) -> None:
        try:
            checks.save_status(progress.status(state, tables))
        except ShakeError as error:
            log.debug("the status of the check is not saved: %s", error)

    return _repeated(save, _EVERY, _LAST)


@contextmanager
def _repeated(
    act: Callable[[str], None], every: float, within: float | None = None
) -> Iterator[None]:
    """Call ``act`` with the state of the check every so many seconds, from a separate thread.

    The last call has the state at the end. It is waited for, ``within`` so many seconds.
    """
    over, state = threading.Event(), "stopped"

    def repeat() -> None:
        while not over.wait(every):
            act("running")
        act(state)

    thread = threading.Thread(target=repeat, name="check progress", daemon=True)
    thread.start()
    try:
        yield
        state = "finished"
    finally:
        over.set()
        thread.join(within)
