"""Measures the codec: JSON per second and core, for each shape of item, beside other methods."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from boto3.dynamodb.types import TypeDeserializer
from botocore.parsers import create_parser
from botocore.session import get_session

from benchmarks.pages import ATTRIBUTES, SHAPES, body, json_bytes, pages
from benchmarks.records import TRAFFIC, record_pages, records_body
from benchmarks.report import Options, Report
from shake import codec
from shake.codec import reference
from shake.codec.contract import ChangeOptions, Codec
from shake.process.arena import SLOT_BYTES
from shake.schema import Attribute, Keys

_ROUNDS = 5
#: The kinds of changes that are measured.
_SHAPE = "medium"
#: CPU seconds for each method in a round; it reads at least one page.
_TURN = 0.05

_KEYS = Keys(*(Attribute(each["AttributeName"], each["AttributeType"]) for each in ATTRIBUTES))
_OPTIONS, _CHANGE_OPTIONS = codec.Options(_KEYS), ChangeOptions(_KEYS)

Read = Callable[[bytes], object]
#: Reads a page by a codec into a buffer that is large enough; returns the bytes written.
Transcode = Callable[[Codec, memoryview, bytes], int]


def run(options: Options) -> Report:
    """Read pages by each method in turn; the best of several rounds counts.

    The garbage collector is off meanwhile. This favours the methods that create objects.
    """
    rounds = options.rounds or _ROUNDS
    report = Report(f"codec: MB/s of JSON by one core, best of {rounds} rounds")
    gc.disable()
    try:
        for shape in options.shapes or SHAPES:
            bodies = [body(page) for page in pages(shape)]
            ways = _ways(transcode, "Scan", "Items", deserialize_item)
            _compare(report, shape, json_bytes(shape), bodies, ways, rounds)
        for traffic in TRAFFIC:
            shape = options.shape(_SHAPE)
            changes = record_pages(shape, traffic)
            bodies = [records_body(page) for page in changes]
            size = sum(map(len, bodies)) / sum(len(page.ends) for page in changes)
            ways = _ways(statements, "GetRecords", "Records", deserialize_change)
            _compare(report, f"{shape}, {traffic} records", size, bodies, ways, rounds)
    finally:
        gc.enable()
    return report


def _compare(
    report: Report,
    name: str,
    size: float,
    bodies: list[bytes],
    ways: dict[str, Read],
    rounds: int,
) -> None:
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for way, read in ways.items():
            best[way] = max(best[way], _speed(read, bodies))
    report.rows.append({"pages of": name, "bytes each": round(size), **best})
    if "C" in best:
        ratios = (f"{best['C'] / best[way]:.1f} x {way}" for way in ways if way != "C")
        report.findings.append(f"{name}: C is {', '.join(ratios)}")


def _speed(read: Read, bodies: list[bytes]) -> float:
    done, began = 0, time.process_time()
    while True:
        for each in bodies:
            read(each)
            done += len(each)
            took = time.process_time() - began
            if took > _TURN:
                return done / took / 1e6


def _ways(
    whole: Transcode, operation: str, member: str, deserialize: Callable[[Any], object]
) -> dict[str, Read]:
    out = memoryview(bytearray(SLOT_BYTES))
    ways: dict[str, Read] = {}
    try:
        ways["C"] = partial(whole, importlib.import_module("shake.codec.native"), out)
    except ImportError as error:
        print(f"no C codec here: {error}")
    ways["reference"] = partial(whole, reference, out)
    return {**ways, "orjson alone": orjson.loads, "boto3": _boto3(operation, member, deserialize)}


def transcode(codec: Codec, out: memoryview, page_body: bytes) -> int:
    page = codec.scan_page(page_body, _OPTIONS)
    length, documents = page.fill(out, b"\0" * 7, 0)
    assert page.done
    assert documents == page.count
    return length


def statements(codec: Codec, out: memoryview, page_body: bytes) -> int:
    page = codec.change_page(page_body, _CHANGE_OPTIONS)
    filled = page.fill(out)
    assert page.done
    return sum(length for length, _ in filled)


def _boto3(operation: str, member: str, deserialize: Callable[[Any], object]) -> Read:
    """Do what boto3 does: botocore's parser, then TypeDeserializer for each value."""
    service = "dynamodb" if operation == "Scan" else "dynamodbstreams"
    shape = get_session().get_service_model(service).operation_model(operation).output_shape
    parse = create_parser("json").parse

    def read(page_body: bytes) -> list[object]:
        answer = parse({"status_code": 200, "headers": {}, "body": page_body}, shape)
        return [deserialize(each) for each in answer[member]]

    return read


_deserialize = TypeDeserializer().deserialize


def deserialize_item(item: dict[str, Any]) -> dict[str, Any]:
    return {name: _deserialize(value) for name, value in item.items()}


def deserialize_change(record: dict[str, Any]) -> dict[str, Any]:
    """Deserialize the part of a record that is applied: the new image, or the key of a removal."""
    change = record["dynamodb"]
    return deserialize_item(change.get("NewImage") or change["Keys"])
