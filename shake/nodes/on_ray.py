"""Nodes on a Ray cluster: Ray starts one on each of its nodes, and again where one has ended.

Ray does nothing else. Each node connects to the head by a link of shake's, and no data, message or
secret passes through Ray. What Ray sees: the address of the head, the path of the secret's file,
the number of workers, and how a node has ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from shake.errors import RefusedError, UsageError
from shake.nodes.head import Head
from shake.nodes.link import Address, Listener
from shake.nodes.ray_driver import ADDRESS, REFUSED
from shake.process.spawn import spawn

log = logging.getLogger("shake.nodes")

#: Seconds before a driver that has ended is started again, and that one has to end.
_PAUSE, _END_SECONDS = 5.0, 20.0
_ANY = ("", "0.0.0.0", "::")


class Driver:
    """The process that is the cluster's client. Raises RefusedError where there is no cluster.

    ``own`` is the address of this machine in the cluster.
    """

    def __init__(self) -> None:
        self._closed = threading.Event()
        self.own = self._start()

    def _start(self) -> str:
        self._process, self._connection = spawn("shake.nodes.ray_driver")
        self._lines = self._connection.makefile()
        line = self._lines.readline().rstrip("\n")
        if line.startswith(ADDRESS):
            return line.removeprefix(ADDRESS)
        status = self._process.wait()
        raise RefusedError(
            line.removeprefix(REFUSED) or f"the client of Ray ended with status {status}"
        )

    def run(self, address: Address, workers: int, secret_file: Path) -> None:
        """Have nodes placed from now on: see Placed."""
        order = json.dumps([str(address), workers, str(secret_file)])
        threading.Thread(target=self._keep, args=(order,), name="ray", daemon=True).start()

    def _keep(self, order: str) -> None:
        while True:
            with contextlib.suppress(OSError):  # it has ended
                self._connection.sendall(f"{order}\n".encode())
                for line in self._lines:
                    log.warning("%s", line.rstrip("\n"))
            if self._closed.is_set():
                return
            # The nodes that run need no Ray.
            log.warning("the client of Ray has ended: it is started again")
            self._again()

    def _again(self) -> None:
        while not self._closed.wait(_PAUSE):
            try:
                self._end(0)
                self._start()
                return
            except (RefusedError, OSError) as error:
                log.warning("%s", error)

    def close(self) -> None:
        """The task has ended, and the nodes know it: wait for them."""
        self._closed.set()
        self._end(_END_SECONDS)

    def _end(self, seconds: float) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def open_ray(
    listen: Callable[[Address], Listener], secret_file: str | None, workers: int | None
) -> Iterator[Head]:
    """The nodes of the cluster that RAY_ADDRESS names, or of the one on this machine.

    ``listen`` makes the head's Listener, at the address of this machine that Ray uses and at any
    free port, or where the user wants it.
    """
    if secret_file is None:
        raise UsageError("--nodes ray needs nodes.secret_file, a path that is the same everywhere")
    with (
        contextlib.closing(Driver()) as driver,
        contextlib.closing(listen(Address(driver.own, 0))) as listener,
        Head(listener) as head,
    ):
        address = Address(driver.own if listener.host in _ANY else listener.host, listener.port)
        driver.run(address, workers or 0, Path(secret_file).absolute())
        log.info("nodes of the Ray cluster join at %s", address)
        yield head
