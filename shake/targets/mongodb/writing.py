"""Writes one collection: inserts in bulk, changes, indexes; any repetition is harmless."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteMany
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from shake import codec
from shake.config import Config
from shake.errors import ItemError, RunError
from shake.schema import Item, Table
from shake.targets.contract import BuildProgress, Changes, Fence, Refusal
from shake.targets.mongodb import fields
from shake.targets.mongodb.applying import MAX_DUPLICATES, Applier
from shake.targets.mongodb.build_progress import build_progress
from shake.targets.mongodb.building import Builder
from shake.targets.mongodb.bulk import (
    DUPLICATE_KEY,
    MAX_BYTES,
    RawCommands,
    copies,
    prove,
)
from shake.targets.mongodb.retrying import (
    NOT_OF_A_DOCUMENT,
    Contended,
    Retrier,
    is_of_a_document,
    is_transient_write,
    words,
)
from shake.targets.mongodb.session import TOO_OLD, Session, numbers_from

#: Ranges deleted by one bulk write.
RANGES_AT_ONCE = 1000
#: Sessions named by one command; the server takes 10,000.
SESSIONS_AT_ONCE = 1000


class MongoWriter:
    """The Writer of one collection (see targets.contract)."""

    def __init__(
        self,
        collection: Collection[RawBSONDocument],
        table: Table,
        config: Config,
        retrier: Retrier,
        fence: Fence,
    ) -> None:
        self._collection = collection
        self._bulk = RawCommands(collection, fence.collection_uuid)
        self._namespace = collection.full_name
        self._table = table
        self._config = config
        self._rule = config.id_rule
        self._retrier = retrier
        self._uuid = fence.collection_uuid
        self._numbers = numbers_from(fence.run, fence.process)

    def write(self, documents: memoryview, refused: list[Refusal] | None = None) -> int:
        """See Writer. Raises RunError where the target refuses a command as a whole."""
        cuts = codec.batches(documents, self._config.full_document_write_batch, MAX_BYTES)
        return sum(
            self._store_retrying(documents[start:end], count, refused) for start, end, count in cuts
        )

    def apply(self, changes: Changes, shard: str, refused: list[Refusal] | None = None) -> int:
        return Applier(
            self._collection,
            self._bulk,
            self._table,
            self._config,
            self._retrier,
            self._session(shard),
            refused,
        ).apply(changes)

    def holds(self, key: Item) -> bool:
        query = codec.query(codec.ChangeOptions.of(self._config, self._table.keys), key)
        if query is None:
            return False
        where = RawBSONDocument(query)
        found = self._retrier.call(
            self._namespace, lambda: self._collection.find_one(where, {"_id": 1})
        )
        return found is not None

    def keep_fences(self, shards: Sequence[str]) -> None:
        """See Writer. On a server without sessions nothing expires.

        Source: https://www.mongodb.com/docs/manual/reference/command/refreshSessions/
        """
        admin = self._collection.database.client.get_database("admin")
        for start in range(0, len(shards), SESSIONS_AT_ONCE):
            lsids = [self._session(one).lsid for one in shards[start : start + SESSIONS_AT_ONCE]]
            refresh = partial(admin.command, "refreshSessions", lsids)
            with contextlib.suppress(OperationFailure):
                self._retrier.call(self._namespace, refresh)

    def end_shards(self, shards: list[str]) -> None:
        """See Writer. A delete of nothing, with a higher number than all before it."""
        bulk = RawCommands(self._collection)  # whatever collection has the name by now
        nothing = memoryview(bson.encode({"q": {"_id": ObjectId()}, "limit": 1}))
        for shard in shards:
            call = partial(bulk.run, "delete", nothing, 1, self._session(shard))
            try:
                self._retrier.call(self._namespace, call)
            except OperationFailure as error:
                if error.code != TOO_OLD:  # else a later run has ended it already
                    raise self._refused(error) from error

    def _session(self, shard: str) -> Session:
        return Session.of(self._config.id, self._namespace, self._uuid, shard, self._numbers)

    def delete_ranges(self, ranges: Sequence[tuple[bytes, bytes]]) -> int:
        deletes = [
            DeleteMany({"_id": {"$gte": ObjectId(start), "$lt": ObjectId(end)}})
            for start, end in ranges
        ]
        cuts = range(0, len(deletes), RANGES_AT_ONCE)
        return sum(self._delete(deletes[cut : cut + RANGES_AT_ONCE]) for cut in cuts)

    def missing(self, documents: int) -> int:
        """See Writer. All are counted only where the server's own count is too low.

        Then no former primary counts: it can lack the last documents.
        """
        collection = self._collection
        try:
            stored = self._retrier.call(self._namespace, collection.estimated_document_count)
            if stored < documents:
                self._retrier.call(self._namespace, partial(prove, collection))
                stored = self._retrier.call(self._namespace, lambda: collection.count_documents({}))
        except PyMongoError as error:
            raise self._refused(error) from error
        return max(0, documents - stored)

    def build_indexes(self, notice: Callable[[str], None], segments: int = 0) -> None:
        """See Writer, and targets.mongodb.building."""
        Builder(
            self._collection, self._table, self._config, self._retrier, notice, segments
        ).build()

    def build_progress(self) -> BuildProgress | None:
        return build_progress(self._collection.database.client, self._namespace)

    def _delete(self, deletes: list[DeleteMany]) -> int:
        try:
            return self._retrier.call(
                self._namespace,
                lambda: self._collection.bulk_write(deletes, ordered=False).deleted_count,
            )
        except PyMongoError as error:
            raise self._refused(error) from error

    def _store_retrying(self, batch: memoryview, count: int, refused: list[Refusal] | None) -> int:
        contests: Counter[bytes] = Counter()
        found: list[Refusal] | None = None if refused is None else []
        try:
            replaced = self._retrier.call(
                self._namespace, lambda: self._store(batch, count, contests, found)
            )
        except DocumentTooLarge as error:  # larger than MAX_BYTES, so alone in its batch
            replaced = 0
            self._refuse(RawBSONDocument(batch.tobytes()), 0, str(error), found, error)
        except PyMongoError as error:
            if found is None or not is_of_a_document(error):
                raise self._refused(error) from error
            if count > 1:  # each one alone: the server does not say which it refused
                return sum(self._store_retrying(one, 1, refused) for one in codec.singly(batch))
            replaced, found = 0, [Refusal(batch.tobytes(), words(error))]
        if refused is not None:
            refused += found or ()
        return replaced

    def _store(
        self,
        batch: memoryview,
        count: int,
        contests: Counter[bytes],
        refused: list[Refusal] | None,
    ) -> int:
        """One try of the whole batch; repeated as long as its error is transient."""
        if refused:
            refused.clear()  # of an earlier try
        try:
            self._bulk.run("insert", batch, count)
        except BulkWriteError as error:
            duplicates = self._duplicates(error, copies(batch), refused)
            return self._replace(duplicates, contests, refused) if duplicates else 0
        return 0

    def _refuse(
        self,
        document: RawBSONDocument,
        code: int,
        reason: str,
        refused: list[Refusal] | None,
        cause: Exception,
    ) -> None:
        """Note a document that the target refuses. Raises ItemError where it is to be raised."""
        if refused is None or code in NOT_OF_A_DOCUMENT:
            kept = code not in NOT_OF_A_DOCUMENT
            raise self._item_error(document, reason, can_be_kept=kept) from cause
        refused.append(Refusal(bytes(document.raw), f"{self._namespace}: {reason}"))

    def _replace(
        self,
        duplicates: list[RawBSONDocument],
        contests: Counter[bytes],
        refused: list[Refusal] | None,
    ) -> int:
        """Replace the documents with the same ``_id``, even where they seem to be equal.

        The server might not have acknowledged yet what an earlier try inserted. The replace
        waits for that. ``contests`` counts how often each ``_id`` was there and could not be
        replaced: after some times another unique index must be the cause.
        """
        if self._rule.by_key and not self._config.full_executor_insert_on_dup_update:
            self._refuse_foreign(duplicates)
        if self._config.sharded and not self._rule.by_key:
            # A dying process may have stored another item under this _id; it comes again.
            foreign = [{"q": self._query(one, foreign=True), "limit": 0} for one in duplicates]
            self._run("delete", foreign)
        updates = [
            {"q": self._query(one), "u": codec.replacement(one), "upsert": True}
            for one in duplicates
        ]
        try:
            return int(self._run("update", updates).get("nModified", 0))
        except BulkWriteError as error:
            contended = False
            for document in self._duplicates(error, duplicates, refused):
                identifier = _id_of(document)
                contests[identifier] += 1
                if contests[identifier] >= MAX_DUPLICATES:
                    self._refuse(document, DUPLICATE_KEY, words(error), refused, error)
                else:
                    contended = True
            if contended:
                raise Contended(
                    f"{self._namespace}: another insert of the same _id is under way"
                ) from error
            return 0

    def _run(self, command: str, statements: list[dict[str, Any]]) -> dict[str, Any]:
        encoded = b"".join(map(bson.encode, statements))
        return self._bulk.run(command, memoryview(encoded), len(statements))

    def _query(self, document: RawBSONDocument, *, foreign: bool = False) -> dict[str, Any]:
        """Selects the stored document of the same ``_id``, or the ones of another shard key.

        An upsert into a sharded collection must name the shard key.
        Source: https://www.mongodb.com/docs/manual/reference/method/db.collection.replaceOne/
        """
        query = {"_id": document["_id"]}
        if self._config.sharded:
            partition = self._table.keys.partition
            found = self._rule.value(document, partition)
            query[self._rule.path(partition)] = {"$ne": found} if foreign else found
        return query

    def _duplicates(
        self, error: BulkWriteError, batch: list[RawBSONDocument], refused: list[Refusal] | None
    ) -> list[RawBSONDocument]:
        """The documents whose ``_id`` the target holds already.

        Those that the target refuses are noted (see Writer). Raises ``error`` itself where that
        was not all.
        """
        entries = error.details["writeErrors"]
        duplicates = [entry for entry in entries if entry["code"] == DUPLICATE_KEY]
        unclear = [entry["index"] for entry in duplicates if not entry.get("keyPattern")]
        on_id = {e["index"] for e in duplicates if list(e.get("keyPattern") or ()) == ["_id"]}
        on_id |= self._there({index: batch[index] for index in unclear})
        duplicates = []
        left = bool(error.details["writeConcernErrors"])
        for entry in entries:
            document = batch[entry["index"]]
            if entry["index"] in on_id:
                duplicates.append(document)
            elif is_transient_write(entry):
                left = True
            else:
                self._refuse(document, entry["code"], entry["errmsg"], refused, error)
        if left:
            raise error
        return duplicates

    def _there(self, documents: Mapping[int, RawBSONDocument]) -> set[int]:
        """The numbers of the documents whose ``_id`` the target holds.

        Not all servers say by ``keyPattern`` which index refuses a duplicate, and their words
        differ.
        """
        if not documents:
            return set()
        # A document that was refused for another one is not always confirmed by a majority yet.
        collection = self._collection.with_options(read_concern=ReadConcern("local"))
        wanted = {"_id": {"$in": [document["_id"] for document in documents.values()]}}
        if len({_id_of(one) for one in collection.find(wanted, {"_id": 1})}) == len(documents):
            return set(documents)
        # One by one: the server compares numbers by value, whatever their types.
        return {
            number
            for number, document in documents.items()
            if collection.find_one({"_id": document["_id"]}, {"_id": 1}) is not None
        }

    def _refuse_foreign(self, duplicates: list[RawBSONDocument]) -> None:
        ours = {bytes(document.raw) for document in duplicates}
        for stored in self._collection.find({"_id": {"$in": [d["_id"] for d in duplicates]}}):
            if bytes(stored.raw) not in ours:
                reason = "the target already holds this key, with other content"
                raise self._item_error(stored, reason)

    def _item_error(
        self, document: RawBSONDocument, reason: str, *, can_be_kept: bool = False
    ) -> ItemError:
        key = fields.key_text(document, self._table, self._config)
        reason = f"{self._namespace}: {reason}"
        return ItemError(key, reason, self._table.name, can_be_kept=can_be_kept)

    def _refused(self, error: PyMongoError) -> RunError:
        return RunError(f"{self._namespace}: the target refused a write: {words(error)}")


def _id_of(document: Mapping[str, Any]) -> bytes:
    return bson.encode({"_id": document["_id"]})
