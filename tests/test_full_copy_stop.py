"""A signal ends a run within ten seconds, wherever it is, and the next run goes on from there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient

from shake.demo.mongo import MongoServer
from shake.demo.servers import free_port
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.migration import SMALL_PAGES, Migration, Result, compare, filled
from tests.support.status import slots_used, status
from tests.support.wait import until
from tests.support.wire import Wire

Migrate = Callable[..., Migration]


def stop(migration: Migration, number: signal.Signals = signal.SIGTERM) -> Result:
    """Signal the last run; it ends within ten seconds."""
    run = migration.running[-1]
    run.send_signal(number)
    began = time.monotonic()
    result = migration.wait(run)
    assert time.monotonic() - began < 10
    return result


def is_scan(request: Request) -> bool:
    return request.operation == "Scan" and b'"Segment"' in request.body


def test_no_page_is_read_twice_because_of_a_stop(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    with Faulty(otherwise=forward(dynamodb.url)) as source:
        migration = migrate(source=source.url, qps__full=20, **SMALL_PAGES)
        migration.start()
        until(lambda: sum(map(is_scan, source.requests)) >= 10)
        result = stop(migration)
        assert result.status == 0, result
        assert result.stderr == ""
        assert 0 < filled(mongo, table).count_documents({}) < 200
        result = migration.run("--set", "qps.full=1000")
        assert result.status == 0, result
        scans = [r.body for r in source.requests if is_scan(r)]
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")
    # A page may have been under way in each of the four scanners.
    assert len(scans) - len(set(scans)) <= 4


def test_a_target_that_hangs_with_pages_under_way_is_status_1(
    dynamodb: Any, own_mongo: MongoServer, table: str, migrate: Migrate
) -> None:
    port = free_port()
    migration = migrate(target=own_mongo.uri, qps__full=5, http_profile=port, **SMALL_PAGES)
    hang(migration, own_mongo, port)
    result = stop(migration)
    assert result.status == 1
    assert result.line == ("stopped, but the target did not answer in time; start again to go on")

    own_mongo.signal(signal.SIGCONT)
    assert migration.run("--set", "qps.full=1000").status == 0
    with MongoClient[Any](own_mongo.uri) as client:
        compare(dynamodb.client, client, table, f"{table}.{table}")


def test_a_second_signal_ends_the_run_at_once(
    own_mongo: MongoServer, table: str, migrate: Migrate, tmp_path: Path
) -> None:
    port = free_port()
    migration = migrate(
        target=own_mongo.uri,
        qps__full=5,
        http_profile=port,
        checkpoint__type="file",
        checkpoint__address=tmp_path / "positions",
        **SMALL_PAGES,
    )
    hang(migration, own_mongo, port)
    migration.running[-1].send_signal(signal.SIGINT)
    until(lambda: status(port)["state"] == "stopping")
    began = time.monotonic()
    assert stop(migration, signal.SIGINT).status == 1
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_positions_that_the_store_does_not_take_in_time_are_no_good_end(
    mongo: Any, table: str, migrate: Migrate
) -> None:
    """Two signals at once leave no time to see whether the store answers."""
    port = free_port()
    with Wire(*mongo.client.address) as wire:
        settings = {"checkpoint__address": wire.uri, "qps__full": 5, "http_profile": port}
        migration = migrate(**settings, **SMALL_PAGES)
        migration.first = "from shake.run import supervisor; supervisor._SAVE_SECONDS = 3600"
        run = migration.start()
        until(lambda: migration.children("writer") and status(port)["total"]["items"])
        wire.cut("request")
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            run.send_signal(number)
        result = migration.wait(run)
    assert result.status == 1, result
    assert "did not answer in time; start again to go on" in result.line


def hang(migration: Migration, server: MongoServer, port: int) -> None:
    """Run until something is stored, have the target hang, and wait until pages wait for it."""
    migration.start()
    until(lambda: migration.children("writer") and status(port)["total"]["items"])
    server.signal(signal.SIGSTOP)
    until(lambda: slots_used(port) >= 2)


def test_a_source_that_hangs_keeps_nobody_from_ending(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    answer = forward(dynamodb.url)
    late = b'"ExclusiveStartKey"'

    def never(request: Request) -> Reply:
        return Reply(slow=40) if late in request.body else answer(request)

    with Faulty(otherwise=never) as source:
        migration = migrate(source=source.url, **SMALL_PAGES)
        migration.start()
        until(lambda: sum(late in request.body for request in source.requests) == 4)
        children = migration.children()
        result = stop(migration)
        assert not psutil.wait_procs(children, timeout=1)[1]
    assert result.status == 0, result
    assert migration.run("--set", f"source.endpoint_url={dynamodb.url}").status == 0
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_copy_begins_is_a_good_end(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, number: signal.Signals
) -> None:
    answer = forward(dynamodb.url)

    def never(request: Request) -> Reply:
        return Reply(slow=40) if request.operation == "DescribeTable" else answer(request)

    with Faulty(otherwise=never) as source:
        migration = migrate(source=source.url)
        migration.start()
        until(lambda: source.requests)
        result = stop(migration, number)
    assert result.status == 0
    assert result.line == "stopped: start again to go on"
    assert table not in mongo.client.list_database_names()
