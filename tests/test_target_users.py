"""MongoDB numbers changes for each user, so a change of the user is warned of."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pymongo import MongoClient

from shake.demo.mongo import MongoServer
from tests.support.followed import Followed
from tests.support.migration import ROOT, Migration

pytestmark = pytest.mark.slow

ROLES = ["readWriteAnyDatabase"]


@pytest.fixture
def migration(followed: Followed, own_mongo: MongoServer) -> Migration:
    """A task whose target has two users, ``one`` and ``two``; ``one`` has caught up."""
    with MongoClient[dict[str, Any]](own_mongo.uri) as client:
        for user in ("one", "two"):
            client.admin.command("createUser", user, pwd="p", roles=ROLES)
    own_mongo.auth = True
    own_mongo.restart()
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(target=address(own_mongo, "one"))
    for _ in range(2):
        result = migration.run("--until-consistent")
        assert result.status == 0, result
        assert "NO FENCE" not in result.stdout
    return migration


def address(server: MongoServer, user: str) -> str:
    return server.uri.replace("://", f"://{user}:p@")


def test_another_user_than_that_of_an_earlier_run_is_warned_of(
    migration: Migration, own_mongo: MongoServer, followed: Followed
) -> None:
    two = ["--set", f"target.address={address(own_mongo, 'two')}"]
    warning = f"NO FENCE: table {followed.name}: changes were sent as another user"
    planned = migration.run("--dry-run", *two)
    assert planned.status == 0, planned
    assert warning in planned.stdout
    assert "NO FENCE" not in migration.run("--dry-run").stdout  # which has changed nothing
    for user in (two, [], two):
        result = migration.run("--until-consistent", *user)
        assert result.status == 0, result
        assert warning in result.stdout


def test_another_user_of_a_repair_is_warned_of(
    migration: Migration, own_mongo: MongoServer, followed: Followed
) -> None:
    two = ["--set", f"target.address={address(own_mongo, 'two')}"]
    check = [sys.executable, str(ROOT / "bin/shake-check"), "--conf", str(migration.conf)]
    with MongoClient[dict[str, Any]](address(own_mongo, "one")) as client:
        client[followed.name][followed.name].delete_one({"pk": "a"})
    repaired = subprocess.run(
        [*check, "--repair", "--yes", "--after-cutover", *two], capture_output=True, text=True
    )
    warning = f"NO FENCE: table {followed.name}: changes were sent as another user"
    assert warning in repaired.stdout + repaired.stderr, repaired
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert warning in result.stdout
