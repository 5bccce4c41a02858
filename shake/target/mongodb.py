"""MongoDB as a target: a replica set or a sharded cluster, by the user's connection string."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from bson.objectid import ObjectId
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from shake.config import Config, Redactor
from shake.errors import RefusedError, RunError
from shake.schema import Table
from shake.target import fields
from shake.target.retrying import Patience, transient, words
from shake.target.session import numbers_from
from shake.target.writing import MongoWriter

T = TypeVar("T")

#: Milliseconds to wait for a primary in one attempt, where the connection string does not say.
SELECTION_TIMEOUT = 10_000

ALREADY_INITIALIZED = 23
NAMESPACE_NOT_FOUND = 26
NAMESPACE_EXISTS = 48


class MongoTarget:
    """The Target of ``target.address`` (see target.contract).

    ``stop`` cuts waits short; ``on_retry`` is told of every attempt that is repeated.
    """

    def __init__(
        self, config: Config, stop: threading.Event, on_retry: Callable[[str], None]
    ) -> None:
        options: dict[str, Any] = {"appname": "shake"}
        if "serverselectiontimeoutms" not in config.target_address.lower():
            options["serverSelectionTimeoutMS"] = SELECTION_TIMEOUT
        try:
            self._client: MongoClient[dict[str, Any]] = MongoClient(
                config.target_address, **options
            )
        except (PyMongoError, ValueError, OSError) as error:  # OSError: of tlsCAFile and the like
            reason = Redactor(config.secrets()).redact(str(error))
            raise RefusedError(f"target.address cannot be used: {reason}") from None
        self._config = config
        self._sharded = config.target_mongodb_type == "sharding"
        self._patience = Patience(stop, on_retry)

    def probe(self, places: list[str]) -> None:
        """See Target. Leaves nothing behind: it deletes what does not exist."""
        where = "target.address"
        try:
            if not self._client.write_concern.acknowledged:
                raise RefusedError(f"{where}: w=0 acknowledges nothing; use w=majority or w=1")
            self._database("admin").command("ping")
            if self._client.is_mongos != self._sharded:
                raise RefusedError(
                    f"{where} is not a sharded cluster: set target.mongodb.type = replica"
                    if self._sharded
                    else f"{where} is a sharded cluster: set target.mongodb.type = sharding"
                )
            for where in places:
                database, _, collection = where.partition(".")
                self._database(database)[collection].delete_one({"_id": ObjectId()})
        except PyMongoError as error:
            passes = transient(error)
            text = f"{where}: the target {'does not answer' if passes else 'refuses'}"
            raise RefusedError(f"{text}: {words(error)}", passes=passes) from error

    def exists(self, place: str) -> bool:
        """Whether a collection or a view has this name."""
        database, _, collection = place.partition(".")
        named = {"name": collection}
        return self.call(
            place, lambda: bool(self._database(database).list_collection_names(filter=named))
        )

    def drop(self, place: str) -> None:
        """Drop the collection; harmless when there is none."""
        database, _, collection = place.partition(".")
        self.call(place, lambda: self._database(database).drop_collection(collection))

    def rename(self, place: str, backup: str) -> None:
        """Rename the collection, sharded ones too (MongoDB 5.0 and later, in one database).

        Raises RefusedError where ``backup`` exists.
        Source: https://www.mongodb.com/docs/manual/reference/command/renameCollection/
        """
        if self.exists(backup):
            raise RefusedError(f"{place} cannot be renamed: {backup} exists already")
        self.call(place, lambda: self._rename(place, backup))

    def create(self, place: str, table: Table) -> None:
        """See Target. Sharded on the hashed partition key, before the first document.

        Source: https://www.mongodb.com/docs/manual/reference/command/shardCollection/
        """
        self.call(place, lambda: self._shard(place, table) if self._sharded else self._new(place))

    def writer(self, place: str, table: Table, epoch: int = 0) -> MongoWriter:
        """A writer that shares this target's connections."""
        collection, numbers = self.collection(place), numbers_from(epoch)
        return MongoWriter(collection, table, self._config, self._patience, numbers)

    def collection(self, place: str) -> Collection[RawBSONDocument]:
        """A collection that gives its documents as they are stored, read from the primary."""
        database, _, collection = place.partition(".")
        client: MongoClient[Any] = self._client
        return client.get_database(database, DEFAULT_RAW_BSON_OPTIONS, ReadPreference.PRIMARY)[
            collection
        ]

    def call(self, place: str, attempt: Callable[[], T]) -> T:
        """Call ``attempt``, again and again while the target fails in a way that passes.

        Raises RunError for any other failure.
        """
        try:
            return self._patience.call(place, attempt)
        except PyMongoError as error:
            raise RunError(f"{place}: the target refused: {words(error)}") from error

    def close(self) -> None:
        """Close all connections; writers of this target end with it."""
        self._client.close()

    def _database(self, name: str) -> Database[dict[str, Any]]:
        return self._client.get_database(name, read_preference=ReadPreference.PRIMARY)

    def _rename(self, place: str, backup: str) -> None:
        try:
            self._database("admin").command("renameCollection", place, to=backup)
        except OperationFailure as error:
            # An attempt whose answer was lost may have renamed it.
            if error.code != NAMESPACE_NOT_FOUND or not self.exists(backup):
                raise

    def _new(self, place: str) -> None:
        database, _, collection = place.partition(".")
        try:
            self._database(database).create_collection(collection, check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise

    def _shard(self, place: str, table: Table) -> None:
        admin = self._database("admin")
        try:
            admin.command("enableSharding", place.partition(".")[0])
        except OperationFailure as error:
            if error.code != ALREADY_INITIALIZED:  # what older servers say the second time
                raise
        key = {fields.path(table.keys.partition, self._config): "hashed"}
        admin.command("shardCollection", place, key=key)
