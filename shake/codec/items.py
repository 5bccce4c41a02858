"""Items and their values to documents, in plain Python: the rules for what is stored, and how.

Everything here raises ValueError, with the reason, for what cannot be stored.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import bson
import orjson
from bson.errors import InvalidDocument
from bson.objectid import ObjectId

from shake.codec.contract import ChangeOptions, Options
from shake.codec.number import exact, nearest, survives_as_double
from shake.schema import Item

#: https://www.mongodb.com/docs/manual/reference/limits/#mongodb-limit-BSON-Document-Size
MAX_DOCUMENT = 16 * 1024 * 1024

#: Characters of a key that an error shows.
SHOWN_KEY = 300

_SURROGATE = "a name or string holds a lone surrogate, which is not Unicode text"

Convert: TypeAlias = Callable[[Any], Any]


def dump(value: object) -> bytes:
    """Compact JSON; in ASCII where a lone surrogate has no UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def key_text(options: Options, item: Item) -> str:
    """The item's key as DynamoDB JSON, for people."""
    text = dump({key.name: item[key.name] for key in options.keys if key.name in item}).decode()
    return text if len(text) <= SHOWN_KEY else text[:SHOWN_KEY] + "..."


def has_key(options: Options, item: Item) -> bool:
    """Whether the item has its key, each attribute a string of its type."""
    return all(
        type(typed := item.get(key.name)) is dict
        and list(typed) == [key.type]
        and type(typed[key.type]) is str
        for key in options.keys
    )


def encoder(options: Options) -> Callable[[Item, bytes], bytes]:
    """The function from an item, and the 12 bytes of an ObjectId for it, to its document."""
    if options.convert == "json":
        return lambda item, _: json_document(options, item)
    convert = converter(options)
    return lambda item, object_id: encode(fields(options, convert, item, object_id))


def json_document(options: Options, item: Item) -> bytes:
    """The item's JSON behind its length."""
    check_keys(options, item)
    try:
        document = orjson.dumps(item)
    except TypeError as error:
        raise ValueError(_SURROGATE) from error
    return (len(document) + 4).to_bytes(4, "little") + document


def fields(
    options: Options, convert: Convert, item: Item, object_id: bytes | None
) -> dict[str, Any]:
    """The item's document, in ``objectid`` mode without ``_id`` where no ObjectId is given."""
    check_keys(options, item)
    check_names(options, item)
    rule = options.id_rule
    document: dict[str, Any] = {"_id": None}
    for name, typed in item.items():
        try:
            document[rule.name(name)] = convert(typed)
        except ValueError as error:
            raise ValueError(f"attribute {name!a}: {error}") from error
    if rule.by_key:
        document["_id"] = identity(options, convert, item)
    elif object_id is not None:
        document["_id"] = ObjectId(object_id)
    else:
        del document["_id"]
    return document


def identity(options: Options, convert: Convert, item: Item) -> Any:
    """The key as an ``_id``."""
    stored = {key.name: convert(item[key.name]) for key in options.keys}
    return options.id_rule.identity(options.keys, stored)


def encode(document: dict[str, Any]) -> bytes:
    """The document as BSON."""
    try:
        encoded = bson.encode(document)
    except UnicodeEncodeError as error:
        raise ValueError(_SURROGATE) from error
    except InvalidDocument as error:
        raise ValueError("an attribute name holds U+0000, which BSON cannot store") from error
    if len(encoded) > MAX_DOCUMENT:
        raise ValueError(f"its document of {len(encoded)} bytes is above MongoDB's limit of 16 MiB")
    return encoded


def check_names(options: Options, item: Item) -> None:
    """Refuse an item two of whose attributes would have one name."""
    renamed = options.id_rule.name("_id")
    if "_id" in item and renamed in item:
        raise ValueError(
            f"it holds both _id and {renamed}, which is where _id would go; set another "
            "convert._id, after shake forget for each table that has documents stored already"
        )


def check_keys(options: Options, item: Item) -> None:
    """Refuse an item without its key, or whose key two items could come to share."""
    # A copy by ObjectId stores both items; a change could not tell them apart.
    selects = options.id_rule.by_key or isinstance(options, ChangeOptions) or options.rejects
    for key in options.keys:
        typed = item.get(key.name)
        if type(typed) is not dict or list(typed) != [key.type]:
            raise ValueError(f"key attribute {key.name!a} is missing or not of type {key.type}")
        if (
            options.convert == "mchange"
            and selects
            and key.type == "N"
            and not survives_as_double(_string(typed["N"]))
        ):
            changes = isinstance(options, ChangeOptions) or options.rejects
            way_out = "" if changes else " or id.mode = objectid"
            raise ValueError(
                f"key attribute {key.name!a} changes as a double, so that two keys could "
                f"become one; use convert.type = change{way_out}"
            )


# -- values --------------------------------------------------------------------------------------
# Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html


def converter(options: Options) -> Convert:
    """The function from a typed value, ``{"N": "1"}``, to what ``bson.encode`` takes."""

    def convert(typed: object) -> Any:
        if type(typed) is not dict or len(typed) != 1:
            raise ValueError("it is not a value with one type")
        [(tag, value)] = typed.items()
        by_type = by_tag.get(tag)
        if by_type is None:
            raise ValueError(f"its type {tag!a} is unknown")
        return by_type(value)

    def mapping(value: object) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValueError("its M is not an object")
        return {name: convert(typed) for name, typed in value.items()}

    number = {
        "change": lambda value: exact(_string(value), options.overflow),
        "mchange": lambda value: nearest(_string(value)),
        "raw": _string,
    }[options.convert]
    by_tag: dict[str, Convert] = {
        "S": _string,
        "N": number,
        "B": _binary,
        "BOOL": _boolean,
        "NULL": _null,
        "L": partial(_array, convert),
        "M": mapping,
        "SS": partial(_array, _string),
        "NS": partial(_array, number),
        "BS": partial(_array, _binary),
    }
    if options.convert == "raw":
        by_tag["NULL"] = _true
        by_tag = {tag: partial(_keep_type, tag, by_type) for tag, by_type in by_tag.items()}
    return convert


def _keep_type(tag: str, convert: Convert, value: object) -> dict[str, Any]:
    return {tag: convert(value)}


def _string(value: object) -> str:
    if type(value) is not str:
        raise ValueError("it holds something else than a JSON string")
    return value


def _binary(value: object) -> bytes:
    text = _string(value)
    try:
        # Python 3.10 takes padding without data for nothing at all.
        if len(text) % 4:
            raise ValueError("its length is no multiple of 4")
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"its binary value is not base64: {error}") from error


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError("its BOOL is neither true nor false")
    return value


def _true(value: object) -> bool:
    if value is not True:
        raise ValueError("its NULL is not true")
    return True


def _null(value: object) -> None:
    _true(value)


def _array(convert: Convert, value: object) -> list[Any]:
    if type(value) is not list:
        raise ValueError("it holds something else than a JSON array")
    return [convert(element) for element in value]
