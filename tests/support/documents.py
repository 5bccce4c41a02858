"""Slots of documents for the targets' tests, as the codec would fill them."""

from __future__ import annotations

from typing import Any

import bson
from bson.objectid import ObjectId


def object_id(number: int, segment: int = 0) -> ObjectId:
    """The position's ``_id``: rising with the number, apart from other segments."""
    return ObjectId(b"\x65\0\0\0" + segment.to_bytes(3, "big") + number.to_bytes(5, "big"))


def slot(documents: list[dict[str, Any]]) -> memoryview:
    """The documents one behind the other, in memory that may be overwritten later."""
    return memoryview(bytearray(b"".join(map(bson.encode, documents))))


def items(count: int, **more: Any) -> list[dict[str, Any]]:
    """Documents of the table with the one key attribute ``pk``, a string."""
    return [{"_id": object_id(i), "pk": f"k{i:06}", **more} for i in range(count)]
