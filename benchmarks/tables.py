"""Virtual tables: a name says what is in one, prebuilt pages are what a Scan of it gives."""

from __future__ import annotations

import random
import re
from itertools import accumulate
from typing import Any

import orjson
from zlib_ng.zlib_ng import crc32

from benchmarks.pages import ATTRIBUTES, KEY_SCHEMA, OPENING, SHAPES, Page, pages
from benchmarks.records import TRAFFIC, VIEW
from benchmarks.stream import Stream, Unknown

#: The body of an answer in parts, and its CRC32.
Answer = tuple[list[bytes], int]

_NAME = re.compile(rf"(?:({'|'.join(TRAFFIC)})-)?({'|'.join(SHAPES)})-(\d+)")


class Table:
    """A virtual table, and the log of its reading."""

    def __init__(
        self, name: str, skew: float, shards: int, *, unique: bool = False, quiet: bool = False
    ) -> None:
        match = _NAME.fullmatch(name)
        if match is None:
            raise Unknown(name)
        traffic, shape, items = match.groups()
        self.name = name
        self.items = int(items)
        changes = 0 if quiet else self.items
        self.stream = Stream(name, shape, traffic or "insert", changes, shards)
        self.scans = 0
        self.segments: dict[int, list[float]] = {}
        self._pages = pages(shape)
        self._skew = skew
        self._unique = unique
        self._bounds: dict[int, list[int]] = {}
        self._places: dict[str, tuple[Page, int]] = {}  # of items in pages, by sort key

    @property
    def size(self) -> int:
        """Bytes, as DynamoDB counts them."""
        return self.items * sum(p.stored for p in self._pages) // sum(map(_full, self._pages))

    def scan(self, request: dict[str, Any]) -> Answer:
        """One page of a segment."""
        segment = request.get("Segment", 0)
        low, high = self._range(segment, request.get("TotalSegments", 1))
        start = request.get("ExclusiveStartKey")
        at = low if start is None else int(start["sk"]["N"])
        page = self._pages[at % len(self._pages)]
        count = min(high - at, _full(page), request.get("Limit", high))
        closing: dict[str, Any] = {"Count": count, "ScannedCount": count}
        if "ReturnConsumedCapacity" in request:
            units = page.stored / _full(page) * count / 8192
            closing["ConsumedCapacity"] = {"TableName": self.name, "CapacityUnits": units}
        if at + count < high:
            key = {"pk": {"S": f"key of {at + count}"}, "sk": {"N": str(at + count)}}
            closing["LastEvaluatedKey"] = key
        items, crc = _unique(page, count, at) if self._unique else _head(page, count)
        tail = b"]," + orjson.dumps(closing)[1:]
        return [OPENING, items, tail], crc32(tail, crc)

    def item(self, key: dict[str, Any]) -> bytes | None:
        """The item of a key as JSON, None where there is none; for a table of unique keys."""
        if not self._places:  # filled at once, as other threads look at it
            self._places = {
                item["sk"]["N"]: (page, index)
                for page in self._pages
                for index, item in enumerate(orjson.loads(OPENING + page.text + b"]}")["Items"])
            }
        if key["sk"]["N"] not in self._places:
            return None
        page, index = self._places[key["sk"]["N"]]
        begin = page.ends[index - 1] + 1 if index else 0
        text = bytearray(page.text[begin : page.ends[index]])
        digits = page.keys[index] - begin
        number = key["pk"]["S"].partition("#")[2][:10]
        text[digits : digits + 10] = number.encode()
        found = orjson.loads(text)
        there = found["pk"] == key["pk"] and int(number, 16) < self.items
        return bytes(text) if there else None

    def description(self) -> dict[str, Any]:
        """As DescribeTable gives it."""
        return {
            "TableName": self.name,
            "TableStatus": "ACTIVE",
            "KeySchema": KEY_SCHEMA,
            "AttributeDefinitions": ATTRIBUTES,
            "ItemCount": self.items,
            "TableSizeBytes": self.size,
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            "StreamSpecification": {"StreamEnabled": True, "StreamViewType": VIEW},
            "LatestStreamArn": self.stream.arn,
            "LatestStreamLabel": self.stream.label,
        }

    def _range(self, segment: int, total: int) -> tuple[int, int]:
        if total not in self._bounds:
            source = random.Random(total)
            weights = [source.uniform(1 - self._skew, 1 + self._skew) for _ in range(total)]
            ends = accumulate(weights)
            self._bounds[total] = [0, *(round(self.items * end / sum(weights)) for end in ends)]
        return self._bounds[total][segment], self._bounds[total][segment + 1]


def _full(page: Page) -> int:
    return len(page.ends)


def _unique(page: Page, count: int, at: int) -> tuple[bytes, int]:
    """The first items of a page with keys made of their numbers in the table, and the CRC32."""
    text = bytearray(_head(page, count)[0])
    for number, start in enumerate(page.keys[:count], at):
        text[start : start + 10] = b"%010x" % number
    return bytes(text), crc32(OPENING + text)


def _head(page: Page, count: int) -> tuple[bytes, int]:
    """The first items of a page, and the CRC32 up to their end."""
    if count == _full(page):
        return page.text, page.crc
    text = page.text[: page.ends[count - 1]] if count else b""
    return text, crc32(OPENING + text)
