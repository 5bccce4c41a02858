"""One collection of the target: documents by key, all keys, the indexes, and their repair."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import bson
from bson import json_util
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.cursor import RawBatchCursor
from pymongo.errors import BulkWriteError, OperationFailure

from shake import codec
from shake.check.documents import DECODED, content, cut, keyed, opened
from shake.check.keys import Identity, SourceKey, StoredKeys
from shake.check.meaning import Item, differing_fields
from shake.check.source import SourcePage
from shake.check.stored import DocumentRefused, Key, KeyRange, Stored, T
from shake.checkpoint.stream_records import repair_sessions
from shake.config import Config
from shake.errors import RunError
from shake.schema import Table
from shake.targets.contract import NO_FENCE, Fence
from shake.targets.mongodb.bulk import DUPLICATE_KEY, RawCommands
from shake.targets.mongodb.indexes import wanted_indexes
from shake.targets.mongodb.retrying import NOT_OF_A_DOCUMENT, transient, words
from shake.targets.mongodb.session import TOO_OLD, Session, numbers_from
from shake.targets.mongodb.target import MongoTarget

log = logging.getLogger("shake.check")

#: Documents that are asked for at once.
_AT_ONCE = 2000
#: Keys in one answer.
_KEYS_AT_ONCE = 10_000

#: Documents whose keys are looked at for each part that a collection is cut into: the parts are the
#: more of one size, the more there are.
_SAMPLES_A_PART = 8

#: Fields of an index that does not have every document, or not its values as they are.
_PARTIAL = frozenset({"sparse", "partialFilterExpression", "collation", "hidden"})


class Batches(RawBatchCursor[Any]):
    """A raw batch cursor that has the codec cut an answer apart.

    pymongo makes an object of each document on the way, which costs several times as much as all
    else that is done with it here. Where its inside is not what is expected, its own way serves.
    """

    def _unpack_response(
        self, response: Any, cursor_id: Any, codec_options: Any, *args: Any, **more: Any
    ) -> Any:
        try:
            rest, documents = codec.cut_reply(response.raw_command_response())
            answer: dict[str, Any] = bson.decode(rest)
        except (AttributeError, TypeError, ValueError, bson.errors.InvalidBSON):
            return super()._unpack_response(response, cursor_id, codec_options, *args, **more)
        cursor = answer.get("cursor", {})
        for name in ("firstBatch", "nextBatch"):
            if name in cursor:
                cursor[name] = [documents] if documents else []
        return [answer]


class StoredTable(Stored):
    """The Stored of a collection.

    ``seed`` is that of all digests. ``fence`` numbers what it writes; each process of a repair,
    from 1 on, has a separate session.
    """

    def __init__(
        self,
        target: MongoTarget,
        namespace: str,
        table: Table,
        config: Config,
        seed: bytes,
        fence: Fence = NO_FENCE,
    ) -> None:
        self.namespace = namespace
        self.keys = StoredKeys(table, config)
        self.digests = codec.digests(seed, self.keys.form)
        self._seed = seed
        self._target = target
        self._table = table
        self._config = config
        self._collection = target.collection(namespace)
        self._bulk = RawCommands(self._collection, fence.collection_uuid)
        self._session = Session.of(
            config.id,
            namespace,
            fence.collection_uuid,
            repair_sessions(fence.process)[-1] if fence.process else "",
            numbers_from(fence.run, fence.process),
        )
        self._writing = threading.Lock()
        self._projection = {"_id": 1} | dict.fromkeys(self.keys.fields, 1)

    # ---- reading

    def match(self, page: SourcePage, *, scanned: bool) -> codec.Matcher:
        """Where the server is asked again in the middle of an answer, stored documents come twice.

        Then they are unmatched.
        """
        matcher = codec.matcher(page.packed, self._seed, self.keys.ours.form, self.keys.form)
        parts = -(-len(matcher) // _AT_ONCE)
        bounds = [number * len(matcher) // parts for number in range(parts)] + [len(matcher)]
        for first, last in pairwise(bounds):
            query = RawBSONDocument(matcher.filter(first, last, scanned))
            self.patiently(partial(self._match, matcher, query, last - first))
        return matcher

    def _match(self, matcher: codec.Matcher, query: Mapping[str, Any], expected: int) -> None:
        batch: Any  # of bytes, whatever pymongo's annotation says
        # With one more than is expected, the first answer says that there are no others.
        for batch in Batches(self._collection, query, batch_size=expected + 1):
            matcher.match(batch)

    def copies(
        self, documents: list[bytes], keys: list[SourceKey]
    ) -> tuple[list[list[bytes]], set[int]]:
        """What says the same has the same bytes."""
        copies: list[list[bytes]] = [[] for _ in documents]
        equal: set[int] = set()
        if not documents:
            return copies, equal
        query = self.keys.query(keys)
        contents: dict[bytes, list[int]] = defaultdict(list)
        for number, document in enumerate(documents):
            contents[content(document, self._config)].append(number)
        others = []
        for stored in self.patiently(lambda: list(self._find(query))):
            numbers = contents.get(content(stored, self._config))
            if numbers is None:
                others.append(stored)
            for number in numbers or ():
                copies[number].append(stored)
                equal.add(number)
        if others:
            by_key: dict[Identity, list[int]] = defaultdict(list)
            for number, key in enumerate(keys):
                by_key[self.keys.identity_of(key)].append(number)
            for stored in others:
                for number in by_key.get(self.keys.identity(keyed(stored)), ()):
                    copies[number].append(stored)
        return copies, equal

    def differing(self, item: Item, ours: bytes, theirs: bytes) -> list[str]:
        return differing_fields(item, ours, theirs, self._table.keys, self._config)

    def shown(self, document: bytes) -> str:
        """As MongoDB Extended JSON.

        Source: https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/
        """
        [decoded] = bson.decode_all(document, DECODED)
        return json_util.dumps(decoded, json_options=json_util.CANONICAL_JSON_OPTIONS)

    def key(self, document: bytes) -> Key:
        return bson.decode(document, DECODED)

    def ranges(self, count: int) -> list[KeyRange]:
        index = tuple(self.keys.paths) if self._has_key_index() else None
        if count == 1:
            return [KeyRange(index)]
        split = index or ("_id",)
        try:
            points = self.patiently(lambda: self._points(split, count))
            if points:  # a server that takes no bounds says so here
                self.patiently(lambda: list(self.batches(KeyRange(split, None, points[0]), 1)))
        except RunError as error:
            log.warning("%s; so its keys are read in one part, which takes longer", error)
            return [KeyRange(index)]
        return [KeyRange(split, *pair) for pair in pairwise([None, *points, None])]

    def some_keys(self, count: int) -> list[Key]:
        return self.patiently(lambda: self._sample(count))

    def documents_of(self, keys: list[Key]) -> list[Key]:
        if not keys:
            return []
        query = {"$or": [self.keys.exactly(key) for key in keys]}
        find = partial(self._collection.find_raw_batches, query, projection=self._projection)
        return self.patiently(lambda: list(_decoded(find())))

    def whole(self, key: Mapping[str, Any]) -> list[bytes]:
        """The documents of a key, and ``_id`` if that is given."""
        return self.patiently(lambda: list(self._find(self.keys.exactly(key))))

    def missing_indexes(self) -> list[str]:
        there = set()
        for index in self.patiently(lambda: list(self._collection.list_indexes())):
            if not index.get("sparse") and "partialFilterExpression" not in index:
                key = tuple(index["key"].items())
                there.add((key, bool(index.get("unique"))))
        wanted = wanted_indexes(self._table, self._config)
        return [str(index) for index in wanted if (index.fields, index.unique) not in there]

    def patiently(self, call: Callable[[], T]) -> T:
        """See MongoTarget.call."""
        return self._target.call(self.namespace, call)

    # ---- repair

    def add(self, document: bytes) -> bytes:
        if not self.keys.by_id:
            document = _headed({"_id": ObjectId()}, content(document, self._config))
        self._write("insert", document)
        return document

    def replace(self, old: bytes, document: bytes) -> None:
        """An ObjectId stays."""
        stored, new = opened(old), opened(document)
        if not self.keys.by_id:
            new = opened(_headed(stored, content(document, self._config)))
        elif _id_of(stored) != _id_of(new):  # 5.0 for 5: a replacement would keep it as it is
            self.delete_unchanged(old)
            self.add(document)
            return
        update = {"q": self._unchanged(old), "u": codec.replacement(new)}
        self._write("update", bson.encode(update))

    def delete_unchanged(self, document: bytes) -> None:
        self._write("delete", bson.encode({"q": self._unchanged(document), "limit": 1}))

    def _unchanged(self, document: bytes) -> dict[str, Any]:
        """Selects a document if all that it holds is still the same.

        It is compared by value: numbers of other types are equal, fields in another order are not.
        Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
        """
        same = {"$expr": {"$eq": ["$$ROOT", {"$literal": opened(document)}]}}
        return self.keys.exactly(keyed(document)) | same

    def _write(self, command: str, statement: bytes) -> None:
        """Carry out one statement; an insert of a key that is there does nothing.

        One at a time: in a session, the server refuses a command that a later one has overtaken.
        """

        def call() -> None:
            try:
                self._bulk.run(command, memoryview(statement), 1, self._session)
            except BulkWriteError as error:
                codes = {entry["code"] for entry in error.details["writeErrors"]}
                if codes != {DUPLICATE_KEY} or error.details["writeConcernErrors"]:
                    if transient(error) or codes & NOT_OF_A_DOCUMENT:
                        raise
                    raise DocumentRefused(f"{self.namespace}: {words(error)}") from error
            except OperationFailure as error:
                if error.code != TOO_OLD:
                    raise
                raise RunError(
                    f"{self.namespace}: a later run of the task, or another shake check --repair, "
                    "has begun: repair again when it has ended"
                ) from error

        with self._writing:
            self.patiently(call)

    def build_indexes(self) -> None:
        self._target.writer(self.namespace, self._table).build_indexes(log.info)

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

    def batches(self, part: KeyRange, limit: int = 0) -> Iterator[bytes]:
        """The key of every document, some at a time; its ``_id`` too, unless an index lacks it.

        Each are documents, one behind the other. Raises PyMongoError, also in the middle: to be
        gone through by :meth:`patiently`.
        """
        projection = self._projection
        if part.order not in (None, ("_id",)):  # what that index holds, and no more
            projection = {"_id": 0} | dict.fromkeys(self.keys.paths, 1)
        found: Any = Batches(
            self._collection, {}, projection=projection, batch_size=_KEYS_AT_ONCE, limit=limit
        )
        if part.order is not None:
            found = found.hint([(path, 1) for path in part.order])
            if part.low is not None:
                found = found.min(_bound(part.order, part.low))
            if part.high is not None:
                found = found.max(_bound(part.order, part.high))
        yield from found

    def _find(self, query: dict[str, Any]) -> Iterator[bytes]:
        batch: Any  # of bytes, whatever pymongo's annotation says
        for batch in self._collection.find_raw_batches(query, batch_size=_AT_ONCE):
            yield from cut(batch)


def _headed(head: Mapping[str, Any], content: bytes) -> bytes:
    """A document with the ``_id`` of ``head``, and this content (see documents.content)."""
    front = bson.encode({"_id": head["_id"]})[4:-1]
    return (4 + len(front) + len(content)).to_bytes(4, "little") + front + content


def _id_of(document: Mapping[str, Any]) -> bytes:
    return bson.encode({"_id": document["_id"]})


def _bound(order: tuple[str, ...], values: bytes) -> list[tuple[str, Any]]:
    return list(zip(order, bson.decode(values, DECODED)[""], strict=True))


def _decoded(batches: Any) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from bson.decode_all(batch, DECODED)
