"""One collection of the target: documents by key, all keys, the indexes, and their mending."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import bson
from bson import CodecOptions
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from shake.check.keys import Identity, StoredKeys
from shake.check.source import cut
from shake.config import Config
from shake.errors import RunError
from shake.schema import Table
from shake.target import fields
from shake.target.indexes import Index, wanted_indexes
from shake.target.mongodb import MongoTarget
from shake.target.retrying import Patience, words

log = logging.getLogger("shake.check")

T = TypeVar("T")

#: Documents in one answer of the server.
_AT_ONCE = 1000
_NAMESPACE_NOT_FOUND = 26
_LENGTH_AND_OBJECT_ID = 4 + 17

#: Reads whatever somebody else may have written.
_ANYTHING: CodecOptions[RawBSONDocument] = CodecOptions(
    RawBSONDocument,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)


def opened(document: bytes) -> RawBSONDocument:
    """A document whose fields are decoded when they are asked for."""
    return RawBSONDocument(document, _ANYTHING)


def content(document: bytes, config: Config) -> bytes:
    """The part of a document that the item decides: without an ObjectId that comes first."""
    if config.id_mode == "objectid" and document[4:9] == b"\x07_id\0":
        return document[_LENGTH_AND_OBJECT_ID:]
    return document


class StoredTable:
    """Reads and mends the collection of a table; thread-safe."""

    def __init__(
        self, target: MongoTarget, place: str, table: Table, config: Config, patience: Patience
    ) -> None:
        self.place = place
        self.keys = StoredKeys(table, config)
        self._target = target
        self._table = table
        self._config = config
        self._patience = patience
        self._collection = target.collection(place)

    # ---- reading

    def copies(self, documents: list[bytes], *, scanned: bool) -> list[list[bytes]]:
        """For each of the codec's documents, the stored ones of the same key.

        ``scanned``: see StoredKeys.queries.
        """
        if not documents:
            return []
        queries = list(self.keys.queries(map(opened, documents), scanned=scanned))
        contents: dict[bytes, list[int]] = defaultdict(list)
        for number, document in enumerate(documents):
            contents[content(document, self._config)].append(number)
        found: list[list[bytes]] = [[] for _ in documents]
        others = []
        for stored in self.patiently(lambda: list(self._find(queries))):
            numbers = contents.get(content(stored, self._config))
            if numbers is None:
                others.append(stored)
            for number in numbers or ():
                found[number].append(stored)
        if others:
            by_key: dict[Identity, list[int]] = defaultdict(list)
            for number, document in enumerate(documents):
                by_key[self.keys.identity(opened(document))].append(number)
            for stored in others:
                for number in by_key.get(self.keys.identity(opened(stored)), ()):
                    found[number].append(stored)
        return found

    def all_keys(self) -> Iterator[list[RawBSONDocument]]:
        """Every document's key and ``_id``, some at a time.

        Raises PyMongoError, also in the middle: to be gone through by :meth:`patiently`.
        """
        batches = self._collection.find_raw_batches(
            {}, projection=self.keys.projection, batch_size=_AT_ONCE
        )
        for batch in batches:
            yield _all_opened(batch)

    def some_keys(self, count: int) -> list[RawBSONDocument]:
        """Keys and ``_id`` of documents chosen at random."""
        steps = [{"$sample": {"size": count}}, {"$project": self.keys.projection}]
        batches = self.patiently(lambda: list(self._collection.aggregate_raw_batches(steps)))
        return [key for batch in batches for key in _all_opened(batch)]

    def holds(self, key: RawBSONDocument) -> bool:
        """Whether a document of :meth:`all_keys` is still there."""
        query = self._exactly(key)
        return self.patiently(lambda: self._collection.find_one(query, {"_id": 1}) is not None)

    def missing_indexes(self) -> list[Index]:
        """The indexes of contract section 4 that the collection does not have."""
        there = set()
        for index in self.patiently(self._indexes):
            if not index.get("sparse") and "partialFilterExpression" not in index:
                key = tuple((path, _direction(value)) for path, value in index["key"].items())
                there.add((key, bool(index.get("unique"))))
        wanted = wanted_indexes(self._table, self._config)
        return [index for index in wanted if (index.fields, index.unique) not in there]

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Call ``attempt``, again and again while the target fails in a way that passes.

        Raises RunError for any other failure.
        """
        try:
            return self._patience.call(self.place, attempt)
        except PyMongoError as error:
            raise RunError(f"{self.place}: the target refused: {words(error)}") from error

    # ---- mending

    def create(self) -> None:
        """Make sure that the collection is there, sharded where so configured."""
        if not self._target.exists(self.place):
            self._target.create(self.place, self._table)

    def put(self, document: bytes) -> None:
        """Make this the document of its key. An ObjectId that is there stays; else it is new."""
        query = self.keys.only(opened(document))
        if self._config.id_mode == "objectid":
            rest = content(document, self._config)
            document = (len(rest) + 4).to_bytes(4, "little") + rest
        replacement = opened(document)

        def replace() -> None:
            if self._config.id_mode == "key":
                self._drop_namesake(replacement["_id"])
            try:
                self._collection.replace_one(query, replacement, upsert=True)
            except DuplicateKeyError:  # somebody else was faster; whoever called looks again
                log.info("%s: another write of the same key is under way", self.place)

        self.patiently(replace)

    def _drop_namesake(self, identity: Any) -> None:
        """Delete a document whose ``_id`` is equal but of another type, such as 5.0 for 5.

        A replacement would keep it as it is.
        """
        stored = self._collection.find_one({"_id": identity}, {"_id": 1})
        if stored is not None and bytes(stored.raw) != bson.encode({"_id": identity}):
            self._collection.delete_one({"_id": identity})

    def delete(self, key: RawBSONDocument) -> None:
        """Delete one document, by its ``_id`` and, where it has one, its key."""
        query = self._exactly(key)
        self.patiently(lambda: self._collection.delete_one(query))

    def build_indexes(self) -> None:
        """Build what is missing. Raises RunError that names each refused index."""
        self._target.writer(self.place, self._table).build_indexes(log.info)

    def _exactly(self, key: RawBSONDocument) -> dict[str, Any]:
        """On a sharded cluster an ``_id`` alone may name several documents."""
        query = {"_id": key["_id"]}
        if self._config.id_mode == "objectid" and self.keys.typed(key) is not None:
            paths = (fields.path(one, self._config) for one in self._table.keys)
            query |= dict(zip(paths, self.keys.values(key), strict=True))
        return query

    def _find(self, queries: list[dict[str, Any]]) -> Iterator[bytes]:
        batch: Any  # of bytes, whatever pymongo's annotation says
        for query in queries:
            for batch in self._collection.find_raw_batches(query, batch_size=_AT_ONCE):
                yield from cut(batch)

    def _indexes(self) -> list[Mapping[str, Any]]:
        try:
            return list(self._collection.list_indexes())
        except OperationFailure as error:
            if error.code == _NAMESPACE_NOT_FOUND:
                return []
            raise


def _all_opened(batch: Any) -> list[RawBSONDocument]:
    return [opened(document) for document in cut(batch)]


def _direction(value: Any) -> int | str:
    return value if isinstance(value, str) else int(value)
