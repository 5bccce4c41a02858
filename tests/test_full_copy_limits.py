"""A full copy keeps to its limits, as proxies before source and target see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from shake.codec.contract import Options
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.migration import Migration, compare, filled, keys_of
from tests.support.tables import create_table, put_items
from tests.support.wire import Wire

Migrate = Callable[..., Migration]


class Scans:
    """Answers as the server does, and notes each call of the copy: when, asked what, units used."""

    def __init__(self, url: str) -> None:
        self._answer = forward(url)
        self.times: list[float] = []
        self.asked: list[dict[str, Any]] = []
        self.units: list[float] = []

    def __call__(self, request: Request) -> Reply:
        asked = json.loads(request.body)
        copying = request.operation == "Scan" and "TotalSegments" in asked
        if copying:
            self.times.append(time.monotonic())
            self.asked.append(asked)
        reply = self._answer(request)
        if copying:
            self.units.append(json.loads(reply.body)["ConsumedCapacity"]["CapacityUnits"])
        return reply


def fill(dynamodb: Any, table: str, count: int, size: int = 10) -> None:
    create_table(dynamodb.client, table)
    items = ({"pk": {"S": f"k{i}"}, "v": {"S": "x" * size}} for i in range(count))
    put_items(dynamodb.client, table, items)


def test_scan_calls_stay_below_the_limit_over_all_workers(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, name, 240)
    scans = Scans(dynamodb.url)
    with Faulty(otherwise=scans) as source:
        migration = migrate(
            source=source.url,
            qps__full=20,
            qps__full__batch_num=4,
            full__read__concurrency=4,
        )
        result = migration.run(workers=3)
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    assert {asked["Limit"] for asked in scans.asked} == {4}
    assert len(scans.times) >= 60
    # After a pause, or a stall of this machine, one second's calls may follow at once.
    for first, last in combinations(range(len(scans.times)), 2):
        most = 20 * (scans.times[last] - scans.times[first]) + 20 + 3
        assert last - first + 1 <= most


def test_a_consistent_scan_stays_below_the_read_budget(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, name, 120, size=7000)  # two units each
    scans = Scans(dynamodb.url)
    with Faulty(otherwise=scans) as source:
        migration = migrate(
            source=source.url,
            source__read_budget=100,
            source__consistent_read="true",
            qps__full__batch_num=3,
        )
        result = migration.run()
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    assert all(asked["ConsistentRead"] for asked in scans.asked)
    assert sum(scans.units) >= 2 * 100
    took = scans.times[-1] - scans.times[0]
    # What a call costs is known afterwards: the last ones of each scanner may go beyond.
    assert sum(scans.units) <= 100 * took + 100 + 4 * max(scans.units)
    assert result.figures(name)["units"] == f"{sum(scans.units):.0f}"


def test_segments_pages_and_inserts_are_cut_as_asked(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, name, 100)
    scans = Scans(dynamodb.url)
    with (
        Faulty(otherwise=scans) as source,
        Wire(*mongo.client.address) as target,
    ):
        migration = migrate(
            source=source.url,
            target=target.uri,
            full__read__concurrency=16,
            qps__full__batch_num=30,
            full__document__write__batch=1,
            full__document__concurrency=2,
            full__document__parser=1,
        )
        result = migration.run(workers=3)
        inserts = target.count("insert", f"{name}.{name}")
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    assert {asked["Segment"] for asked in scans.asked} == set(range(16))
    assert {asked["TotalSegments"] for asked in scans.asked} == {16}
    assert inserts == 100


@pytest.mark.parametrize("replace", [True, False])
def test_a_key_that_the_target_already_holds_is_replaced_or_stops_the_copy(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate, replace: bool
) -> None:
    fill(dynamodb, name, 20)
    foreign = {"_id": "k7", "pk": "k7", "v": "of somebody else"}
    with Wire(*mongo.client.address) as target:
        target.stop_at(
            "answer",
            "create",
            f"{name}.{name}",
            lambda: filled(mongo, name).insert_one(foreign),
        )
        migration = migrate(
            target=target.uri,
            id__mode="key",
            full__executor__insert_on_dup_update=str(replace).lower(),
        )
        result = migration.run()
    if replace:
        assert result.status == 0, result
        options = Options(keys_of(dynamodb.client, name), id_mode="key")
        compare(dynamodb.client, mongo.client, name, f"{name}.{name}", options=options)
    else:
        assert result.status == 1
        assert f'table {name}: item {{"pk":{{"S":"k7"}}}}: ' in result.line
        assert "the target already holds this key, with other content" in result.line
        assert filled(mongo, name).find_one({"_id": "k7"}) == foreign
