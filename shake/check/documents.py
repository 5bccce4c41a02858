"""Documents as bytes: cut apart, opened, compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson import CodecOptions
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument

from shake import codec
from shake.config import Config

#: Larger than any document.
ROOM = 17 << 20

#: How bytes that are not UTF-8 are kept in a text: as characters that no item has.
_KEPT = "surrogateescape"
#: All can decode documents that other software has written into the target.
DECODED: CodecOptions[dict[str, Any]] = CodecOptions(
    unicode_decode_error_handler=_KEPT, datetime_conversion=DatetimeConversion.DATETIME_MS
)
_OPENED: CodecOptions[RawBSONDocument] = CodecOptions(
    RawBSONDocument,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)
_KEYED = _OPENED.with_options(unicode_decode_error_handler=_KEPT)

#: How many bytes an element's value has, or how many beyond those that its first four count.
#: Source: https://bsonspec.org/spec.html
_FIXED = {
    **dict.fromkeys((0x06, 0x0A, 0x7F, 0xFF), 0),
    **dict.fromkeys((0x01, 0x09, 0x11, 0x12), 8),
    0x07: 12,
    0x08: 1,
    0x10: 4,
    0x13: 16,
}
_COUNTED = {
    **dict.fromkeys((0x03, 0x04, 0x0F), 0),
    **dict.fromkeys((0x02, 0x0D, 0x0E), 4),
    0x05: 5,
    0x0C: 16,
}
_OBJECT_ID = b"\x07_id\0"


def cut(documents: memoryview | bytes) -> list[bytes]:
    """Documents that stand one behind the other, each beginning with its length."""
    return [one.tobytes() for one in codec.singly(memoryview(documents))]


def opened(document: bytes) -> RawBSONDocument:
    """A document whose fields are decoded when they are asked for."""
    return RawBSONDocument(document, _OPENED)


def keyed(document: bytes) -> RawBSONDocument:
    """The same, for its key: a text that is not UTF-8 differs from every other one."""
    return RawBSONDocument(document, _KEYED)


def encoded(document: Mapping[str, Any]) -> bytes:
    """What was decoded by DECODED, as BSON again."""
    return _framed(b"".join(_element(*field) for field in document.items()))


def _element(name: str, value: Any) -> bytes:
    head = name.encode(errors=_KEPT) + b"\0"
    if type(value) is str:
        text = value.encode(errors=_KEPT)
        return b"\2" + head + (len(text) + 1).to_bytes(4, "little") + text + b"\0"
    if isinstance(value, Mapping) and not isinstance(value, RawBSONDocument):
        return b"\3" + head + encoded(value)
    if isinstance(value, list):
        return b"\4" + head + encoded({str(n): one for n, one in enumerate(value)})
    element = bson.encode({"": value})[4:-1]
    return element[:1] + head + element[2:]


def _framed(elements: bytes) -> bytes:
    return (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"


def content(document: bytes, config: Config) -> bytes:
    """The part of a document that the item decides: without an ``_id`` that means nothing."""
    if config.id_rule.by_key:
        return document
    if document[4:9] == _OBJECT_ID:
        return document[4 + len(_OBJECT_ID) + 12 :]
    return document[_id_end(document) :]


def ids(documents: list[bytes]) -> list[Any]:
    """The ``_id`` of documents that begin with it; nothing else is looked at."""
    small = [
        _framed(document[4:end])
        for document, end in ((document, _id_end(document)) for document in documents)
    ]
    return [one["_id"] for one in bson.decode_all(b"".join(small), DECODED)]


def elements(document: bytes) -> list[tuple[str, bytes]]:
    """The fields of a document in their order, also those that come twice: name and bytes."""
    found = []
    start = 4
    while document[start]:
        name_end = document.index(0, start + 1)
        end = _value_end(document, document[start], name_end + 1)
        name = document[start + 1 : name_end].decode(errors="replace")
        found.append((name, document[start:end]))
        start = end
    return found


def _value_end(document: bytes, kind: int, start: int) -> int:
    """Where the value of an element ends that begins at ``start``."""
    if kind in _COUNTED:
        return start + _COUNTED[kind] + int.from_bytes(document[start : start + 4], "little")
    if kind in _FIXED:
        return start + _FIXED[kind]
    return document.index(0, document.index(0, start) + 1) + 1  # a regular expression: two texts


def _id_end(document: bytes) -> int:
    """Where an ``_id`` that comes first ends; 4 where none does."""
    if document[5:9] != b"_id\0":
        return 4
    return _value_end(document, document[4], 9)
