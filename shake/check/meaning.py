"""Compares two documents of one item by value, field by field, where their bytes differ.

The order of attributes does not count, nor the order within a set; type and exact value do. The
two integer types of BSON are one: which one is stored follows from the value.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import bson
from bson.decimal128 import Decimal128
from bson.raw_bson import RawBSONDocument

from shake.check.documents import elements, opened
from shake.config import Config
from shake.schema import Keys

#: A parsed DynamoDB item, ``{"name": {"S": "a"}}``.
Item = dict[str, Any]

_SETS = frozenset({"SS", "NS", "BS"})


def differing_fields(
    item: Item, ours: bytes, theirs: bytes, keys: Keys, config: Config
) -> list[str]:
    """The names of the fields that differ between the item's document and the stored one.

    ``_id`` counts only with ``id.mode = key``. ``ours`` comes from the codec, and says what
    ``item`` has to look like.
    """
    wanted, stored = opened(ours), opened(theirs)
    odd = _odd_names(stored)
    raw = config.id_rule.raw
    names = {config.id_rule.name(name): name for name in item}
    differ = [
        name
        for name in dict.fromkeys((*wanted, *stored))
        if name != "_id"
        and not (
            name not in odd
            and name in wanted
            and name in stored
            and _same(item[names[name]], wanted[name], stored[name], raw)
        )
    ]
    if config.id_rule.by_key and (
        "_id" in odd or not _same_id(item, wanted["_id"], stored["_id"], keys, raw)
    ):
        differ.insert(0, "_id")
    return differ


def _same_id(item: Item, ours: Any, theirs: Any, keys: Keys, raw: bool) -> bool:
    if keys.sort is None:
        return _same(item[keys.partition.name], ours, theirs, raw)
    return (
        _is_map(theirs)
        and list(theirs) == list(ours)
        and all(_same(item[name], ours[name], theirs[name], raw) for name in ours)
    )


def _same(typed: Item, ours: Any, theirs: Any, raw: bool) -> bool:
    """Whether both are the typed value; ``ours`` is known to have its form."""
    [(tag, value)] = typed.items()
    if raw:
        if not _is_map(theirs) or list(theirs) != [tag]:
            return False
        ours, theirs = ours[tag], theirs[tag]
    if tag == "M":
        return (
            _is_map(theirs)
            and theirs.keys() == ours.keys()
            and all(_same(value[name], ours[name], theirs[name], raw) for name in ours)
        )
    if tag == "L":
        return (
            type(theirs) is list
            and len(theirs) == len(ours)
            and all(_same(*three, raw) for three in zip(value, ours, theirs, strict=True))
        )
    if tag in _SETS:
        return type(theirs) is list and Counter(map(_scalar, ours)) == Counter(map(_scalar, theirs))
    return _scalar(ours) == _scalar(theirs)


def _is_map(value: Any) -> bool:
    return isinstance(value, RawBSONDocument) and _faithful(value)


def _faithful(document: RawBSONDocument) -> bool:
    """Whether its fields, as they are decoded, are all that it holds.

    Not so where a name comes twice, where text is not UTF-8, or where a type has no like in Python.
    """
    # Inside of another one: at the top, _id would come first.
    return bson.encode({"": dict(document)})[6:-1] == bytes(document.raw)


def _odd_names(document: RawBSONDocument) -> set[str]:
    """The fields that are not what they decode to (see :func:`_faithful`)."""
    if _faithful(document):
        return set()
    found = elements(bytes(document.raw))
    times = Counter(name for name, _ in found)
    return {
        name
        for name, element in found
        if times[name] > 1 or element != bson.encode({name: document[name]})[4:-1]
    }


def _scalar(value: Any) -> tuple[str, Any]:
    """Type and exact value; to Python alone, 1, 1.0 and True are the same."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int):
        return "int", int(value)
    if isinstance(value, Decimal128):
        exact = value.to_decimal()  # a signalling NaN can be neither compared nor hashed
        return "decimal", exact if exact.is_finite() else value.bid
    if isinstance(value, (str, float, bytes)) or value is None:
        return type(value).__name__, value
    return "other", repr(value)
