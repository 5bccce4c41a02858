"""A copy of which nothing is stored yet begins again with other settings."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.migration import Migration
from tests.support.tables import create_table, put_items
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

BAD = {"pk": {"S": "a"}, "_id": {"S": "mine"}, "pre_id": {"S": "mine, too"}}
STORED = {"pk": "a", "other_id": "mine", "pre_id": "mine, too"}


def collections(mongo: Any, name: str) -> list[str]:
    return [one for one in mongo.client[name].list_collection_names() if "shake" in one]


@pytest.mark.parametrize(("sync_mode", "id_mode"), [("full", "objectid"), ("all", "key")])
def test_the_advice_for_an_item_with_both_names_works(
    dynamodb: Any,
    mongo: Any,
    name: str,
    migrate: Callable[..., Migration],
    sync_mode: str,
    id_mode: str,
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [BAD])
    settings = {"sync_mode": sync_mode, "id__mode": id_mode, "incr__margin": 1}
    arguments = ["--until-consistent"] if sync_mode == "all" else []
    result = migrate(**settings).run(*arguments)
    assert result.status == 1
    assert "set another convert._id" in result.line
    result = migrate(**settings, convert___id="other").run(*arguments)
    assert result.status == 0, result
    [found] = mongo.client[name][name].find()
    del found["_id"]
    assert found == STORED
    assert collections(mongo, name) == []


@pytest.mark.parametrize("at", [0, 2])
def test_a_kill_while_it_begins_again_changes_nothing(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, at: int
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [BAD])

    def migration(uri: str, **settings: Any) -> Migration:
        return Migration(dynamodb.url, uri, name, tmp_path, sync_mode="full", **settings)

    assert migration(mongo.uri).run().status == 1
    with Wire(*mongo.client.address) as wire:
        killed = migration(wire.uri, convert___id="other")
        checkpoint = f"{name}-checkpoint.{name}"
        wire.stop_at(
            "answer", "update", checkpoint, lambda: killed.kill(killed.running[-1]), skip=at
        )
        assert killed.run().status == -signal.SIGKILL
        killed.close()
    result = migration(mongo.uri, convert___id="other").run()
    assert result.status == 0, result
    [found] = mongo.client[name][name].find()
    del found["_id"]
    assert found == STORED
    assert collections(mongo, name) == []
