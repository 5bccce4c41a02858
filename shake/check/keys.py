"""A stored key: found in a document, compared by value, looked up, and turned back into DynamoDB's.

Two keys are one where MongoDB takes them for one: numbers compare by value, whatever their type.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

from bson.decimal128 import Decimal128
from bson.raw_bson import RawBSONDocument

from shake.check.documents import encoded, ids, opened
from shake.check.meaning import Item
from shake.codec.contract import KeyForm, Options
from shake.codec.number import parts, plain
from shake.config import Config
from shake.schema import Attribute, Table

#: The values of the key attributes in a form that is equal, and has one hash, for equal keys.
Identity = tuple[Any, ...]

#: The key of an item: as its document has it in its ``_id``, or typed where the target holds items;
#: and its values.
SourceKey = tuple[Any, tuple[Any, ...]]

#: Bytes of a partition and of a sort key.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_LONGEST_KEYS = (2048, 1024)

#: The prefix of an attribute ``_id`` in documents that only the check makes of items: a random
#: number. An item that has an attribute of this name already is compared more slowly.
_ALIAS = "5f1f7c3a9b8e4d06a2c4e1d97b60f358"

_NOTHING = object()


def stored_keys(table: Table, config: Config) -> StoredKeys:
    """The keys of one table, as the target of a configuration holds them."""
    if config.capabilities.documents == "bson":
        return StoredKeys(table, config)
    typed = replace(config, convert_type="raw", convert_id=_ALIAS, id_mode="objectid")
    return ItemKeys(table, typed)


class StoredKeys:
    """The keys of one table, as this configuration stores them.

    ``lossy``: different keys may be stored as one double, from which no way leads back. ``by_id``:
    the ``_id`` is the key; else these ``fields`` are. ``paths`` lead to the values, in queries and
    indexes.
    """

    def __init__(self, table: Table, config: Config) -> None:
        self.table = table
        self.config = config
        numbers = any(attribute.type == "N" for attribute in table.keys)
        self.lossy = numbers and config.convert_type == "mchange"
        self.rule = rule = config.id_rule
        self.by_id = rule.by_key
        self.fields = [] if self.by_id else [rule.name(key.name) for key in table.keys]
        self.paths = ["_id"] if self.by_id else [rule.path(key) for key in table.keys]
        self._names = self.fields or [key.name for key in table.keys]

    @cached_property
    def ours(self) -> StoredKeys:
        """The keys of the documents that the check has the codec make of the source's items.

        They have the key as their ``_id``, where it is found without a look at the rest. Only a key
        that becomes a double may be refused as an ``_id``.
        """
        return self if self.lossy else type(self)(self.table, replace(self.config, id_mode="key"))

    @cached_property
    def form(self) -> KeyForm:
        """How the stored documents hold their keys."""
        return KeyForm.of(self.rule, self.table.keys)

    @property
    def options(self) -> Options:
        """How the codec makes such documents."""
        config = self.config
        settings = config.convert_type, config.convert_id, config.convert_number_overflow
        return Options(self.table.keys, *settings, config.id_mode)

    def read(self, documents: list[bytes]) -> list[SourceKey]:
        """The keys of documents that the codec has made; :attr:`ours` alone does."""
        if not self.by_id:
            return [(None, tuple(self.values(opened(document)))) for document in documents]
        found = ids(documents)
        return [(one, tuple(self.rule.values(self.table.keys, one))) for one in found]

    def values(self, document: Mapping[str, Any]) -> list[Any]:
        """The stored values of the key attributes; a placeholder where there is none."""
        names = self._names
        whole: Any = document["_id"] if self.by_id else document
        if self.by_id and len(names) == 1:
            found = [whole]
        elif not self.by_id or (isinstance(whole, Mapping) and list(whole) == names):
            found = [whole.get(name, _NOTHING) for name in names]
        else:
            found = [_NOTHING] * len(names)
        if self.rule.raw:
            return [_untyped(*pair) for pair in zip(self.table.keys, found, strict=True)]
        return found

    def key_of(self, item: Item) -> SourceKey:
        """The key of an item."""
        typed = {key.name: item[key.name] for key in self.table.keys}
        values = [value for one in typed.values() for value in one.items()]
        return typed, tuple(base64.b64decode(one) if tag == "B" else one for tag, one in values)

    def identity(self, document: Mapping[str, Any]) -> Identity:
        """The document's key, to be compared."""
        return self._identity(self.values(document))

    def identity_of(self, key: SourceKey) -> Identity:
        """The key of an item, to be compared with those of stored documents."""
        return self._identity(key[1])

    def _identity(self, values: Iterable[Any]) -> Identity:
        return tuple(map(_canonical, values))

    def query(self, keys: list[SourceKey]) -> dict[str, Any]:
        """Selects all stored documents of these keys."""
        if self.by_id:
            return {"_id": {"$in": [identifier for identifier, _ in keys]}}
        paths = self.paths
        if len(paths) == 1:
            return {paths[0]: {"$in": [partition for _, (partition,) in keys]}}
        groups: dict[Any, tuple[Any, list[Any]]] = {}
        for _, (partition, sort) in keys:
            groups.setdefault(_canonical(partition), (partition, []))[1].append(sort)
        some = [{paths[0]: pk, paths[1]: {"$in": sorts}} for pk, sorts in groups.values()]
        return some[0] if len(some) == 1 else {"$or": some}

    def exactly(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """Selects the documents whose key has these values, whatever they are."""
        query: dict[str, Any] = {}
        if "_id" in key:
            # On a sharded cluster an _id alone may name several documents.
            query["_id"] = _equal(key["_id"])
        if not self.by_id and ("_id" not in key or self.typed(key) is not None):
            query |= {
                path: _equal(None if value is _NOTHING else value)
                for path, value in zip(self.paths, self.values(key), strict=True)
            }
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


class ItemKeys(StoredKeys):
    """The keys of a table whose target holds items: each value is typed, numbers are texts."""

    def _identity(self, values: Iterable[Any]) -> Identity:
        return tuple(
            tuple(parts(value)) if key.type == "N" and isinstance(value, str) else value
            for key, value in zip(self.table.keys, values, strict=True)
        )


def digest(identity: Identity) -> bytes:
    """16 bytes that stand for a key."""
    return blake2b(repr(identity).encode(), digest_size=16).digest()


def typed_identity(key: Item) -> Identity:
    """A typed key, to be compared: to DynamoDB too, numbers of one value are one."""
    return tuple(
        (name, tag, tuple(parts(text)) if tag == "N" else text)
        for name, typed in sorted(key.items())
        for tag, text in typed.items()
    )


def key_of_item(table: Table, item: Item) -> Item:
    """The typed key of an item, in one form: in the table's order, numbers as DynamoDB has them.

    A stream's record has the attributes of its key in any order, and a document its own form of a
    number.
    """
    found = {}
    for attribute in table.keys:
        if typed := item.get(attribute.name):
            [(tag, text)] = typed.items()
            if tag == "N":
                with contextlib.suppress(ValueError):
                    text = plain(text)
            found[attribute.name] = {tag: text}
    return found


def _equal(value: Any) -> RawBSONDocument:
    return RawBSONDocument(encoded({"$eq": value}))


def _untyped(attribute: Attribute, value: Any) -> Any:
    if isinstance(value, Mapping) and len(value) == 1:
        return value.get(attribute.type, _NOTHING)
    return _NOTHING


def _canonical(value: Any) -> Any:
    """Strings, bytes and integers stand for themselves, other numbers for their ratio."""
    kind = type(value)
    if kind is str or kind is int or kind is bytes:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if value is _NOTHING or value is None:  # for an index they are equal
        return ("nothing",)
    if isinstance(value, (float, Decimal128)):
        exact = value.to_decimal() if isinstance(value, Decimal128) else value
        try:
            numerator, denominator = exact.as_integer_ratio()
        except (ValueError, OverflowError):  # infinite, or not a number
            return ("odd", str(value))
        return numerator if denominator == 1 else (numerator, denominator)
    return ("other", encoded({"": value}))


def _text(attribute: Attribute, value: Any, longest: int) -> str | None:
    if attribute.type == "N":
        return _number(value)
    if attribute.type == "S" and isinstance(value, str):
        return value if 0 < _size(value) <= longest else None
    if attribute.type == "B" and type(value) is bytes:
        return base64.b64encode(value).decode() if 0 < len(value) <= longest else None
    return None


def _size(text: str) -> int:
    """In bytes; 0 for what is not UTF-8."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0


def _number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal128)):
        return None
    try:
        parts(str(value))
    except ValueError:
        return None
    return str(value)
