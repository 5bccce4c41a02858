"""Changes to the statements that make them, in plain Python.

As in ``items``, ValueError says why something cannot be stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from shake.codec.contract import ChangeOptions, Options
from shake.codec.items import (
    Convert,
    check_keys,
    check_names,
    converter,
    encode,
    fields,
    identity,
    json_document,
)
from shake.schema import Item

#: The kinds of statements: their place in Statements.
UPDATE, INSERT, DELETE = range(3)


class NoImage(ValueError):
    """A change came without its new image, which no item is to blame for."""


@dataclass(slots=True)
class Change:
    """What the records of one key come to: the event of the first, event and image of the last.

    ``number`` is that of the last record. ``modifies``: each of them is a MODIFY.
    """

    number: int
    key: Item
    query: bytes
    first: str
    last: str
    modifies: bool
    image: Item | None

    def kind(self, options: ChangeOptions) -> int:
        """The kind of statement that makes it."""
        if self.last == "REMOVE":
            return DELETE
        return INSERT if options.insert_only and self.first == "INSERT" else UPDATE


def maker(options: ChangeOptions) -> tuple[Callable[[Item], bytes], Callable[[Change], bytes]]:
    """Two functions: from a key to its query, equal for equal keys; from a change to its statement.

    ``json`` has no queries: there it is the key alone.
    """
    if options.convert == "json":
        return partial(_json_key, options), partial(_json_statement, options)
    convert = converter(options)
    return partial(_query, options, convert), partial(_statement, options, convert)


def query(options: ChangeOptions, key: Item) -> bytes | None:
    """The query in a statement for the document of a typed key; None where no document has it."""
    try:
        return maker(options)[0](key)
    except (ValueError, RecursionError):
        return None


def key_document(options: Options, key: Item) -> bytes | None:
    """A document of this typed key and nothing else; None where none can have it."""
    try:
        return encode(fields(options, converter(options), key, bytes(12)))
    except (ValueError, RecursionError):
        return None


def replacement(document: RawBSONDocument) -> Any:
    """What an update command takes to replace a document by this one.

    A document with a name that begins with ``$`` would be taken for operators.
    Source: https://www.mongodb.com/docs/manual/core/dot-dollar-considerations/
    """
    if any(name.startswith("$") for name in document):
        return [{"$replaceWith": {"$literal": document}}]
    return document


def _image(query: Callable[[Item], bytes], change: Change) -> Item:
    """The new image, which must be there, and of the change's key."""
    if change.image is None:
        raise NoImage(
            f"its {change.last} came without a new image; the stream's view type must be "
            "NEW_IMAGE or NEW_AND_OLD_IMAGES"
        )
    if query(change.image) != change.query:
        raise ValueError("its new image has another key than its record")
    return change.image


def _json_key(options: ChangeOptions, item: Item) -> bytes:
    check_keys(options, item)
    return json_document(options, {key.name: item[key.name] for key in options.keys})


def _json_statement(options: ChangeOptions, change: Change) -> bytes:
    if change.last == "REMOVE":
        return change.query
    return json_document(options, _image(partial(_json_key, options), change))


def _query(options: ChangeOptions, convert: Convert, item: Item) -> bytes:
    """Selects the document of the item's key."""
    check_keys(options, item)
    check_names(options, item)
    rule = options.id_rule
    document = {rule.name(key.name): convert(item[key.name]) for key in options.keys}
    if rule.by_key:
        document["_id"] = identity(options, convert, item)
    return encode(rule.selector(options.keys, document, sharded=options.sharded))


def _statement(options: ChangeOptions, convert: Convert, change: Change) -> bytes:
    query = RawBSONDocument(change.query)
    kind = change.kind(options)
    if kind == DELETE:
        return bson.encode({"q": query, "limit": 1})
    item = _image(partial(_query, options, convert), change)
    document = fields(options, convert, item, None)
    encoded = encode(document)
    if kind == INSERT:
        return encoded
    update = replacement(RawBSONDocument(encoded))
    upsert = options.upsert or not change.modifies
    return bson.encode({"q": query, "u": update, "upsert": upsert})
