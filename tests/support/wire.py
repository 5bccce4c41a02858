"""A proxy in front of a MongoDB server, which can stop at one exact message.

It forwards bytes, and reads of each message just enough to know the command. So a test can kill a
process after the server has stored an insert and before its client has the answer, without a hook
in the program.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

#: Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
OP_MSG = 2013

Moment = Literal["request", "answer"]


#: Source: https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
TRANSACTION_TOO_OLD = 225


@dataclass(frozen=True)
class Command:
    """A command that passes: ``insert`` into ``db.collection``.

    A staging collection counts as the one that it is for, and a delete of nothing, which only
    waits for what was written before, as a command ``confirm``. An update that says how the task
    stands is a command ``summary``: it comes at times of its own.

    A retryable write has a session, and a number in it.
    """

    name: str
    place: str
    session: bytes = field(default=b"", compare=False)
    number: int = field(default=-1, compare=False)


#: The ``_id`` of what such an update writes, as a field in BSON.
_SUMMARY = b"_id\0\x08\0\0\0summary\0"
#: The commands that can change something, and what stands for all of them in ``stop_at``.
WRITES = frozenset(
    {
        "create",
        "insert",
        "update",
        "summary",
        "delete",
        "confirm",
        "createIndexes",
        "renameCollection",
        "drop",
    }
    | {"refreshSessions"}
)
ANY_WRITE = "any write"


@dataclass
class _Stop:
    moment: Moment
    name: str
    place: str
    skip: int
    action: Callable[[], object]
    late: bool
    cut: bool
    reached: threading.Event
    answered: threading.Event

    def concerns(self, moment: Moment, command: Command) -> bool:
        named = command.name in WRITES if self.name == ANY_WRITE else command.name == self.name
        within = self.place.endswith(".") and command.place.startswith(self.place)
        return moment == self.moment and named and (command.place == self.place or within)


class Wire:
    """The proxy, a context manager. ``uri`` leads through it; ``seen`` is what has passed.

    ``host`` and ``sender`` are address and port of the client whose command was stopped last.

    With ``sessions`` it keeps a rule of MongoDB that the embedded server does not: in a session, a
    retryable write with a lower number than the latest is refused. ``refused`` is what was.
    Source: shake.targets.mongodb.session
    """

    def __init__(
        self, host: str, port: int, *, sessions: bool = False, at: str = "127.0.0.1"
    ) -> None:
        self._server = (host, port)
        self._listener = socket.create_server((at, 0))
        self.uri = f"mongodb://{at}:{self._listener.getsockname()[1]}/?directConnection=true"
        self.seen: list[Command] = []
        self.refused: list[Command] = []
        self.host, self.sender = "", 0
        self._latest: dict[bytes, int] | None = {} if sessions else None
        self._stops: list[_Stop] = []
        self._lock = threading.Lock()
        self._open = {"request": threading.Event(), "answer": threading.Event()}
        self.heal()

    def cut(self, *directions: Moment) -> None:
        """Forward nothing any more in these directions, as a network that is cut does."""
        for direction in directions:
            self._open[direction].clear()

    def heal(self) -> None:
        """Forward all again, first of it what was sent meanwhile on connections that still are."""
        for way in self._open.values():
            way.set()

    def stop_at(
        self,
        moment: Moment,
        name: str,
        place: str,
        action: Callable[[], object],
        *,
        skip: int = 0,
        late: bool = False,
        cut: bool = False,
        answered: threading.Event | None = None,
    ) -> threading.Event:
        """Call ``action`` when the command reaches the proxy (``request``) or its answer does.

        The message waits for ``action``. A request whose sender is dead by then goes no further,
        unless it is to be ``late``; ``cut`` breaks its connection before ``action``. It happens
        once, after ``skip`` such messages. ``place`` ending in a dot means any collection of the
        database, and ``ANY_WRITE`` any command that can change something. ``answered`` is set when
        the server has answered the request. Returns the event of its happening.
        """
        reached, answered = threading.Event(), answered or threading.Event()
        stop = _Stop(moment, name, place, skip, action, late, cut, reached, answered)
        with self._lock:
            self._stops.append(stop)
        return stop.reached

    def count(self, name: str, place: str) -> int:
        """How many such commands have passed."""
        return sum(one == Command(name, place) for one in self.seen)

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.heal()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            asked: dict[int, tuple[Command, _Stop | None]] = {}
            answers = threading.Thread(
                target=self._pump, args=("answer", server, client, asked), daemon=True
            )
            answers.start()
            self._pump("request", client, server, asked)
            answers.join()

    def _pump(
        self,
        moment: Moment,
        source: socket.socket,
        sink: socket.socket,
        asked: dict[int, tuple[Command, _Stop | None]],
    ) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                while True:
                    header = _read(source, 16)
                    length, number, answers, opcode = struct.unpack("<iiii", header)
                    body = _read(source, length - 16)
                    if moment == "answer":
                        command, stopped = asked.get(answers, (None, None))
                        if stopped:
                            stopped.answered.set()
                    else:
                        command = _command(body) if opcode == OP_MSG else None
                    client = source if moment == "request" else sink
                    stop = self._pass(moment, command, client) if command else None
                    if command and moment == "request":
                        asked[number] = command, stop
                    if stop and moment == "request" and not stop.late and _gone(source):
                        break
                    if command and moment == "request" and self._too_old(command):
                        source.sendall(_refusal(number))
                        continue
                    self._open[moment].wait()
                    sink.sendall(header + body)
        finally:
            with contextlib.suppress(OSError):  # what the server still answers is read to the end
                sink.shutdown(socket.SHUT_WR)

    def _too_old(self, command: Command) -> bool:
        if self._latest is None or command.number < 0:
            return False
        with self._lock:
            latest = self._latest.get(command.session, -1)
            self._latest[command.session] = max(latest, command.number)
            if command.number < latest:
                self.refused.append(command)
        return command.number < latest

    def _pass(self, moment: Moment, command: Command, client: socket.socket) -> _Stop | None:
        found = None
        with self._lock:
            if moment == "request":
                self.seen.append(command)
            for stop in self._stops:
                if stop.concerns(moment, command):
                    stop.skip -= 1
                    if stop.skip < 0 and not stop.reached.is_set():
                        found = stop
                        stop.reached.set()
                        break
        if found:
            self.host, self.sender = client.getpeername()[:2]
            if found.cut:
                client.shutdown(socket.SHUT_RDWR)
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
        return Command(name, _final(value))
    if name == "update" and _SUMMARY in body:
        name = "summary"
    if name == "delete" and _confirms(body[5 + size :]):
        name = "confirm"
    collection = f".{value}" if isinstance(value, str) else ""
    session = document["lsid"]["id"] if "txnNumber" in document else b""
    return Command(
        name,
        _final(f"{document['$db']}{collection}"),
        bytes(session),
        document.get("txnNumber", -1),
    )


def _final(place: str) -> str:
    """The place that a collection of a copy is for, or was."""
    return re.sub(r"\.shake-(\d+-\d+|(old|spare)-[0-9a-f]+)$", "", place)


def _confirms(sections: bytes) -> bool:
    """Whether a delete is one of nothing, which only waits for what was written before."""
    if not sections or sections[0] != 1:
        return False
    [delete, *more] = bson.decode_all(sections[5 + len("deletes") + 1 :])
    query = delete["q"]
    return not more and list(query) == ["_id"] and isinstance(query["_id"], ObjectId)


def _refusal(number: int) -> bytes:
    """The answer to a retryable write that came too late."""
    error = {"ok": 0.0, "code": TRANSACTION_TOO_OLD, "codeName": "TransactionTooOld"}
    text = "a newer retryable write has already started on this session"
    reply = bytes(5) + bson.encode({**error, "errmsg": text})
    return struct.pack("<iiii", 16 + len(reply), 0, number, OP_MSG) + reply
