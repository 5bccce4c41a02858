"""Makes seeded items, and the pages of them that a Scan would give."""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from shake.source.item_size import item_bytes

Item = dict[str, dict[str, Any]]

KEY_SCHEMA = [
    {"AttributeName": "pk", "KeyType": "HASH"},
    {"AttributeName": "sk", "KeyType": "RANGE"},
]
ATTRIBUTES = [
    {"AttributeName": "pk", "AttributeType": "S"},
    {"AttributeName": "sk", "AttributeType": "N"},
]

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
PAGE_BYTES = 1024 * 1024

SEED = 20190701
#: Pages that differ; a table of any size is made of these.
_PAGES = 2


@dataclass(frozen=True, slots=True)
class Page:
    """The items of a full page as JSON, joined by commas, and where each of them ends.

    ``keys`` is where the ten or more hexadecimal digits of each item's key begin. ``crc`` is the
    CRC32 of ``{"Items":[`` and all items; ``stored`` their size as DynamoDB counts.
    """

    text: bytes
    ends: tuple[int, ...]
    keys: tuple[int, ...]
    crc: int
    stored: int


OPENING = b'{"Items":['


@lru_cache
def pages(shape: str) -> tuple[Page, ...]:
    """The pages of a shape (see SHAPES)."""
    source = random.Random(SEED)
    return tuple(_page(SHAPES[shape], source) for _ in range(_PAGES))


def json_bytes(shape: str) -> float:
    """Bytes of JSON of the average item."""
    return sum(len(p.text) for p in pages(shape)) / sum(len(p.ends) for p in pages(shape))


def page_items(shape: str) -> float:
    """Items of the average full page."""
    return sum(len(p.ends) for p in pages(shape)) / _PAGES


def body(page: Page) -> bytes:
    """The answer to a Scan that gives a full page."""
    count = len(page.ends)
    key = {"pk": {"S": "key"}, "sk": {"N": str(count)}}
    closing = {"Count": count, "ScannedCount": count, "LastEvaluatedKey": key}
    return OPENING + page.text + b"]," + orjson.dumps(closing)[1:]


def _page(make: Callable[[random.Random], Item], source: random.Random) -> Page:
    texts: list[bytes] = []
    ends: list[int] = []
    keys: list[int] = []
    stored = end = 0
    while True:
        item = make(source)
        stored += item_bytes(item)
        if stored > PAGE_BYTES:
            text = b",".join(texts)
            return Page(text, tuple(ends), tuple(keys), zlib.crc32(OPENING + text), PAGE_BYTES)
        texts.append(as_json(item))
        keys.append(end + (end > 0) + texts[-1].index(b"#") + 1)
        end += len(texts[-1]) + (end > 0)
        ends.append(end)


# -- shapes --------------------------------------------------------------------------------------


def _small(source: random.Random) -> Item:
    """About 130 bytes of JSON, 5 values."""
    return {
        "pk": {"S": f"device#{source.getrandbits(40):010x}"},
        "sk": {"N": str(source.getrandbits(40))},
        "temperature": _price(source),
        "on": {"BOOL": source.random() < 0.5},
        "unit": {"S": source.choice(["celsius", "kelvin"])},
    }


def _medium(source: random.Random) -> Item:
    """About 760 bytes of JSON, 30 values: an order with its parts."""
    return {
        **_key(source),
        "name": _words(source, 2),
        "mail": {"S": f"{_word(source)}@example.com"},
        "status": {"S": source.choice(["open", "paid", "sent", "returned"])},
        "note": _words(source, 20),
        "city": {"S": source.choice(["Zürich", "München", "東京", "São Paulo", "Łódź"])},
        "total": _price(source),
        "weight": {"N": f"{source.getrandbits(70)}.{source.getrandbits(20)}"},
        "count": {"N": str(source.randrange(100))},
        "version": {"N": str(source.getrandbits(31))},
        "gift": {"BOOL": source.random() < 0.1},
        "coupon": {"NULL": True},
        "digest": {"B": _base64(source, 24)},
        "tags": {"SS": sorted({_word(source) for _ in range(3)})},
        "sizes": {"NS": sorted({str(source.randrange(1000)) for _ in range(3)})},
        "address": {
            "M": {"street": _words(source, 2), "number": {"N": str(source.randrange(300))}}
        },
        "lines": {"L": [_line(source)]},
    }


def _large(source: random.Random) -> Item:
    """About 10 kB of JSON, 190 values."""
    lines = [_line(source) for _ in range(40)]
    return _medium(source) | {"text": _words(source, 1000), "history": {"L": lines}}


def _numeric(source: random.Random) -> Item:
    """About 910 bytes of JSON, 40 numbers of every kind."""
    readings = [{"N": str(source.randrange(-(10**9), 10**9))} for _ in range(10)]
    exact = [{"N": f"-{source.getrandbits(50)}.{source.getrandbits(60)}"} for _ in range(5)]
    return {
        **_key(source),
        "count": {"N": str(source.randrange(100))},
        "wide": {"N": str(source.getrandbits(100))},
        "tiny": {"N": f"{source.randrange(1, 99)}E-{source.randrange(20, 99)}"},
        "prices": {"L": [_price(source) for _ in range(10)]},
        "exact": {"L": exact},
        "readings": {"L": readings},
        "set": {"NS": sorted({str(source.getrandbits(30)) for _ in range(10)})},
    }


def _escapes(source: random.Random) -> Item:
    """About 1.2 kB of JSON: text that must be unescaped, as of logs and of documents in items."""
    line = f'{_word(source)}:\t"C:\\{_word(source)}\\{_word(source)}"\n'
    said = " ".join(source.choices(["größe", "東京", "Łódź", "naïve", "😀", "café"], k=40))
    return {
        **_key(source),
        "log": {"S": line * 8},
        "json": {"S": json.dumps({_word(source): _word(source) for _ in range(12)})},
        "said": {"S": said},
    }


def _binary(source: random.Random) -> Item:
    """About 4 kB of JSON, nearly all of it base64."""
    return {
        **_key(source),
        "image": {"B": _base64(source, source.randrange(1500, 3000))},
        "hashes": {"BS": [_base64(source, 32) for _ in range(16)]},
    }


def _deep(source: random.Random) -> Item:
    """About 930 bytes of JSON, nested nearly as deep as DynamoDB allows (32 levels)."""
    value: dict[str, Any] = _price(source)
    for level in range(15):
        value = {"M": {"leaf": {"N": str(level)}, _word(source): {"L": [value, {"NULL": True}]}}}
    return {**_key(source), "tree": value}


SHAPES = {
    "small": _small,
    "medium": _medium,
    "large": _large,
    "numeric": _numeric,
    "escapes": _escapes,
    "binary": _binary,
    "deep": _deep,
}


def as_json(item: dict[str, Any]) -> bytes:
    """An item, or what holds one: UTF-8 as it is, but for text that is there to be unescaped."""
    if b'"said"' in (text := orjson.dumps(item)):
        return json.dumps(item, separators=(",", ":")).encode()
    return text


def _key(source: random.Random) -> Item:
    return {
        "pk": {"S": f"customer#{source.getrandbits(48):012x}"},
        "sk": {"N": str(source.getrandbits(44))},
    }


def _base64(source: random.Random, length: int) -> str:
    return base64.b64encode(source.randbytes(length)).decode()


def _line(source: random.Random) -> dict[str, Any]:
    sku = {"S": f"{source.getrandbits(32):08X}"}
    return {"M": {"sku": sku, "n": {"N": str(source.randrange(9))}, "price": _price(source)}}


def _price(source: random.Random) -> dict[str, str]:
    return {"N": f"{source.randrange(100000)}.{source.randrange(1, 100):02}"}


def _word(source: random.Random) -> str:
    return source.choice(_WORDS)


def _words(source: random.Random, count: int) -> dict[str, str]:
    return {"S": " ".join(source.choices(_WORDS, k=count))}


def _vocabulary(source: random.Random) -> list[str]:
    lengths = [source.randrange(3, 9) for _ in range(4000)]
    return ["".join(source.choices(string.ascii_lowercase, k=length)) for length in lengths]


_WORDS = _vocabulary(random.Random(SEED))
