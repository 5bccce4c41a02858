"""Writes to the terminal in a separate thread: one that is not read delays nothing."""

from __future__ import annotations

import threading
from functools import partial

from shake.process.outlet import Outlet
from shake.status.logs import dropped_lines
from shake.status.progress import Reporter
from shake.status.snapshot import Snapshot

#: Seconds that the terminal has to take the last lines.
_CLOSE_SECONDS = 1.0


class Screen:
    """Shows by another reporter; no call waits. Of the snapshots that wait, it draws the last.

    A context manager: its end waits a second for the lines that are not written yet.
    """

    draws = False

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._outlet = Outlet("the screen", dropped=lambda n: reporter.print(dropped_lines(n)))
        self._lock = threading.Lock()
        self._latest: tuple[Snapshot, float] | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._outlet.close(_CLOSE_SECONDS)

    def tick(self, snapshot: Snapshot, now: float) -> None:
        if not self._reporter.draws:  # it logs, also while the terminal takes no lines
            self._reporter.tick(snapshot, now)
            return
        with self._lock:
            waiting, self._latest = self._latest, (snapshot, now)
        if waiting is None:
            self._outlet.put(self._draw)

    def print(self, line: str) -> None:
        self._outlet.put(partial(self._reporter.print, line))

    def log(self, line: str) -> None:
        """A line of the log, which is dropped where too many wait."""
        self._outlet.offer(partial(self._reporter.print, line))

    def flush(self) -> None:
        """Wait for the lines that are not written yet, no longer than a second."""
        written = threading.Event()
        self._outlet.put(written.set)
        written.wait(_CLOSE_SECONDS)

    def close(self, snapshot: Snapshot) -> None:
        self._outlet.put(partial(self._reporter.close, snapshot))

    def _draw(self) -> None:
        with self._lock:
            latest, self._latest = self._latest, None
        if latest:
            self._reporter.tick(*latest)
