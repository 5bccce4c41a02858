"""Saves how far a check is, for the status page of a running task."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shake.check.findings import Findings
from shake.check.progress import CheckProgress
from shake.check.recording import Recording
from shake.errors import ShakeError
from shake.status.figures import expected
from shake.status.snapshot import CheckStatus

log = logging.getLogger("shake.check")

#: Seconds between two saves, and for which the last one is waited for.
_EVERY, _LAST = 5.0, 2.0


@contextmanager
def status_saved(
    records: Recording | None, progress: CheckProgress, findings: Findings, tables: int
) -> Iterator[None]:
    """Save how far the check of so many tables is, from a separate thread, and how it ends.

    The check does not depend on it: what cannot be saved is left out.
    """
    if records is None:
        yield
        return
    over = threading.Event()

    def save_until_over() -> None:
        save = records.checks.save_status
        while not over.wait(_EVERY):
            _save(save, status(progress, findings, tables, "running"))
        _save(save, status(progress, findings, tables, state))

    state = "stopped"
    thread = threading.Thread(target=save_until_over, name="check status", daemon=True)
    thread.start()
    try:
        yield
        state = "finished"
    finally:
        over.set()
        thread.join(_LAST)


def _save(save: Callable[[CheckStatus], None], status: CheckStatus) -> None:
    try:
        save(status)
    except ShakeError as error:
        log.debug("the status of the check is not saved: %s", error)


def status(progress: CheckProgress, findings: Findings, tables: int, state: str) -> CheckStatus:
    """How far the check is."""
    known = progress.snapshot().tables
    if not known:
        return CheckStatus(state, tables=tables, time=time.time())
    last = known[-1]
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
        differences=findings.total,
        time=time.time(),
    )
