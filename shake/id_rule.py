"""The rule by which a document holds the key of its item, and by which its ``_id`` is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shake.schema import Attribute, Keys


@dataclass(frozen=True, slots=True)
class IdRule:
    """How documents hold keys. The C codec does the same (``shake/codec/_native/item.c``).

    An attribute called ``_id`` is stored under its name behind ``prefix``. ``raw``: each value is
    a document of its DynamoDB type and itself. ``by_key``: the ``_id`` is the key; else it is an
    ObjectId, and a document is found by its key attributes.
    """

    prefix: str
    raw: bool
    by_key: bool

    def name(self, attribute: str) -> str:
        """The name of an attribute's field."""
        return self.prefix + "_id" if attribute == "_id" else attribute

    def path(self, key: Attribute) -> str:
        """The dotted path of a key attribute's value, for indexes and queries."""
        name = self.name(key.name)
        return f"{name}.{key.type}" if self.raw else name

    def value(self, document: Mapping[str, Any], key: Attribute) -> Any:
        """A key attribute's value in a document."""
        return self.bare(document[self.name(key.name)], key)

    def bare(self, stored: Any, key: Attribute) -> Any:
        """The value of a key attribute's field, without its type."""
        return stored[key.type] if self.raw else stored

    def identity(self, keys: Keys, stored: Mapping[str, Any]) -> Any:
        """The ``_id`` of an item, from its stored values by attribute name."""
        if keys.sort is None:
            return stored[keys.partition.name]
        return {key.name: stored[key.name] for key in keys}

    def values(self, keys: Keys, identity: Any) -> list[Any]:
        """The key's values in an ``_id`` that :meth:`identity` has made."""
        alone = keys.sort is None
        return [self.bare(identity if alone else identity[key.name], key) for key in keys]

    def selector(self, keys: Keys, document: Mapping[str, Any], *, sharded: bool) -> dict[str, Any]:
        """The query for the stored document of a document's key.

        In a collection that is ``sharded`` by the partition key, it names that too.
        """
        selected: dict[str, Any] = {"_id": document["_id"]} if self.by_key else {}
        named = tuple(keys)[: sharded if self.by_key else None]
        return selected | {self.path(key): self.value(document, key) for key in named}
