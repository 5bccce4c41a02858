"""A stored key: found in a document, compared by value, looked up, and turned back into DynamoDB's.

Two keys are one where MongoDB takes them for one: numbers compare by value, whatever their type.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import bson
from bson.decimal128 import Decimal128

from shake.check.meaning import Item
from shake.codec.number import parts
from shake.config import Config
from shake.schema import Attribute, Table
from shake.target import fields

#: The values of the key attributes in a form that is equal, and has one hash, for equal keys.
Identity = tuple[Any, ...]

#: Bytes of a partition and of a sort key.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_LONGEST_KEYS = (2048, 1024)

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys of one table, as this configuration stores them."""

    table: Table
    config: Config

    @property
    def lossy(self) -> bool:
        """Whether different keys may be stored as one double, from which no way leads back."""
        numbers = any(attribute.type == "N" for attribute in self.table.keys)
        return numbers and self.config.convert_type == "mchange"

    @property
    def projection(self) -> dict[str, int]:
        """What a query must return for :meth:`identity`."""
        if self.config.id_mode == "key":
            return {"_id": 1}
        return {"_id": 1} | {fields.path(key, self.config): 1 for key in self.table.keys}

    def values(self, document: Mapping[str, Any]) -> list[Any]:
        """The stored values of the key attributes; a placeholder where there is none."""
        keys = list(self.table.keys)
        if self.config.id_mode == "objectid":
            found = [document.get(fields.stored_name(key, self.config), _NOTHING) for key in keys]
        elif len(keys) == 1:
            found = [document["_id"]]
        elif isinstance(document["_id"], Mapping) and len(document["_id"]) == len(keys):
            found = [document["_id"].get(key.name, _NOTHING) for key in keys]
        else:
            found = [_NOTHING] * len(keys)
        if self.config.convert_type == "raw":
            return [_untyped(key, value) for key, value in zip(keys, found, strict=True)]
        return found

    def identity(self, document: Mapping[str, Any]) -> Identity:
        """The document's key, to be compared."""
        return tuple(map(_canonical, self.values(document)))

    def queries(
        self, documents: Iterable[Mapping[str, Any]], *, scanned: bool
    ) -> Iterator[dict[str, Any]]:
        """Together they select all stored documents of these keys.

        ``scanned`` says that a Scan without a filter gave the documents, in this order: then all
        partitions but the first and the last are there as a whole, and selected by their key.
        """
        if self.config.id_mode == "key":
            yield {"_id": {"$in": [document["_id"] for document in documents]}}
            return
        paths = [fields.path(key, self.config) for key in self.table.keys]
        groups: dict[Any, tuple[Any, list[Any]]] = {}
        for document in documents:
            partition, *sort = self.values(document)
            groups.setdefault(_canonical(partition), (partition, []))[1].extend(sort)
        whole, parts = [], list(groups.values())
        if len(paths) == 1:
            whole, parts = parts, []
        elif scanned:
            whole, parts = parts[1:-1], parts[:1] + parts[1:][-1:]
        if whole:
            yield {paths[0]: {"$in": [partition for partition, _ in whole]}}
        some = [{paths[0]: partition, paths[1]: {"$in": sorts}} for partition, sorts in parts]
        yield from some if len(some) <= 2 else [{"$or": some}]

    def only(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Selects the stored document of one of the codec's, on its shard."""
        keys = self.table.keys
        if self.config.id_mode == "objectid":
            return {
                fields.path(k, self.config): fields.value(document, k, self.config) for k in keys
            }
        query = {"_id": document["_id"]}
        if self.config.target_mongodb_type == "sharding":
            path = fields.path(keys.partition, self.config)
            query[path] = fields.value(document, keys.partition, self.config)
        return query

    def typed(self, document: Mapping[str, Any]) -> Item | None:
        """The key as DynamoDB writes it; None for what cannot be the key of an item."""
        key = {}
        texts = zip(self.table.keys, self.values(document), _LONGEST_KEYS, strict=False)
        for attribute, value, longest in texts:
            text = _text(attribute, value, longest)
            if text is None:
                return None
            key[attribute.name] = {attribute.type: text}
        return key

    def shown(self, document: Mapping[str, Any]) -> Item:
        """The key for a report: typed, or, where that cannot be, as it is, with ``_id``."""
        typed = self.typed(document)
        if typed is not None:
            return typed
        odd = zip(self.table.keys, self.values(document), strict=True)
        shown = {key.name: repr(value) for key, value in odd if value is not _NOTHING}
        return shown | {"_id": repr(document["_id"])}


def digest(identity: Identity) -> bytes:
    """16 bytes that stand for a key."""
    return blake2b(repr(identity).encode(), digest_size=16).digest()


def typed_identity(key: Item) -> Identity:
    """A typed key, to be compared: to DynamoDB too, numbers of one value are one."""
    return tuple(
        (tag, tuple(parts(text)) if tag == "N" else text)
        for typed in key.values()
        for tag, text in typed.items()
    )


def _untyped(attribute: Attribute, value: Any) -> Any:
    if isinstance(value, Mapping) and len(value) == 1:
        return value.get(attribute.type, _NOTHING)
    return _NOTHING


def _canonical(value: Any) -> Any:
    """Strings, bytes and integers stand for themselves, other numbers for their ratio."""
    if type(value) in (str, bytes):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if value is _NOTHING:
        return ("nothing",)
    if isinstance(value, (float, Decimal128)):
        exact = value.to_decimal() if isinstance(value, Decimal128) else value
        try:
            numerator, denominator = exact.as_integer_ratio()
        except (ValueError, OverflowError):  # infinite, or not a number
            return ("odd", str(value))
        return numerator if denominator == 1 else (numerator, denominator)
    return ("other", bson.encode({"": value}))


def _text(attribute: Attribute, value: Any, longest: int) -> str | None:
    if attribute.type == "N":
        return _number(value)
    if attribute.type == "S" and isinstance(value, str):
        return value if 0 < len(value.encode()) <= longest else None
    if attribute.type == "B" and type(value) is bytes:
        return base64.b64encode(value).decode() if 0 < len(value) <= longest else None
    return None


def _number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal128)):
        return None
    try:
        parts(str(value))
    except ValueError:
        return None
    return str(value)
