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

from shake.errors import RefusedError
from shake.nodes.credentials import new_certificate, new_secret
from shake.nodes.joining import work
from shake.nodes.link import Address, Listener
from shake.process.spawn import spawn

log = logging.getLogger("shake.nodes")

_LOOPBACK = "127.0.0.1"
#: Seconds before a node that has ended is started again.
_PAUSE = 0.5
#: Seconds that nodes have to end.
_END_SECONDS = 2.0


class LocalNodes(Listener):
    """Starts nodes, and again each that ends; they connect as those of other machines do.

    ``listen`` is the port of this process, 0 for a free one, and ``port`` that to which the nodes
    connect, 0 for the same.
    """

    def __init__(self, count: int, workers: int, listen: int = 0, port: int = 0) -> None:
        super().__init__(Address(_LOOPBACK, listen), new_secret(), new_certificate())
        self._workers = workers
        self._joined_at = port or self.port
        self._over = threading.Event()
        self._keepers = [
            threading.Thread(target=self._keep, args=(f"local-{number}",), daemon=True)
            for number in range(1, count + 1)
        ]
        for keeper in self._keepers:
            keeper.start()

    def close(self) -> None:
        """Start no more, and wait for the end of those that run."""
        self._over.set()
        super().close()
        end = time.monotonic() + _END_SECONDS
        for keeper in self._keepers:
            keeper.join(max(0.0, end - time.monotonic()))

    def _keep(self, name: str) -> None:
        arguments = name, str(self._workers), str(self._joined_at)
        while not self._over.is_set():
            try:
                process, ours = spawn("shake.nodes.local", *arguments)
            except OSError as error:
                log.warning("node %s cannot be started: %s", name, error.strerror)
            else:
                with ours:  # the node ends when it is closed
                    with contextlib.suppress(OSError):  # it has ended already
                        ours.sendall(self._secret)
                    process.wait()
            self._over.wait(_PAUSE)


def main() -> None:
    """Be a node until the task has ended, or the head is gone."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = socket.socket(fileno=int(sys.argv[1]))
    name, workers, port = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    logging.getLogger("shake").addHandler(logging.NullHandler())
    secret = parent.recv(1024)

    def end_with_parent() -> None:
        parent.recv(1)
        os._exit(0)  # the children end with their connections

    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    with contextlib.suppress(RefusedError):  # another process has the port: tried again
        work(Address(_LOOPBACK, port), secret, name, workers, stop)


if __name__ == "__main__":
    main()
