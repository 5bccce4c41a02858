"""What a checkpoint is of: one table at the source, and one collection at the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shake.checkpoint.contract import Document
from shake.checkpoint.document import FORMAT, Fields


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
