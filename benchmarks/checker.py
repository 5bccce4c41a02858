"""The script that shake-check is compared with: boto3, pymongo, and a dict of hashes."""

from __future__ import annotations

import multiprocessing
from functools import partial
from hashlib import blake2b
from typing import Any

from bson.decimal128 import Decimal128
from pymongo import MongoClient

from benchmarks import script
from benchmarks.baseline import convert

Key = tuple[Any, Any]


def hashed(document: dict[str, Any]) -> bytes:
    """The hash of a document in any order of its fields, numbers by value."""
    return blake2b(repr(canonical(document)).encode(), digest_size=16).digest()


def canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, canonical(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return [canonical(element) for element in value]
    return value.to_decimal().normalize() if isinstance(value, Decimal128) else value


def scan(source: str, table: str, total: int, segment: int) -> dict[Key, bytes]:
    """Hash one segment of the source."""
    hashes: dict[Key, bytes] = {}
    scans = script.connect("dynamodb", source).get_paginator("scan")
    for page in scans.paginate(TableName=table, Segment=segment, TotalSegments=total):
        for item in page["Items"]:
            document = {name: convert(value) for name, value in item.items()}
            hashes[document["pk"], document["sk"]] = hashed(document)
    return hashes


def differences(target: str, table: str, hashes: dict[Key, bytes]) -> int:
    """Compare all documents of the target; return how many differ, are missing or are extra."""
    found = 0
    with MongoClient[dict[str, Any]](target) as client:
        for document in client["bench"][table].find({}, {"_id": 0}):
            found += hashes.pop((document["pk"], document["sk"]), b"") != hashed(document)
    return found + len(hashes)


def main() -> None:
    parser = script.command_line("checker", __doc__)
    parser.add_argument("--segments", type=int, default=8)
    options = parser.parse_args()
    work = partial(scan, options.source, options.table, options.segments)
    hashes: dict[Key, bytes] = {}
    with multiprocessing.Pool(options.processes) as pool:
        for some in pool.imap_unordered(work, range(options.segments)):
            hashes.update(some)
        pool.close()
        pool.join()
    if found := differences(options.target, options.table, hashes):
        raise SystemExit(f"{found} differences")


if __name__ == "__main__":
    main()
