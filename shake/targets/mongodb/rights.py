"""Finds the rights that the user of a connection lacks, by what the server says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from shake.targets.mongodb.retrying import transient

#: What a copy and its changes need on each collection.
#: Source: https://www.mongodb.com/docs/manual/reference/privilege-actions/
COLLECTION = ("find", "insert", "update", "remove", "createIndex", "listIndexes")
#: What a copy needs besides.
COPIED = ("dropCollection",)
#: On the database; the driver lists collections with their options.
DATABASE = ("listCollections",)
#: On each collection of a sharded cluster.
SHARDING = ("enableSharding",)

_ROLE = "the role readWrite has it"
_SHARDING_ROLE = "the role clusterManager has it"


class Rights:
    """The user of a connection, and its privileges.

    ``user`` is a digest of the user and its database: the server keeps sessions for both.
    """

    def __init__(self, privileges: Iterable[Mapping[str, Any]] | None, user: str = "") -> None:
        """``privileges``: as connectionStatus gives them; None where they are unknown."""
        self._privileges = None if privileges is None else list(privileges)
        self.user = user

    @classmethod
    def ask(cls, admin: Database[dict[str, Any]]) -> Rights:
        """Ask the server for the privileges of the user. Every user has the right to ask.

        Servers other than MongoDB can lack the command, or fields of its answer: nothing is known
        then. Raises PyMongoError where the server does not answer.
        Source: https://www.mongodb.com/docs/manual/reference/command/connectionStatus/
        """
        try:
            answer = admin.command("connectionStatus", showPrivileges=True)
        except OperationFailure as error:
            if transient(error):
                raise
            return cls(None)
        info = answer.get("authInfo") or {}
        known = info.get("authenticatedUserPrivileges")
        users = info.get("authenticatedUsers") or []
        names = sorted(f"{one.get('user')}@{one.get('db')}" for one in users)
        digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
        return cls(known if users and known else None, digest)

    def lacking(self, database: str, collection: str, actions: Sequence[str]) -> list[str]:
        """Those of the actions that are not allowed there; "": on the database itself."""
        if self._privileges is None:
            return []
        allowed: set[str] = set()
        for one in self._privileges:
            if _covers(one.get("resource", {}), database, collection):
                allowed.update(one.get("actions", ()))
        return [] if "anyAction" in allowed else [one for one in actions if one not in allowed]

    def can_rename(self, namespace: str, new: str) -> bool:
        """Whether collection ``namespace`` can be renamed to ``new``, in the same database.

        Source: https://www.mongodb.com/docs/manual/reference/command/renameCollection/
        """
        database, _, collection = namespace.partition(".")
        renamed = new.partition(".")[2]
        if not self.lacking(database, "", ("renameCollectionSameDB",)):
            return True
        from_there = self.lacking(database, collection, ("find", "dropCollection"))
        return not (from_there or self.lacking(database, renamed, ("insert", "createIndex")))


def refusals(rights: Rights, namespace: str, staging: str, *, sharded: bool) -> list[str]:
    """What the user lacks to fill collection ``namespace``.

    ``staging`` is "" where nothing is copied.
    """
    database = namespace.partition(".")[0]
    wanted = (*COLLECTION, *COPIED) if staging else COLLECTION
    found = []
    for name in filter(None, (namespace, staging)):
        collection = name.partition(".")[2]
        found += _lines(name, rights.lacking(database, collection, wanted), _ROLE)
        if sharded:
            found += _lines(name, rights.lacking(database, collection, SHARDING), _SHARDING_ROLE)
    of_database = rights.lacking(database, "", DATABASE)
    if staging and not rights.can_rename(staging, namespace):
        of_database.append("renameCollectionSameDB")
    return found + _lines(f"database {database}", of_database, _ROLE)


def _lines(where: str, actions: Sequence[str], role: str) -> list[str]:
    if not actions:
        return []
    return [
        f"target.address: its user lacks the right to {', '.join(actions)} on {where}: grant it; "
        f"{role}"
    ]


def _covers(resource: Mapping[str, Any], database: str, collection: str) -> bool:
    """Source: https://www.mongodb.com/docs/manual/reference/resource-document/"""
    if resource.get("anyResource"):
        return True
    if "db" not in resource:
        return False  # a cluster, or buckets
    of_all = resource.get("collection") == "" and not collection.startswith("system.")
    return resource["db"] in ("", database) and (of_all or resource.get("collection") == collection)
