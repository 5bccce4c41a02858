"""The commands that find, create, rename and drop collections of a MongoDB target."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, TypeVar

from bson.binary import UUID_SUBTYPE, Binary
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from shake.config import Config, Redactor
from shake.errors import RefusedError, RunError
from shake.schema import Table
from shake.targets.contract import Found
from shake.targets.deadline import Deadline
from shake.targets.mongodb.bulk import UUID_MISMATCH, UUID_WIRE_VERSION, confirm, prove
from shake.targets.mongodb.concern import durable
from shake.targets.mongodb.indexes import wanted_indexes
from shake.targets.mongodb.retrying import Retrier, words

T = TypeVar("T")

#: Milliseconds to wait for a primary in one try, where the connection string does not say.
SELECTION_TIMEOUT = 10_000

ALREADY_INITIALIZED = 23
NAMESPACE_NOT_FOUND = 26
NAMESPACE_EXISTS = 48

#: Of MongoDB 5.0.
SHARDED_RENAME_WIRE_VERSION = 13

#: What is shown of a collation.
_COLLATION = ("locale", "strength")


class MongoServer:
    """The server or cluster at ``target.address``.

    ``stop`` cuts waits short; ``on_retry`` is called for every try that is repeated.
    """

    def __init__(
        self,
        config: Config,
        stop: threading.Event,
        on_retry: Callable[[str], None],
        deadline: Deadline | None = None,
    ) -> None:
        options: dict[str, Any] = {"appname": "shake"}
        if "serverselectiontimeoutms" not in config.target_address.lower():
            options["serverSelectionTimeoutMS"] = SELECTION_TIMEOUT
        try:
            self.client: MongoClient[dict[str, Any]] = MongoClient(config.target_address, **options)
            self.concern = durable(self.client.write_concern)
        except (PyMongoError, ValueError, OSError) as error:  # OSError: of tlsCAFile and the like
            reason = Redactor(config.secrets()).redact(str(error))
            raise RefusedError(f"target.address cannot be used: {reason}") from None
        self.config = config
        self.retrier = Retrier(stop, on_retry, deadline)

    def seen(self, namespace: str, table: Table) -> Found | None:
        """What a primary shows now, which a fail-over might undo. A view counts too."""
        found = self._listed(namespace, namespace).get(namespace)
        if found is None:
            return None
        wanted = wanted_indexes(table, self.config)[:1]
        unique = wanted[0].fields if wanted and wanted[0].unique else ()
        stored = self.call(namespace, self.collection(namespace).index_information)
        has_key_index = any(
            one.get("unique")
            and tuple(map(tuple, one["key"])) == unique
            and not one.keys() & {"collation", "partialFilterExpression"}
            for one in stored.values()
        )
        collation = found.get("options", {}).get("collation", {})
        shown = ", ".join(f"{name} {collation[name]}" for name in _COLLATION if name in collation)
        return Found(_uuid_of(found), has_key_index or not unique, shown)

    def collections(self, namespace: str, stem: str) -> dict[str, str]:
        """UUIDs, by name, of the collections whose names begin with ``stem``.

        Both are ``database.collection``; the UUID is "" where the server returns none.
        """
        return {name: _uuid_of(one) for name, one in self._listed(namespace, stem).items()}

    def _listed(self, namespace: str, stem: str) -> dict[str, Mapping[str, Any]]:
        """What listCollections returns of collections whose names begin with ``stem``."""
        database, _, prefix = stem.partition(".")
        named = {"name": {"$regex": f"^{re.escape(prefix)}"}}
        found = self.call(
            namespace, lambda: list(self.database(database).list_collections(filter=named))
        )
        return {f"{database}.{one['name']}": one for one in found}

    def drop(self, namespace: str, uuid: str = "") -> None:
        """Drop the collection, if its UUID is still this one; harmless when there is none."""
        database, _, collection = namespace.partition(".")
        command = {"drop": collection, **self._only(uuid), **self._options}
        self.call(namespace, lambda: self._unless_gone(self.database(database), command))

    def rename(self, namespace: str, new: str, uuid: str = "", *, drop: bool = False) -> bool:
        """Rename the collection, if its UUID is still this one; False where that cannot be done.

        Then it is not there, or ``new`` is. ``drop``: whatever has the new name is dropped in the
        same step. Sharded collections: MongoDB 5.0 and later, in one database.
        Source: https://www.mongodb.com/docs/manual/reference/command/renameCollection/
        """
        command = {
            "renameCollection": namespace,
            "to": new,
            "dropTarget": drop,
            **self._only(uuid),
            **self._options,
        }
        return self.call(
            namespace, lambda: self._unless_gone(self.database("admin"), command, NAMESPACE_EXISTS)
        )

    def confirm(self, namespace: str) -> None:
        """Return when no fail-over can undo what is visible now."""
        self.call(namespace, partial(confirm, self.collection(namespace)))

    def prove(self, namespace: str) -> None:
        """Return when no former primary answers; see bulk. Changes nothing."""
        self.call(namespace, partial(prove, self.collection(namespace)))

    @property
    def takes_uuids(self) -> bool:
        """Whether commands can name the UUID of their collection: since MongoDB 6.0.

        Source: https://www.mongodb.com/docs/manual/reference/command/insert/
        """
        return self.wire_version >= UUID_WIRE_VERSION

    def create(self, namespace: str, table: Table) -> None:
        """See Target. Sharded on the hashed partition key, before the first document.

        Source: https://www.mongodb.com/docs/manual/reference/command/shardCollection/
        """
        self.call(
            namespace,
            lambda: self._shard(namespace, table) if self.config.sharded else self._new(namespace),
        )

    def collection(self, namespace: str) -> Collection[RawBSONDocument]:
        """A collection that gives its documents as they are stored, read from the primary."""
        database, _, collection = namespace.partition(".")
        client: MongoClient[Any] = self.client
        return client.get_database(
            database, DEFAULT_RAW_BSON_OPTIONS, ReadPreference.PRIMARY, self.concern
        )[collection]

    def call(self, namespace: str, call: Callable[[], T]) -> T:
        """Make a call, again and again while the target fails in a way that passes.

        Raises RunError for any other failure.
        """
        try:
            return self.retrier.call(namespace, call)
        except PyMongoError as error:
            raise RunError(f"{namespace}: the target refused: {words(error)}") from error

    def close(self) -> None:
        """Close all connections; writers of this target end with it."""
        self.client.close()

    def database(self, name: str) -> Database[dict[str, Any]]:
        """A database, whose primary answers, and confirms what is durable only."""
        return self.client.get_database(name, None, ReadPreference.PRIMARY, self.concern)

    @cached_property
    def keeps_uuids(self) -> bool:
        """Whether a renamed collection has the UUID that it had before.

        Not so on sharded clusters, and in SecantusDB, which says in buildInfo that it is that.
        """
        ask = self.database("admin")
        return not self.config.sharded and "secantusVersion" not in self.call(
            "target", lambda: ask.command("buildInfo")
        )

    @property
    def renames(self) -> bool:
        """Whether a collection can be renamed: where it is sharded, since MongoDB 5.0."""
        return not self.config.sharded or self.wire_version >= SHARDED_RENAME_WIRE_VERSION

    @cached_property
    def hello(self) -> dict[str, Any]:
        """The server's answer to the command of that name."""
        return self.call("target", lambda: self.database("admin").command("hello"))

    @property
    def wire_version(self) -> int:
        return int(self.hello["maxWireVersion"])

    @property
    def _options(self) -> dict[str, Any]:
        return {"writeConcern": self.concern.document}

    def _only(self, uuid: str) -> dict[str, Any]:
        """The field that makes a command refused where the name is another collection's now."""
        named = {"collectionUUID": Binary(bytes.fromhex(uuid), UUID_SUBTYPE)}
        return named if uuid and self.takes_uuids else {}

    def _unless_gone(
        self, database: Database[dict[str, Any]], command: dict[str, Any], *codes: int
    ) -> bool:
        """Run a command; False where its collection is not there, or another one; or for codes."""
        with _ignoring(NAMESPACE_NOT_FOUND, UUID_MISMATCH, *codes):
            database.command(command)
            return True
        return False

    def _new(self, namespace: str) -> None:
        database, _, collection = namespace.partition(".")
        with _ignoring(NAMESPACE_EXISTS):
            self.database(database).create_collection(collection, check_exists=False)

    def _shard(self, namespace: str, table: Table) -> None:
        admin = self.database("admin")
        with _ignoring(ALREADY_INITIALIZED):  # what older servers say the second time
            admin.command("enableSharding", namespace.partition(".")[0])
        key = {self.config.id_rule.path(table.keys.partition): "hashed"}
        admin.command("shardCollection", namespace, key=key)


@contextlib.contextmanager
def _ignoring(*codes: int) -> Iterator[None]:
    """Ignore an error of the server that has one of these codes."""
    try:
        yield
    except OperationFailure as error:
        if error.code not in codes:
            raise


def _uuid_of(listed: Mapping[str, Any]) -> str:
    """The UUID in an entry of listCollections, "" where it has none."""
    return bytes(listed.get("info", {}).get("uuid", b"")).hex()
