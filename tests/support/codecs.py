"""What tests of a codec need: every implementation, pages, and their documents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import bson
import pytest

from shake.codec import native, reference
from shake.codec.contract import Options, ScanPage
from tests.support.expected import PREFIX

#: Every implementation; each test of the codec runs against each.
CODECS: list[ModuleType] = [reference, native]
every_codec = pytest.mark.parametrize(
    "codec", CODECS, ids=[module.__name__.rpartition(".")[2] for module in CODECS]
)


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
    while not scan.done:
        out = bytearray(slot)
        used, count = scan.fill(memoryview(out), PREFIX, number)
        assert count > 0 or scan.done
        filled = list(split(bytes(out[:used])))
        assert len(filled) == count
        found += filled
    assert scan.fill(memoryview(bytearray(slot)), PREFIX, number) == (0, 0)
    assert len(found) == scan.count
    return found


def read(codec: ModuleType, body: bytes | memoryview, options: Options) -> ScanPage:
    """A page whose documents, which are few, are given out."""
    scan: ScanPage = codec.scan_page(body, options)
    while not scan.done:
        scan.fill(memoryview(bytearray(1 << 16)), PREFIX, 0)
    return scan


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
