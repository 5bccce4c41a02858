"""A sharded cluster as its mongos shows it: enough of MongoDB's wire protocol to hold shake to it.

Two shards in memory. Commands are answered, and refused, as a real mongos does, by its manual; what
it does not know it refuses (59). Sharded, ``_id`` and unique indexes hold for each shard alone.
"""

from __future__ import annotations

import re
import socketserver
import struct
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import bson
from bson.binary import UUID_SUBTYPE, Binary
from typing_extensions import Self

Doc = dict[str, Any]

#: Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
OP_MSG = 2013
#: Commands of the driver's own housekeeping, which are not recorded.
HOUSEKEEPING = {"hello", "ismaster", "ping", "endSessions"}


class Refusal(Exception):
    """A command's error: code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.reply = {"ok": 0.0, "code": code, "errmsg": message}


def _new_uuid() -> Binary:
    made: Binary = Binary(uuid4().bytes, UUID_SUBTYPE)
    return made


@dataclass
class Collection:
    """Documents by shard, indexes by name, and the shard key, None where it is not sharded."""

    key: Doc | None = None
    uuid: Binary = field(default_factory=_new_uuid)
    indexes: dict[str, Doc] = field(default_factory=dict)
    shards: list[list[Doc]] = field(default_factory=lambda: [[], []])

    def documents(self) -> Iterator[Doc]:
        for shard in self.shards:
            yield from shard

    def home(self, document: Doc) -> list[Doc]:
        """The shard that a document belongs to: the first, where it is not sharded."""
        return (
            self.shards[shard_of(at(document, next(iter(self.key))))]
            if self.key
            else self.shards[0]
        )

    def add(self, document: Doc) -> Doc | None:
        """Store a document; return the write error if an index refuses it."""
        home = self.home(document)
        for index in ({"name": "_id_", "key": {"_id": 1}}, *self.indexes.values()):
            if not index.get("unique") and index["name"] != "_id_":
                continue
            value = [at(document, path) for path in index["key"]]
            if any([at(other, path) for path in index["key"]] == value for other in home):
                # Without keyPattern, as servers before 4.2 and some that only speak the protocol.
                message = f"E11000 duplicate key error index: {index['name']} dup key: {value}"
                return {"code": 11000, "errmsg": message}
        home.append(document)
        return None

    def remove(self, query: Doc, most: int = 0) -> int:
        """Delete what matches, all with ``most`` = 0; how many."""
        gone = [document for document in self.documents() if matches(document, query)]
        gone = gone[: most or None]
        for shard in self.shards:
            shard[:] = [d for d in shard if not any(d is g for g in gone)]
        return len(gone)


def shard_of(value: Any) -> int:
    """The shard of a shard key's value."""
    return zlib.crc32(bson.encode({"": value})) & 1


def at(document: Doc, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


#: The query operators that shake uses, as (stored value, operand); a missing field is None.
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda a, b: a == b,
    "$gt": lambda a, b: a is not None and a > b,
    "$gte": lambda a, b: a is not None and a >= b,
    "$lt": lambda a, b: a is not None and a < b,
    "$ne": lambda a, b: a != b,
    "$in": lambda a, b: a in b,
    "$exists": lambda a, b: (a is not None) == b,
    "$not": lambda a, b: not fulfils(a, b),
    "$type": lambda a, b: isinstance(a, {"string": str}[b]),
    "$regex": lambda a, b: a is not None and bool(re.search(b, a)),
}


def fulfils(value: Any, tests: Doc) -> bool:
    """Whether a value passes all of a field's tests."""
    return all(OPERATORS[name](value, operand) for name, operand in tests.items())


def matches(document: Doc, query: Doc) -> bool:
    """Equality, and the comparisons that shake uses."""
    for path, wanted in query.items():
        if path == "$nor":
            if any(matches(document, one) for one in wanted):
                return False
            continue
        value = at(document, path)
        if isinstance(wanted, dict) and wanted and set(wanted) <= set(OPERATORS):
            if not fulfils(value, wanted):
                return False
        elif value != wanted:
            return False
    return True


class Cluster:
    """The server, a context manager.

    ``commands`` are all commands so far but the driver's housekeeping, in order, as documents;
    ``collections`` is the state, by namespace. ``wire_version`` says how old the servers are.
    """

    def __init__(self) -> None:
        self.commands: list[Doc] = []
        self.collections: dict[str, Collection] = {}
        self.wire_version = 21
        self._failures: dict[str, list[tuple[str, Doc]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._connection())
        self._server.daemon_threads = True

    @property
    def uri(self) -> str:
        """The connection string."""
        return f"mongodb://127.0.0.1:{self._server.server_address[1]}/"

    def fail(self, command: str, code: int | None, message: str, how: str = "before") -> None:
        """Answer the next call of a command with an error, which can be without a code.

        ``before`` anything is done, ``after`` it is done, or as the ``write`` error of the first
        document.
        """
        error = {"errmsg": message} if code is None else {"code": code, "errmsg": message}
        self._failures[command].append((how, error))

    def names(self) -> list[str]:
        """The recorded commands' names."""
        return [next(iter(command)) for command in self.commands]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- the protocol ----------------------------------------------------------------------------

    def _connection(self) -> type[socketserver.StreamRequestHandler]:
        cluster = self

        class Connection(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while len(head := self.rfile.read(16)) == 16:
                    length, request, _, kind = struct.unpack("<iiii", head)
                    body = self.rfile.read(length - 16)
                    self.wfile.write(cluster._answer(kind, request, body))

        return Connection

    def _answer(self, kind: int, request: int, body: bytes) -> bytes:
        assert kind == OP_MSG
        reply = b"\0" * 5 + bson.encode(self._run(parse(body)))
        return struct.pack("<iiii", 16 + len(reply), 0, request, OP_MSG) + reply

    def _run(self, command: Doc) -> Doc:
        name = next(iter(command))
        with self._lock:
            if name not in HOUSEKEEPING:
                self.commands.append(command)
            how, error = self._failures[name].pop(0) if self._failures[name] else ("", {})
            if how == "before":
                return {"ok": 0.0, **error}
            if how == "write":
                return {"ok": 1.0, "nModified": 0, **counted([error])}
            reply = self._handle(name, command)
            return {"ok": 0.0, **error} if how == "after" else reply

    def _handle(self, name: str, command: Doc) -> Doc:
        try:
            handler = getattr(self, "_do_" + name, None)
            if handler is None:
                raise Refusal(59, f"no such command: '{name}'")
            self._check_uuid(name, command)
            return {**handler(command), "ok": 1.0}
        except Refusal as refusal:
            return refusal.reply

    def _check_uuid(self, name: str, command: Doc) -> None:
        """Source: https://www.mongodb.com/docs/manual/reference/command/drop/ (collectionUUID)"""
        place = command[name] if name == "renameCollection" else place_of(command)
        collection = self.collections.get(place)
        wanted = command.get("collectionUUID")
        if wanted is not None and (collection is None or collection.uuid != wanted):
            raise Refusal(361, f"Collection UUID does not match that of {place}")

    # -- commands --------------------------------------------------------------------------------

    def _do_hello(self, command: Doc) -> Doc:
        return {
            "ismaster": True,
            "helloOk": True,
            "isWritablePrimary": True,
            "msg": "isdbgrid",
            "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": self.wire_version,
        }

    _do_ismaster = _do_hello

    def _do_ping(self, command: Doc) -> Doc:
        return {}

    def _do_endSessions(self, command: Doc) -> Doc:
        return {}

    def _do_listCollections(self, command: Doc) -> Doc:
        database = command["$db"] + "."
        found = [
            {
                "name": place[len(database) :],
                "type": "collection",
                "info": {"uuid": collection.uuid},
            }
            for place, collection in self.collections.items()
            if place.startswith(database)
        ]
        return cursor(command, [f for f in found if matches(f, command.get("filter", {}))])

    def _do_listIndexes(self, command: Doc) -> Doc:
        if (collection := self.collections.get(place_of(command))) is None:
            raise Refusal(26, f"ns does not exist: {place_of(command)}")
        own = {"name": "_id_", "key": {"_id": 1}}
        return cursor(command, [own, *collection.indexes.values()])

    def _do_create(self, command: Doc) -> Doc:
        if place_of(command) in self.collections:
            raise Refusal(48, f"Collection {place_of(command)} already exists.")
        self._collection(command)
        return {}

    def _do_drop(self, command: Doc) -> Doc:
        if self.collections.pop(place_of(command), None) is None:
            raise Refusal(26, "ns not found")
        return {}

    def _do_renameCollection(self, command: Doc) -> Doc:
        """The renamed collection has another UUID."""
        admin_only(command)
        old, new = command["renameCollection"], command["to"]
        if old not in self.collections:
            raise Refusal(26, f"Source collection {old} does not exist")
        if new in self.collections and not command.get("dropTarget"):
            raise Refusal(48, "target namespace exists")
        self.collections[new] = replace(self.collections.pop(old), uuid=_new_uuid())
        return {}

    def _do_enableSharding(self, command: Doc) -> Doc:
        admin_only(command)
        return {}

    def _do_shardCollection(self, command: Doc) -> Doc:
        """https://www.mongodb.com/docs/manual/reference/command/shardCollection/"""
        admin_only(command)
        place, key = command["shardCollection"], command["key"]
        collection = self.collections.setdefault(place, Collection())
        if collection.key not in (None, key):
            raise Refusal(23, f"sharding already enabled for collection {place}")
        specs = collection.indexes.values()
        if bad := [i["key"] for i in specs if i.get("unique") and not starts_with(i["key"], key)]:
            raise Refusal(72, f"can't shard collection '{place}' with unique index on {bad[0]}")
        if all(list(i["key"].items())[: len(key)] != list(key.items()) for i in specs):
            if any(collection.documents()):
                raise Refusal(
                    72,
                    "Please create an index that starts with the proposed shard key before "
                    "sharding the collection",
                )
            collection.indexes[default_name(key)] = {"name": default_name(key), "key": key}
        collection.key = key
        for document in collection.shards[0][:]:
            collection.shards[0].remove(document)
            collection.home(document).append(document)
        return {"collectionsharded": place}

    def _do_createIndexes(self, command: Doc) -> Doc:
        """A unique index must start with the fields of the shard key, hashed or not.

        Source: https://www.mongodb.com/docs/manual/core/index-unique/ (sharded clusters); that a
        hashed key counts by its field's name, in the server's own tests of the rule: sharding on
        {a: "hashed"} goes with a unique index on {a: 1, b: 1}, in either order.
        """
        collection = self._collection(command)
        for spec in command["indexes"]:
            same = collection.indexes.get(spec["name"])
            if same is not None and same["key"] != spec["key"]:
                raise Refusal(86, f"An existing index has the same name: {spec['name']}")
            if same is not None and same.get("unique") != spec.get("unique"):
                raise Refusal(85, f"An equivalent index already exists: {spec['name']}")
            if spec.get("unique"):
                self._check_unique(collection, spec)
        for spec in command["indexes"]:
            collection.indexes[spec["name"]] = spec
        return {}

    def _check_unique(self, collection: Collection, spec: Doc) -> None:
        if "hashed" in spec["key"].values():
            raise Refusal(67, "Currently hashed indexes cannot guarantee uniqueness")
        if collection.key and not starts_with(spec["key"], collection.key):
            raise Refusal(67, f"cannot create unique index over {spec['key']} with shard key")
        for shard in collection.shards:
            values = [[at(document, path) for path in spec["key"]] for document in shard]
            if any(value in values[:i] for i, value in enumerate(values)):
                raise Refusal(11000, f"E11000 duplicate key error index: {spec['name']}")

    def _do_insert(self, command: Doc) -> Doc:
        collection = self._collection(command)
        errors = list(map(collection.add, command["documents"]))
        return counted(errors)

    def _do_delete(self, command: Doc) -> Doc:
        collection = self.collections.get(place_of(command), Collection())
        return {"n": sum(collection.remove(d["q"], d["limit"]) for d in command["deletes"])}

    def _do_update(self, command: Doc) -> Doc:
        """Replacements only. An upsert names the shard key: demanded by all versions before 7.1.

        Source: https://www.mongodb.com/docs/manual/reference/method/db.collection.replaceOne/
        """
        collection = self._collection(command)
        errors: list[Doc | None] = []
        modified = 0
        for update in command["updates"]:
            old = next((d for d in collection.documents() if matches(d, update["q"])), None)
            if collection.key and not set(collection.key) <= set(update["q"]):
                errors.append({"code": 61, "errmsg": "could not extract exact shard key"})
            elif old is not None:
                modified += old != update["u"]
                old.clear()
                old.update(update["u"])
                errors.append(None)
            else:
                errors.append(collection.add(update["u"]))
        return {**counted(errors), "nModified": modified}

    def _do_find(self, command: Doc) -> Doc:
        collection = self._collection(command)
        return cursor(command, [d for d in collection.documents() if matches(d, command["filter"])])

    def _do_count(self, command: Doc) -> Doc:
        return {"n": sum(1 for _ in self._collection(command).documents())}

    def _do_aggregate(self, command: Doc) -> Doc:
        """One pipeline: the keys that several documents have."""
        groups: dict[bytes, Doc] = {}
        by = command["pipeline"][0]["$group"]["_id"]
        for document in self._collection(command).documents():
            key = {name: at(document, path[1:]) for name, path in by.items()}
            group = groups.setdefault(bson.encode(key), {"_id": key, "ids": []})
            group["ids"].append(document["_id"])
        return cursor(command, [group for group in groups.values() if len(group["ids"]) > 1])

    def _collection(self, command: Doc) -> Collection:
        return self.collections.setdefault(place_of(command), Collection())


def parse(body: bytes) -> Doc:
    """The command of an OP_MSG, with the document sequences where they belong."""
    offset = 4
    command: Doc = {}
    while offset < len(body):
        kind = body[offset]
        (length,) = struct.unpack_from("<i", body, offset + 1)
        section = body[offset + 1 : offset + 1 + length]
        if kind == 0:
            command = {**bson.decode(section), **command}
        else:
            name, _, documents = section[4:].partition(b"\0")
            command[name.decode()] = bson.decode_all(documents)
        offset += 1 + length
    return command


def place_of(command: Doc) -> str:
    """The collection that a command is for."""
    return f"{command['$db']}.{next(iter(command.values()))}"


def starts_with(index: Doc, key: Doc) -> bool:
    """Whether an index begins with a shard key's fields, by name alone."""
    return list(index)[: len(key)] == list(key)


def default_name(key: Doc) -> str:
    """MongoDB's name for an index."""
    return "_".join(f"{path}_{direction}" for path, direction in key.items())


def admin_only(command: Doc) -> None:
    """Refuse a command that belongs to the admin database elsewhere."""
    if command["$db"] != "admin":
        raise Refusal(13, f"{next(iter(command))} may only be run against the admin database.")


def counted(errors: list[Doc | None]) -> Doc:
    """The reply to writes, each with its error or None: how many, and the errors with places."""
    wrong = [{"index": i, **error} for i, error in enumerate(errors) if error]
    return {"n": len(errors) - len(wrong), **({"writeErrors": wrong} if wrong else {})}


def cursor(command: Doc, documents: list[Doc]) -> Doc:
    """A whole result in the first batch."""
    return {"cursor": {"id": bson.Int64(0), "ns": place_of(command), "firstBatch": documents}}
