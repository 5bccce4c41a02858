"""What a checkpoint is of: one table at the source, and one collection at the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from shake.checkpoint.document import Fields, Record
from shake.schema import UNKNOWN as NO_ORIGIN
from shake.schema import Origin


@dataclass(frozen=True, slots=True)
class Identity(Record):
    """Distinguishes one table, and one collection, from every other of the same name.

    ``origin`` is the source table. ``collection_uuid`` is the UUID of the collection, as 32
    hexadecimal digits, and ``server`` names the server, for messages. A field is empty where the
    target does not show it, or nothing is known yet. ``users`` are digests of the users that
    changes were sent as: one, or two if there was ever another one.
    Source: https://www.mongodb.com/docs/manual/reference/command/listCollections/
    """

    ID = "identity"
    NAMES: ClassVar = {"origin": ""}
    LATER = ("users",)

    origin: Origin = NO_ORIGIN
    collection_uuid: str = ""
    server: str = ""
    users: tuple[str, ...] = ()

    def used_by(self, user: str) -> Identity:
        """The identity when changes are sent as ``user``, "" if unknown."""
        known = not user or user in self.users or len(self.users) > 1
        return self if known else replace(self, users=(*self.users, user))

    def own(self) -> dict[str, Any]:
        return {
            "TableArn": self.origin.arn,
            "TableId": self.origin.table_id,
            "CreationDateTime": self.origin.created,
        }

    @classmethod
    def read_own(cls, collection: str, found: Fields) -> dict[str, Any]:
        names = found.text("TableArn"), found.text("TableId")
        return {"origin": Origin(*names, found.real("CreationDateTime"))}


#: Of a table of which nothing is known yet.
UNKNOWN = Identity()
