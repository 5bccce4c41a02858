"""A target that costs next to nothing: speaks MongoDB, counts the documents, and keeps none.

To the driver it is the primary of a replica set, as a real target is. Besides MongoDB's commands
it knows ``counts``: documents inserted, statements to update and to delete, and the commands that
brought them, since the last call.
"""

from __future__ import annotations

import argparse
import re
import socket
import struct
import time
from typing import Any
from uuid import uuid4

import bson
from bson.binary import UUID_SUBTYPE, Binary
from bson.objectid import ObjectId

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
        self._collections: dict[str, Binary] = {}  # UUIDs, by database and name

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
            case "create":
                asked = bson.decode(command)
                uuid = Binary(uuid4().bytes, UUID_SUBTYPE)
                self._collections.setdefault(f"{asked['$db']}.{asked['create']}", uuid)
            case "renameCollection":
                asked = bson.decode(command)
                self._collections[asked["to"]] = self._collections.pop(asked[name])
            case "drop":
                asked = bson.decode(command)
                self._collections.pop(f"{asked['$db']}.{asked['drop']}", None)
            case "listCollections":
                return _cursor(self._listed(bson.decode(command)))
            case "find" | "aggregate" | "listIndexes":
                return _cursor([])
            case "counts":
                counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
                return dict(counts)
        return {}

    def _listed(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """What ``listCollections`` shows, of the names that a filter lets through."""
        wanted = asked.get("filter", {}).get("name", "")
        pattern = wanted["$regex"] if isinstance(wanted, dict) else f"{re.escape(wanted)}$"
        return [
            {"name": name, "type": "collection", "info": {"uuid": uuid}}
            for place, uuid in self._collections.items()
            for database, _, name in [place.partition(".")]
            if database == asked["$db"] and re.search(pattern, name)
        ]

    def _count(self, field: str, sections: memoryview, command: bytes) -> dict[str, Any]:
        """Take the documents of a write command, in a section of their own or in the command."""
        if sections:
            (length,) = _LENGTH.unpack_from(sections, 1)
            documents = sections[5 + len(field) + 1 : 1 + length]
            count = sum(cut[2] for cut in batches(documents, _ANY, _ANY))
            if field == "deletes" and count == 1 and _waits(bson.decode(bytes(documents))):
                count = 0
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


def _waits(delete: dict[str, Any]) -> bool:
    """Whether it deletes nothing: such a command waits for all writes before it."""
    return list(delete["q"]) == ["_id"] and isinstance(delete["q"]["_id"], ObjectId)


def _cursor(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return {"cursor": {"id": 0, "ns": "any.any", "firstBatch": documents}}


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
