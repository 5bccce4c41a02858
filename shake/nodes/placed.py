"""A node of shake on a node of a Ray cluster: a process that Ray's own process there starts."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading

from shake.errors import ShakeError
from shake.nodes.credentials import read_secret
from shake.nodes.joining import default_name, work
from shake.nodes.link import Address
from shake.process.spawn import spawn


class Placed:
    """What Ray runs on each of its nodes. Nothing that it is started with is secret.

    ``secret_file`` is the path of the secret, unless the environment of this machine names another
    one. ``workers`` is how many processes work here, 0 for as many as there are CPUs.
    """

    def __init__(self, address: str, workers: int, secret_file: str) -> None:
        secret_file = os.environ.get("SHAKE_NODES_SECRET_FILE") or secret_file
        self._arguments = address, str(workers), secret_file

    def run(self) -> str:
        """Be the process that Ray has started: wait for the node to end; return how it ended.

        The node is another process, so that Ray sees nothing of its memory. It leaves the task
        when this process ends.
        """
        process, ours = spawn("shake.nodes.placed", *self._arguments)
        with ours:
            ended = b""
            while data := ours.recv(4096):
                ended += data
        return ended.decode() or f"its process ended with status {process.wait()}"


def main() -> None:
    """Be a node until the task has ended, or the process that has started this one."""
    ours, stop = socket.socket(fileno=int(sys.argv[1])), threading.Event()

    def watch() -> None:
        ours.recv(1)
        stop.set()

    threading.Thread(target=watch, name="watch", daemon=True).start()
    address, workers, secret_file = sys.argv[2:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        secret, name = read_secret(secret_file), default_name()
        work(Address.parse(address), secret, name, int(workers), stop)
        ended = "the task has ended"
    except ShakeError as error:
        ended = str(error)
    ours.sendall(ended.encode())


if __name__ == "__main__":
    main()
