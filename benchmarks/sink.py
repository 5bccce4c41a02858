"""A target that costs next to nothing: speaks MongoDB, counts the documents, and keeps none.

To the driver it is the primary of a replica set, as a real target is. Besides MongoDB's commands
it knows ``counts``: documents inserted, statements to update and to delete, and the commands that
brought them, since the last call.
"""

from __future__ import annotations

import argparse
import socket
import struct
import time
from typing import Any

import bson

from benchmarks.serving import serve
from shake.codec import batches

#: Message kinds. Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
_OP_REPLY, _OP_QUERY = 1, 2004
_HEAD = struct.Struct("<iiii")
_LENGTH = struct.Struct("<i")
_ANY = 1 << 40
#: The field of each command that holds its documents.
_FIELDS = {"insert": "documents", "update": "updates", "delete": "deletes"}


class Sink:
    """Answers commands; what brings documents after ``delay`` seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._counts = dict.fromkeys(("documents", "updates", "deletes", "commands"), 0)

    def connection(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        buffer = bytearray(1 << 20)
        while _receive(connection, memoryview(buffer)[:16]):
            length, request, _, kind = _HEAD.unpack_from(buffer)
            if length - 16 > len(buffer):
                buffer = bytearray(length)
            body = memoryview(buffer)[: length - 16]
            _receive(connection, body)
            if kind == _OP_QUERY:  # a driver's first hello
                kind, opening = _OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1)
                answer = self._hello(connection)
            else:
                opening, answer = b"\0" * 5, self._answer(connection, body)
            reply = opening + bson.encode({**answer, "ok": 1.0})
            connection.sendall(_HEAD.pack(16 + len(reply), 0, request, kind) + reply)

    def _answer(self, connection: socket.socket, message: memoryview) -> dict[str, Any]:
        """The answer to an OP_MSG: 4 bytes of flags, the command, then documents in sequences."""
        (length,) = _LENGTH.unpack_from(message, 5)
        command = bytes(message[5 : 5 + length])
        name = command[5 : command.index(0, 5)].decode()
        match name:
            case "hello" | "ismaster" | "isMaster":
                return self._hello(connection)
            case "insert" | "update" | "delete":
                if name != "delete":  # by which shake finds out before the start if it may write
                    time.sleep(self._delay)
                return self._count(_FIELDS[name], message[5 + length :], command)
            case "count":  # as if it had kept them; since the last ``counts``
                return {"n": self._counts["documents"]}
            case "find" | "aggregate" | "listCollections" | "listIndexes":
                return {"cursor": {"id": 0, "ns": "any.any", "firstBatch": []}}
            case "counts":
                counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
                return dict(counts)
        return {}

    def _count(self, field: str, sections: memoryview, command: bytes) -> dict[str, Any]:
        """Take the documents of a write command, in a section of their own or in the command."""
        if sections:
            (length,) = _LENGTH.unpack_from(sections, 1)
            documents = sections[5 + len(field) + 1 : 1 + length]
            count = sum(cut[2] for cut in batches(documents, _ANY, _ANY))
        else:
            count = len(bson.decode(command)[field])
        self._counts[field] += count
        self._counts["commands"] += 1
        return {"n": count, **({"nModified": count} if field == "updates" else {})}

    def _hello(self, connection: socket.socket) -> dict[str, Any]:
        host, port = connection.getsockname()
        me = f"{host}:{port}"
        return {
            "isWritablePrimary": True,
            "setName": "sink",
            "setVersion": 1,
            "hosts": [me],
            "primary": me,
            "me": me,
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 21,
        }


def _receive(connection: socket.socket, into: memoryview) -> bool:
    """Fill ``into``; False at the end of the connection."""
    while into:
        got = connection.recv_into(into)
        if not got:
            return False
        into = into[got:]
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink", description=__doc__)
    parser.add_argument(
        "--delay", type=float, default=0.0, help="seconds that a write takes, but for deletes"
    )
    serve(Sink(parser.parse_args().delay).connection)


if __name__ == "__main__":
    main()
