"""MongoDB as a target: a replica set or a sharded cluster, by the user's connection string."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TypeVar

from bson.objectid import ObjectId
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from shake.errors import RefusedError
from shake.schema import Table
from shake.targets.contract import NO_FENCE, CopyRun, Fence, Found
from shake.targets.mongodb.advice import advice
from shake.targets.mongodb.concern import weakness
from shake.targets.mongodb.names import staging_name
from shake.targets.mongodb.retrying import after_election, transient, words
from shake.targets.mongodb.rights import Rights, refusals
from shake.targets.mongodb.server import SELECTION_TIMEOUT, MongoServer
from shake.targets.mongodb.session import unfenced
from shake.targets.mongodb.staging import MongoStaging
from shake.targets.mongodb.writing import MongoWriter

T = TypeVar("T")

#: Of MongoDB 5.0.
DOLLAR_NAMES_WIRE_VERSION = 13

#: Source: https://www.mongodb.com/docs/manual/core/dot-dollar-considerations/
NO_DOLLAR_NAMES = (
    "the target is older than MongoDB 5.0, and refuses every item that has an attribute whose name "
    "begins with $: such an item stops the task; if there are any, use MongoDB 5.0 or later"
)

#: What a sharded cluster before MongoDB 5.0 cannot refuse: there is no staging collection.
NO_STAGING = (
    "WEAK FENCE: a sharded cluster before MongoDB 5.0 cannot rename collections, so the copy fills "
    "the final one, and a late insert or drop of an earlier run can reach it; use MongoDB 5.0 or "
    "later, or run shake check before you switch"
)


class MongoTarget(MongoServer):
    """The Target of ``target.address`` (see targets.contract and MongoServer)."""

    weaknesses: tuple[str, ...] = ()
    unfenced = ""

    def probe(self, namespaces: list[str]) -> None:
        """See Target. Leaves nothing behind: it deletes what does not exist."""
        where = "target.address"
        if not self.client.write_concern.acknowledged:
            raise RefusedError(
                f"{where}: w=0 acknowledges nothing; remove w from it, or use w=majority"
            )
        try:
            self.hello = self._elected(lambda: self.database("admin").command("hello"))
            if self.client.is_mongos != self.config.sharded:
                raise RefusedError(
                    f"{where} is not a sharded cluster: set target.mongodb.type = replica"
                    if self.config.sharded
                    else f"{where} is a sharded cluster: set target.mongodb.type = sharding"
                )
            follows = self.config.sync_mode != "full"
            unfence = unfenced(self.client.options, self.hello) if follows else None
            weak = weakness(self.concern, self.hello)
            old = None if self.renames else NO_STAGING
            self.unfenced = unfence or old or ""
            dollars = self.wire_version < DOLLAR_NAMES_WIRE_VERSION and NO_DOLLAR_NAMES
            self.weaknesses = tuple(one for one in (weak, unfence, old, dollars) if one)
            quick = WriteConcern(**{**self.concern.document, "wtimeout": SELECTION_TIMEOUT})
            for where in namespaces:
                self._elected(partial(self._refuse_other_kinds, where))
                collection = self.collection(where).with_options(write_concern=quick)
                self._elected(partial(collection.delete_one, {"_id": ObjectId()}))
        except PyMongoError as error:
            passes = transient(error)
            text = f"{where}: the target {'does not answer' if passes else 'refuses'}"
            remedy = advice(error, "target.address")
            raise RefusedError(f"{text}: {words(error)}; {remedy}", passes=passes) from error

    def _elected(self, call: Callable[[], T]) -> T:
        def log(reason: str) -> None:
            self.retrier.on_retry(f"target.address: {reason}; retrying")

        return after_election(self.client, log, call)

    def missing_rights(self, namespaces: list[str]) -> list[str]:
        copies = self.config.sync_mode != "incr" or self.config.gap_policy == "resync"
        found: dict[str, None] = {}  # each line once, in order
        for namespace in namespaces:
            staging = staging_name(namespace, 0, 0) if self.renames and copies else ""
            found |= dict.fromkeys(
                refusals(self._rights, namespace, staging, sharded=self.config.sharded)
            )
        return list(found)

    @property
    def user(self) -> str:
        """See Target. Source: https://www.mongodb.com/docs/manual/reference/server-sessions/"""
        return self._rights.user

    @cached_property
    def _rights(self) -> Rights:
        return self.call("target", lambda: Rights.ask(self.database("admin")))

    def _refuse_other_kinds(self, namespace: str) -> None:
        """MongoDB renames no view and no time series.

        Source: https://www.mongodb.com/docs/manual/reference/command/renameCollection/
        """
        database, _, collection = namespace.partition(".")
        for found in self.database(database).list_collections(filter={"name": collection}):
            if (kind := found.get("type", "collection")) != "collection":
                raise RefusedError(
                    f"{namespace} is a {kind}, which cannot be renamed or replaced: remove it, or "
                    "give the table another namespace by namespace.map"
                )

    def find(self, namespace: str, table: Table) -> Found | None:
        """See Target. What is found, no fail-over can undo."""
        self.confirm(namespace)
        return self.seen(namespace, table)

    def staging(
        self, namespace: str, table: Table, copy: CopyRun, notice: Callable[[str], None]
    ) -> MongoStaging | None:
        return MongoStaging(self, namespace, table, copy, notice) if self.renames else None

    def writer(self, namespace: str, table: Table, fence: Fence = NO_FENCE) -> MongoWriter:
        """A writer that shares this target's connections."""
        return MongoWriter(self.collection(namespace), table, self.config, self.retrier, fence)
