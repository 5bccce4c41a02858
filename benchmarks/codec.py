"""JSON a second that one core turns into documents, by what items are like, beside other ways."""

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
from benchmarks.report import Options, Report
from shake.codec import reference
from shake.codec.contract import Codec
from shake.codec.contract import Options as CodecOptions
from shake.farm.arena import SLOT_BYTES
from shake.schema import Attribute, Keys

_ROUNDS = 5
#: CPU seconds that each way has in a round; one page at least.
_TURN = 0.05

_OPTIONS = CodecOptions(
    Keys(*(Attribute(each["AttributeName"], each["AttributeType"]) for each in ATTRIBUTES))
)

Read = Callable[[bytes], object]


def run(options: Options) -> Report:
    """Read pages by each way in turns; the best of several rounds counts.

    Nobody collects garbage meanwhile, which makes the ways that make objects faster than they are.
    """
    ways = _ways()
    rounds = options.rounds or _ROUNDS
    report = Report(f"codec: MB/s of JSON by one core, best of {rounds} rounds")
    gc.disable()
    try:
        for shape in options.shapes or SHAPES:
            bodies = [body(page) for page in pages(shape)]
            best = dict.fromkeys(ways, 0.0)
            for _ in range(rounds):
                for way, read in ways.items():
                    best[way] = max(best[way], _speed(read, bodies))
            report.rows.append({"shape": shape, "bytes/item": round(json_bytes(shape)), **best})
            if "C" in best:
                ratios = (f"{best['C'] / best[way]:.1f} x {way}" for way in ways if way != "C")
                report.findings.append(f"{shape}: C is {', '.join(ratios)}")
    finally:
        gc.enable()
    return report


def _speed(read: Read, bodies: list[bytes]) -> float:
    done, began = 0, time.process_time()
    while True:
        for each in bodies:
            read(each)
            done += len(each)
            took = time.process_time() - began
            if took > _TURN:
                return done / took / 1e6


def _ways() -> dict[str, Read]:
    out = memoryview(bytearray(SLOT_BYTES))
    ways: dict[str, Read] = {}
    try:
        ways["C"] = partial(transcode, importlib.import_module("shake.codec.native"), out)
    except ImportError as error:
        print(f"no C codec here: {error}")
    ways["reference"] = partial(transcode, reference, out)
    return {**ways, "orjson alone": orjson.loads, "boto3": _boto3()}


def transcode(codec: Codec, out: memoryview, page_body: bytes) -> int:
    """A page into ``out``, which holds it whole: how many bytes."""
    page = codec.scan_page(page_body, _OPTIONS)
    length, documents = page.fill(out, b"\0" * 7, 0)
    assert page.done
    assert documents == page.count
    return length


def _boto3() -> Read:
    """What boto3 does: botocore's parser, then its own TypeDeserializer, value by value."""
    scan = get_session().get_service_model("dynamodb").operation_model("Scan").output_shape
    parse = create_parser("json").parse
    deserialize = TypeDeserializer().deserialize

    def read(page_body: bytes) -> list[dict[str, Any]]:
        answer = parse({"status_code": 200, "headers": {}, "body": page_body}, scan)
        return [{n: deserialize(v) for n, v in item.items()} for item in answer["Items"]]

    return read
