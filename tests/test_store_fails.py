"""A store or a target that fails right after it was opened refuses the start: nothing is changed.

The server fails one command, at the moment at which it is sent.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.migration import Migration
from tests.support.tables import create_table, put_items
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

#: Errors that no waiting cures, and that pass.
UNAUTHORIZED, MAX_TIME_EXPIRED = 13, 50

#: Renews the task lock at each check.
ALWAYS_DUE = "from shake.checkpoint import task_lock; task_lock.INTERVAL = 0"


class Failing:
    """A task, and the way to its target and checkpoints."""

    def __init__(self, wire: Wire, client: Any, name: str, migration: Migration) -> None:
        self.wire, self.migration = wire, migration
        self.checkpoints = f"{name}-checkpoint"
        self.namespace = f"{name}.{name}"
        self._client = client

    def fail(self, command: str, place: str, skip: int, code: int) -> threading.Event:
        """Have the server fail that command once, after ``skip`` of them."""
        data = {"failCommands": [command], "errorCode": code}

        def fail() -> None:
            self._client.admin.command(
                "configureFailPoint", "failCommand", mode={"times": 1}, data=data
            )

        return self.wire.stop_at("request", command, place, fail, skip=skip)


@pytest.fixture
def failing(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration]
) -> Iterator[Failing]:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}])
    with Wire(*mongo.client.address) as wire:
        yield Failing(wire, mongo.client, name, migrate(target=wire.uri))


@pytest.mark.parametrize(
    ("command", "collection", "skip", "code"),
    [
        ("find", ".status_table", 1, UNAUTHORIZED),  # the first one is to open the store
        ("listCollections", "", 0, UNAUTHORIZED),
        ("listCollections", "", 1, UNAUTHORIZED),
        ("update", ".status_table", 0, MAX_TIME_EXPIRED),
    ],
    ids=["holder", "first start", "first lock", "renewal"],
)
def test_checkpoints_that_fail_before_the_run_begins_refuse_the_start(
    failing: Failing, command: str, collection: str, skip: int, code: int
) -> None:
    migration = failing.migration
    assert migration.run().status == 0
    migration.first = ALWAYS_DUE
    failed = failing.fail(command, failing.checkpoints + collection, skip, code)
    result = migration.run()
    assert failed.is_set()
    assert result.status == 3, result
    assert f"checkpoint database {failing.checkpoints}" in result.line


def test_checkpoints_that_fail_at_the_end_of_a_dry_run_refuse_it(failing: Failing) -> None:
    place = f"{failing.checkpoints}.status_table"
    assert failing.migration.run("--dry-run").status == 0
    last = failing.wire.count("find", place) - 1
    failed = failing.fail("find", place, last, UNAUTHORIZED)
    result = failing.migration.run("--dry-run")
    assert failed.is_set()
    assert result.status == 3, result


def test_a_target_that_fails_while_an_unfinished_copy_is_removed_refuses_the_start(
    failing: Failing,
) -> None:
    migration = failing.migration

    def kill() -> None:
        migration.kill(migration.running[-1])

    failing.wire.stop_at("answer", "create", failing.namespace, kill)
    assert migration.run().status == -signal.SIGKILL
    failed = failing.fail("drop", failing.namespace, 0, UNAUTHORIZED)
    result = migration.run()
    assert failed.is_set()
    assert result.status == 3, result
    assert migration.run().status == 0


def test_a_standby_waits_for_checkpoints_that_fail_as_it_starts(failing: Failing) -> None:
    place = f"{failing.checkpoints}.status_table"
    failed = failing.fail("find", place, 1, MAX_TIME_EXPIRED)
    result = failing.migration.run("--standby")
    assert failed.is_set()
    assert result.status == 0, result
    assert "standby: checkpoint database" in result.stdout
