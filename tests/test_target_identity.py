"""A copy counts as done only while the collection that it made is there, with its key index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shake.demo.mongo import mongo_server
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import Migration, Result
from tests.support.wait import until

pytestmark = pytest.mark.slow

#: How the target can change behind the task, and what a start then says of it.
Change = Callable[[Any, str], object]


def database_dropped(client: Any, name: str) -> None:
    client.drop_database(name)


def collection_dropped(client: Any, name: str) -> None:
    client[name].drop_collection(name)


def collection_renamed(client: Any, name: str) -> None:
    client[name][name].rename("elsewhere")


def collection_made_anew(client: Any, name: str) -> None:
    """With the same documents and indexes."""
    documents = list(client[name][name].find())
    index = client[name][name].index_information()["pk_1"]
    client[name].drop_collection(name)
    client[name][name].insert_many(documents)
    client[name][name].create_index(index["key"], unique=True)


def collection_left_empty(client: Any, name: str) -> None:
    """By another program that creates what it misses."""
    client[name].drop_collection(name)
    client[name].create_collection(name)


def key_index_dropped(client: Any, name: str) -> None:
    client[name][name].drop_index("pk_1")


#: And the mode of the task that meets it.
CHANGES: list[tuple[Change, str, str]] = [
    (database_dropped, "is missing", "full"),
    (collection_dropped, "is missing", "all"),
    (collection_renamed, "is missing", "full"),
    (collection_made_anew, "is not the one that table", "all"),
    (collection_left_empty, "is not the one that table", "full"),
    (key_index_dropped, "lacks the unique index on the key", "all"),
    (key_index_dropped, "lacks the unique index on the key", "incr"),
]


def copied(followed: Followed, **settings: Any) -> Migration:
    """A task that is complete, or caught up, and stopped."""
    followed.simulator.table(followed.name)
    for key in range(30):
        followed.put(f"k{key}")
    migration = followed.task(**settings)
    result = migration.run(*["--until-consistent"] * (settings.get("sync_mode") != "full"))
    assert result.status == 0, result
    return migration


def refused(followed: Followed, migration: Migration, said: str, *arguments: str) -> Result:
    """The start and the dry run refuse, by one line that names both ways out; nothing is done."""
    stored = contents(followed)
    before = len(followed.simulator.journal)
    planned = migration.run("--dry-run", *arguments)
    assert planned.status == 3, planned
    result = migration.run(*arguments)
    assert result.status == 3, result
    for text in (planned.stdout, result.line):
        assert said in text
        assert "target.address" in text or "build that index" in text
        assert f"shake forget --conf FILE {followed.name} removes" in text
    calls = followed.simulator.journal[before:]
    assert not any(
        call.operation in ("GetRecords", "UpdateTable") or copies(call) for call in calls
    )
    assert contents(followed) == stored
    return result


def contents(followed: Followed) -> dict[str, int]:
    database = followed.mongo.client[followed.name]
    return {name: database[name].count_documents({}) for name in database.list_collection_names()}


@pytest.mark.parametrize(
    ("change", "said", "mode"),
    CHANGES,
    ids=[f"{change.__name__}, {mode}" for change, _, mode in CHANGES],
)
def test_a_copy_whose_collection_is_not_as_it_was_is_not_called_complete(
    followed: Followed, change: Change, said: str, mode: str
) -> None:
    migration = copied(followed, sync_mode=mode)
    change(followed.mongo.client, followed.name)
    result = refused(followed, migration, said)
    if mode == "incr":  # which copies nothing, whatever is done
        assert "the next start follows it anew, from incr.start = " in result.line
        assert "target.db.exist" not in result.line
    assert "complete already" not in result.stdout
    assert "equal" not in result.stdout


@pytest.mark.parametrize(("policy", "exist"), [("fail", "drop"), ("resync", "rename")])
def test_no_policy_makes_up_for_a_collection_that_is_gone(
    followed: Followed, policy: str, exist: str
) -> None:
    migration = copied(followed, gap__policy=policy, target__db__exist=exist)
    followed.collection.drop()
    refused(followed, migration, "is missing")


def test_another_server_is_not_taken_for_the_one_that_was_filled(
    followed: Followed, tmp_path: Path
) -> None:
    """The checkpoints are on a server of their own."""
    migration = copied(followed, checkpoint__address=followed.mongo.uri)
    with mongo_server(folder=tmp_path / "other") as other:
        address = ["--set", f"target.address={other.uri}"]
        refused(followed, migration, "is missing", *address)
    assert migration.run("--until-consistent").status == 0


def test_the_way_out_that_a_refusal_names_leads_out(followed: Followed) -> None:
    migration = copied(followed)
    followed.mongo.client.drop_database(followed.name)
    refused(followed, migration, "is missing")
    followed.mongo.client[f"{followed.name}-checkpoint"].drop_collection(followed.name)
    assert migration.run("--until-consistent").status == 0
    followed.compare()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (database_dropped, "is missing"),
        (collection_made_anew, "is not the one that table"),
    ],
)
def test_a_change_for_a_collection_that_has_changed_hands_says_what_became_of_it(
    followed: Followed, change: Change, said: str
) -> None:
    migration = copied(followed)
    process = migration.start()
    followed.put("later")
    followed.arrived("later")
    change(followed.mongo.client, followed.name)

    def ended() -> bool:
        followed.put("more")
        return process.poll() is not None

    until(ended)
    result = migration.wait(process)
    assert result.status == 1, result
    assert said in result.line
    assert "removes its checkpoint" in result.line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (database_dropped, "is missing"),
        (collection_made_anew, "is not the one that table"),
        (key_index_dropped, "lacks the unique index on the key"),
    ],
)
def test_a_collection_that_changes_hands_while_it_is_followed_ends_the_task(
    followed: Followed, change: Change, said: str
) -> None:
    """Within the 30 seconds between two looks, also where nothing is written."""
    migration = copied(followed)
    process = migration.start()
    followed.put("later")
    followed.arrived("later")
    change(followed.mongo.client, followed.name)
    result = migration.wait(process)
    assert result.status == 1, result
    assert said in result.line
    assert migration.run("--until-consistent").status == 3


@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_a_collection_by_whose_collation_two_keys_are_one_is_not_followed_into(
    followed: Followed, id_mode: str
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    collation = {"locale": "en", "strength": 1}
    followed.mongo.client[followed.name].create_collection(followed.name, collation=collation)
    migration = followed.task(sync_mode="incr", id__mode=id_mode)
    for arguments in (["--dry-run"], []):
        result = migration.run(*arguments)
        assert result.status == 3
        assert "default collation (locale en, strength 1)" in result.stdout + result.stderr
    followed.collection.drop()
    process = migration.start()
    followed.put("A")
    for key in ("a", "A"):
        followed.arrived(key)
    followed.compare()
    stopped(migration, process)


def test_a_copy_replaces_a_collection_that_has_a_collation_by_one_that_has_none(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    followed.put("A")
    collation = {"locale": "en", "strength": 1}
    followed.mongo.client[followed.name].create_collection(followed.name, collation=collation)
    migration = followed.task(target__db__exist="drop")
    process = migration.start()
    followed.equal()
    followed.table.delete({"pk": {"S": "A"}})
    followed.equal()
    assert "collation" not in followed.collection.options()
    stopped(migration, process)
