"""One collection of the target: documents by key, all keys, the indexes, and their mending."""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple, TypeVar

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError

from shake.check.documents import DECODED, content, cut, opened
from shake.check.keys import Identity, SourceKey, StoredKeys, identity_of
from shake.config import Config
from shake.errors import RunError
from shake.schema import Table
from shake.targets.mongodb.indexes import Index, wanted_indexes
from shake.targets.mongodb.target import MongoTarget

log = logging.getLogger("shake.check")

T = TypeVar("T")

#: Documents in one answer of the server.
_AT_ONCE = 1000
#: Keys in one answer.
_KEYS_AT_ONCE = 10_000

#: Documents whose keys are looked at for each part that a collection is cut into: the parts are the
#: more of one size, the more there are.
_SAMPLES_A_PART = 8

#: Fields of an index that does not have every document, or not its values as they are.
_PARTIAL = frozenset({"sparse", "partialFilterExpression", "collation", "hidden"})


class KeyRange(NamedTuple):
    """The documents from ``low`` to before ``high`` (None: all), in the ``order`` of an index.

    That of the key holds all that is wanted, so that no document is read for it. Without an
    order it is the whole collection, in any order. Bounds are of any type, unlike those of a
    query, which selects one type alone: each is a BSON array, as the value of the field "".
    Source: https://www.mongodb.com/docs/manual/reference/method/cursor.min/
    """

    order: tuple[str, ...] | None = None
    low: bytes | None = None
    high: bytes | None = None


class StoredTable:
    """Reads and mends the collection of a table; thread-safe."""

    def __init__(self, target: MongoTarget, place: str, table: Table, config: Config) -> None:
        self.place = place
        self.keys = StoredKeys(table, config)
        self._target = target
        self._table = table
        self._config = config
        self._collection = target.collection(place)
        self._projection = {"_id": 1} | dict.fromkeys(self.keys.fields, 1)

    # ---- reading

    def copies(
        self, documents: list[bytes], keys: list[SourceKey], *, scanned: bool
    ) -> tuple[list[list[bytes]], set[int]]:
        """For each of the codec's documents, the stored ones of the same key.

        And the places of those for which there is one of the same bytes. ``scanned``: see
        StoredKeys.queries.
        """
        copies: list[list[bytes]] = [[] for _ in documents]
        equal: set[int] = set()
        if not documents:
            return copies, equal
        queries = list(self.keys.queries(keys, scanned=scanned))
        contents: dict[bytes, list[int]] = defaultdict(list)
        for number, document in enumerate(documents):
            contents[content(document, self._config)].append(number)
        others = []
        for stored in self.patiently(lambda: list(self._find(queries))):
            numbers = contents.get(content(stored, self._config))
            if numbers is None:
                others.append(stored)
            for number in numbers or ():
                copies[number].append(stored)
                equal.add(number)
        if others:
            by_key: dict[Identity, list[int]] = defaultdict(list)
            for number, key in enumerate(keys):
                by_key[identity_of(key)].append(number)
            for stored in others:
                for number in by_key.get(self.keys.identity(opened(stored)), ()):
                    copies[number].append(stored)
        return copies, equal

    def ranges(self, count: int) -> list[KeyRange]:
        """The whole collection, in about so many parts of about one size."""
        index = tuple(self.keys.paths) if self._has_key_index() else None
        if count == 1:
            return [KeyRange(index)]
        split = index or ("_id",)
        try:
            points = self.patiently(lambda: self._points(split, count))
            if points:  # a server that takes no bounds says so here
                self.patiently(lambda: list(self._batches(KeyRange(split, None, points[0]), 1)))
        except RunError as error:
            log.warning("%s; so its keys are read in one part, which takes longer", error)
            return [KeyRange(index)]
        return [KeyRange(split, *pair) for pair in pairwise([None, *points, None])]

    def keys_of(self, part: KeyRange) -> Iterator[list[dict[str, Any]]]:
        """The key of every document, some at a time; its ``_id`` too, unless an index lacks it.

        Raises PyMongoError, also in the middle: to be gone through by :meth:`patiently`.
        """
        for batch in self._batches(part):
            yield bson.decode_all(batch, DECODED)

    def some_keys(self, count: int) -> list[dict[str, Any]]:
        """Keys and ``_id`` of documents chosen at random."""
        return self.patiently(lambda: self._sample(count))

    def documents_of(self, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Key and ``_id`` of each document that has one of these keys."""
        if not keys:
            return []
        query = {"$or": [self.keys.exactly(key) for key in keys]}
        find = partial(self._collection.find_raw_batches, query, projection=self._projection)
        return self.patiently(lambda: list(_decoded(find())))

    def whole(self, key: Mapping[str, Any]) -> list[bytes]:
        """The documents of such a key, and ``_id`` if that is given."""
        return self.patiently(lambda: list(self._find([self.keys.exactly(key)])))

    def holds(self, key: Mapping[str, Any]) -> bool:
        """Whether a document of such a key, and ``_id`` if that is given, is there."""
        query = self.keys.exactly(key)
        return self.patiently(lambda: self._collection.find_one(query, {"_id": 1}) is not None)

    def missing_indexes(self) -> list[Index]:
        """The indexes of contract section 4 that the collection does not have."""
        there = set()
        for index in self.patiently(lambda: list(self._collection.list_indexes())):
            if not index.get("sparse") and "partialFilterExpression" not in index:
                key = tuple((path, _direction(value)) for path, value in index["key"].items())
                there.add((key, bool(index.get("unique"))))
        wanted = wanted_indexes(self._table, self._config)
        return [index for index in wanted if (index.fields, index.unique) not in there]

    def patiently(self, attempt: Callable[[], T]) -> T:
        """See MongoTarget.call."""
        return self._target.call(self.place, attempt)

    # ---- mending

    def replace(self, old: bytes, document: bytes) -> None:
        """Store this in place of a document of its key, if that is still the same.

        Its ``_id`` stays: one that is equal but of another type, such as 5.0 for 5, only goes with
        its document.
        """
        stored = opened(old)
        if self.keys.by_id and _id_of(stored) != _id_of(opened(document)):
            self.delete_unchanged(old)
            self.add(document)
            return
        query = self.keys.exactly(stored) | _same(stored)
        replacement = self._stored(document)
        self.patiently(lambda: self._collection.replace_one(query, replacement))

    def add(self, document: bytes) -> None:
        """Store the document of a key, unless there is one, which can be newer."""
        new = self._stored(document)

        def insert() -> None:
            with contextlib.suppress(DuplicateKeyError):
                self._collection.insert_one(new)

        self.patiently(insert)

    def _stored(self, document: bytes) -> RawBSONDocument:
        """One of the codec's documents as it is stored: without an ``_id`` if that is ObjectId."""
        if not self.keys.by_id:
            rest = content(document, self._config)
            document = (len(rest) + 4).to_bytes(4, "little") + rest
        return opened(document)

    def delete(self, key: Mapping[str, Any]) -> None:
        """Delete one document, by its ``_id`` and, where it has one, its key."""
        query = self.keys.exactly(key)
        self.patiently(lambda: self._collection.delete_one(query))

    def delete_unchanged(self, document: bytes) -> None:
        """Delete a document if all that it holds is still the same."""
        query = self.keys.exactly(opened(document)) | _same(opened(document))
        self.patiently(lambda: self._collection.delete_one(query))

    def build_indexes(self) -> None:
        """Build what is missing. Raises RunError that names each refused index."""
        self._target.writer(self.place, self._table).build_indexes(log.info)

    def _has_key_index(self) -> bool:
        """Whether one index has the key of every document, and no key twice.

        With convert.type = raw, what else a document has beside a typed value is not in the index.
        """
        wanted = list(dict.fromkeys(self.keys.paths, 1).items())
        return self.keys.by_id or any(
            list(index["key"].items()) == wanted and index.get("unique") and not _PARTIAL & {*index}
            for index in self.patiently(lambda: list(self._collection.list_indexes()))
        )

    def _points(self, index: tuple[str, ...], count: int) -> list[bytes]:
        """Bounds in rising order that cut an index into about so many parts."""
        sample = self._sample(count * _SAMPLES_A_PART, {"$sort": dict.fromkeys(index, 1)})
        # What is no key may stand elsewhere in an index than its value says, as an array does.
        keys = [key for key in sample if self.keys.typed(key) is not None]
        points = [
            bson.encode({"": [key["_id"]] if index == ("_id",) else self.keys.values(key)})
            for key in keys[_SAMPLES_A_PART::_SAMPLES_A_PART]
        ]
        # In their order, equal ones follow each other; nothing may be between them.
        return [point for point, _ in groupby(points)]

    def _sample(self, count: int, *steps: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = [{"$sample": {"size": count}}, *steps, {"$project": self._projection}]
        return list(_decoded(self._collection.aggregate_raw_batches(wanted)))

    def _batches(self, part: KeyRange, limit: int = 0) -> Iterator[bytes]:
        projection = self._projection
        if part.order not in (None, ("_id",)):  # what that index holds, and no more
            projection = {"_id": 0} | dict.fromkeys(self.keys.paths, 1)
        found: Any = self._collection.find_raw_batches(
            {}, projection=projection, batch_size=_KEYS_AT_ONCE, limit=limit
        )
        if part.order is not None:
            found = found.hint([(path, 1) for path in part.order])
            if part.low is not None:
                found = found.min(_bound(part.order, part.low))
            if part.high is not None:
                found = found.max(_bound(part.order, part.high))
        yield from found

    def _find(self, queries: list[dict[str, Any]]) -> Iterator[bytes]:
        batch: Any  # of bytes, whatever pymongo's annotation says
        for query in queries:
            for batch in self._collection.find_raw_batches(query, batch_size=_AT_ONCE):
                yield from cut(batch)


def _same(document: RawBSONDocument) -> dict[str, Any]:
    """Selects a document if all that it holds is still the same."""
    return {"$expr": {"$eq": ["$$ROOT", {"$literal": document}]}}


def _id_of(document: RawBSONDocument) -> bytes:
    """The ``_id`` with its type."""
    return bson.encode({"_id": document["_id"]})


def _bound(order: tuple[str, ...], values: bytes) -> list[tuple[str, Any]]:
    return list(zip(order, bson.decode(values, DECODED)[""], strict=True))


def _decoded(batches: Any) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from bson.decode_all(batch, DECODED)


def _direction(value: Any) -> int | str:
    return value if isinstance(value, str) else int(value)
