"""Nodes on this machine, each in a process: for tests, and to see what several nodes do."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time

from setproctitle import setproctitle

from shake.errors import RefusedError
from shake.nodes.address import Address
from shake.nodes.agent import run_agent
from shake.nodes.certificate import new_certificate
from shake.nodes.head import Head
from shake.nodes.link import Link, Listener, connect
from shake.nodes.secret import new_secret
from shake.process.spawn import spawn

log = logging.getLogger("shake.nodes")

_LOOPBACK = "127.0.0.1"
#: Seconds before an agent that has ended is started again, or one that was lost joins again.
_PAUSE = 0.5
#: Seconds that agents have to end.
_END_SECONDS = 2.0


class LocalAgents:
    """Starts agents, and again each that ends; they connect as those of other machines do.

    ``listen`` is the port of this process, 0 for a free one, and ``port`` that to which the agents
    connect, 0 for the same.
    """

    def __init__(self, count: int, workers: int, listen: int = 0, port: int = 0) -> None:
        self._workers = workers
        self._secret = new_secret()
        self._listener = Listener(Address(_LOOPBACK, listen), self._secret, new_certificate())
        self._port = port or self._listener.port
        self._closed = threading.Event()
        self._keepers = [
            threading.Thread(target=self._keep, args=(f"local-{number}",), daemon=True)
            for number in range(1, count + 1)
        ]
        for keeper in self._keepers:
            keeper.start()

    def accept(self) -> Link | None:
        """See head.Listener."""
        return self._listener.accept()

    def close(self) -> None:
        """Start no more, and wait for the end of those that run."""
        self._closed.set()
        self._listener.close()
        end = time.monotonic() + _END_SECONDS
        for keeper in self._keepers:
            keeper.join(max(0.0, end - time.monotonic()))

    def _keep(self, name: str) -> None:
        arguments = name, str(self._workers), str(self._port)
        while not self._closed.is_set():
            try:
                process, ours = spawn("shake.nodes.local", *arguments)
            except OSError as error:
                log.warning("node %s cannot be started: %s", name, error.strerror)
            else:
                with ours:  # the agent ends when it is closed
                    with contextlib.suppress(OSError):  # it has ended already
                        ours.sendall(self._secret)
                    process.wait()
            self._closed.wait(_PAUSE)


def open_local(count: int, workers: int) -> Head:
    """So many nodes on this machine, each with so many workers."""
    return Head(LocalAgents(count, workers), count)


def main() -> None:
    """Be an agent until the head is gone."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = socket.socket(fileno=int(sys.argv[1]))
    name, workers, port = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    setproctitle(f"shake: node {name}")
    logging.getLogger("shake").addHandler(logging.NullHandler())
    secret = parent.recv(1024)

    def end_with_parent() -> None:
        parent.recv(1)
        os._exit(0)  # the children end with their connections

    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    over = False
    while not (over or stop.is_set()):
        try:
            link = connect(Address(_LOOPBACK, port), secret, name)
        except RefusedError as error:
            log.warning("%s", error)
        except OSError:
            pass  # the head listens no more, or cannot be reached
        else:
            over = run_agent(link, name, workers, stop)
        stop.wait(_PAUSE * (not over))


if __name__ == "__main__":
    main()
