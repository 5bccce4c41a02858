"""What ``bad.items = keep`` does with items that cannot be stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shake.cli import check, main
from tests.support.bad import KEEP, LONG, kept, kept_in_file
from tests.support.followed import Followed, stopped
from tests.support.migration import SMALL_PAGES, Migration
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.test_full_copy_trouble import failing

pytestmark = pytest.mark.slow

#: Attributes for the sake of which an item cannot be stored, and a part of the reason.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nul": ({"a\0b": {"S": "x"}}, "U+0000"),
    "digits": ({"n": LONG}, "more than 34 digits"),
    "both": ({"_id": {"S": "x"}, "pre_id": {"S": "y"}}, "both _id and pre_id"),
    "deep": ({"m": {"M": {"in": {"L": [{"M": {"\0": {"S": ""}}}]}}}}, "U+0000"),
}


def put_all(client: Any, table: str, good: int = 40) -> None:
    create_table(client, table)
    items = [{"pk": {"S": f"good{n}"}, "v": {"N": str(n)}} for n in range(good)]
    items += [{"pk": {"S": name}} | attributes for name, (attributes, _) in BAD.items()]
    put_items(client, table, items)


def refuse_wrong(copy: Any) -> Any:
    """Have the target refuse one document, from the first insert on."""

    def validate() -> None:
        database = copy.mongo.client[copy.table]
        [staging] = database.list_collection_names()
        database.command("collMod", staging, validator={"v": {"$ne": "wrong"}})

    return copy.wire.stop_at("request", "insert", copy.place, validate)


@pytest.mark.parametrize("store", ["mongodb", "file"])
@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_a_copy_keeps_what_cannot_be_stored_and_stores_the_rest(
    dynamodb: Any,
    mongo: Any,
    name: str,
    migrate: Callable[..., Migration],
    tmp_path: Path,
    id_mode: str,
    store: str,
) -> None:
    put_all(dynamodb.client, name)
    place = {"checkpoint__type": "file", "checkpoint__address": tmp_path} if store == "file" else {}
    result = migrate(id__mode=id_mode, **KEEP, **SMALL_PAGES, **place).run()
    assert result.status == 0, result
    found = kept_in_file(tmp_path, name) if store == "file" else kept(mongo, name)
    assert found.keys() == BAD.keys()
    for pk, (attributes, reason) in BAD.items():
        entry = found[pk]
        assert json.loads(entry["Item"]) == {"pk": {"S": pk}} | attributes
        assert reason in entry["Reason"]
        assert entry["From"].startswith("segment ")
    stored = mongo.client[name][name]
    assert {one["pk"] for one in stored.find()} == {f"good{n}" for n in range(40)}
    assert stored.count_documents({}) == 40
    assert f"KEPT, NOT STORED: table {name}: 4 items: shake bad --conf FILE" in result.stdout


def test_without_keep_the_first_bad_item_ends_the_task(
    dynamodb: Any, name: str, migrate: Callable[..., Migration]
) -> None:
    put_all(dynamodb.client, name)
    result = migrate(convert__number__overflow="error").run()
    assert result.status == 1
    assert "bad.items = keep" in result.line


def test_more_than_bad_items_max_end_the_task(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration]
) -> None:
    put_all(dynamodb.client, name)
    result = migrate(bad__items__max=3, **KEEP, **SMALL_PAGES).run()
    assert result.status == 1
    assert "4 items cannot be stored" in result.line
    assert "shake bad --conf FILE" in result.line
    assert len(kept(mongo, name)) == 4
    result = migrate(bad__items__max=4, **KEEP, **SMALL_PAGES).run()
    assert result.status == 0, result
    assert len(kept(mongo, name)) == 4


def test_an_item_that_the_target_refuses_is_kept(make_copy: Any) -> None:
    copy = make_copy(**KEEP, full__read__concurrency=1)
    copy.dynamodb.client.put_item(
        TableName=copy.table, Item={"pk": {"S": "k1"}, "sk": {"N": "1"}, "v": {"S": "wrong"}}
    )

    made = refuse_wrong(copy)
    result = copy.run_to_the_end()
    assert made.is_set()
    [entry] = kept(copy.mongo, copy.table).values()
    assert json.loads(entry["Item"])["v"] == {"S": "wrong"}
    assert "Document failed validation" in entry["Reason"]
    assert copy.mongo.client[copy.table][copy.table].count_documents({}) == 319
    assert "KEPT, NOT STORED" in result.stdout


@pytest.mark.parametrize("id_mode", ["objectid", "key"])
@pytest.mark.parametrize("journal", [False, True])
def test_changes_keep_and_release_items(followed: Followed, id_mode: str, journal: bool) -> None:
    followed.simulator.table(followed.name)
    for n in range(30):
        followed.put(f"good{n}")
    followed.put("mended", n=LONG)
    followed.put("removed", n=LONG)
    followed.put("stays", n=LONG)
    migration = followed.task(id__mode=id_mode, incr_sync_parallel=str(journal).lower(), **KEEP)
    process = migration.start()
    until(lambda: kept(followed.mongo, followed.name).keys() == {"mended", "removed", "stays"})
    followed.arrived("good0")
    followed.put("good1", n=LONG)
    until(lambda: "good1" in kept(followed.mongo, followed.name))
    followed.put("mended", n={"N": "1"})
    followed.table.delete({"pk": {"S": "removed"}})
    followed.put("last")
    followed.arrived("last")
    until(lambda: kept(followed.mongo, followed.name).keys() == {"stays", "good1"})
    entry = kept(followed.mongo, followed.name)["good1"]
    assert entry["Older"] is True
    assert entry["From"].startswith("shard ")
    assert "sequence number" in entry["From"]
    stopped(migration, process)
    assert followed.arrived("mended")["n"] == 1
    assert "n" not in followed.arrived("good1")  # the older document stays


def test_an_item_whose_change_is_left_out_stays_kept(followed: Followed) -> None:
    """A MODIFY is left out where the target lacks the item: then it is stored nowhere else."""
    followed.simulator.table(followed.name)
    followed.put("bad", n=LONG)
    migration = followed.task(increase__executor__upsert="false", **KEEP)
    assert migration.run("--until-consistent").status == 0
    followed.put("bad", n={"N": "1"})
    assert migration.run("--until-consistent").status == 0
    assert kept(followed.mongo, followed.name).keys() == {"bad"}
    followed.table.delete({"pk": {"S": "bad"}})
    assert migration.run("--until-consistent").status == 0
    assert kept(followed.mongo, followed.name) == {}


def test_a_change_that_the_target_refuses_is_kept(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a", v={"S": "old"})
    migration = followed.task(**KEEP)
    process = migration.start()
    followed.arrived("a")
    database = followed.mongo.client[followed.name]
    database.command("collMod", followed.name, validator={"v": {"$ne": "wrong"}})
    followed.put("a", v={"S": "wrong"})
    followed.put("b", v={"S": "wrong"})
    followed.put("c", v={"S": "right"})
    followed.arrived("c")
    until(lambda: kept(followed.mongo, followed.name).keys() == {"a", "b"})
    found = kept(followed.mongo, followed.name)
    assert (found["a"]["Older"], found["b"]["Older"]) == (True, False)
    assert json.loads(found["a"]["Item"])["v"] == {"S": "wrong"}
    database.command("collMod", followed.name, validator={})
    followed.put("b", v={"S": "right"})
    until(lambda: kept(followed.mongo, followed.name).keys() == {"a"})
    stopped(migration, process)
    assert {one["pk"] for one in followed.collection.find()} == {"a", "b", "c"}


@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_a_check_names_kept_items_and_a_repair_stores_them_when_it_can(
    dynamodb: Any,
    mongo: Any,
    name: str,
    migrate: Callable[..., Migration],
    capsys: Any,
    id_mode: str,
) -> None:
    create_table(dynamodb.client, name)
    items = [{"pk": {"S": "a"}}, {"pk": {"S": "long"}, "n": LONG}, {"pk": {"S": "gone"}, "n": LONG}]
    put_items(dynamodb.client, name, items)
    migration = migrate(id__mode=id_mode, **KEEP)
    assert migration.run().status == 0
    arguments = ["--conf", str(migration.conf)]
    assert check.main(arguments) == 1
    assert "EQUAL but for 2 kept items" in capsys.readouterr().out
    dynamodb.client.delete_item(TableName=name, Key={"pk": {"S": "gone"}})
    assert check.main([*arguments, "--repair", "--yes"]) == 1
    out = capsys.readouterr().out
    assert "2 kept items: 1 stored, or gone from the source; 1 still kept" in out
    assert "EQUAL but for 1 kept item" in out
    assert kept(mongo, name).keys() == {"long"}
    dynamodb.client.put_item(TableName=name, Item={"pk": {"S": "long"}, "n": {"N": "5"}})
    assert check.main(arguments) == 1
    assert "NOT equal: 1 difference" in capsys.readouterr().out  # which can be stored by now
    assert check.main([*arguments, "--repair", "--yes"]) == 0
    assert kept(mongo, name) == {}
    assert mongo.client[name][name].find_one({"pk": "long"})["n"] == 5
    assert check.main(arguments) == 0


@pytest.mark.parametrize("part", ["sample", "filter"])
def test_a_check_of_a_part_does_not_call_equal_what_it_has_not_compared(
    dynamodb: Any,
    name: str,
    migrate: Callable[..., Migration],
    tmp_path: Path,
    capsys: Any,
    part: str,
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}, {"pk": {"S": "long"}, "n": LONG}])
    settings: dict[str, Any] = {}
    if part == "filter":
        settings["full__read__filter_expression"] = "pk <> :k"
        settings["full__read__filter_attributevalues"] = "k```S```a"
    migration = migrate(**KEEP, **settings)
    assert migration.run().status == 0
    report = tmp_path / "report"
    sample = ["--sample", "10"] if part == "sample" else []
    assert check.main(["--conf", str(migration.conf), "--report", str(report), *sample]) == 1
    out = capsys.readouterr().out
    assert "no difference in what was compared, but for 1 kept item" in out
    assert "equal" not in out.lower()
    verdict = json.loads(report.read_text().splitlines()[-1])["verdict"]
    assert verdict == "no difference but for kept items"


def test_a_check_of_many_tables_opens_their_store_of_kept_items_once(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration], capsys: Any
) -> None:
    tables = [f"{name}.{n}" for n in range(6)]
    for one in tables:
        create_table(dynamodb.client, one)
        put_items(dynamodb.client, one, [{"pk": {"S": "long"}, "n": LONG}])
    migration = migrate(filter__collection__white=";".join(tables), **KEEP)
    assert migration.run().status == 0

    def connections() -> int:
        return int(mongo.client.admin.command("serverStatus")["connections"]["totalCreated"])

    created = []
    for some in (tables[:1], tables):
        before = connections()
        chosen = f"--set=filter.collection.white={';'.join(some)}"
        assert check.main(["--conf", str(migration.conf), chosen]) == 1
        created.append(connections() - before)
        assert f"EQUAL but for {len(some)} kept item" in capsys.readouterr().out
    assert created[1] - created[0] < 5


def test_a_kept_item_is_not_missing_where_the_store_answers_late(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration], capsys: Any
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "long"}, "n": LONG}])
    migration = migrate(**KEEP)
    assert migration.run().status == 0
    place = f"{name}-checkpoint.{name}.bad"
    with failing(mongo, {"times": 4}, failCommands=["find"], namespace=place, errorCode=50):
        assert check.main(["--conf", str(migration.conf)]) == 1
    assert "EQUAL but for 1 kept item" in capsys.readouterr().out


def test_an_older_document_of_a_kept_item_is_not_extra(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration], capsys: Any
) -> None:
    """Where keys have become doubles, too; a repair does not delete it."""
    create_table(dynamodb.client, name, pk=("pk", "N"))
    put_items(dynamodb.client, name, [{"pk": {"N": "1"}}, {"pk": {"N": "2"}, "a\0": {"S": ""}}])
    migration = migrate(convert__type="mchange", **KEEP)
    assert migration.run().status == 0
    mongo.client[name][name].insert_one({"pk": 2.0, "v": "older"})
    repair = ["--repair", "--yes", "--delete-extra"]
    for arguments in ([], repair):
        assert check.main(["--conf", str(migration.conf), *arguments]) == 1
        assert "EQUAL but for 1 kept item" in capsys.readouterr().out
    assert mongo.client[name][name].count_documents({"v": "older"}) == 1


def test_a_check_says_that_a_newer_bad_item_is_not_kept(
    dynamodb: Any, name: str, migrate: Callable[..., Migration], capsys: Any
) -> None:
    """Changed after the end of the task; what is kept is not what the source holds."""
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}, "n": LONG}])
    migration = migrate(**KEEP)
    assert migration.run().status == 0
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}, "n": LONG, "v": {"S": "newer"}}])
    assert check.main(["--conf", str(migration.conf)]) == 1
    assert "NOT equal: 1 difference" in capsys.readouterr().out


def test_a_check_names_what_the_target_refuses_as_kept(make_copy: Any, capsys: Any) -> None:
    copy = make_copy(**KEEP, full__read__concurrency=1)
    item = {"pk": {"S": "k1"}, "sk": {"N": "1"}, "v": {"S": "wrong"}}
    copy.dynamodb.client.put_item(TableName=copy.table, Item=item)
    refuse_wrong(copy)
    copy.run_to_the_end()
    arguments = ["--conf", str(copy.migration.conf)]
    assert check.main(arguments) == 1
    assert "EQUAL but for 1 kept item" in capsys.readouterr().out
    assert check.main([*arguments, "--repair", "--yes"]) == 1
    assert "EQUAL but for 1 kept item" in capsys.readouterr().out
    copy.mongo.client[copy.table].command("collMod", copy.table, validator={})
    assert check.main([*arguments, "--repair", "--yes"]) == 0
    assert kept(copy.mongo, copy.table) == {}
    copy.assert_exact()


def test_shake_bad_lists_what_is_kept(
    dynamodb: Any, name: str, migrate: Callable[..., Migration], capsys: Any
) -> None:
    put_all(dynamodb.client, name, good=2)
    migration = migrate(**KEEP)
    assert main.main(["bad", "--conf", str(migration.conf)]) == 0
    assert capsys.readouterr().out == "no item is kept\n"
    assert migration.run().status == 0
    assert main.main(["bad", "--conf", str(migration.conf)]) == 0
    out = capsys.readouterr().out
    assert f'table {name}: {{"pk":{{"S":"digits"}}}}: attribute' in out
    assert f"4 items kept, and not stored; shake check --conf {migration.conf} --repair" in out
    assert main.main(["bad", "--conf", str(migration.conf), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    items = {one["key"]["pk"]["S"]: one["item"] for one in found}
    assert items == {pk: {"pk": {"S": pk}} | attributes for pk, (attributes, _) in BAD.items()}


def test_a_table_whose_checkpoint_has_the_name_of_kept_items_is_refused(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration]
) -> None:
    for table in (name, f"{name}.bad"):
        create_table(dynamodb.client, table)
    both = {"filter__collection__white": f"{name}*"}
    result = migrate(**both, **KEEP).run()
    assert result.status == 3
    assert f"table {name}.bad: its checkpoint" in result.line
    assert f"{name}-checkpoint" not in mongo.client.list_database_names()
    assert migrate(**both).run().status == 0


def test_the_command_that_a_refusal_names_starts_over(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration], capsys: Any
) -> None:
    """As a user types it, from the line of the refusal."""
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}, {"pk": {"S": "b"}, "n": LONG}])
    migration = migrate(**KEEP)
    assert migration.run().status == 0
    changed = ["--set", "convert.type=raw"]
    refused = migration.run(*changed)
    assert refused.status == 3
    [typed] = re.findall(r"start over under this id: (shake .*?) removes", refused.line)
    program, *arguments = typed.replace("FILE", str(migration.conf)).split()
    assert program == "shake"
    assert main.main(arguments) == 0
    assert "the next start copies it anew" in capsys.readouterr().out
    assert kept(mongo, name) == {}
    assert migration.run(*changed).status == 3  # the collection is there
    result = migration.run(*changed, "--set", "target.db.exist=drop")
    assert result.status == 0, result
    [one] = mongo.client[name][name].find({"pk": {"S": "a"}})
    assert one
    assert kept(mongo, name) == {}  # in raw the number is text


def test_a_table_is_not_forgotten_while_its_task_runs(followed: Followed, capsys: Any) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    process = migration.start()
    followed.arrived("a")
    assert main.main(["forget", "--conf", str(migration.conf), followed.name]) == 3
    assert "already run by" in capsys.readouterr().err
    stopped(migration, process)


def test_shake_status_says_after_the_end_what_is_kept_and_what_was_forgotten(
    dynamodb: Any, name: str, migrate: Callable[..., Migration], capsys: Any
) -> None:
    put_all(dynamodb.client, name, good=2)
    migration = migrate(**KEEP)
    assert migration.run().status == 0
    main.main(["status", "--conf", str(migration.conf)])
    said = " ".join(capsys.readouterr().out.split())
    assert "KEPT, NOT STORED: 4 items: shake bad --conf " in said
    assert "--conf FILE" not in said
    main.main(["status", "--conf", str(migration.conf), "--json"])
    assert json.loads(capsys.readouterr().out)["kept"] == 4
    main.main(["forget", "--conf", str(migration.conf), name])
    main.main(["status", "--conf", str(migration.conf)])
    said = capsys.readouterr().out
    assert "KEPT" not in said
    assert "; 0 of 1 table done" in said
    assert f"table {name}: not begun" in said
    assert "what to do: shake run copies anew what is not begun" in said
    assert "= drop" not in said  # after a cutover the collection is in use
