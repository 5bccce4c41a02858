"""The document that an item becomes: an expectation of the tests' own making."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any

import bson
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from shake.codec.contract import Options

PREFIX = b"\x65\x00\x00\x00\x00\x00\x07"


def expected(item: Mapping[str, Any], options: Options, place: int) -> bytes:
    """The BSON of an item by the contract's words, with Decimal for every number."""
    identity: Any = ObjectId(PREFIX + place.to_bytes(5, "big"))
    if options.id_mode == "key":
        identity = {key.name: _expected(item[key.name], options.convert) for key in options.keys}
        if options.keys.sort is None:
            [identity] = identity.values()
    attributes = [
        (options.id_prefix + "_id" if name == "_id" else name, _expected(value, options.convert))
        for name, value in item.items()
    ]
    return bson.encode(dict([("_id", identity), *attributes]))


def _expected(typed: dict[str, Any], convert: str) -> Any:
    [(tag, value)] = typed.items()
    match tag:
        case "L":
            plain: Any = [_expected(element, convert) for element in value]
        case "M":
            plain = {name: _expected(element, convert) for name, element in value.items()}
        case "SS" | "NS" | "BS":
            plain = [_expected_scalar(tag[0], element, convert) for element in value]
        case _:
            plain = _expected_scalar(tag, value, convert)
    return {tag: plain} if convert == "raw" else plain


def _expected_scalar(tag: str, value: Any, convert: str) -> Any:
    if tag == "B":
        return base64.b64decode(value)
    if tag == "NULL":
        return True if convert == "raw" else None
    if tag == "N" and convert != "raw":
        return float(Decimal(value)) + 0.0 if convert == "mchange" else expected_number(value)
    return value


def expected_number(text: str) -> int | Decimal128 | str:
    """A number under ``change``, by arithmetic."""
    value = Decimal(text).normalize(Context(prec=60))
    whole = value == value.to_integral_value()
    if whole and -(2**63) <= value < 2**63:
        return int(value)
    if len(value.as_tuple().digits) > 34:
        return format(value, "f")
    if whole and value.adjusted() < 34:
        value = value.quantize(Decimal(1), context=Context(prec=34))
    return Decimal128(value)
