"""What happens to the demo's table while shake moves it: a killed worker, then live writes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.request import ProxyHandler, build_opener

from pymongo import MongoClient

from shake.demo.orders import KEY, TABLE, changes, connect, orders

#: Orders that are changed, as many that are deleted, and as many new ones; seconds between them.
_LIVE_WRITES, _LIVE_PAUSE = 30, 0.1
#: The share of the table that is copied when a worker is killed.
_KILL_AT = 0.4


@dataclass
class Story:
    """Acts on the migration as its status page shows it, says what it does, and ends it.

    ``source``, ``target`` and ``page`` are addresses. ``database`` holds the copied collection.
    ``finish`` has the supervisor end when all is applied. ``complete``: all was shown.
    ``failure``: why the story could not go on.
    """

    source: str
    target: str
    database: str
    page: str
    items: int
    say: Callable[[str], None]
    finish: Callable[[], None]
    complete: bool = False
    failure: str = ""

    def run(self) -> None:
        try:
            self._kill_a_worker()
            self._wait(lambda table: table["state"] == "following")
            self._show_an_item()
            self._write()
            self.complete = True
            self.finish()
        except Exception as error:
            self.failure = f"the demo failed: {type(error).__name__}: {error}"
            os.kill(os.getpid(), signal.SIGTERM)

    def _kill_a_worker(self) -> None:
        status = self._wait(
            lambda table: (
                table["state"] not in ("waiting", "preparing", "copying")
                or table["scanned"] >= _KILL_AT * self.items
            )
        )
        workers = [one for one in status["processes"] if one["role"].startswith("worker")]
        if status["tables"][0]["state"] != "copying" or not workers:
            self.say("the copy was complete before a worker could be killed")
            return
        role, pid = workers[0]["role"], workers[0]["pid"]
        self.say(f"killing {role} (process {pid}) with SIGKILL: the supervisor replaces it")
        os.kill(pid, signal.SIGKILL)

    def _show_an_item(self) -> None:
        """The same order at the source and in the target."""
        order = next(o for o in orders(self.items, random.Random(1)) if len(o["lines"]["L"]) == 1)
        key = {name: order[name] for name in KEY}
        item = connect(self.source).get_item(TableName=TABLE, Key=key, ConsistentRead=True)["Item"]
        self.say(f"an item in DynamoDB: {json.dumps(item)}")
        client: MongoClient[dict[str, Any]] = MongoClient(self.target)
        with contextlib.closing(client):
            document = client[self.database][TABLE].find_one(
                {"customer": key["customer"]["S"], "number": int(key["number"]["N"])}
            )
        self.say(f"the same in MongoDB: {document}")

    def _write(self) -> None:
        client, writes = connect(self.source), changes(self.items, _LIVE_WRITES)
        self.say(f"{3 * len(writes)} live writes at the source: new, changed, deleted")
        for change, gone, order in writes:
            client.put_item(TableName=TABLE, Item={**change, "status": {"S": "changed"}})
            client.delete_item(TableName=TABLE, Key={name: gone[name] for name in KEY})
            client.put_item(TableName=TABLE, Item=order)
            time.sleep(_LIVE_PAUSE)
        # The source's clock is this machine's.
        end = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = self._wait(
            lambda table: table["consistent"] and (table["applied_through"] or "") > end
        )
        self.say(
            f"last write at {end}; applied through {status['tables'][0]['applied_through']}: "
            "every change is in MongoDB, one could switch now"
        )

    def _wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of the task for whose one table ``condition`` holds."""
        opener = build_opener(ProxyHandler({}))
        while True:
            with contextlib.suppress(OSError):
                status: dict[str, Any] = json.loads(opener.open(f"{self.page}status").read())
                [table] = status["tables"]
                if condition(table):
                    return status
            time.sleep(0.2)
