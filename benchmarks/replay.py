"""A source that uses almost no CPU: it speaks DynamoDB, and replays prebuilt pages.

A table's name says what is in it: ``medium-1000000`` holds so many items of that shape. Segments
hold 1 - SKEW to 1 + SKEW times the mean; every position gives the same page each time. Pages
repeat, and keys with them, so this is a source for a target that does not look at keys; for others
there is ``--unique``.

Its stream holds as many changes, all of them inserts, or ``modify-medium-1000000`` or
``mixed-medium-1000000``, in closed shards that each have an open, empty child.

``GET /TABLE`` gives, and forgets, when each segment of the table was read, by CLOCK_MONOTONIC:
``{"scans": calls, "segments": {segment: [first request, last answer]}}``.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson

from benchmarks.serving import serve
from benchmarks.stream import Stream, Unknown
from benchmarks.tables import Answer, Table

#: Bytes sent at once where a bandwidth is set: a TLS record, some ten packets.
_WRITE_BYTES = 16 * 1024
_THROTTLED = orjson.dumps(
    {
        "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
        "message": "The level of configured provisioned throughput for the table was exceeded.",
    }
)


class Replay:
    """Answers requests. Delays and refusals concern only segmented Scans and GetRecords."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._tables: dict[str, Table] = {}
        for name in options.tables:
            self._table(name)

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
            head += f"Date: {formatdate(usegmt=True)}\r\n"
            head += f"x-amz-crc32: {zlib.crc32(b''.join(parts)) if crc is None else crc}\r\n\r\n"
            answer = [head.encode(), *parts]
            if self._options.bandwidth:
                _send_paced(connection, b"".join(answer), self._options.bandwidth)
            else:
                _send(connection, answer)

    def _answer(self, operation: str, request: dict[str, Any]) -> tuple[int, list[bytes], int]:
        try:
            match operation:
                case "ListTables":
                    return _small({"TableNames": sorted(self._tables)})
                case "DescribeTable":
                    return _small({"Table": self._table(request["TableName"]).description()})
                case "Scan":
                    return self._scan(self._table(request["TableName"]), request)
                case "BatchGetItem":
                    return self._items(request)
                case "BatchWriteItem":
                    return self._put(request)
                case "ListStreams":
                    names = [request["TableName"]] if "TableName" in request else self._tables
                    return _small({"Streams": [self._table(n).stream.entry() for n in names]})
                case "DescribeStream":
                    stream = self._stream(request["StreamArn"])
                    return _small({"StreamDescription": stream.description(request)})
                case "GetShardIterator":
                    stream = self._stream(request["StreamArn"])
                    return _small({"ShardIterator": stream.iterator(request)})
                case "GetRecords":
                    return self._slowly(self._stream(request["ShardIterator"]).records(request))
        except Unknown:
            return _small({"__type": "x#ResourceNotFoundException"}, 400)
        return _small({"__type": "x#UnknownOperationException"}, 400)

    def _scan(self, table: Table, request: dict[str, Any]) -> tuple[int, list[bytes], int]:
        if "Segment" not in request:
            return 200, *table.scan(request)
        times = table.segments.setdefault(request["Segment"], [time.monotonic(), 0.0])
        table.scans += 1
        answer = self._slowly(table.scan(request))
        times[1] = time.monotonic()
        return answer

    def _items(self, request: dict[str, Any]) -> tuple[int, list[bytes], int]:
        [(name, wanted)] = request["RequestItems"].items()
        found = filter(None, map(self._table(name).item, wanted["Keys"]))
        body = b'{"Responses":{"%b":[%b]},"UnprocessedKeys":{}}' % (name.encode(), b",".join(found))
        return 200, [body], zlib.crc32(body)

    def _put(self, request: dict[str, Any]) -> tuple[int, list[bytes], int]:
        """Note changes in the stream; the items stay as they are."""
        [(name, writes)] = request["RequestItems"].items()
        for write in writes:
            item = write["PutRequest"]["Item"]
            self._table(name).stream.put({key: item[key] for key in ("pk", "sk")})
        return _small({"UnprocessedItems": {}})

    def _slowly(self, answer: Answer) -> tuple[int, list[bytes], int]:
        time.sleep(self._options.delay)
        if self._options.throttle:
            return 400, [_THROTTLED], zlib.crc32(_THROTTLED)
        return 200, *answer

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            options = self._options
            kind = {"unique": options.unique, "quiet": options.quiet}
            self._tables[name] = Table(name, options.skew, options.shards, **kind)
        return self._tables[name]

    def _stream(self, arn: str) -> Stream:
        """By what starts with the stream's ARN."""
        return self._table(arn.split("/")[1]).stream

    def _log(self, name: str) -> bytes:
        table = self._table(name)
        log = {"scans": table.scans, "segments": table.segments}
        table.scans, table.segments = 0, {}
        return orjson.dumps(log, option=orjson.OPT_NON_STR_KEYS)


def _small(answer: dict[str, Any], status: int = 200) -> tuple[int, list[bytes], int]:
    body = orjson.dumps(answer)
    return status, [body], zlib.crc32(body)


def _send(connection: socket.socket, parts: list[bytes]) -> None:
    """Send all at once, without a copy where the socket can take several parts."""
    if isinstance(connection, ssl.SSLSocket):
        for part in parts:
            connection.sendall(part)
    elif (sent := connection.sendmsg(parts)) < sum(map(len, parts)):
        connection.sendall(b"".join(parts)[sent:])


def _send_paced(connection: socket.socket, answer: bytes, bandwidth: float) -> None:
    """Send as a network does: in small parts, so many bytes per second, without bursts."""
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
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that an answer takes")
    parser.add_argument(
        "--bandwidth", type=float, default=0.0, help="bytes a second of each connection (0: any)"
    )
    parser.add_argument(
        "--tls", type=Path, metavar="FILE", help="speak TLS; write the CA to trust into this file"
    )
    parser.add_argument("--skew", type=float, default=0.0, help="how uneven segments are, 0 to 1")
    parser.add_argument("--unique", action="store_true", help="scan no key twice")
    parser.add_argument(
        "--quiet", action="store_true", help="streams hold nothing but what BatchWriteItem puts"
    )
    parser.add_argument("--shards", type=int, default=8, help="closed shards of a stream")
    parser.add_argument("--throttle", action="store_true", help="refuse every Scan")
    options = parser.parse_args()
    serve(Replay(options).connection, options.tls)


if __name__ == "__main__":
    main()
