"""Servers as processes of their own: one side runs in them, the other starts and ends them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def serve(handle: Callable[[socket.socket], None]) -> None:
    """Print the port, then serve each connection in a thread until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_accept, args=(listener, handle), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_guarded, args=(connection, handle), daemon=True).start()


def _guarded(connection: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    with connection, contextlib.suppress(ConnectionError):  # a client that was killed
        handle(connection)


@contextlib.contextmanager
def server(module: str, *arguments: str) -> Iterator[int]:
    """Run a module that calls :func:`serve`; gives its port."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
