"""What tests of a codec need: every implementation, pages, and an expectation of its own making."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from decimal import Context, Decimal
from types import ModuleType
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from shake.codec import native, reference
from shake.codec.contract import Options

#: Every implementation; each test of the codec runs against each.
CODECS: list[ModuleType] = [reference, native]
every_codec = pytest.mark.parametrize(
    "codec", CODECS, ids=[module.__name__.rpartition(".")[2] for module in CODECS]
)

PREFIX = b"\x65\x00\x00\x00\x00\x00\x07"


def page(items: Iterable[Any], **fields: object) -> bytes:
    """A Scan response body; a field given as None is left out."""
    items = list(items)
    response = {"Items": items, "Count": len(items), "ScannedCount": len(items)} | fields
    given = {name: value for name, value in response.items() if value is not None}
    return json.dumps(given, ensure_ascii=False).encode("utf-8", "surrogatepass")


def documents(
    codec: ModuleType, body: bytes, options: Options, number: int = 0, slot: int = 1 << 20
) -> list[bytes]:
    """The documents of a page, filled into slots of this size."""
    scan = codec.scan_page(body, options)
    found: list[bytes] = []
    while len(found) < scan.count:
        out = bytearray(slot)
        used, count = scan.fill(memoryview(out), PREFIX, number)
        assert count > 0
        filled = list(split(bytes(out[:used])))
        assert len(filled) == count
        found += filled
    assert scan.fill(memoryview(bytearray(slot)), PREFIX, number) == (0, 0)
    return found


def split(filled: bytes) -> Iterable[bytes]:
    """Cut at the lengths that documents begin with."""
    while filled:
        length = int.from_bytes(filled[:4], "little")
        assert 4 <= length <= len(filled)
        yield filled[:length]
        filled = filled[length:]


def document(codec: ModuleType, item: Any, options: Options) -> dict[str, Any]:
    """The decoded document of one item."""
    [encoded] = documents(codec, page([item]), options)
    return bson.decode(encoded)


def expected(item: dict[str, Any], options: Options, place: int) -> bytes:
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
