"""Sends documents to MongoDB as they lie in memory, all of a batch at once, none touched by Python.

Below pymongo's public interface, which copies each document several times, but with its pool:
server selection, authentication, TLS and the handling of failed connections are the driver's. The
public interface is used where pymongo's inside is not what is expected here, or where the
connection string limits time.
"""

from __future__ import annotations

import itertools
import logging
import struct
from collections.abc import Mapping
from typing import Any

import bson
from bson.binary import UUID_SUBTYPE, Binary
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from shake import codec
from shake.targets.mongodb.retrying import Contended, code_of, transient
from shake.targets.mongodb.session import TOO_OLD, Session

log = logging.getLogger("shake.targets")

#: Bytes of documents in one command at most, the size of the largest BSON document. A message of
#: MongoDB may hold 48,000,000.
MAX_BYTES = 16 * 1024 * 1024

DUPLICATE_KEY = 11000

#: Since MongoDB 6.0 a command can name the UUID of its collection, and is refused where the name
#: is another collection's now.
#: Source: https://www.mongodb.com/docs/manual/reference/command/insert/ (collectionUUID)
UUID_WIRE_VERSION = 17
#: What a command says whose ``collectionUUID`` is not that of the collection of its name.
UUID_MISMATCH = 361

#: The field of each command that holds its documents.
FIELDS = {"insert": "documents", "update": "updates", "delete": "deletes"}

#: Length, request, response to, kind; flags, kind of the first section.
#: Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/#op_msg
_HEAD = struct.Struct("<iiiiIB")
_OP_MSG = 2013
#: Kind and length of a section of documents.
_SECTION = struct.Struct("<Bi")

#: Numbers of requests: the driver's own are random, and only one is under way on a connection.
_requests = itertools.cycle(range(1, 1 << 31))


def confirm(collection: Collection[Any]) -> None:
    """Return when no fail-over can undo what is visible now.

    A write that changes nothing waits, by its write concern, for all that came before it.
    """
    collection.delete_one({"_id": ObjectId()})


def prove(collection: Collection[Any]) -> None:
    """Return when a majority has agreed that the server which answers is the primary.

    No fail-over can undo what is visible now. A former primary, which has not heard of its
    successor, fails in a way that passes. Nothing is changed, and where the server refuses such a
    read, nothing is proved: then only asking again helps. So it is too where no majority answers
    in time, and the write concern ``w=1`` needs none.
    Source: https://www.mongodb.com/docs/manual/reference/read-concern-linearizable/
    """
    concern = collection.write_concern.document
    read = collection.with_options(read_concern=ReadConcern("linearizable"))
    try:
        read.find_one({"_id": ObjectId()}, max_time_ms=concern.get("wtimeout"))
    except OperationFailure as error:
        if transient(error) and not (error.timeout and concern.get("w") == 1):
            raise


class RawCommands:
    """Runs write commands on one collection. Thread-safe.

    ``uuid`` is the collection's, in hexadecimal digits, "" where it is unknown.
    """

    def __init__(self, collection: Collection[Any], uuid: str = "") -> None:
        self._collection = collection
        self._uuid = Binary(bytes.fromhex(uuid), UUID_SUBTYPE) if uuid else None
        self._client = collection.database.client
        concern = collection.write_concern
        self._options = {} if concern.is_server_default else {"writeConcern": concern.document}
        self._direct: bool | None = None  # None: not tried yet

    def run(
        self, command: str, documents: memoryview, count: int, session: Session | None = None
    ) -> dict[str, Any]:
        """Send one unordered ``insert``, ``update`` or ``delete``; return the server's answer.

        ``documents`` are ``count`` BSON documents, one after the other. They can be in shared
        memory: no reference to them remains after the return. ``session`` numbers the command. It
        is not used on a server without retryable writes, nor with the driver's public API, which
        has other sessions. Raises OperationFailure where the whole command is refused (TOO_OLD: by
        its number), BulkWriteError for other write errors, PyMongoError for every other failure.
        """
        body = {command: self._collection.name, "ordered": False, **self._options}
        answer = self._send(command, body, documents, count, session)
        errors = [_complete(entry) for entry in answer.get("writeErrors", [])]
        concern = answer.get("writeConcernError")
        codes = {entry["code"] for entry in errors}
        if UUID_MISMATCH in codes:
            raise self._mismatch()
        if TOO_OLD in codes:  # a replica set refuses the whole command, a mongos each document
            raise OperationFailure("a later command of this session was executed", TOO_OLD)
        if errors or concern:
            raise BulkWriteError(
                {
                    "n": answer.get("n", 0),
                    "writeErrors": errors,
                    "writeConcernErrors": [concern] if concern else [],
                }
            )
        if command == "insert" and answer.get("n") != count:
            raise PyMongoError(f"{answer.get('n')} of {count} inserted documents were acknowledged")
        return answer

    def _mismatch(self) -> PyMongoError:
        """The error of a command whose UUID was refused: Contended where the listing shows it.

        A new client can reach a primary that was frozen and has not heard of its successor.
        """
        prove(self._collection)
        name = self._collection.name
        for found in self._collection.database.list_collections(filter={"name": name}):
            if found.get("info", {}).get("uuid") == self._uuid:
                where = self._collection.full_name
                return Contended(f"{where}: a former primary or a shard refused its UUID")
        text = "another run has taken this collection over, or something has replaced it"
        return OperationFailure(text, UUID_MISMATCH)

    def _send(
        self,
        command: str,
        body: dict[str, Any],
        documents: memoryview,
        count: int,
        session: Session | None,
    ) -> dict[str, Any]:
        if self._direct is None:
            self._direct = self._probe()
        if self._direct:
            answer = self._send_directly(body, FIELDS[command], documents, count, session)
            if answer is not None:
                return answer
        if self._uuid and self._wire_version() >= UUID_WIRE_VERSION:
            body = {**body, "collectionUUID": self._uuid}
        return self._collection.database.command(
            {**body, FIELDS[command]: [Documents(documents.tobytes())]}
        )

    def _wire_version(self) -> int:
        admin = self._client.get_database("admin", None, ReadPreference.PRIMARY)
        version: int = admin.command("hello")["maxWireVersion"]
        return version

    def _probe(self) -> bool:
        """Whether the driver's inside is as expected, found out by a ping."""
        try:
            return self._send_directly({"ping": 1}, "", memoryview(b""), 0, None) is not None
        except PyMongoError:
            raise
        except Exception as error:  # whatever another version of the driver has in its place
            log.warning(
                "NO FENCE: with this version of pymongo changes have no numbers, and documents go "
                "through its public interface, which is slower; install version 4.10: %s",
                error,
            )
            return False

    def _send_directly(
        self,
        body: dict[str, Any],
        field: str,
        documents: memoryview,
        count: int,
        session: Session | None,
    ) -> dict[str, Any] | None:
        """The server's answer; None, and nothing sent, where only the public interface will do."""
        from pymongo.helpers_shared import _check_command_response

        client: Any = self._client
        options = client.options
        if options.timeout is not None:  # timeoutMS: which only the public interface heeds
            return None
        with client._conn_for_writes(None, next(iter(body))) as connection:
            replicated = connection.is_repl or connection.is_mongos
            if session and connection.supports_sessions and replicated and options.retry_writes:
                body = {**body, **session.stamp()}
            if self._uuid and field and connection.max_wire_version >= UUID_WIRE_VERSION:
                body = {**body, "collectionUUID": self._uuid}
            name = self._collection.database.name
            if connection.compression_context is not None:
                more = {field: [Documents(documents.tobytes())]} if field else {}
                answered: dict[str, Any] = connection.command(name, {**body, **more})
                return answered
            request = next(_requests)
            head = _message(request, {**body, "$db": name}, field, documents)
            # The second argument is the largest document's size, which the driver checks.
            connection.send_message(head, len(documents) if count == 1 else 0)
            if documents:
                connection.send_message(documents, 0)
            answer: dict[str, Any] = connection.receive_message(request).unpack_response()[0]
            _check_command_response(answer, connection.max_wire_version)
            return answer


def _complete(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A write error with what some servers leave out."""
    return {"errmsg": "the server gives no reason", **entry, "code": code_of(entry)}


def copies(batch: memoryview) -> list[RawBSONDocument]:
    """Copies of the documents in separate memory, because an error can outlive the slot."""
    return [RawBSONDocument(one.tobytes()) for one in codec.singly(batch)]


class Documents(RawBSONDocument):
    """Several documents that the driver takes for one, and passes on byte by byte."""

    def __init__(self, documents: bytes) -> None:
        self._documents = documents

    @property
    def raw(self) -> bytes:
        return self._documents


def _message(request: int, body: Mapping[str, Any], field: str, documents: memoryview) -> bytes:
    """An OP_MSG up to where its documents begin."""
    encoded = bson.encode(body)
    section = b""
    if field:
        size = 4 + len(field) + 1 + len(documents)
        section = _SECTION.pack(1, size) + field.encode() + b"\0"
    length = _HEAD.size + len(encoded) + len(section) + len(documents)
    return _HEAD.pack(length, request, 0, _OP_MSG, 0, 0) + encoded + section
