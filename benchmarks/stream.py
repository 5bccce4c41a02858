"""A virtual stream: closed shards full of prebuilt records, each with an open child that has none.

Every page has a unique number, which is part of its keys and of its sequence numbers. So no key
changes twice, sequence numbers rise along a shard, and each one gives its position.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import orjson
from zlib_ng.zlib_ng import crc32

from benchmarks.pages import KEY_SCHEMA
from benchmarks.records import MAX_RECORDS, PLACE, VIEW, Page, index_of, record_pages, sequence_end

_LABEL = "2026-01-01T00:00:00.000"
#: The first page's number, and how far those of two shards are apart.
_FIRST, _APART = 400_000_000, 1_000_000
#: What the sequence numbers of records that were put begin with: above all others.
_PUT = "9" * 30


class Unknown(Exception):
    """There is no such table, or shard."""


class Stream:
    """``records`` changes in all, over ``shards`` closed shards; then those that are put."""

    def __init__(self, table: str, shape: str, traffic: str, records: int, shards: int) -> None:
        self.label = _LABEL
        self.arn = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}/stream/{_LABEL}"
        self._table = table
        self._kind = shape, traffic
        ends = [records * shard // shards for shard in range(shards + 1)]
        self._records = [end - begin for begin, end in pairwise(ends)]
        self._put: list[bytes] = []  # records of the first open shard
        #: The closed ones, then the child of each.
        self._shards = [f"shardId-{1767225600000 + n:020d}-{n:08x}" for n in range(2 * shards)]

    def entry(self) -> dict[str, str]:
        """As ListStreams gives it."""
        return {"StreamArn": self.arn, "TableName": self._table, "StreamLabel": self.label}

    def description(self, request: dict[str, Any]) -> dict[str, Any]:
        """As DescribeStream gives it."""
        after = request.get("ExclusiveStartShardId")
        parent = request.get("ShardFilter", {}).get("ShardId")
        begin = 0 if after is None else self._number(after) + 1
        shards = [self._shard(number) for number in range(begin, len(self._shards))]
        shards = [shard for shard in shards if parent in (None, shard.get("ParentShardId"))]
        shown = shards[: request.get("Limit", 100)]
        last = {"LastEvaluatedShardId": shown[-1]["ShardId"]} if len(shown) < len(shards) else {}
        return {
            **self.entry(),
            "StreamStatus": "ENABLED",
            "StreamViewType": VIEW,
            "CreationRequestDateTime": 1767225600.0,
            "KeySchema": KEY_SCHEMA,
            "Shards": shown,
            **last,
        }

    def iterator(self, request: dict[str, Any]) -> str:
        """As GetShardIterator gives it."""
        number = self._number(request["ShardId"])
        if request.get("SequenceNumber", "").startswith(_PUT):
            after = request["ShardIteratorType"].startswith("AFTER")
            return self._iterator(number, int(request["SequenceNumber"][len(_PUT) :]) + after)
        if number >= len(self._records) or request["ShardIteratorType"] == "TRIM_HORIZON":
            return self._iterator(number, 0)
        if request["ShardIteratorType"] == "LATEST":
            return self._iterator(number, self._records[number])
        sequence_number = request["SequenceNumber"]
        page = int(sequence_number[: len(PLACE)]) - _FIRST - number * _APART
        at = page * self._capacity + index_of(sequence_number)
        return self._iterator(number, at + request["ShardIteratorType"].startswith("AFTER"))

    def put(self, keys: dict[str, Any]) -> None:
        """Note that the item of these keys was put again."""
        record = {
            "eventName": "MODIFY",
            "dynamodb": {
                "Keys": keys,
                "SequenceNumber": f"{_PUT}{len(self._put)}",
                "ApproximateCreationDateTime": int(time.time()),
                "StreamViewType": VIEW,
            },
        }
        self._put.append(orjson.dumps(record))

    def records(self, request: dict[str, Any]) -> tuple[list[bytes], int]:
        """The body of GetRecords' answer in parts, and its CRC32."""
        shard, at = (int(each) for each in request["ShardIterator"].rpartition("|")[2].split("."))
        if shard == len(self._records):
            some = self._put[at : at + request.get("Limit", MAX_RECORDS)]
            follows = self._iterator(shard, at + len(some)).encode()
            body = b'{"NextShardIterator":"%b","Records":[%b]}' % (follows, b",".join(some))
            return [body], crc32(body)
        if shard > len(self._records):
            tail = b'{"NextShardIterator":"%b","Records":[]}' % request["ShardIterator"].encode()
            return [tail], crc32(tail)
        number, first = divmod(at, self._capacity)
        left = max(0, self._records[shard] - at)
        count = min(request.get("Limit", MAX_RECORDS), self._capacity - first, left)
        text = _cut(self._pages[number % len(self._pages)], first, count)
        text = text.replace(PLACE, b"%d" % (_FIRST + shard * _APART + number))
        head, tail = b'{"Records":[', b"]}"
        if count < left:
            tail = b'],"NextShardIterator":"%b"}' % self._iterator(shard, at + count).encode()
        return [head, text, tail], crc32(tail, crc32(text, crc32(head)))

    @property
    def _pages(self) -> tuple[Page, ...]:
        return record_pages(*self._kind)

    @property
    def _capacity(self) -> int:
        return len(self._pages[0].ends)

    def _number(self, shard: str) -> int:
        if shard not in self._shards:
            raise Unknown(shard)
        return self._shards.index(shard)

    def _shard(self, number: int) -> dict[str, Any]:
        closed = number % len(self._records)
        if number != closed:
            return {
                "ShardId": self._shards[number],
                "ParentShardId": self._shards[closed],
                "SequenceNumberRange": {"StartingSequenceNumber": self._sequence(closed, None)},
            }
        begin, end = (self._sequence(closed, at) for at in (0, max(0, self._records[closed] - 1)))
        limits = {"StartingSequenceNumber": begin, "EndingSequenceNumber": end}
        return {"ShardId": self._shards[number], "SequenceNumberRange": limits}

    def _sequence(self, shard: int, at: int | None) -> str:
        """The sequence number of a record; None: beyond the last."""
        page, index = (_APART - 1, 0) if at is None else divmod(at, self._capacity)
        return f"{_FIRST + shard * _APART + page}{sequence_end(index)}"

    def _iterator(self, shard: int, at: int) -> str:
        return f"{self.arn}|1|{shard}.{at}"


def _cut(page: Page, first: int, count: int) -> bytes:
    """So many of a page's records."""
    begin = page.ends[first - 1] + 1 if first else 0
    return page.text[begin : page.ends[first + count - 1]] if count else b""
