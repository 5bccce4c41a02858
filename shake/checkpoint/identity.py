"""What a checkpoint is of: one table at the source, and one collection at the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from shake.checkpoint.contract import Document
from shake.checkpoint.document import FORMAT, Fields
from shake.schema import UNKNOWN as NO_ORIGIN
from shake.schema import Origin


@dataclass(frozen=True, slots=True)
class Identity:
    """Distinguishes one table, and one collection, from every other of the same name.

    ``origin`` is the source table. ``collection_uuid`` is the UUID of the collection, as 32
    hexadecimal digits, and ``server`` names the server, for messages. A field is empty where the
    target does not show it, or nothing is known yet. ``users`` are digests of the users that
    changes were sent as: one, or two if there was ever another one.
    Source: https://www.mongodb.com/docs/manual/reference/command/listCollections/
    """

    origin: Origin = NO_ORIGIN
    collection_uuid: str = ""
    server: str = ""
    users: tuple[str, ...] = ()

    def used_by(self, user: str) -> Identity:
        """The identity when changes are sent as ``user``, "" if unknown."""
        known = not user or user in self.users or len(self.users) > 1
        return self if known else replace(self, users=(*self.users, user))

    def document(self) -> dict[str, Any]:
        users = {"Users": list(self.users)} if self.users else {}  # older versions saved none
        return {
            "_id": "identity",
            "Format": FORMAT,
            "TableArn": self.origin.arn,
            "TableId": self.origin.table_id,
            "CreationDateTime": self.origin.created,
            "CollectionUuid": self.collection_uuid,
            "Server": self.server,
            **users,
        }

    @classmethod
    def of(cls, collection: str, document: Document) -> Identity:
        """The identity that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        origin = Origin(
            fields.text("TableArn"), fields.text("TableId"), fields.real("CreationDateTime")
        )
        users = tuple(fields.texts("Users")) if "Users" in document else ()
        return cls(origin, fields.text("CollectionUuid"), fields.text("Server"), users)


#: Of a table of which nothing is known yet.
UNKNOWN = Identity()
