"""Which tables a full copy takes, where they go, and with which indexes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.migration import Migration, compare
from tests.support.tables import create_table, put_items

Migrate = Callable[..., Migration]


def fill(dynamodb: Any, table: str, count: int) -> None:
    create_table(dynamodb.client, table)
    put_items(dynamodb.client, table, ({"pk": {"S": f"{table}-{i}"}} for i in range(count)))


def collections(mongo: Any, database: str) -> set[str]:
    return set(mongo.client[database].list_collection_names())


def test_many_tables_are_copied_a_few_at_a_time_and_once(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    tables = [f"{name}.{number}" for number in range(12)]
    for number, table in enumerate(tables):  # the first one is empty
        fill(dynamodb, table, 5 * number)
    migration = migrate(filter__collection__white=f"{name}.*", full__concurrency=2)
    result = migration.run()
    assert result.status == 0, result
    assert "12 of 12 tables done, 330 items" in result.stdout
    assert result.stdout.endswith("\nfull sync done!\n")
    for table in tables:
        compare(dynamodb.client, mongo.client, table, f"{name}.{table}")
    assert collections(mongo, name) == set(tables)
    assert at_once(result.stdout) == 2

    put_items(dynamodb.client, tables[0], [{"pk": {"S": "too late"}}])
    again = migration.run()
    assert again.status == 0
    assert "the full copy is complete already, nothing is to be done" in again.stdout
    assert mongo.client[name][tables[0]].count_documents({}) == 0


def at_once(log: str) -> int:
    """The most tables that were at work at the same time, by the log."""
    working: set[str] = set()
    most = 0
    for table, phase in re.findall(r"shake\.farm: table (\S+): (\w+)$", log, re.MULTILINE):
        (working.discard if phase == "done" else working.add)(table)
        most = max(most, len(working))
    return most


def test_a_table_that_is_added_later_is_copied_and_the_complete_ones_are_left(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, f"{name}.a", 3)
    migration = migrate(filter__collection__white=f"{name}.*")
    assert migration.run().status == 0
    fill(dynamodb, f"{name}.b", 3)
    put_items(dynamodb.client, f"{name}.a", [{"pk": {"S": "too late"}}])
    result = migration.run()
    assert result.status == 0
    assert "2 of 2 tables done, 6 items" in result.stdout
    compare(dynamodb.client, mongo.client, f"{name}.b", f"{name}.{name}.b")
    assert mongo.client[name][f"{name}.a"].count_documents({}) == 3


def test_each_start_sweeps_beside_complete_tables_while_others_are_copied(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, f"{name}.a", 3)
    migration = migrate(filter__collection__white=f"{name}.*")
    assert migration.run().status == 0
    checkpoint = mongo.client[f"{name}-checkpoint"][f"{name}.a"].find_one({"_id": "table"})
    stray = f"{name}.a.shake-{checkpoint['Stamp']}-0"
    mongo.client[name][stray].insert_one({})
    fill(dynamodb, f"{name}.b", 3)
    result = migration.run()
    assert result.status == 0
    assert f"{stray}: removed, a late command of an earlier run had created it" in result.stdout
    assert collections(mongo, name) == {f"{name}.a", f"{name}.b"}


def test_a_white_list_with_wildcards_and_a_map_of_places(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    for suffix in ("a", "b", "bb", "x-1", "1-x"):
        fill(dynamodb, name + suffix, 3)
    migration = migrate(
        filter__collection__white=f"{name}? ; {name}x*",
        namespace__map=f"{name}a:{name}-other.users.all",
    )
    assert migration.run().status == 0
    compare(dynamodb.client, mongo.client, f"{name}a", f"{name}-other.users.all")
    assert collections(mongo, name) == {f"{name}b", f"{name}x-1"}


def test_a_black_list_leaves_tables_out(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    tables = [f"{name}{suffix}" for suffix in "abc"]
    for table in tables:
        fill(dynamodb, table, 3)
    with Faulty(otherwise=showing_only(tables, dynamodb.url)) as source:
        migration = migrate(
            source=source.url, filter__collection__white="", filter__collection__black="*b;nothing"
        )
        assert migration.run().status == 0
    assert collections(mongo, name) == {tables[0], tables[2]}


def showing_only(tables: Iterable[str], url: str) -> Callable[[Request], Reply]:
    """The server, as if it held these tables only."""
    answer = forward(url)

    def listing(request: Request) -> Reply:
        if request.operation == "ListTables":
            return Reply(orjson.dumps({"TableNames": list(tables)}))
        return answer(request)

    return listing


def test_an_existing_collection_stops_the_run_before_anything_is_changed(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, name, 3)
    fill(dynamodb, f"{name}.other", 3)
    mongo.client[name][name].insert_one({"_id": "old"})
    before = set(mongo.client.list_database_names())
    result = migrate(filter__collection__white=f"{name}*").run()
    assert result.status == 3
    assert result.line.startswith(f"collection {name}.{name} exists: set target.db.exist to rename")
    assert list(mongo.client[name][name].find()) == [{"_id": "old"}]
    assert collections(mongo, name) == {name}
    # The checkpoint database holds the lease of the run, given back, and no more.
    assert set(mongo.client.list_database_names()) - before <= {f"{name}-checkpoint"}


@pytest.mark.parametrize("key", ["target.db.exist", "target.mongodb.exist"])
def test_rename_keeps_the_old_collection_and_its_indexes(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate, key: str
) -> None:
    fill(dynamodb, name, 3)
    old = mongo.client[name][name]
    old.insert_one({"_id": "old"})
    old.create_index("x")
    result = migrate().run("--set", f"{key}=rename")
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    [backup] = collections(mongo, name) - {name}
    assert re.fullmatch(re.escape(name) + r"\.\d{4}-\d\d-\d\dZ\d\d:\d\d:\d\d", backup)
    assert list(mongo.client[name][backup].find()) == [{"_id": "old"}]
    assert set(mongo.client[name][backup].index_information()) == {"_id_", "x_1"}


def test_drop_replaces_the_old_collection(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, name, 3)
    mongo.client[name][name].insert_one({"_id": "old", "pk": "x"})
    mongo.client[name][name].create_index("x")
    assert migrate(target__db__exist="drop").run().status == 0
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    assert collections(mongo, name) == {name}
    assert set(mongo.client[name][name].index_information()) == {"_id_", "pk_1"}


def test_the_schema_alone_copies_no_item(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    fill(dynamodb, name, 3)
    with Faulty(otherwise=forward(dynamodb.url)) as source:
        result = migrate(source=source.url, sync_schema_only="true").run()
        scans = [r for r in source.requests if r.operation == "Scan" and b"TotalSegments" in r.body]
    assert result.status == 0, result
    assert "full sync done!" not in result.stdout
    assert scans == []
    assert mongo.client[name][name].index_information()["pk_1"]["unique"]
    assert mongo.client[name][name].count_documents({}) == 0


def create_indexed_table(dynamodb: Any, table: str) -> None:
    """A table with global and local indexes, some of which say what others say already."""
    projection = {"Projection": {"ProjectionType": "ALL"}}

    def keys(pk: str, sk: str = "") -> list[dict[str, str]]:
        both = [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}]
        return both if sk else both[:1]

    dynamodb.client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=keys("pk", "sk"),
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in (("pk", "S"), ("sk", "N"), ("g", "B"), ("l", "S"))
        ],
        LocalSecondaryIndexes=[{"IndexName": "local", "KeySchema": keys("pk", "l"), **projection}],
        GlobalSecondaryIndexes=[
            {"IndexName": "one", "KeySchema": keys("g"), **projection},
            {"IndexName": "two", "KeySchema": keys("g", "l"), **projection},
            {"IndexName": "same", "KeySchema": keys("pk", "sk"), **projection},
        ],
    )
    put_items(
        dynamodb.client,
        table,
        ({"pk": {"S": "k"}, "sk": {"N": str(i)}, "g": {"B": b"g"}} for i in range(5)),
    )


OWN = {"pk_1", "pk_1_sk_1"}
ALL = OWN | {"g_1", "g_1_l_1", "pk_1_l_1"}


@pytest.mark.parametrize(
    ("settings", "wanted", "unique"),
    [
        ({}, ALL, {"pk_1_sk_1"}),
        ({"id__mode": "key"}, ALL, set()),
        (
            {"convert__type": "raw"},
            {"pk.S_1", "pk.S_1_sk.N_1", "g.B_1", "g.B_1_l.S_1", "pk.S_1_l.S_1"},
            {"pk.S_1_sk.N_1"},
        ),
        ({"full__enable_index__user": "false"}, OWN, {"pk_1_sk_1"}),
    ],
    ids=["objectid", "key", "raw", "off"],
)
def test_indexes_go_along(
    dynamodb: Any,
    mongo: Any,
    name: str,
    migrate: Migrate,
    settings: dict[str, str],
    wanted: set[str],
    unique: set[str],
) -> None:
    create_indexed_table(dynamodb, name)
    result = migrate(**settings).run()
    assert result.status == 0, result
    found = mongo.client[name][name].index_information()
    assert set(found) - {"_id_"} == wanted
    assert {index for index, details in found.items() if details.get("unique")} == unique


def test_an_index_that_cannot_be_built_right_is_named_and_the_copy_stays(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    create_table(dynamodb.client, name, indexes={"dotted": (("a.b", "S"), None)})
    put_items(dynamodb.client, name, [{"pk": {"S": "k"}, "a.b": {"S": "v"}}])
    migration = migrate()
    for _ in range(2):
        result = migration.run()
        assert result.status == 1
        assert "1 of 2 indexes of table" in result.line
        assert "secondary index dotted): the name of attribute 'a.b' holds a dot" in result.line
        assert "full sync done!" not in result.stdout
        compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    result = migration.run("--set", "full.enable_index.user=false")
    assert result.status == 0, result
    assert result.stdout.endswith("\nfull sync done!\n")


def test_a_scan_filter_is_loud_from_the_plan_to_the_summary(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    create_table(dynamodb.client, name)
    items = [{"pk": {"S": f"k{i}"}, "n": {"N": str(i)}, "s": {"S": "yes"}} for i in range(40)]
    put_items(dynamodb.client, name, items)
    migration = migrate(
        full__read__filter_expression="n < :most and s = :s",
        full__read__filter_attributevalues=":most```N```10~~~:s```S```yes",
        qps__full__batch_num=3,  # so that pages without any item come by
    )
    assert "warning: SCAN FILTER ON" in migration.run("--dry-run").stdout
    result = migration.run()
    assert result.status == 0, result
    assert " WARN  shake: SCAN FILTER ON" in result.stdout
    kept = f"SCAN FILTER ON: table {name}: 10 of 40 scanned items were kept (25.0%)"
    assert kept in result.stdout
    found = mongo.client[name][name].find({}, {"_id": 0})
    assert sorted(document["n"] for document in found) == list(range(10))


def test_checkpoints_in_files_leave_none_on_the_target(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate, tmp_path: Path
) -> None:
    fill(dynamodb, name, 30)
    folder = tmp_path / "checkpoints"
    migration = migrate(checkpoint__type="file", checkpoint__address=folder)
    assert migration.run().status == 0
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    assert any(folder.iterdir())
    assert f"{name}-checkpoint" not in mongo.client.list_database_names()
    assert "complete already" in migration.run().stdout
