"""shake-check compares, and repairs, only the table and the collection that belong together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient

from shake.check.belonging import read_checkpoints
from shake.cli import check
from shake.config.load import load
from shake.demo.mongo import MongoServer, mongo_server
from shake.demo.servers import free_port
from tests.support.copied import Copied, make_table
from tests.support.followed import Followed
from tests.support.migration import Migration
from tests.support.tables import create_table
from tests.support.wait import until
from tests.test_target_identity import (
    Change,
    collection_dropped,
    collection_left_empty,
    collection_made_anew,
    collection_renamed,
    copied,
    database_dropped,
    key_index_dropped,
)

pytestmark = pytest.mark.slow

#: Of a check that changes all it can.
MEND = ("--repair", "--yes", "--delete-extra")


def run(migration: Migration, *arguments: str) -> int:
    return check.main(["--conf", str(migration.conf), *arguments])


def contents(client: Any, name: str) -> dict[str, list[Any]]:
    """All documents of the target's database, by collection."""
    database = client[name]
    return {one: list(database[one].find()) for one in database.list_collection_names()}


def refused(
    followed: Followed, migration: Migration, capsys: Any, said: str, *arguments: str
) -> None:
    """One line says why, no difference is printed, and nothing is changed."""
    before = contents(followed.mongo.client, followed.name)
    capsys.readouterr()
    assert run(migration, *arguments) == 3
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert ": missing {" not in captured.out
    assert contents(followed.mongo.client, followed.name) == before


@pytest.mark.parametrize(
    ("mode", "account"),
    [("all", "000000000000"), ("full", "111111111111"), ("incr", "000000000000")],
)
def test_another_source_table_of_the_same_name_is_refused_as_at_a_start(
    followed: Followed, capsys: Any, mode: str, account: str
) -> None:
    """The other table holds other items: a repair would store those, and delete all others."""
    migration = copied(followed, sync_mode=mode)
    followed.simulator.table(followed.name, account=account)
    followed.put("other")
    words = f"table {followed.name} is not the table that this task began with"
    refused(followed, migration, capsys, words)
    refused(followed, migration, capsys, words, *MEND)
    assert followed.collection.count_documents({}) == 30
    assert words in migration.run("--dry-run").stdout


def test_a_checkpoint_from_before_identities_names_the_account_by_its_stream(
    followed: Followed, capsys: Any
) -> None:
    migration = copied(followed)
    followed.checkpoint.delete_one({"_id": "identity"})
    followed.simulator.table(followed.name, account="111111111111")
    refused(followed, migration, capsys, "is not the table that this task began with", *MEND)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (database_dropped, "rename the collection back, or start over"),
        (collection_dropped, "rename the collection back, or start over"),
        (collection_renamed, "is missing: check target.address, rename the collection back, or"),
        (collection_made_anew, "is not the one that table"),
        (collection_left_empty, "set it back, or start over"),
    ],
)
def test_a_collection_that_is_not_the_tasks_is_refused_as_at_a_start(
    followed: Followed, capsys: Any, change: Change, said: str
) -> None:
    migration = copied(followed, sync_mode="full")
    change(followed.mongo.client, followed.name)
    refused(followed, migration, capsys, said)
    refused(followed, migration, capsys, said, *MEND)
    assert said in migration.run("--dry-run").stdout
    if change is collection_renamed:
        followed.mongo.client[followed.name].elsewhere.rename(followed.name)
        assert run(migration) == 0


def test_another_server_is_refused(followed: Followed, capsys: Any, tmp_path: Path) -> None:
    migration = copied(followed, checkpoint__address=followed.mongo.uri)
    with mongo_server(folder=tmp_path / "other") as other:
        refused(followed, migration, capsys, "is missing", f"--set=target.address={other.uri}")


def test_without_the_unique_index_a_check_names_it_and_a_repair_is_refused(
    followed: Followed, capsys: Any
) -> None:
    migration = copied(followed, sync_mode="full")
    key_index_dropped(followed.mongo.client, followed.name)
    followed.put("new")
    assert run(migration) == 1
    out = capsys.readouterr().out
    assert f"table {followed.name}: index (unique {{pk: 1}} (the table's key))" in out
    assert "1 missing, 0 different, 0 extra, 0 duplicate, 1 index" in out
    refused(followed, migration, capsys, "lacks the unique index on the key", *MEND)


def test_other_settings_than_those_of_the_copy_are_refused(followed: Followed, capsys: Any) -> None:
    """A repair would store all documents once more, in another form or place."""
    migration = copied(followed, sync_mode="full")
    name = followed.name
    for key, value in (("id.mode", "key"), ("namespace.map", f"{name}:{name}.other")):
        said = f"the copy of table {name} was begun with {key} = "
        refused(followed, migration, capsys, said, f"--set={key}={value}")
        refused(followed, migration, capsys, said, f"--set={key}={value}", *MEND)


def test_a_table_that_the_task_began_with_and_that_is_gone_is_not_left_out(
    followed: Followed, capsys: Any
) -> None:
    """Else the check of the other tables would say that all is equal."""
    followed.simulator.table(f"{followed.name}2")
    migration = copied(followed, sync_mode="full", filter__collection__white=f"{followed.name}*")
    assert run(migration) == 0
    del followed.simulator.tables[f"{followed.name}2"]
    assert run(migration) == 2
    assert f"table {followed.name}2, which this task has begun with" in capsys.readouterr().err


def test_a_copy_that_is_still_in_its_staging_collection_is_not_compared_with_an_older_one(
    followed: Followed, capsys: Any
) -> None:
    followed.simulator.table(followed.name)
    for key in range(200):
        followed.put(f"k{key}")
    followed.collection.insert_one({"pk": "of an older copy"})
    settings = {"full__read__concurrency": 1, "qps__full__batch_num": 10, "qps__full": 5}
    migration = followed.task(sync_mode="full", target__db__exist="rename", **settings)
    process = migration.start()
    until(lambda: followed.checkpoint.find_one({"Segment": 0}))
    migration.kill(process)
    said = f"table {followed.name}: the copy is not complete (status copying)"
    refused(followed, migration, capsys, said)
    refused(followed, migration, capsys, said, *MEND)


# ---- without a checkpoint


def items(count: int) -> list[dict[str, Any]]:
    return [{"pk": {"S": f"k{place}"}} for place in range(count)]


def check_of(copied: Copied, *arguments: str) -> int:
    return check.main([*copied.arguments, *arguments])


def test_a_copy_that_another_program_made_is_checked_and_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    table = make_table(dynamodb, mongo, name, tmp_path, items(5))
    table.copy()
    assert check_of(table) == 0
    table.collection.delete_one({"pk": "k3"})
    capsys.readouterr()
    assert check_of(table, "--repair", "--yes") == 0
    [line] = [one for one in capsys.readouterr().out.splitlines() if "--repair changes" in one]
    host, port = mongo.client.address
    assert f"collection {name}.{name} on {host}:{port}" in line
    assert f"the table at arn:aws:dynamodb:ddblocal:000000000000:table/{name}" in line
    assert f"task {name} has no checkpoint that says whether it is its copy" in line
    assert table.collection.count_documents({}) == 5


def test_a_repair_of_the_tasks_own_copy_says_what_it_changes(
    followed: Followed, capsys: Any
) -> None:
    migration = copied(followed, sync_mode="full")
    followed.put("new")
    capsys.readouterr()
    assert run(migration, "--repair", "--yes") == 0
    out = capsys.readouterr().out
    assert f"to make it equal to the table at {followed.table.arn}\n" in out
    followed.compare()


@pytest.mark.parametrize("arguments", [(), MEND], ids=["look", "repair"])
def test_a_collection_that_does_not_exist_is_one_clear_line(
    dynamodb: Any,
    mongo: Any,
    name: str,
    tmp_path: Path,
    capsys: Any,
    arguments: tuple[str, ...],
) -> None:
    table = make_table(dynamodb, mongo, name, tmp_path, items(30))
    assert check_of(table, *arguments) == 3
    captured = capsys.readouterr()
    assert (
        f"collection {name}.{name} does not exist, and task {name} has not copied" in captured.err
    )
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert name not in mongo.client.list_database_names()


def test_a_collection_without_its_unique_index_is_not_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    table = make_table(dynamodb, mongo, name, tmp_path, items(3))
    table.collection.insert_one({"pk": "other"})
    assert check_of(table) == 1
    assert "3 missing, 0 different, 1 extra, 0 duplicate, 1 index" in capsys.readouterr().out
    assert check_of(table, *MEND) == 3
    assert "lacks the unique index on the key" in capsys.readouterr().err
    assert [one["pk"] for one in table.collection.find()] == ["other"]


def test_a_store_that_does_not_answer_for_now_is_asked_again_for_kept_items(
    followed: Followed,
) -> None:
    """With a right that is missing, asking again is in vain."""
    away = f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=100"
    conf = followed.task(checkpoint__address=away).conf
    assert read_checkpoints(load(str(conf), {}, ()).config, repair=False) == {}


def test_two_tables_in_one_collection_are_refused(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    """A repair would delete the documents of one as extra documents of the other."""
    table = make_table(dynamodb, mongo, name, tmp_path, items(3))
    table.copy()
    create_table(dynamodb.client, f"{name}2")
    both = [
        f"--set=filter.collection.white={name};{name}2",
        f"--set=namespace.map={name}2:{name}.{name}",
    ]
    assert check_of(table, *both, *MEND) != 0
    assert f"2 tables would go to {name}.{name}" in capsys.readouterr().err
    assert table.collection.count_documents({}) == 3


def test_a_user_who_can_only_read_checks_and_learns_what_is_not_known(
    dynamodb: Any, own_mongo: MongoServer, name: str, tmp_path: Path, capsys: Any
) -> None:
    """The rights of one database are enough; a repair needs to read the checkpoint."""
    with MongoClient[dict[str, Any]](own_mongo.uri) as client:
        table = make_table(dynamodb, own_mongo, name, tmp_path, items(5))
        table.target = SimpleNamespace(client=client)
        table.copy()
        client.admin.command(
            "createUser", "reader", pwd="secret", roles=[{"role": "read", "db": name}]
        )
    own_mongo.auth = True
    own_mongo.restart()
    address = own_mongo.uri.replace("://", "://reader:secret@")
    assert check_of(table, f"--set=target.address={address}") == 0
    captured = capsys.readouterr()
    assert "cannot find out whether this task has filled the collections" in captured.err
    assert "5 items equal" in captured.out
    assert check_of(table, f"--set=target.address={address}", "--repair", "--yes") != 0
    capsys.readouterr()
    table.put({"pk": {"S": "missing"}})
    assert check_of(table, f"--set=target.address={address}") == 1
    captured = capsys.readouterr()
    assert "NOT equal: 1 difference" in captured.out
    assert captured.err.count("or which items it has kept") == 1
