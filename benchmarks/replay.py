"""A source that costs next to nothing: speaks DynamoDB, and replays prebuilt pages for its tables.

A table's name says what is in it: ``medium-1000000`` holds so many items of that shape. Segments
hold 1 - SKEW to 1 + SKEW times the mean; every position gives the same page each time. Pages
repeat, and keys with them, so this is a source only for a target that does not look.

``GET /TABLE`` gives, and forgets, when each segment of the table was read, by CLOCK_MONOTONIC:
``{"scans": calls, "segments": {segment: [first request, last answer]}}``.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import time
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

from benchmarks.pages import ATTRIBUTES, KEY_SCHEMA, OPENING, SHAPES, Page, pages
from benchmarks.serving import serve

_TABLE = re.compile(rf"({'|'.join(SHAPES)})-(\d+)")
#: Bytes sent at once where a bandwidth is set: a TLS record, some ten packets.
_WRITE_BYTES = 16 * 1024
_THROTTLED = orjson.dumps(
    {
        "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "message": "The level of configured provisioned throughput for the table was exceeded.",
    }
)


class Table:
    """A virtual table, and the log of its reading."""

    def __init__(self, name: str, skew: float) -> None:
        match = _TABLE.fullmatch(name)
        if match is None:
            raise KeyError(name)
        self.name = name
        self.items = int(match[2])
        self.scans = 0
        self.segments: dict[int, list[float]] = {}
        self._pages = pages(match[1])
        self._skew = skew
        self._bounds: dict[int, list[int]] = {}

    @property
    def size(self) -> int:
        """Bytes, as DynamoDB counts them."""
        return self.items * sum(p.stored for p in self._pages) // sum(map(_full, self._pages))

    def scan(self, request: dict[str, Any]) -> tuple[list[bytes], int]:
        """The body of an answer in parts, and its CRC32."""
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
        items, crc = _head(page, count)
        tail = b"]," + orjson.dumps(closing)[1:]
        return [OPENING, items, tail], zlib.crc32(tail, crc)

    def _range(self, segment: int, total: int) -> tuple[int, int]:
        if total not in self._bounds:
            source = random.Random(total)
            weights = [source.uniform(1 - self._skew, 1 + self._skew) for _ in range(total)]
            ends = accumulate(weights)
            self._bounds[total] = [0, *(round(self.items * end / sum(weights)) for end in ends)]
        return self._bounds[total][segment], self._bounds[total][segment + 1]


def _full(page: Page) -> int:
    return len(page.ends)


def _head(page: Page, count: int) -> tuple[bytes, int]:
    """The first items of a page, and the CRC32 up to their end."""
    if count == _full(page):
        return page.text, page.crc
    text = page.text[: page.ends[count - 1]] if count else b""
    return text, zlib.crc32(OPENING + text)


class Replay:
    """Answers requests. What makes it slow, or refuse, is for segmented Scans alone."""

    def __init__(
        self, tables: list[str], delay: float, bandwidth: float, skew: float, *, throttle: bool
    ) -> None:
        self._delay = delay
        self._bandwidth = bandwidth
        self._skew = skew
        self._throttle = throttle
        self._tables = {name: Table(name, skew) for name in tables}

    def connection(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        for target, body in _requests(connection):
            if target.startswith("/"):
                status, parts, crc = 200, [self._log(target[1:])], None
            else:
                status, parts, crc = self._answer(target, orjson.loads(body))
            length = sum(map(len, parts))
            head = f"HTTP/1.1 {status} OK\r\nContent-Length: {length}\r\n"
            head += "Content-Type: application/x-amz-json-1.0\r\n"
            head += f"x-amz-crc32: {zlib.crc32(b''.join(parts)) if crc is None else crc}\r\n\r\n"
            answer = b"".join([head.encode(), *parts])
            if self._bandwidth:
                _send_paced(connection, answer, self._bandwidth)
            else:
                connection.sendall(answer)

    def _answer(self, operation: str, request: dict[str, Any]) -> tuple[int, list[bytes], int]:
        if operation == "ListTables":
            return _small({"TableNames": sorted(self._tables)})
        try:
            table = self._table(request["TableName"])
        except KeyError:
            return _small({"__type": "x#ResourceNotFoundException"}, 400)
        if operation == "DescribeTable":
            return _small({"Table": _description(table)})
        if operation != "Scan":
            return _small({"__type": "x#UnknownOperationException"}, 400)
        if "Segment" not in request:
            return 200, *table.scan(request)
        times = table.segments.setdefault(request["Segment"], [time.monotonic(), 0.0])
        table.scans += 1
        time.sleep(self._delay)
        if self._throttle:
            return 400, [_THROTTLED], zlib.crc32(_THROTTLED)
        answer = table.scan(request)
        times[1] = time.monotonic()
        return 200, *answer

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = Table(name, self._skew)
        return self._tables[name]

    def _log(self, name: str) -> bytes:
        table = self._table(name)
        log = {"scans": table.scans, "segments": table.segments}
        table.scans, table.segments = 0, {}
        return orjson.dumps(log, option=orjson.OPT_NON_STR_KEYS)


def _small(answer: dict[str, Any], status: int = 200) -> tuple[int, list[bytes], int]:
    body = orjson.dumps(answer)
    return status, [body], zlib.crc32(body)


def _description(table: Table) -> dict[str, Any]:
    return {
        "TableName": table.name,
        "TableStatus": "ACTIVE",
        "KeySchema": KEY_SCHEMA,
        "AttributeDefinitions": ATTRIBUTES,
        "ItemCount": table.items,
        "TableSizeBytes": table.size,
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
    }


def _send_paced(connection: socket.socket, answer: bytes, bandwidth: float) -> None:
    """Send as a network does: in small portions, so many bytes a second, never in a burst."""
    began = time.monotonic()
    for start in range(0, len(answer), _WRITE_BYTES):
        connection.sendall(answer[start : start + _WRITE_BYTES])
        early = began + (start + _WRITE_BYTES) / bandwidth - time.monotonic()
        if early > 0:
            time.sleep(early)


def _requests(connection: socket.socket) -> Iterator[tuple[str, bytes]]:
    """(operation, or path where it is a GET; body) of each request."""
    stream = connection.makefile("rb")
    while line := stream.readline():
        target = line.split()[1].decode()
        length = 0
        while (header := stream.readline()) not in (b"\r\n", b""):
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"x-amz-target":
                target = value.strip().decode().rpartition(".")[2]
        yield target, stream.read(length)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("tables", nargs="*", help="what ListTables shows, such as medium-1000000")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that a Scan takes")
    parser.add_argument(
        "--bandwidth", type=float, default=0.0, help="bytes a second of each connection (0: any)"
    )
    parser.add_argument(
        "--tls", type=Path, metavar="FILE", help="speak TLS; write the CA to trust into this file"
    )
    parser.add_argument("--skew", type=float, default=0.0, help="how uneven segments are, 0 to 1")
    parser.add_argument("--throttle", action="store_true", help="refuse every Scan")
    options = parser.parse_args()
    replay = Replay(
        options.tables, options.delay, options.bandwidth, options.skew, throttle=options.throttle
    )
    serve(replay.connection, options.tls)


if __name__ == "__main__":
    main()
