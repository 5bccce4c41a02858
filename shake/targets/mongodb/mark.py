"""The mark by which a complete copy is recognised after its rename, where that changes its UUID.

A sharded cluster can give a renamed collection another UUID. A run that is killed before it saves
that UUID leaves a collection that no checkpoint names. So a document, the mark, is inserted into
the complete staging collection directly before the rename, and is deleted when the UUID is saved,
before documents are counted.
Its ``_id`` is a UUID that names the copy. DynamoDB has no type that becomes a UUID, so no item has
this ``_id``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import bson
from bson.binary import UUID_SUBTYPE, Binary
from pymongo.errors import BulkWriteError, OperationFailure

from shake.targets.contract import Location
from shake.targets.mongodb.bulk import DUPLICATE_KEY, UUID_MISMATCH, RawCommands
from shake.targets.mongodb.retrying import Contended
from shake.targets.mongodb.server import MongoServer

_NAMESPACE = uuid.UUID("5d3f1c1e-4f0a-4c53-9a0e-9b6a1f0a7c11")


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of one copy, which has the stamp ``stamp``, into ``namespace``."""

    server: MongoServer
    namespace: str
    stamp: int

    def put(self, staging: Location) -> None:
        """Insert it into the staging collection.

        Raises Contended if that was renamed meanwhile. Then an insert without a UUID creates a
        collection of its name, which a sweep removes.
        """
        name = staging.namespace
        document = memoryview(bson.encode({"_id": self._id}))
        bulk = RawCommands(self.server.collection(name), staging.collection_uuid)
        try:
            bulk.run("insert", document, 1)
        except BulkWriteError as error:
            if any(entry["code"] != DUPLICATE_KEY for entry in error.details["writeErrors"]):
                raise
        except OperationFailure as error:
            if error.code != UUID_MISMATCH:
                raise
            raise Contended(f"{name}: it was renamed meanwhile") from error
        if self.server.collections(name, name).get(name) != staging.collection_uuid:
            raise Contended(f"{name}: it was renamed meanwhile")

    @property
    def is_there(self) -> bool:
        """Whether what has the final name is this copy."""
        find = self.server.collection(self.namespace).find_one
        return self.server.call(self.namespace, lambda: find({"_id": self._id})) is not None

    def remove(self, name: str) -> None:
        """Delete it from the collection that has this name."""
        delete = self.server.collection(name).delete_one
        self.server.call(self.namespace, lambda: delete({"_id": self._id}))

    @property
    def _id(self) -> Binary:
        named = "\0".join((self.server.config.id, self.namespace, str(self.stamp)))
        identifier: Binary = Binary(uuid.uuid5(_NAMESPACE, named).bytes, UUID_SUBTYPE)
        return identifier
