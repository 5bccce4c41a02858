"""``--since`` reads a stream until no change made before its start can be missing."""

from __future__ import annotations

import contextlib
import math
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shake.check.changes import RecentChanges
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Credentials, Endpoint
from shake.stream.beginning import first_shards
from tests.support.faulty import Reply, error
from tests.support.streams import Call, Simulator, Table
from tests.support.streams_faults import calling, instead
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def source(simulator: Simulator) -> Iterator[DynamoSource]:
    source = DynamoSource(
        Endpoint(simulator.url, REGION),
        lambda: Credentials(ACCESS_KEY, SECRET_KEY),
        on_retry=lambda retry: None,
        stop=threading.Event(),
        random=random.Random(0),
    )
    with contextlib.closing(source):
        yield source


def since_now(source: DynamoSource, table: Table) -> RecentChanges:
    """What changes from now on."""
    shards = tuple(first_shards(source.list_shards(table.stream.arn), source.clock.earliest()))
    arn, began = table.stream.arn, source.clock.earliest()
    return RecentChanges(source, "orders", arn, shards, began, 0.3)


def test_a_change_that_is_behind_a_later_one_and_readable_later_is_read(
    simulator: Simulator, source: DynamoSource
) -> None:
    """Creation times are out of order by up to 2 seconds."""
    table, faults = simulator.table("orders"), simulator.faults
    changes = since_now(source, table)
    start: list[float] = []

    def put(key: str, created: float) -> None:
        """The record of a key has this creation time."""
        passed = created - simulator.clock()
        simulator.clock.advance(passed)
        table.put({"pk": {"S": key}})
        simulator.clock.advance(-passed)

    def first() -> None:
        simulator.clock.advance(5)
        put("after the start", math.floor(start[0]) + 1)

    # The first request of --since comes right after it has noted its start.
    faults.next("DescribeTable", calling(lambda: start.append(source.clock.latest())))
    faults.next(
        "GetRecords",
        calling(first),
        calling(lambda: put("before the start", math.floor(changes.began))),
        calling(lambda: put("long after the start", math.floor(start[0]) + 4)),
    )
    found: list[Any] = []
    changes.each(found.extend)
    assert {"pk": {"S": "before the start"}} in found


def test_what_descends_from_later_changes_is_not_read(
    simulator: Simulator, source: DynamoSource
) -> None:
    """A shard ends and another one begins whenever the stream is listed, for ever."""
    table = simulator.table("orders")
    table.put({"pk": {"S": "before"}})
    changes = since_now(source, table)
    first = table.stream.open()[0]
    middle = table.stream.roll_over(first)

    def roll_over(call: Call, answer: Callable[[], Reply]) -> Reply:
        reply = answer()
        if len(simulator.journal.of("DescribeStream")) < 40:
            simulator.clock.advance(10)
            table.put({"pk": {"S": "after"}, "n": {"N": str(simulator.clock())}})
            table.stream.roll_over(table.stream.open()[0])
        return reply

    simulator.faults.rule(1.0, roll_over, where=lambda call: call.operation == "DescribeStream")
    found: list[Any] = []
    changes.each(found.extend)
    read = {call.shard for call in simulator.journal.of("GetRecords")}
    assert {"pk": {"S": "before"}} in found
    assert {first.id, middle.id} < read
    # The first later change is in the second shard, and one made after it was read soon after.
    assert len(read) <= 6
    assert len(table.stream.shards) > 6


@pytest.mark.parametrize("passed", [0, 1900])
def test_changes_from_before_the_clock_was_set_back_do_not_end_the_reading(
    simulator: Simulator, source: DynamoSource, monkeypatch: pytest.MonkeyPatch, passed: int
) -> None:
    """All that was made since then comes after them.

    Their times are later than now, or than the start, where so many seconds have ``passed``.
    """
    monkeypatch.setattr("shake.check.changes._LIMIT", 1)
    table, clock = simulator.table("orders"), simulator.clock
    changes = since_now(source, table)
    clock.advance(1800)
    table.put({"pk": {"S": "before the clock was set back"}})
    clock.advance(-1800)
    table.put({"pk": {"S": "since then"}})

    def later() -> None:
        clock.advance(10)
        table.put({"pk": {"S": "later"}, "n": {"N": str(clock())}})

    simulator.faults.next("GetRecords", calling(lambda: clock.advance(passed)), calling(later))
    found: list[Any] = []
    changes.each(found.extend)
    assert [key["pk"]["S"] for key in found] == [
        "before the clock was set back",
        "since then",
        "later",
    ]


def test_a_shard_that_ends_behind_one_change_from_before_the_clock_was_set_back_proves_nothing(
    simulator: Simulator, source: DynamoSource
) -> None:
    """What has been made since then is in the shard that follows, which is listed late."""
    table, clock = simulator.table("orders"), simulator.clock
    changes = since_now(source, table)
    clock.advance(1800)
    table.put({"pk": {"S": "before the clock was set back"}})
    clock.advance(-1800)
    table.stream.roll_over(table.stream.open()[0], listed_after=1)
    table.put({"pk": {"S": "since then"}})
    simulator.faults.next("GetRecords", calling(lambda: clock.advance(1900)))
    found: list[Any] = []
    changes.each(found.extend)
    assert {"pk": {"S": "since then"}} in found


def test_a_clock_that_is_set_back_meanwhile_does_not_hold_up_the_reading(
    simulator: Simulator, source: DynamoSource
) -> None:
    table, clock = simulator.table("orders"), simulator.clock
    changes = since_now(source, table)
    table.put({"pk": {"S": "a"}})
    simulator.faults.next("GetRecords", calling(lambda: clock.advance(-1800)))
    found: list[Any] = []
    reading = threading.Thread(target=changes.each, args=(found.extend,))
    reading.start()
    reading.join(60)
    over = not reading.is_alive()
    source.stop.set()
    reading.join()
    assert over
    assert found == [{"pk": {"S": "a"}}]


def test_what_was_applied_is_not_read_and_all_else_is_whatever_time_it_has(
    simulator: Simulator, source: DynamoSource
) -> None:
    """The source's clock was set back after the last check had begun."""
    table, clock = simulator.table("orders"), simulator.clock
    table.put({"pk": {"S": "applied"}})
    applied = str(table.stream.open()[0].last)
    began = clock() + 600
    clock.advance(300)
    table.put({"pk": {"S": "since then"}})
    [first] = first_shards(source.list_shards(table.stream.arn), source.clock.earliest())
    shards = (replace(first, sequence=applied),)

    def later() -> None:
        clock.advance(10)
        table.put({"pk": {"S": "later"}})

    simulator.faults.next("GetRecords", None, calling(later))
    found: list[Any] = []
    RecentChanges(source, "orders", table.stream.arn, shards, began, 0.3).each(found.extend)
    assert [key["pk"]["S"] for key in found] == ["since then", "later"]


def unlisted(call: Call, answer: Callable[[], Reply]) -> Reply:
    """The stream has no shards."""
    reply = answer()
    members = orjson.loads(reply.body)
    members["StreamDescription"]["Shards"] = []
    return replace(reply, body=orjson.dumps(members))


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("DescribeTable", instead(error("ResourceNotFoundException"))),
        ("DescribeStream", instead(error("ResourceNotFoundException"))),
        ("DescribeStream", unlisted),
        ("GetShardIterator", instead(error("ResourceNotFoundException"))),
        ("GetShardIterator", instead(error("TrimmedDataAccessException"))),
        ("GetRecords", instead(error("ResourceNotFoundException"))),
        ("GetRecords", instead(error("TrimmedDataAccessException"))),
    ],
)
def test_one_stale_answer_does_not_end_the_reading(
    simulator: Simulator, source: DynamoSource, operation: str, fault: Any
) -> None:
    table = simulator.table("orders")
    simulator.clock.advance(-10)
    changes = since_now(source, table)
    simulator.clock.advance(10)
    table.put({"pk": {"S": "a"}})
    simulator.faults.next(operation, fault)
    found: list[Any] = []
    changes.each(found.extend)
    assert {"pk": {"S": "a"}} in found


def ending(call: Call, answer: Callable[[], Reply]) -> Reply:
    """The answer says that the shard has ended."""
    reply = answer()
    members = orjson.loads(reply.body)
    del members["NextShardIterator"]
    return replace(reply, body=orjson.dumps(members))


@pytest.mark.parametrize("cold", [0, 1], ids=["behind a record", "without a record"])
def test_one_answer_that_ends_a_shard_too_early_does_not_end_the_reading(
    simulator: Simulator,
    source: DynamoSource,
    monkeypatch: pytest.MonkeyPatch,
    cold: int,
) -> None:
    """The shard is closed, and has a child."""
    monkeypatch.setattr("shake.check.changes._LIMIT", 1)
    table = simulator.table("orders")
    changes = since_now(source, table)
    for number in range(3):
        table.put({"pk": {"S": f"k{number}"}})
    first = table.stream.open()[0].id
    table.stream.roll_over(table.stream.open()[0])
    simulator.cold_pages = cold

    def is_first(call: Call) -> bool:
        calls = simulator.journal.of("GetRecords", shard=first)
        return call.operation == "GetRecords" and calls == [call]

    simulator.faults.rule(1.0, ending, where=is_first)
    found: list[Any] = []
    changes.each(found.extend)
    assert {key["pk"]["S"] for key in found} == {"k0", "k1", "k2"}
