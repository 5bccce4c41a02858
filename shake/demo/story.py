"""What happens to the demo's table while shake moves it: a killed worker, then live writes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from urllib.request import ProxyHandler, build_opener

from pymongo import MongoClient

from shake.demo.orders import KEY, TABLE, changes, connect, orders

#: Orders that are changed, as many that are deleted, and as many new ones; seconds between them.
_LIVE_WRITES, _LIVE_PAUSE = 30, 0.1
#: The share of the table that is copied when a worker is killed.
_KILL_AT = 0.4


class Story(threading.Thread):
    """Acts on the migration as its status page shows it, says what it does, and ends it.

    ``database`` holds the copied collection. ``finish`` has the supervisor end when all is applied.
    ``complete``: all was shown. ``failure``: why the story could not go on.
    """

    def __init__(
        self,
        source: str,
        target: str,
        database: str,
        page: str,
        items: int,
        say: Callable[[str], None],
        finish: Callable[[], None],
    ) -> None:
        super().__init__(daemon=True)
        self.complete = False
        self.failure = ""
        self._client = connect(source)
        self._target = target
        self._database = database
        self._page = page
        self._items = items
        self._say = say
        self._finish = finish

    def run(self) -> None:
        try:
            self._kill_a_worker()
            self._wait(lambda status: _table(status)["state"] == "following")
            self._show_an_item()
            self._write()
            self.complete = True
            self._finish()
        except Exception as error:
            self.failure = f"the demo failed: {type(error).__name__}: {error}"
            os.kill(os.getpid(), signal.SIGTERM)

    def _kill_a_worker(self) -> None:
        status = self._wait(
            lambda status: (
                _table(status)["state"] not in ("waiting", "preparing", "copying")
                or _table(status)["scanned"] >= _KILL_AT * self._items
            )
        )
        workers = [one for one in status["processes"] if one["role"].startswith("worker")]
        if _table(status)["state"] != "copying" or not workers:
            self._say("the copy was complete before a worker could be killed")
            return
        role, pid = workers[0]["role"], workers[0]["pid"]
        self._say(f"killing {role} (process {pid}) with SIGKILL: the supervisor replaces it")
        os.kill(pid, signal.SIGKILL)

    def _show_an_item(self) -> None:
        """The same order at the source and in the target."""
        order = next(o for o in orders(self._items, random.Random(1)) if len(o["lines"]["L"]) == 1)
        key = {name: order[name] for name in KEY}
        item = self._client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)["Item"]
        self._say(f"an item in DynamoDB: {json.dumps(item)}")
        client: MongoClient[dict[str, Any]] = MongoClient(self._target)
        with contextlib.closing(client):
            document = client[self._database][TABLE].find_one(
                {"customer": key["customer"]["S"], "number": int(key["number"]["N"])}
            )
        self._say(f"the same in MongoDB: {document}")

    def _write(self) -> None:
        writes = changes(self._items, _LIVE_WRITES)
        self._say(f"{3 * len(writes)} live writes at the source: new, changed, deleted")
        for change, gone, order in writes:
            self._client.put_item(TableName=TABLE, Item={**change, "status": {"S": "changed"}})
            self._client.delete_item(TableName=TABLE, Key={name: gone[name] for name in KEY})
            self._client.put_item(TableName=TABLE, Item=order)
            time.sleep(_LIVE_PAUSE)
        # The source's clock is this machine's.
        end = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = self._wait(
            lambda status: (
                _table(status)["consistent"] and (_table(status)["applied_through"] or "") > end
            )
        )
        self._say(
            f"last write at {end}; applied through {_table(status)['applied_through']}: "
            "every change is in MongoDB, one could switch now"
        )

    def _wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of the task for which ``condition`` holds."""
        opener = build_opener(ProxyHandler({}))
        while True:
            with contextlib.suppress(OSError):
                status: dict[str, Any] = json.loads(opener.open(f"{self._page}status").read())
                if condition(status):
                    return status
            time.sleep(0.2)


def _table(status: dict[str, Any]) -> dict[str, Any]:
    [table] = status["tables"]
    found: dict[str, Any] = table
    return found
