"""The script that shake is compared with: parallel Scan by boto3, insert_many by pymongo."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import partial
from typing import Any

from bson.decimal128 import Decimal128
from pymongo import MongoClient

from benchmarks import script

_WHOLE = re.compile(r"-?\d{1,18}")
_BATCH = 1000


def convert(typed: dict[str, Any]) -> Any:
    """Convert a DynamoDB value for pymongo; faster than boto3's own TypeDeserializer."""
    [(tag, value)] = typed.items()
    match tag:
        case "N":
            return number(value)
        case "M":
            return {name: convert(inner) for name, inner in value.items()}
        case "L":
            return [convert(element) for element in value]
        case "NULL":
            return None
        case "NS":
            return [number(element) for element in value]
    return value


def number(text: str) -> int | Decimal128:
    return int(text) if _WHOLE.fullmatch(text) else Decimal128(Decimal(text))


def copy_segment(source: str, target: str, table: str, total: int, segment: int) -> int:
    """Copy one segment; return the number of documents."""
    scans = script.connect("dynamodb", source).get_paginator("scan")
    documents = 0
    with MongoClient[dict[str, Any]](target) as client:
        collection = client["baseline"][table]
        for page in scans.paginate(TableName=table, Segment=segment, TotalSegments=total):
            batch = [{name: convert(value) for name, value in i.items()} for i in page["Items"]]
            for start in range(0, len(batch), _BATCH):
                collection.insert_many(batch[start : start + _BATCH], ordered=False)
            documents += len(batch)
    return documents


def main() -> None:
    parser = script.command_line("baseline", __doc__)
    parser.add_argument("--segments", type=int, default=8)
    options = parser.parse_args()
    copy = partial(copy_segment, options.source, options.target, options.table, options.segments)
    script.run(options.processes, copy, lambda: range(options.segments))


if __name__ == "__main__":
    main()
