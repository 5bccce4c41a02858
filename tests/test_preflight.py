"""Every reason not to begin is found before anything is changed, and named with the way out."""

from __future__ import annotations

import itertools
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from shake.config import load
from shake.demo.mongo import MongoServer
from shake.plan.preflight import local_problems
from tests.support.faulty import Faulty, Reply, Request, error, forward
from tests.support.migration import Migration, Result, compare, filled
from tests.support.streams import Clock, Simulator
from tests.support.streams_faults import Call, instead
from tests.support.tables import create_table, put_items
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

Migrate = Callable[..., Migration]


@pytest.fixture
def table(dynamodb: Any, name: str) -> str:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, ({"pk": {"S": f"k{i}"}} for i in range(30)))
    return name


def refusals(result: Result) -> list[str]:
    assert result.status == 3, result
    lines = result.stdout.splitlines()
    return [line.removeprefix("REFUSED: ") for line in lines if line.startswith("REFUSED: ")]


def test_all_that_stands_against_a_run_is_told_at_once(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    other, dotted = f"{table}.other", f"{table}.dotted"
    create_table(dynamodb.client, other)
    create_table(dynamodb.client, dotted, ("a.b", "S"))
    mongo.client[table][other].insert_one({})
    before = mongo.client.list_database_names()
    missing = f"{table}.missing"
    migration = migrate(
        filter__collection__white=f"{table};{missing};{other};{dotted};nothing*",
        source__read_budget="50%",
        namespace__map=f"{table}:{table}.{dotted}",
    )
    planned = migration.run("--dry-run")
    assert f"table {other} -> {table}.{other}: REFUSED: the collection exists" in planned.stdout
    assert "existing collections: 0 dropped, 0 renamed, 1 in the way" in planned.stdout
    shown = refusals(planned)
    said = "\n".join(shown)
    assert f"there is no table {missing} in this account and region" in said
    assert f"collection {table}.{other} exists: set target.db.exist" in said
    assert f"table {dotted}: the key cannot be indexed: the name of attribute 'a.b'" in said
    assert f"2 tables would go to {table}.{dotted}" in said
    for each in (table, other, dotted):
        assert f"table {each} is on demand: a share as source.read_budget" in said
    assert len(shown) == 7

    result = migration.run()
    assert result.status == 3
    assert result.line == f"{shown[0]} (and 6 more: --dry-run shows all)"
    assert list(mongo.client[table].list_collection_names()) == [other]
    assert set(mongo.client.list_database_names()) - set(before) <= {f"{table}-checkpoint"}


def test_the_dry_run_begins_with_what_is_dangerous(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    create_table(dynamodb.client, f"{table}.new")
    mongo.client[table][table].insert_one({})
    before = mongo.client.list_database_names()
    migration = migrate(filter__collection__white=f"{table}*")
    for fate, words, action in (
        ("drop", "1 DROPPED, 0 renamed", "copy, then DROP the existing collection"),
        ("rename", "0 dropped, 1 renamed", "copy, then rename the existing collection"),
    ):
        result = migration.run("--dry-run", "--set", f"target.db.exist={fate}")
        assert result.status == 0, result
        assert f"existing collections: {words}" in result.stdout
        assert f"table {table} -> {table}.{table}: {action}" in result.stdout
        assert f"table {table}.new -> {table}.{table}.new: copy into a new coll" in result.stdout
    assert mongo.client.list_database_names() == before
    assert mongo.client[table].list_collection_names() == [table]


def test_a_wild_card_that_matches_nothing_is_refused(table: str, migrate: Migrate) -> None:
    [line] = refusals(migrate(filter__collection__white=f"{table}.*").run("--dry-run"))
    assert line == (
        f"no table to copy: filter.collection.white = {table}.* leaves none of this account and "
        "region"
    )


def test_a_copy_goes_on_only_as_it_was_begun(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    migration = migrate(qps__full__batch_num=5)
    with Faulty(otherwise=denying_later_pages(dynamodb.url)) as source:
        assert migration.run("--set", f"source.endpoint_url={source.url}").status == 1

    changed = ["--set", "id.mode=key", "--set", f"namespace.map={table}:{table}.else"]
    shown = refusals(migration.run("--dry-run", *changed))
    begun = f"the copy of table {table} was begun with"
    anew = (
        f"start over under this id: shake forget --conf FILE {table} removes its checkpoint "
        f"(collection {table} of database {table}-checkpoint); the next start copies it anew; set "
        "target.db.exist = rename or drop where"
    )
    assert shown == [
        f"{begun} id.mode = objectid, now it is key: set it back, or copy under another id, or "
        f"{anew} {table}.else exists",
        f"{begun} namespace.map = {table}.{table}, now it is {table}.else: set it back, or copy "
        f"under another id, or {anew} {table}.else exists",
    ]
    plan = migration.run("--dry-run")
    assert (
        f"table {table} -> {table}.{table}: continue where the last run was stopped" in plan.stdout
    )

    filled(mongo, table).drop()
    [gone] = refusals(migration.run("--dry-run"))
    assert gone.startswith(f"the staging collection of table {table} is gone, but its copy is not")
    mongo.client[f"{table}-checkpoint"].drop_collection(table)  # which is the way out it names
    assert migration.run().status == 0
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


def test_what_a_copy_without_a_checkpoint_has_left_is_named(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    migration = migrate(qps__full__batch_num=5)
    with Faulty(otherwise=denying_later_pages(dynamodb.url)) as source:
        assert migration.run("--set", f"source.endpoint_url={source.url}").status == 1
    assert ".shake-" not in migration.run("--dry-run").stdout  # its own
    left = filled(mongo, table)
    documents = left.count_documents({})
    mongo.client[f"{table}-checkpoint"].drop_collection(table)
    words = (
        f"{table}.{left.name} ({documents} documents) is what a copy into {table}.{table} has "
        "left, and this task has no checkpoint of it: remove it, unless another task is at work "
        "there"
    )
    assert words in migration.run("--dry-run").stdout
    result = migration.run()
    assert result.status == 0, result
    assert words in result.stdout
    assert left.count_documents({}) == documents
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


def denying_later_pages(url: str) -> Callable[[Request], Reply]:
    answer = forward(url)
    return lambda request: (
        error("AccessDeniedException")
        if b'"ExclusiveStartKey"' in request.body
        else answer(request)
    )


@pytest.mark.parametrize("operation", ["ListTables", "DescribeTable", "Scan"])
def test_a_right_that_is_missing_at_the_source_is_named(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, operation: str
) -> None:
    answer = forward(dynamodb.url)
    words = f"User: arn:aws:iam::1:user/me is not authorized to perform: dynamodb:{operation}"

    def deny(request: Request) -> Reply:
        denied = request.operation == operation
        return error("AccessDeniedException", words) if denied else answer(request)

    with Faulty(otherwise=deny) as source:
        migration = migrate(source=source.url, filter__collection__white=f"{table}*")
        result = migration.run()
    assert result.status == 3
    assert words in result.line
    of_table = "" if operation == "ListTables" else f"table {table}: "
    assert result.line.startswith(f"{of_table}{operation} was refused by the source: ")
    assert table not in mongo.client.list_database_names()


def test_a_run_that_reads_no_item_needs_no_right_to_scan(
    dynamodb: Any, table: str, migrate: Migrate
) -> None:
    answer = forward(dynamodb.url)

    def deny(request: Request) -> Reply:
        return error("AccessDeniedException") if request.operation == "Scan" else answer(request)

    with Faulty(otherwise=deny) as source:
        migration = migrate(source=source.url)
        assert migration.run("--dry-run", "--set", "sync_mode=incr").status == 0
        assert migration.run("--set", "sync_schema_only=true").status == 0


@pytest.mark.parametrize(
    ("operation", "enabled"),
    [
        ("UpdateTable", False),
        ("DescribeStream", False),
        ("GetShardIterator", False),
        ("GetRecords", False),
        ("DescribeStream", True),
        ("GetShardIterator", True),
        ("GetRecords", True),
    ],
)
def test_a_right_to_streams_that_is_missing_is_named_before_anything_is_changed(
    mongo: Any, name: str, migrate: Migrate, operation: str, enabled: bool
) -> None:
    with Simulator(clock=Clock(time.time)) as source:
        source.table(name, stream="NEW_IMAGE" if enabled else None)
        words = f"User: me is not authorized to perform: dynamodb:{operation}"
        denied = instead(error("AccessDeniedException", words))
        source.faults.rule(1, denied, where=lambda call: call.operation == operation)
        migration = migrate(source=source.url, sync_mode="all")
        [shown] = refusals(migration.run("--dry-run"))
        assert shown.startswith(f"table {name}: its changes cannot be followed: {operation} was")
        assert words in shown
        result = migration.run()
        assert (result.status, result.line) == (3, shown)
        assert bool(source.tables[name].streams) == enabled
    left = mongo.client.list_database_names()
    assert not [database for database in left if database.startswith(name)]


def test_streams_of_another_server_are_named_and_one_answer_proves_nothing(
    name: str, migrate: Migrate
) -> None:
    with Simulator(clock=Clock(time.time)) as source:
        source.table(name)
        migration = migrate(source=source.url, sync_mode="all")
        gone = instead(error("ResourceNotFoundException", "Stream not found"))
        source.faults.next("DescribeStream", gone)
        assert migration.run("--dry-run").status == 0
        source.faults.rule(1, gone, where=lambda call: call.operation == "DescribeStream")
        for arguments in (["--dry-run"], []):
            result = migration.run(*arguments)
            assert result.status == 3, result
            assert f"table {name}: its changes cannot be followed: DescribeStream" in result.line
            assert "check source.streams_endpoint_url" in result.line


def test_a_new_stream_that_cannot_be_read_stays_the_only_one(
    mongo: Any, name: str, migrate: Migrate
) -> None:
    tables = [f"{name}.{number}" for number in range(3)]

    def first_read(call: Call) -> bool:
        return call.operation == "GetRecords" and bool(source.tables[call.table].streams)

    with Simulator(clock=Clock(time.time)) as source:
        for each in tables:
            source.table(each, stream=None)
        denied = instead(error("AccessDeniedException", "not this one"))
        source.faults.rule(1, denied, where=first_read)
        migration = migrate(
            source=source.url, sync_mode="all", filter__collection__white=";".join(tables)
        )
        result = migration.run()
        assert result.status == 1, result
        assert f"table {tables[0]}: its new stream cannot be read: GetRecords was" in result.line
        assert [each for each in tables if source.tables[each].streams] == tables[:1]
        assert name not in mongo.client.list_database_names()
        source.faults.clear()
        assert migration.run("--until-consistent").status == 0


def test_no_stream_is_enabled_before_every_table_can_be_changed(
    name: str, migrate: Migrate
) -> None:
    busy, idle = f"{name}.busy", f"{name}.idle"
    with Simulator(clock=Clock(time.time)) as source:
        source.table(busy, stream=None)
        source.table(idle, stream=None)
        looks = itertools.count()

        def updating(call: Call, answer: Callable[[], Reply]) -> Reply:
            reply = answer()
            if next(looks) >= 8:
                return reply
            assert not source.tables[idle].streams
            return Reply(reply.body.replace(b'"ACTIVE"', b'"UPDATING"'))

        source.faults.rule(
            1, updating, where=lambda call: (call.operation, call.table) == ("DescribeTable", busy)
        )
        migration = migrate(
            source=source.url, sync_mode="all", filter__collection__white=f"{busy};{idle}"
        )
        migration.first = (
            "from shake.backoff import Backoff; from shake.source import dynamodb;"
            "dynamodb._LOOKS = Backoff(first=0.01, longest=0.01)"
        )
        result = migration.run("--until-consistent")
        assert result.status == 0, result
        assert f"table {busy} is being updated" in result.stdout
        assert source.tables[busy].stream.enabled


def test_a_filter_that_the_source_refuses_is_named_before_anything_is_dropped(
    mongo: Any, table: str, migrate: Migrate
) -> None:
    mongo.client[table][table].insert_one({})
    migration = migrate(
        target__db__exist="drop",
        full__read__filter_expression="size(pk = :s",
        full__read__filter_attributevalues="s```S```x",
    )
    words = f"table {table}: full.read.filter_expression (size(pk = :s) was refused by the source"
    for arguments in (["--dry-run"], []):
        result = migration.run(*arguments)
        assert result.status == 3, result
        assert result.line.startswith(words)
    assert mongo.client[table][table].count_documents({}) == 1
    assert f"{table}-checkpoint" not in mongo.client.list_database_names()


ALL_BUT_SOME = ["find", "insert", "update", "remove", "listIndexes", "listCollections"]


def test_a_right_that_the_target_does_not_give_is_named_before_anything_is_changed(
    own_mongo: MongoServer, table: str, migrate: Migrate
) -> None:
    checkpoints = {"role": "readWrite", "db": f"{table}-checkpoint"}
    some = {"resource": {"db": table, "collection": ""}, "actions": ALL_BUT_SOME}
    with MongoClient[dict[str, Any]](own_mongo.uri) as client:
        admin = client.admin
        admin.command("createRole", "some", privileges=[some], roles=[])
        admin.command("createUser", "some", pwd="p", roles=["some", checkpoints])
        enough = [{"role": "readWrite", "db": table}, checkpoints]
        admin.command("createUser", "enough", pwd="p", roles=enough)
        admin.command("createUser", "root", pwd="p", roles=["root"])
    own_mongo.auth = True
    own_mongo.restart()
    migration = migrate(target=own_mongo.uri.replace("://", "://some:p@"))
    shown = refusals(migration.run("--dry-run"))
    lacks = "target.address: its user lacks the right to"
    assert shown[0].startswith(f"{lacks} createIndex, dropCollection on {table}.{table}: grant it")
    assert shown[-1].startswith(f"{lacks} renameCollectionSameDB on database {table}: grant it; ")
    assert migration.run().status == 3
    root = own_mongo.uri.replace("://", "://root:p@")
    with MongoClient[dict[str, Any]](root) as client:
        assert not [one for one in client.list_database_names() if one.startswith(table)]
    enough_uri = own_mongo.uri.replace("://", "://enough:p@")
    result = migration.run("--set", f"target.address={enough_uri}")
    assert result.status == 0, result


def test_the_kind_of_the_target_is_held_against_the_target(
    mongo: Any, table: str, migrate: Migrate
) -> None:
    result = migrate(target__mongodb__type="sharding").run()
    assert result.status == 3
    assert result.line == (
        "target.address is not a sharded cluster: set target.mongodb.type = replica"
    )
    assert table not in mongo.client.list_database_names()


def test_a_port_that_is_taken_is_named_before_anything_is_changed(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for key in ("http_profile", "system_profile"):
            migration = migrate(sync_mode="all", **{key: port})
            words = f"{key}: cannot listen on 127.0.0.1 port {port} ("
            [refusal] = refusals(migration.run("--dry-run"))
            assert refusal.startswith(words)
            result = migration.run()
            assert result.status == 3
            assert result.line.startswith(words)
    assert not {table, f"{table}-checkpoint"} & set(mongo.client.list_database_names())
    assert "StreamSpecification" not in dynamodb.client.describe_table(TableName=table)["Table"]


def test_the_dry_run_names_a_log_file_that_cannot_be_opened_and_makes_none(tmp_path: Path) -> None:
    def problems(file: Path) -> list[str]:
        settings = ["id=a", "target.address=mongodb://h", f"log.file={file}"]
        return local_problems(load(None, {}, settings).config, ports=False)

    file = tmp_path / "shake.log"
    assert not problems(file)
    assert not file.exists()
    file.touch()
    assert not problems(file)
    for bad in (tmp_path, tmp_path / "no folder" / "log", file / "log"):
        [line] = problems(bad)
        assert line.startswith(f"log.file: {bad} cannot be opened; give a file in a folder that")


def test_folders_that_cannot_be_used_are_named(
    table: str, migrate: Migrate, tmp_path: Path
) -> None:
    file = tmp_path / "a file"
    file.touch()
    for settings, status, words in (
        ({"pid_path": file}, 2, "set pid_path to a folder"),
        ({"log__file": file / "log"}, 2, "log.file: "),
        ({"checkpoint__type": "file", "checkpoint__address": file}, 3, "checkpoint"),
    ):
        result = migrate(**settings).run()
        assert result.status == status, result
        assert words in result.line
        assert re.search(r"a file\b", result.line)


def test_a_start_that_is_refused_behind_the_task_lock_leaves_nothing_behind(
    mongo: Any, table: str, migrate: Migrate
) -> None:
    """The collection is created between the two times that the start is planned."""
    with Wire(*mongo.client.address) as wire:
        migration = migrate(target=wire.uri)

        def create() -> None:
            mongo.client[table][table].insert_one({"_id": "old"})

        status = f"{table}-checkpoint.status_table"
        reached = wire.stop_at("answer", "insert", status, create)
        result = migration.run()
    assert reached.is_set()
    assert result.status == 3, result
    assert "set target.db.exist" in result.line
    assert f"{table}-checkpoint" not in mongo.client.list_database_names()
