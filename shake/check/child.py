"""A child process of the check: does its part of the work, several pieces at a time."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from setproctitle import setproctitle

from shake.check.crew import THREADS, Advanced, Failed, Logged, Open, Result, Setup, Work
from shake.check.findings import Difference
from shake.check.part import Ends, Part, connected
from shake.check.sides import Repair
from shake.config import Config
from shake.errors import ShakeError, Stopped
from shake.source.endpoint import Credentials

#: Seconds between two messages that tell how far this process is.
_EVERY = 0.25


class Parent(logging.Handler):
    """Tells the parent what is found, how far the work is, and what is to be logged."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        super().__init__()
        self._connection = connection
        self._sending = threading.Lock()
        self._counting = threading.Lock()
        self._untold = [0, 0, 0, 0]
        self._told = 0.0

    def tell(self, message: Any) -> None:
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)  # it is gone

    def differs(self, difference: Difference) -> None:
        self.tell(difference)

    def advanced(
        self, *, compared: int = 0, scanned: int = 0, size: int = 0, keys: int = 0
    ) -> None:
        with self._counting:
            more = zip(self._untold, (compared, scanned, size, keys), strict=True)
            self._untold = [sum(pair) for pair in more]
        if time.monotonic() > self._told + _EVERY:
            self.flush()

    def flush(self) -> None:
        """Tell what is not told yet."""
        with self._counting:
            self._told = time.monotonic()
            untold, self._untold = self._untold, [0, 0, 0, 0]
        if any(untold):
            self.tell(Advanced(*untold))

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(Logged(record.levelno, record.name, record.getMessage()))


class Worker:
    """Does what the parent says."""

    def __init__(self, ends: Ends, parent: Parent, repair: Repair) -> None:
        self._ends = ends
        self._parent = parent
        self._repair = repair
        self._part: Part | None = None
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()

    def handle(self, message: Any) -> None:
        match message:
            case Work():
                self._work.put(message)
            case Open(table, processes):
                self._part = Part(
                    self._ends, table, self._parent, repair=self._repair, processes=processes
                )

    def run(self) -> None:
        """A thread that does one piece of work after the other."""
        while True:
            method, arguments = self._work.get()
            with told(self._parent):
                value = getattr(self._part, method)(*arguments)
                self._parent.flush()
                self._parent.tell(Result(value))


@contextlib.contextmanager
def told(parent: Parent) -> Iterator[None]:
    """Tell the parent of any error, so that the user gets one clear line, not a silence."""
    try:
        yield
    except Stopped:
        pass
    except Exception as error:
        known = isinstance(error, ShakeError)
        text = str(error) if known else f"unexpected {type(error).__name__}: {error}"
        parent.tell(Failed(text, traceback.format_exc()))


def serve(connection: Connection[Any, Any], parent: Parent, setup: Setup) -> None:
    config = Config.from_settings(setup.settings)
    setproctitle(f"shake: check {config.id} {sys.argv[2]}")
    log = logging.getLogger("shake")
    log.addHandler(parent)
    log.setLevel(logging.DEBUG if config.log_level == "debug" else logging.INFO)
    log.propagate = False
    # A page is very many small objects and no cycle.
    gc.freeze()
    gc.set_threshold(1_000_000)
    credentials = [setup.credentials]
    with connected(config, setup.endpoint, lambda: credentials[-1]) as ends:
        worker = Worker(ends, parent, setup.repair)
        for _ in range(THREADS):
            threading.Thread(target=worker.run, daemon=True).start()
        for message in received(connection):
            if isinstance(message, Credentials):
                credentials[:] = [message]
            else:
                worker.handle(message)
        # Threads may hang in a request: nothing here needs them to end well.
        os._exit(0)


def received(connection: Connection[Any, Any]) -> Iterator[Any]:
    """What the parent sends, until it is gone."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield connection.recv()


def main() -> None:
    """Work until the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    parent = Parent(connection)
    with told(parent):
        for setup in received(connection):
            serve(connection, parent, setup)


if __name__ == "__main__":
    main()
