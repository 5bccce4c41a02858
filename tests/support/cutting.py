"""A proxy that forwards bytes between nodes and their head, and cuts connections one by one."""

from __future__ import annotations

import contextlib
import socket
import threading

from shake.demo.servers import free_port


class Cutting:
    """Listens on ``port`` of the address ``at``, and forwards to the port ``to``; by default to one
    that is free. A context manager.

    A connection that is cut still stands: nothing comes through until it is healed.
    """

    def __init__(self, to: int = 0, at: str = "127.0.0.1") -> None:
        self.to = to or free_port()
        self._listener = socket.create_server((at, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[threading.Event] = []

    def __enter__(self) -> Cutting:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.heal()

    @property
    def first(self) -> str:
        """Python that a head runs first, so that its nodes come through here."""
        return (
            "from shake.nodes import local; nodes_here = local.LocalNodes;"
            "local.LocalNodes = lambda count, workers: "
            f"nodes_here(count, workers, {self.to}, {self.port})"
        )

    def cut(self, connection: int) -> None:
        """Forward nothing of this connection, by the order in which they were made."""
        self._open[connection].clear()

    def heal(self) -> None:
        """Forward all again, first what was sent meanwhile."""
        for way in self._open:
            way.set()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                way = threading.Event()
                way.set()
                self._open.append(way)
                try:
                    far = socket.create_connection(("127.0.0.1", self.to))
                except OSError:
                    near.close()
                    continue
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(*pair, way), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                way.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
