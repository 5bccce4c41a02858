"""The demo's table: orders of a shop, of the types that such a table holds."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import boto3

TABLE = "orders"
KEY = ("customer", "number")

Item = dict[str, Any]


def connect(url: str) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="only-for-the-demo",
    )


def seed(url: str, count: int) -> None:
    """Create the table with a secondary index, and put so many orders into it."""
    client = connect(url)
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "customer", "KeyType": "HASH"},
            {"AttributeName": "number", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "customer", "AttributeType": "S"},
            {"AttributeName": "number", "AttributeType": "N"},
            {"AttributeName": "status", "AttributeType": "S"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_status",
                "KeySchema": [{"AttributeName": "status", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )

    def put(batch: list[Item]) -> None:
        requests = [{"PutRequest": {"Item": item}} for item in batch]
        client.batch_write_item(RequestItems={TABLE: requests})

    seeded = orders(count, random.Random(1))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(put, iter(lambda: list(islice(seeded, 25)), [])))


def orders(count: int, rng: random.Random) -> Iterator[Item]:
    """So many orders in DynamoDB JSON; money is an exact decimal."""
    for number in range(count):
        lines = [
            {
                "M": {
                    "sku": {"S": f"sku-{rng.randrange(10_000):05d}"},
                    "pieces": {"N": str(rng.randrange(1, 9))},
                    "price": {"N": f"{rng.randrange(100, 99_999) / 100:.2f}"},
                }
            }
            for _ in range(rng.randrange(1, 6))
        ]
        yield {
            "customer": {"S": f"customer-{rng.randrange(count // 4 + 1):06d}"},
            "number": {"N": str(10**15 + number)},
            "status": {"S": rng.choice(["open", "paid", "sent", "returned"])},
            "placed": {"S": f"2026-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"},
            "lines": {"L": lines},
            "tags": {"SS": sorted(rng.sample(["gift", "web", "phone", "export", "vip"], 2))},
            "total": {"N": f"{rng.randrange(100, 999_999) / 100:.2f}"},
            "paid": {"BOOL": rng.random() < 0.5},
            "note": {"NULL": True} if rng.random() < 0.8 else {"S": "leave at the door"},
        }


def changes(count: int, most: int) -> list[tuple[Item, Item, Item]]:
    """At most ``most`` times: one of ``count`` orders to change, one to delete, and a new one."""
    old = list(islice(orders(count, random.Random(1)), 2 * most))
    new = islice(orders(count + most, random.Random(2)), count, None)
    return list(zip(old[::2], old[1::2], new, strict=False))
