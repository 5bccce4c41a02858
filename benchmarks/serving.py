"""Servers in child processes: what runs in them, and what starts and ends them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, cpu_clock


def serve(handle: Callable[[socket.socket], None], authority: Path | None = None) -> None:
    """Print the port, then serve each connection in a thread until standard input ends.

    With ``authority`` connections speak TLS; the certificate to trust is written into that file.
    """
    secure = None if authority is None else _identity(authority)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def serve_one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # clients are killed, or refuse TLS
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure is None:
                handle(connection)
            else:
                with secure.wrap_socket(connection, server_side=True) as encrypted:
                    handle(encrypted)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


def _identity(authority: Path) -> ssl.SSLContext:
    """A server's side of TLS, by a certificate made for this run."""
    import trustme

    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(authority))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    port: int
    pid: int

    def cpu(self) -> float:
        """CPU seconds that it has used until now."""
        return cpu_clock(self.pid)


@contextlib.contextmanager
def server(module: str, *arguments: str) -> Iterator[Server]:
    """Run a module that calls :func:`serve`."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            yield Server(int(process.stdout.readline()), process.pid)
        finally:
            process.kill()
