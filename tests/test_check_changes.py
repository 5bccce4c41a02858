"""``--since`` reads a stream until no change made before its start can be missing."""

from __future__ import annotations

import contextlib
import math
import random
import threading
from typing import Any

from shake.check.changes import RecentChanges
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Credentials, Endpoint
from shake.stream.beginning import first_shards
from tests.support.streams import Simulator
from tests.support.streams_faults import calling
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY


def test_a_change_that_is_behind_a_later_one_and_readable_later_is_read() -> None:
    """Creation times are out of order by up to 2 seconds."""
    with Simulator() as simulator:
        table, faults = simulator.table("orders"), simulator.faults
        source = DynamoSource(
            Endpoint(simulator.url, REGION),
            lambda: Credentials(ACCESS_KEY, SECRET_KEY),
            on_retry=lambda retry: None,
            stop=threading.Event(),
            random=random.Random(0),
        )
        shards = tuple(first_shards(source.list_shards(table.stream.arn), source.clock.earliest()))
        began = source.clock.earliest()
        start: list[float] = []

        def put(key: str, created: float) -> None:
            """The record of a key has this creation time."""
            passed = created - simulator.clock()
            simulator.clock.advance(passed)
            table.put({"pk": {"S": key}})
            simulator.clock.advance(-passed)

        # The first request of --since comes right after it has noted its start.
        faults.next("DescribeTable", calling(lambda: start.append(source.clock.latest())))
        faults.next(
            "GetRecords",
            calling(lambda: put("after the start", math.floor(start[0]) + 1)),
            calling(lambda: put("before the start", math.floor(began))),
            calling(lambda: put("long after the start", math.floor(start[0]) + 4)),
        )
        found: list[Any] = []
        with contextlib.closing(source):
            RecentChanges(source, "orders", table.stream.arn, shards, began, 0.3).each(found.extend)
        assert {"pk": {"S": "before the start"}} in found
