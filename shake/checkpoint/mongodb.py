"""Checkpoints in a MongoDB database, each write acknowledged by a majority and journaled."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient, ReadPreference, ReplaceOne
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shake.checkpoint.contract import Document, StoreUnavailable, Superseded
from shake.checkpoint.order import ORDERED, is_later
from shake.config.secrets import hosts
from shake.errors import RefusedError, RunError, ShakeError
from shake.targets.mongodb.advice import advice
from shake.targets.mongodb.retrying import after_election, code_of, words

log = logging.getLogger("shake")

#: Seconds that one call may take, retries included: two fit into the task lock's 30.
TIMEOUT = 8.0

#: Documents written by one call: so few that a slow server takes them within its time.
AT_ONCE = 200

#: Server errors that no waiting cures: BadValue, FailedToParse, Unauthorized, TypeMismatch,
#: AuthenticationFailed, IllegalOperation, CommandNotFound, InvalidOptions, InvalidNamespace,
#: DocumentValidationFailure, AtlasError, BSONObjectTooLarge.
#: Source: https://www.mongodb.com/docs/manual/reference/error-codes/
PERMANENT = frozenset({2, 9, 13, 14, 18, 20, 59, 72, 73, 121, 8000, 10334})

DUPLICATE_KEY = 11000

_PROBED = "status_table"


class MongoStore:
    """A store in one database; works on a standalone, a replica set and a mongos alike.

    The connection string's own write concern and read preference are for the data: checkpoints
    always use majority and the primary.
    Source: https://www.mongodb.com/docs/manual/reference/write-concern/
    """

    def __init__(self, address: str, database: str, *, timeout: float = TIMEOUT) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(
            address, timeoutMS=round(timeout * 1000)
        )
        self._name = f"checkpoint database {database} at {hosts(address)}"
        self._database = self._client.get_database(
            database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority", j=True),
        )

    @classmethod
    def open(
        cls,
        address: str,
        database: str,
        *,
        key: str = "checkpoint.address",
        timeout: float = TIMEOUT,
        writable: bool = True,
    ) -> MongoStore:
        """A store that answers and, if ``writable``, takes writes; else raises RefusedError.

        ``key`` is the configuration key that the address comes from, for the error.
        """
        try:
            store = cls(address, database, timeout=timeout)
        except (PyMongoError, ValueError, TypeError) as error:
            # What could not be parsed is quoted by other errors, perhaps with the password.
            quiet = isinstance(error, InvalidURI) or not isinstance(error, ConfigurationError)
            reason = "not a connection string" if quiet else str(error)
            raise RefusedError(f"checkpoint database {database}: {reason}; check {key}") from None
        except OSError as error:  # of a file of tls: it is no certificate, or its password is wrong
            text = f"checkpoint database {database}: {error}; {advice(error, key)}"
            raise RefusedError(text) from None
        try:
            with store._errors():
                after_election(store._client, store._log, lambda: store._try(writable))
        except ShakeError as error:
            store.close()
            text = f"{error}; {advice(error.__cause__, key)}"
            raise RefusedError(text, passes=error.passes) from error
        return store

    def _log(self, reason: str) -> None:
        log.info("%s: %s; retrying", self._name, reason)

    def _try(self, writable: bool) -> None:
        """Prove the right to read and, if ``writable``, to write; change nothing."""
        probed = self._database[_PROBED]
        probed.find_one()
        if writable:
            probed.delete_one({"_id": "probe"})

    def collections(self) -> list[str]:
        with self._errors():
            return self._database.list_collection_names()

    def read(self, collection: str, ids: Collection[str] | None = None) -> list[dict[str, Any]]:
        wanted = {} if ids is None else {"_id": {"$in": list(ids)}}
        with self._errors():
            return [
                document
                for document in self._database[collection].find(wanted)
                if isinstance(document["_id"], str)  # others are not shake's
            ]

    def write(self, collection: str, documents: Sequence[Document]) -> None:
        for start in range(0, len(documents), AT_ONCE):
            self._write(collection, documents[start : start + AT_ONCE])

    def _write(self, collection: str, documents: Sequence[Document]) -> None:
        replaces = [
            ReplaceOne(_not_later(one), dict(one), upsert="Life" not in one) for one in documents
        ]
        with self._errors():
            try:
                done = self._database[collection].bulk_write(replaces)  # in order
                if done.matched_count + done.upserted_count < len(replaces):
                    raise Superseded(
                        f"{self._name}: a later run has written there, or {collection} was removed"
                    )
            except BulkWriteError as error:
                # Our own earlier try, still under way, collides as well: that one passes.
                if _code(error) == DUPLICATE_KEY and self._superseded(collection, documents):
                    raise Superseded(f"{self._name}: a later run has written there") from error
                raise

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        where = self._database[collection]
        with self._errors():
            if old is None:
                if new is None:
                    raise ValueError("nothing to swap")
                try:
                    where.insert_one(dict(new))
                except DuplicateKeyError:
                    return False
                return True
            if new is None:
                return where.delete_one(_exactly(old)).deleted_count == 1
            return where.replace_one(_exactly(old), dict(new)).matched_count == 1

    def discard(self, collection: str, document: Document) -> None:
        where = self._database[collection]
        with self._errors():
            if len(list(where.find(limit=2))) == 1 and where.find_one(_exactly(document)):
                where.drop()

    def others(self) -> str:
        """NimoShake, whose documents look like shake's, but for the type of their ``_id``.

        Source: https://github.com/alibaba/NimoShake/wiki
        """
        marks = {"Key": "status_key", "_id": {"$not": {"$type": "string"}}}
        with self._errors():
            return "NimoShake" if self._database[_PROBED].find_one(marks) else ""

    def close(self) -> None:
        self._client.close()

    def _superseded(self, collection: str, documents: Sequence[Document]) -> bool:
        ours = {one["_id"]: one for one in documents}
        stored = self._database[collection].find({"_id": {"$in": list(ours)}})
        return any(is_later(one, ours[one["_id"]]) for one in stored)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            kind = RunError if _code(error) in PERMANENT else StoreUnavailable
            raise kind(f"{self._name}: {words(error)}") from error


def _not_later(document: Document) -> dict[str, Any]:
    """Selects what the document may replace; what :func:`is_later` stays: the upsert collides."""
    numbers = {one: {"$not": {"$gt": document[one]}} for one in ORDERED if one in document}
    generation = {"Life": document["Life"]} if "Life" in document else {}
    return {"_id": document["_id"], **numbers, **generation}


def _exactly(old: Document) -> dict[str, Any]:
    # $exists: to MongoDB a missing field is null.
    return {name: {"$eq": value, "$exists": True} for name, value in old.items()}


def _code(error: PyMongoError) -> int | None:
    if isinstance(error, BulkWriteError) and error.details and error.details["writeErrors"]:
        return code_of(error.details["writeErrors"][0])
    return error.code if isinstance(error, OperationFailure) else None
