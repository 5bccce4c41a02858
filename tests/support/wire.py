"""A proxy in front of a MongoDB server, which stops the world at one exact message.

It forwards bytes, and reads of each message just enough to know the command. So a test can kill a
process after the server has stored an insert and before its client hears of it, without a hook in
the program.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from bson.raw_bson import RawBSONDocument

#: Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
OP_MSG = 2013

Moment = Literal["request", "answer"]


@dataclass(frozen=True)
class Command:
    """A command that passes: ``insert`` into ``db.collection``."""

    name: str
    place: str


@dataclass
class _Stop:
    moment: Moment
    name: str
    place: str
    skip: int
    action: Callable[[], None]
    late: bool
    reached: threading.Event


class Wire:
    """The proxy, a context manager. ``uri`` leads through it; ``seen`` is what has passed."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"
        self.seen: list[Command] = []
        self.forwarded = 0  # requests that were handed to the server
        self._stops: list[_Stop] = []
        self._lock = threading.Lock()

    def stop_at(
        self,
        moment: Moment,
        name: str,
        place: str,
        action: Callable[[], None],
        *,
        skip: int = 0,
        late: bool = False,
    ) -> threading.Event:
        """Call ``action`` when the command reaches the proxy (``request``) or its answer does.

        The message waits for ``action``. A request whose sender is dead by then goes no further,
        unless it is to be ``late``. It happens once, after ``skip`` such messages. ``place``
        ending in a dot means any collection of the database. Returns the event of its happening.
        """
        stop = _Stop(moment, name, place, skip, action, late, threading.Event())
        with self._lock:
            self._stops.append(stop)
        return stop.reached

    def count(self, name: str, place: str) -> int:
        """How many such commands have passed."""
        return sum(one == Command(name, place) for one in self.seen)

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            asked: dict[int, Command] = {}
            answers = threading.Thread(
                target=self._pump, args=("answer", server, client, asked), daemon=True
            )
            answers.start()
            self._pump("request", client, server, asked)
            answers.join()

    def _pump(
        self, moment: Moment, source: socket.socket, sink: socket.socket, asked: dict[int, Command]
    ) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                while True:
                    header = _read(source, 16)
                    length, number, answers, opcode = struct.unpack("<iiii", header)
                    body = _read(source, length - 16)
                    if moment == "answer":
                        command = asked.get(answers)
                    else:
                        command = _command(body) if opcode == OP_MSG else None
                        if command:
                            asked[number] = command
                    stop = command and self._pass(moment, command)
                    if stop and moment == "request" and not stop.late and _gone(source):
                        break
                    sink.sendall(header + body)
                    self.forwarded += moment == "request"
        finally:
            with contextlib.suppress(OSError):  # what the server still answers is heard to the end
                sink.shutdown(socket.SHUT_WR)

    def _pass(self, moment: Moment, command: Command) -> _Stop | None:
        found = None
        with self._lock:
            if moment == "request":
                self.seen.append(command)
            for stop in self._stops:
                whole = command.place == stop.place or (
                    stop.place.endswith(".") and command.place.startswith(stop.place)
                )
                if (moment, command.name) == (stop.moment, stop.name) and whole:
                    stop.skip -= 1
                    if stop.skip < 0 and not stop.reached.is_set():
                        found = stop
                        stop.reached.set()
                        break
        if found:
            found.action()
        return found


def _gone(peer: socket.socket) -> bool:
    try:
        return peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _read(source: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = source.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _command(body: bytes) -> Command | None:
    """The command of an OP_MSG whose body document comes first, as pymongo sends it."""
    if body[4] != 0:
        return None
    size = int.from_bytes(body[5:9], "little")
    document: RawBSONDocument = RawBSONDocument(body[5 : 5 + size])
    name, value = next(iter(document.items()))
    if name == "renameCollection":
        return Command(name, value)
    collection = f".{value}" if isinstance(value, str) else ""
    return Command(name, f"{document['$db']}{collection}")
