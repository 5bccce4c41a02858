"""Nodes on this machine, each in a process: for tests, and to see what several nodes do."""

from __future__ import annotations

import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

from setproctitle import setproctitle

from shake.nodes.agent import run_agent
from shake.nodes.head import Head
from shake.process.spawn import spawn

log = logging.getLogger("shake.nodes")

#: Seconds before an agent that has ended is started again.
_PAUSE = 0.5


class LocalLink(NamedTuple):
    """A connection to an agent that this process has started."""

    stream: socket.socket
    name: str
    peer: str = "this machine"


class LocalAgents:
    """Starts agents, and again each that ends: a Listener."""

    def __init__(self, count: int, workers: int) -> None:
        self._workers = workers
        self._links: queue.SimpleQueue[LocalLink | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        for number in range(1, count + 1):
            threading.Thread(
                target=self._keep, args=(f"local-{number}",), name="agent", daemon=True
            ).start()

    def accept(self) -> LocalLink | None:
        """See Listener."""
        return self._links.get()

    def close(self) -> None:
        """Start no more."""
        self._closed.set()
        self._links.put(None)

    def _keep(self, name: str) -> None:
        while not self._closed.is_set():
            try:
                process, ours = spawn("shake.nodes.local", name, str(self._workers))
            except OSError as error:
                log.warning("node %s cannot be started: %s", name, error.strerror)
            else:
                self._links.put(LocalLink(ours, name))
                _reap(process)
            self._closed.wait(_PAUSE)


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.wait()


def open_local(count: int, workers: int) -> Head:
    """So many nodes on this machine, each with so many workers."""
    return Head(LocalAgents(count, workers), count)


def main() -> None:
    """Be an agent until the head is gone."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, name = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    setproctitle(f"shake: node {name}")
    logging.getLogger("shake").addHandler(logging.NullHandler())
    run_agent(LocalLink(connection, name), name, int(sys.argv[3]), stop)


if __name__ == "__main__":
    main()
