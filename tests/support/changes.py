"""What tests of change pages need: GetRecords responses, their statements, and a target to be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import bson

from shake.codec.contract import ChangeOptions, Statements
from tests.support.codecs import split


def record(event: str, key: Any, image: Any = None, number: int = 1, **more: Any) -> dict[str, Any]:
    """A stream record as AWS writes it.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
    """
    change: dict[str, Any] = {"ApproximateCreationDateTime": 1.46480527e9, "Keys": key}
    if image is not None:
        change["NewImage"] = image
    change |= {"OldImage": {**key, "old": {"L": [{"S": '"}\\'}]}}, "SizeBytes": 41}
    change |= {"SequenceNumber": str(number), "StreamViewType": "NEW_AND_OLD_IMAGES"} | more
    return {
        "awsRegion": "us-west-2",
        "dynamodb": change,
        "eventID": "4b25bd0da9a181a155114127e4837252",
        "eventName": event,
        "eventSource": "aws:dynamodb",
        "eventVersion": "1.0",
    }


def answer(records: Iterable[Any], **fields: Any) -> bytes:
    """A GetRecords response body."""
    response = {"NextShardIterator": "next", "Records": list(records)} | fields
    return json.dumps(response, ensure_ascii=False).encode("utf-8", "surrogatepass")


class Runs(NamedTuple):
    """The statements of each kind, as bytes."""

    updates: list[bytes]
    inserts: list[bytes]
    deletes: list[bytes]


def runs(codec: ModuleType, body: bytes, options: ChangeOptions, slot: int = 1 << 20) -> Runs:
    """All statements of a response, filled into slots of this size."""
    page = codec.change_page(body, options)
    found = Runs([], [], [])
    while not page.done:
        out = bytearray(slot)
        filled = page.fill(memoryview(out))
        assert sum(count for _, count in filled) > 0
        start = 0
        for run, (size, count) in zip(found, filled, strict=True):
            statements = list(split(bytes(out[start : start + size])))
            assert len(statements) == count
            run += statements
            start += size
    assert page.fill(memoryview(bytearray(slot))) == Statements()
    return found


def decoded(codec: ModuleType, body: bytes, options: ChangeOptions) -> dict[str, list[Any]]:
    """The statements of each kind that there are, decoded."""
    found = runs(codec, body, options)._asdict()
    return {kind: [bson.decode(one) for one in run] for kind, run in found.items() if run}
