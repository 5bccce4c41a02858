"""Makes pages of records as GetRecords gives them, apart from what differs in each page."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from benchmarks.pages import PAGE_BYTES, SEED, SHAPES, Item, as_json
from shake.source.item_size import item_bytes

#: The kinds of changes in a stream, in their order.
TRAFFIC = {
    "insert": ("INSERT",),
    "modify": ("MODIFY",),
    "mixed": ("INSERT", "MODIFY", "REMOVE"),
}
VIEW = "NEW_AND_OLD_IMAGES"

#: Stands in keys and sequence numbers where the page's number goes, which has as many digits.
PLACE = b"@@@@@@@@@"
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
MAX_RECORDS = 1000

#: Pages that differ in more than their number.
_PAGES = 2


@dataclass(frozen=True, slots=True)
class Page:
    """The records of a full page as JSON, joined by commas, and where each of them ends."""

    text: bytes
    ends: tuple[int, ...]


@lru_cache
def record_pages(shape: str, traffic: str) -> tuple[Page, ...]:
    """Pages of equally many changes, each of another key, in the order of ``traffic``."""
    source = random.Random(SEED)
    texts = [_texts(SHAPES[shape], TRAFFIC[traffic], source) for _ in range(_PAGES)]
    count = min(map(len, texts))
    return tuple(_page(each[:count]) for each in texts)


def records_body(page: Page) -> bytes:
    """The answer to a GetRecords that gives a full page."""
    return b'{"Records":[%b],"NextShardIterator":"next"}' % page.text.replace(PLACE, b"400000000")


def sequence_end(index: int) -> str:
    """What a sequence number ends with, behind the number of its page, by the record's place."""
    return f"{index * _STEP:019d}"


def index_of(sequence_number: str) -> int:
    """The place of a record in its page."""
    return int(sequence_number[len(PLACE) :]) // _STEP


#: Sequence numbers rise by steps that a reader cannot predict.
_STEP = 10_007


def _page(texts: list[bytes]) -> Page:
    ends: list[int] = []
    for text in texts:
        ends.append((ends[-1] + 1 if ends else 0) + len(text))
    return Page(b",".join(texts), tuple(ends))


def _texts(
    make: Callable[[random.Random], Item], kinds: tuple[str, ...], source: random.Random
) -> list[bytes]:
    texts: list[bytes] = []
    size = 0
    while len(texts) < MAX_RECORDS:
        record, stored = _record(make, kinds[len(texts) % len(kinds)], len(texts), source)
        size += stored
        if size > PAGE_BYTES:
            break
        texts.append(as_json(record))
    return texts


def _record(
    make: Callable[[random.Random], Item], kind: str, index: int, source: random.Random
) -> tuple[dict[str, Any], int]:
    key = {"pk": {"S": f"customer#{PLACE.decode()}-{index:04d}"}}
    images = {"OldImage": make(source) | key, "NewImage": make(source) | key}
    images["NewImage"]["sk"] = images["OldImage"]["sk"]
    images.pop({"INSERT": "OldImage", "REMOVE": "NewImage"}.get(kind, ""), None)
    item = next(iter(images.values()))
    stored = sum(map(item_bytes, images.values()))
    change = {
        "ApproximateCreationDateTime": float(int(time.time()) - 60),
        "Keys": {"pk": item["pk"], "sk": item["sk"]},
        **images,
        "SequenceNumber": PLACE.decode() + sequence_end(index),
        "SizeBytes": stored,
        "StreamViewType": VIEW,
    }
    record = {
        "eventID": f"{source.getrandbits(128):032x}",
        "eventName": kind,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": change,
    }
    return record, stored
