"""What passes is ridden out and counted exactly; after what does not, a restart ends well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty import Faulty, Reply, Request, dropped, error, forward, throttled
from tests.support.migration import Migration, compare, filled
from tests.support.tables import create_table, put_items

Migrate = Callable[..., Migration]

Fault = Callable[[Reply], Reply]
FAULTS: dict[str, Fault] = {
    "throttle": lambda reply: throttled(),
    "other throttle": lambda reply: error("RequestLimitExceeded"),
    "drop": lambda reply: dropped(),
    "cut": lambda reply: Reply(reply.body, cut=len(reply.body) // 2),
    "crc": lambda reply: Reply(reply.body, crc=1),
    "error": lambda reply: error("InternalServerError", status=500),
    "proxy": lambda reply: Reply(b"<html>Bad Gateway</html>", status=502),
}


class Troubled:
    """Answers as the server does, but for the copy's Scan calls, to which this is done in turn.

    ``done`` counts it by name; ``fine`` is a good answer.
    """

    def __init__(self, url: str, plan: Iterator[str]) -> None:
        self._answer = forward(url)
        self._plan = plan
        self.done: Counter[str] = Counter()

    def __call__(self, request: Request) -> Reply:
        reply = self._answer(request)
        what = "fine"
        if request.operation == "Scan" and b"TotalSegments" in request.body:
            what = next(self._plan, "fine")
        self.done[what] += 1
        return reply if what == "fine" else FAULTS[what](reply)


SMALL_PAGES = {"qps__full__batch_num": 8, "full__read__concurrency": 4}


def test_each_fault_of_the_source_counts_once(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    turns = cycle(turn for fault in FAULTS for turn in (fault, "fine"))
    troubled = Troubled(dynamodb.url, turns)
    with Faulty(otherwise=troubled) as source:
        result = migrate(source=source.url, **SMALL_PAGES).run()
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")
    done = troubled.done
    assert all(done[fault] >= 2 for fault in FAULTS)
    figures = result.figures(table)
    assert figures["items"] == "200"
    assert figures["throttles"] == str(done["throttle"] + done["other throttle"])
    assert figures["retries"] == str(sum(done[fault] for fault in FAULTS))


def test_a_source_that_keeps_failing_is_told_of_once_and_waited_for(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    troubled = Troubled(dynamodb.url, iter(["drop"] * 6))
    with Faulty(otherwise=troubled) as source:
        migration = migrate(source=source.url, source__session__max_retries=3)
        result = migration.run(workers=1)
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")
    [warning] = [line for line in result.stdout.splitlines() if line.endswith("; retrying")]
    assert " WARN " in warning
    assert f"table {table}: " in warning


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
def test_what_no_waiting_cures_at_the_source_stops_the_task(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, code: str
) -> None:
    answer = forward(dynamodb.url)
    refusing = True

    def refuse(request: Request) -> Reply:
        late = request.operation == "Scan" and b'"ExclusiveStartKey"' in request.body
        return error(code, "that is why") if late and refusing else answer(request)

    with Faulty(otherwise=refuse) as source:
        migration = migrate(source=source.url, **SMALL_PAGES)
        result = migration.run()
        assert result.status == 1
        assert f"table {table}: Scan was refused by the source: {code}: that is why" in result.line
        refusing = False
        assert migration.run().status == 0
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


def test_a_bad_item_stops_every_start_until_it_is_gone_and_spoils_nothing(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    other = f"{table}.other"
    create_table(dynamodb.client, other)
    put_items(dynamodb.client, other, ({"pk": {"S": f"k{i}"}} for i in range(80)))
    bad = {"pk": {"S": "bad"}}
    deep = {"M": {"l": {"L": [{"M": {"\0": {"NULL": True}}}]}}}
    dynamodb.client.put_item(TableName=table, Item={**bad, "v": deep})
    migration = migrate(filter__collection__white=f"{table}*", **SMALL_PAGES)

    first, second = migration.run(), migration.run()
    assert first.status == second.status == 1
    assert first.line.startswith(f'table {table}: item {{"pk":{{"S":"bad"}}}}: ')
    assert "an attribute name holds U+0000" in first.line
    assert first.line == second.line

    dynamodb.client.delete_item(TableName=table, Key=bad)
    assert migration.run().status == 0
    for each in (table, other):
        compare(dynamodb.client, mongo.client, each, f"{table}.{each}")


@contextmanager
def failing(mongo: Any, mode: Any, **data: Any) -> Iterator[None]:
    """While this is entered, the MongoDB server fails commands."""
    admin = mongo.client.admin
    admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
    try:
        yield
    finally:
        admin.command("configureFailPoint", "failCommand", mode="off")


#: WriteConflict; MaxTimeMSExpired; the connection is closed.
@pytest.mark.parametrize(
    "fault", [{"errorCode": 112}, {"errorCode": 50}, {"closeConnection": True}]
)
def test_faults_of_the_target_that_pass_are_ridden_out(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, tmp_path: Path, fault: dict[str, Any]
) -> None:
    """The first command to come fails five times, and all others with it."""
    migration = migrate(checkpoint__type="file", checkpoint__address=tmp_path, **SMALL_PAGES)
    commands = ["create", "insert", "createIndexes"]
    with failing(mongo, {"times": 5}, failCommands=commands, **fault):
        result = migration.run()
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")
    assert mongo.client[table][table].index_information()["pk_1"]["unique"]
    assert int(result.figures(table)["retries"]) >= 2  # the driver repeats some by itself


def test_a_target_that_refuses_writes_stops_the_task_until_it_does_not(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, tmp_path: Path
) -> None:
    migration = migrate(checkpoint__type="file", checkpoint__address=tmp_path, **SMALL_PAGES)
    with failing(mongo, "alwaysOn", failCommands=["insert"], errorCode=13):
        result = migration.run()
    assert result.status == 1
    place = filled(mongo, table).full_name
    assert result.line.startswith(f"{place}: the target refused a write: ")
    assert "full sync done!" not in result.stdout
    assert migration.run().status == 0
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


def test_a_checkpoint_database_that_refuses_writes_lets_nothing_begin(
    mongo: Any, table: str, migrate: Migrate
) -> None:
    with failing(mongo, "alwaysOn", failCommands=["insert"], errorCode=13):
        result = migrate().run()
    assert result.status == 3
    assert result.line.startswith(f"checkpoint database {table}-checkpoint at ")
    assert table not in mongo.client.list_database_names()


def test_an_index_that_the_target_refuses_does_not_undo_the_copy(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    with Faulty(otherwise=forward(dynamodb.url)) as source:
        migration = migrate(source=source.url)
        with failing(mongo, "alwaysOn", failCommands=["createIndexes"], errorCode=67):
            result = migration.run()
        assert result.status == 1
        assert f"1 of 1 indexes of table {table} could not be built" in result.line
        compare(dynamodb.client, mongo.client, table, filled(mongo, table).full_name)
        scans = sum(b"TotalSegments" in request.body for request in source.requests)
        assert migration.run().status == 0
        assert sum(b"TotalSegments" in request.body for request in source.requests) == scans
    assert mongo.client[table][table].index_information()["pk_1"]["unique"]
