"""What a checkpoint is of: one table at the source, and one collection at the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from shake.checkpoint.contract import Document
from shake.checkpoint.document import FORMAT, Fields
from shake.schema import Origin


@dataclass(frozen=True, slots=True)
class Identity:
    """Tells one table, and one collection, from every other of the same name.

    ``arn``, ``table_id`` and ``created`` (Unix seconds) are DynamoDB's own. ``collection`` is the
    UUID of the collection, as 32 hexadecimal digits, and ``server`` names the server, for messages.
    A field is empty, or 0, where the source or target does not tell, or nothing is known yet.
    Sources: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
    https://www.mongodb.com/docs/manual/reference/command/listCollections/
    """

    arn: str = ""
    table_id: str = ""
    created: float = 0.0
    collection: str = ""
    server: str = ""

    @property
    def origin(self) -> Origin:
        """The half that names the source table."""
        return Origin(self.arn, self.table_id, self.created)

    def of_source(self, origin: Origin) -> Identity:
        """The same collection, and this source table."""
        return replace(self, arn=origin.arn, table_id=origin.table_id, created=origin.created)

    def document(self) -> dict[str, Any]:
        return {
            "_id": "identity",
            "Format": FORMAT,
            "TableArn": self.arn,
            "TableId": self.table_id,
            "CreationDateTime": self.created,
            "CollectionUuid": self.collection,
            "Server": self.server,
        }

    @classmethod
    def of(cls, collection: str, document: Document) -> Identity:
        """The identity that ``document()`` wrote. Raises RefusedError for any other."""
        fields = Fields(collection, document)
        return cls(
            fields.text("TableArn"),
            fields.text("TableId"),
            fields.real("CreationDateTime"),
            fields.text("CollectionUuid"),
            fields.text("Server"),
        )


#: Of a table of which nothing is known yet.
UNKNOWN = Identity()
