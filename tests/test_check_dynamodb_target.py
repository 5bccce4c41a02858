"""shake-check of a target that speaks DynamoDB: what is equal, and what is not, as for MongoDB.

Source and target are the same server, under different table names.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from shake.cli import check
from tests import test_check_live
from tests.support.faulty import Faulty
from tests.support.followed import Followed, stopped
from tests.support.streams_workload import Workload
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.test_check_resume import EAGER, SMALL, Interrupted, begin

SORT = ("sk", "N")

#: What a comparison might stumble over.
ITEMS: list[dict[str, Any]] = [
    {"pk": {"S": "a"}, "_id": {"S": "mine"}, "pre_id": {"S": "mine too"}, "s": {"S": "\xe9\0"}},
    {"pk": {"S": "b"}, "n": {"N": "1"}, "big": {"N": "9" * 38}, "d": {"N": "1.5"}},
    {"pk": {"S": "c"}, "ns": {"NS": ["1", "2.5"]}, "ss": {"SS": ["x", "y"]}, "b": {"B": b"\0\1"}},
    {"pk": {"S": "d"}, "l": {"L": [{"N": "1"}, {"NULL": True}]}, "m": {"M": {"x": {"BOOL": True}}}},
    {"pk": {"S": "e"}, "a\0b": {"S": "a name that no document can have"}},
    {"pk": {"S": "f"}, "as text": {"S": "1"}, "list": {"L": [{"S": "x"}]}},
]


class Proxied:
    """A source table, its copy under another name, and how shake-check is to be started."""

    def __init__(self, dynamodb: Any, name: str, folder: Path) -> None:
        self.client = dynamodb.client
        self.source, self.target = name, f"{name}-copy"
        self.folder = folder
        self.settings = {
            "id": name,
            "pid_path": str(folder),
            "sync_mode": "full",
            "source.endpoint_url": dynamodb.url,
            "source.region": "us-east-1",
            "source.access_key_id": "test",
            "source.secret_access_key": "testtest",
            "target.type": "aliyun_dynamo_proxy",
            "target.address": dynamodb.url,
            "checkpoint.type": "file",
            "checkpoint.address": str(folder / "checkpoints"),
            "filter.collection.white": name,
            "namespace.map": f"{name}:any.{name}-copy",
        }
        for table in (self.source, self.target):
            create_table(self.client, table, sk=SORT)

    def put(self, *items: dict[str, Any]) -> None:
        """Put items into both tables."""
        put_items(self.client, self.source, items)
        put_items(self.client, self.target, items)

    def check(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Run shake-check; return its status, and the differences of its report."""
        path = self.folder / "report.jsonl"
        path.unlink(missing_ok=True)
        status = check.main([*self.arguments, "--report", str(path), *arguments])
        return status, differences(path)

    @property
    def arguments(self) -> list[str]:
        """The command line."""
        conf = self.folder / "check.conf"
        conf.write_text("".join(f"{key} = {value}\n" for key, value in self.settings.items()))
        return ["--conf", str(conf)]

    def stored(self) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("scan").paginate(TableName=self.target)
        return in_order([item for page in pages for item in page["Items"]])


def differences(report: Path) -> list[dict[str, Any]]:
    """Those of a report; there is none where the check was refused."""
    lines = map(json.loads, report.read_text().splitlines()) if report.exists() else ()
    return [line for line in lines if "kind" in line]


def in_order(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: (item["pk"]["S"], item["sk"]["N"]))


def with_sort_keys(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, in two partitions."""
    return [
        item | {"pk": {"S": f"p{place % 2}"}, "sk": {"N": f"{place}.5"}}
        for place, item in enumerate(items)
    ]


@pytest.fixture
def proxied(dynamodb: Any, name: str, tmp_path: Path) -> Proxied:
    return Proxied(dynamodb, name, tmp_path)


def test_a_true_copy_is_equal_and_every_kind_of_difference_is_found_and_repaired(
    proxied: Proxied, capsys: Any
) -> None:
    items = with_sort_keys(ITEMS)
    proxied.put(*items)
    assert proxied.check() == (0, [])
    assert f"table {proxied.source}: 6 items equal" in capsys.readouterr().out

    extra = {"pk": {"S": "extra"}, "sk": {"N": "7"}}
    put_items(proxied.client, proxied.target, [extra])
    new = {"pk": {"S": "new"}, "sk": {"N": "1"}, "n\0": {"S": "x"}}
    put_items(proxied.client, proxied.source, [new])
    changed = items[4] | {"a\0b": {"S": "other"}}
    retyped = items[5] | {"as text": {"N": "1"}, "list": {"SS": ["x"]}}
    put_items(proxied.client, proxied.target, [changed, retyped])

    status, found = proxied.check()
    assert status == 1
    assert sorted((line["kind"], line["key"]["sk"]["N"], line["fields"]) for line in found) == [
        ("different", "4.5", ["a\0b"]),
        ("different", "5.5", ["as text", "list"]),
        ("extra", "7", []),
        ("missing", "1", []),
    ]
    [one] = [line for line in found if line["fields"] == ["as text", "list"]]
    assert one["source"]["as text"], one["target"][0]["as text"] == ({"S": "1"}, {"N": "1"})
    assert not any(line["repaired"] for line in found)

    status, repaired = proxied.check("--repair", "--yes")
    assert {line["kind"] for line in repaired if not line["repaired"]} == {"extra"}
    assert extra in proxied.stored()
    status, [left] = proxied.check("--repair", "--yes", "--delete-extra")
    assert (status, left["kind"], left["repaired"]) == (0, "extra", True)
    assert proxied.stored() == in_order([*items, new])
    assert proxied.check() == (0, [])


def test_several_processes_find_one_altered_item_among_many(proxied: Proxied) -> None:
    items = [
        {"pk": {"S": f"p{n % 50}"}, "sk": {"N": str(n)}, "x": {"S": "x" * 50}} for n in range(600)
    ]
    proxied.put(*items)
    put_items(proxied.client, proxied.target, [items[77] | {"x": {"S": "x" * 49 + "y"}}])
    proxied.client.delete_item(
        TableName=proxied.source, Key={name: items[300][name] for name in ("pk", "sk")}
    )
    paged = ("--set=full.read.concurrency=8", "--set=qps.full.batch_num=20")
    status, found = proxied.check("--workers=2", *paged)
    assert (status, sorted((one["kind"], one["key"]["sk"]["N"]) for one in found)) == (
        1,
        [("different", "77"), ("extra", "300")],
    )


def test_a_sample_finds_what_it_looks_at(proxied: Proxied) -> None:
    proxied.put(*with_sort_keys(ITEMS))
    assert proxied.check("--sample=3") == (0, [])
    put_items(proxied.client, proxied.target, [{"pk": {"S": "extra"}, "sk": {"N": "7"}}])
    status, found = proxied.check("--sample=100")
    assert (status, [one["kind"] for one in found]) == (1, ["extra"])


@pytest.mark.parametrize("moment", [("Scan", 5), ("BatchGetItem", 4)], ids=lambda one: one[0])
def test_a_check_that_was_killed_goes_on(
    dynamodb: Any, proxied: Proxied, capsys: Any, moment: tuple[str, int]
) -> None:
    items = [{"pk": {"S": f"p{n % 50}"}, "sk": {"N": str(n)}} for n in range(300)]
    proxied.put(*items)
    wrong = [items[n] | {"x": {"S": "y"}} for n in range(0, 300, 30)]
    put_items(proxied.client, proxied.target, wrong)
    source = Interrupted(dynamodb.url, *moment)
    with Faulty(otherwise=source) as server:
        process = begin(proxied, server.url, EAGER, "--workers=1")
        try:
            until(source.reached.is_set)
            state = proxied.folder / "checkpoints" / f"{proxied.source}-checkpoint"
            until(lambda: any("~data" in one.name for one in state.iterdir()))
        finally:
            process.kill()
            process.communicate()
            source.released.set()
    status, found = proxied.check(*SMALL)
    assert "goes on, after" in capsys.readouterr().out
    assert status == 1
    assert sorted(int(one["key"]["sk"]["N"]) for one in found) == list(range(0, 300, 30))


def test_a_table_is_never_compared_with_itself(proxied: Proxied, capsys: Any) -> None:
    proxied.put(*with_sort_keys(ITEMS))
    proxied.settings["namespace.map"] = f"{proxied.source}:any.{proxied.source}"
    assert proxied.check()[0] == 2
    assert "is the source's own" in capsys.readouterr().err


def test_a_target_that_does_not_answer_is_no_difference(proxied: Proxied, capsys: Any) -> None:
    proxied.settings["target.address"] = "http://127.0.0.1:1"
    assert proxied.check()[0] == 2
    assert "target.address: the target does not answer" in capsys.readouterr().err


@pytest.mark.slow
def test_beside_a_task_and_since_then(
    followed: Followed, dynamodb: Any, name: str, tmp_path: Path
) -> None:
    """What was planted in the target is found, and of a busy table nothing else."""
    table = followed.simulator.table(name, shards=2)
    table.stale = 20
    followed.simulator.delay = 1.5
    workload = Workload(table, 4, hot=1, cold=100, untidy=2)
    workload.run(200)
    for number in range(8):
        followed.put(f"still{number}", n={"N": str(number)})
    migration = followed.task(
        target=dynamodb.url,
        target__type="aliyun_dynamo_proxy",
        checkpoint__type="file",
        checkpoint__address=tmp_path / "checkpoints",
        incr__margin=2,
    )
    process = migration.start()
    conf, report = ["--conf", str(migration.conf)], tmp_path / "report"

    def reported() -> set[tuple[str, str]]:
        return {(line["kind"], line["key"]["pk"]["S"]) for line in differences(report)}

    def found(*arguments: str) -> set[tuple[str, str]]:
        check.main([*conf, "--report", str(report), *arguments])
        return reported()

    with workload.running(15):
        output = migration.folder / f"{name}.0.out"
        until(lambda: "consistent point reached" in output.read_text())
        dynamodb.client.delete_item(TableName=name, Key={"pk": {"S": "still0"}})
        put_items(dynamodb.client, name, [{"pk": {"S": "still1"}}, {"pk": {"S": "foreign"}}])
        planted = {("missing", "still0"), ("different", "still1"), ("extra", "foreign")}
        checking = test_check_live.begin(migration, report)
        time.sleep(5)
    checking.communicate(timeout=90)
    assert reported() == planted

    dynamodb.client.delete_item(TableName=name, Key={"pk": {"S": "foreign"}})
    for number in range(3):
        followed.put(f"still{number}", n={"N": "100"})
    assert found("--since") == set()
    stopped(migration, process)
    put_items(dynamodb.client, name, [{"pk": {"S": "still6"}}, {"pk": {"S": "still7"}}])
    followed.put("new")
    before = sum("Segment" in one.request for one in followed.simulator.journal.of("Scan"))
    since = found("--since")  # a change has no exact time: the last minute before is read too
    after = sum("Segment" in one.request for one in followed.simulator.journal.of("Scan"))
    assert after == before
    everything = {("missing", "new"), ("different", "still6"), ("different", "still7")}
    assert {("missing", "new")} <= since <= everything
    assert found() == everything
