"""A run of shake-check: live tables, samples, filters, lossy keys, faults, and how it opened."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shake.cli import check
from tests.support.copied import Copied, make_table
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.migration import Migration
from tests.support.tables import create_table, put_items
from tests.support.wire import Wire

FILTER: dict[str, Any] = {
    "full__read__filter_expression": "n > :n",
    "full__read__filter_attributevalues": "n```N```5",
}


def items(count: int) -> list[dict[str, Any]]:
    return [{"pk": {"S": f"k{place}"}, "n": {"N": str(place)}} for place in range(count)]


def run(copied: Copied, *arguments: str) -> int:
    return check.main([*copied.arguments, *arguments])


def through(copied: Copied, answer: Callable[[Request], Reply], *arguments: str) -> int:
    """Run with a source whose answers are given."""
    with Faulty(otherwise=answer) as source:
        return run(copied, "--set", f"source.endpoint_url={source.url}", *arguments)


# ---- size


def test_many_pages_segments_and_partitions_are_compared(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    rows = [
        {"pk": {"S": f"p{place % 7}"}, "sk": {"N": str(place)}, "s": {"S": "x" * 50}}
        for place in range(400)
    ]
    copied = make_table(dynamodb, mongo, name, tmp_path, rows, sk=("sk", "N"))
    copied.copy()
    small_pages = ("--set", "qps.full.batch_num=23", "--set", "full.read.concurrency=3")
    assert run(copied, *small_pages) == 0
    assert "400 items equal" in capsys.readouterr().out

    for place in (0, 100, 200, 399):
        copied.collection.delete_one({"sk": place})
    copied.collection.insert_one({"pk": "p1", "sk": 1000})
    assert run(copied, *small_pages) == 1
    out = capsys.readouterr().out
    assert "400 items compared: 4 missing, 0 different, 1 extra, 0 duplicate" in out
    assert run(copied, "--repair", "--yes", "--delete-extra", *small_pages) == 0
    assert copied.collection.count_documents({}) == 400


def test_only_twenty_differences_are_printed_and_the_others_counted(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(25))
    copied.copy()
    copied.collection.delete_many({})
    copied.collection.drop_index("pk_1")
    assert run(copied) == 1
    out = capsys.readouterr().out
    assert out.count(": missing {") == 20
    assert f"table {name}: index (unique {{pk: 1}} (the table's key))" in out
    assert "5 more differences: --report FILE names all of them" in out


@pytest.mark.parametrize("extra", [0, 1])
def test_a_check_costs_one_scan_and_few_other_reads(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, extra: int
) -> None:
    rows = [{"pk": {"S": f"p{place % 9}"}, "sk": {"N": str(place)}} for place in range(200)]
    copied = make_table(dynamodb, mongo, name, tmp_path, rows, sk=("sk", "N"))
    copied.copy()
    for sort in range(extra):
        copied.collection.insert_one({"pk": "foreign", "sk": sort})
    with Faulty(otherwise=forward(dynamodb.url)) as source:
        assert run(copied, f"--set=source.endpoint_url={source.url}") == extra
        asked = [json.loads(one.body) for one in source.requests if one.operation == "BatchGetItem"]
    assert len(asked) == 1 + 2 * extra  # the first one tries whether reading is allowed
    assert all(len(one["RequestItems"][name]["Keys"]) < 10 for one in asked)


# ---- live tables


def test_what_live_traffic_changes_between_the_reads_is_no_difference(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(3))
    copied.copy()
    forwarded = forward(dynamodb.url)

    def answer(request: Request) -> Reply:
        reply = forwarded(request)
        if request.operation == "Scan" and b"TotalSegments" in request.body:
            copied.put({"pk": {"S": "k0"}, "n": {"N": "100"}})
            copied.collection.update_one({"pk": "k0"}, {"$set": {"n": 100}})
            copied.delete(pk={"S": "k1"})
            copied.collection.delete_one({"pk": "k1"})
            copied.put({"pk": {"S": "k9"}, "n": {"N": "9"}})
            copied.collection.insert_one({"pk": "k9", "n": 9})
        return reply

    assert through(copied, answer) == 0


def test_a_deletion_that_reaches_the_target_late_is_no_extra(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(3))
    copied.copy()
    copied.delete(pk={"S": "k1"})
    forwarded = forward(dynamodb.url)

    def answer(request: Request) -> Reply:
        if request.operation == "BatchGetItem" and b'"k1"' in request.body:
            copied.collection.delete_one({"pk": "k1"})
        return forwarded(request)

    assert through(copied, answer) == 0


# ---- samples


def test_a_sample_reads_no_more_than_it_is_told_and_says_so(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(200))
    copied.copy()
    assert run(copied, "--sample", "70") == 0
    assert f"table {name}: a sample of 70 items equal" in capsys.readouterr().out
    copied.collection.update_many({}, {"$set": {"n": -1}})
    assert run(copied, "--sample", "70") == 1
    assert "70 items compared: 0 missing, 70 different, 0 extra" in capsys.readouterr().out


def test_a_sample_larger_than_the_table_is_the_table_both_ways(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(120))
    copied.copy()
    copied.collection.insert_one({"pk": "foreign"})
    copied.collection.delete_one({"pk": "k3"})
    assert run(copied, "--sample", "1000") == 1
    assert "120 items compared: 1 missing, 0 different, 1 extra" in capsys.readouterr().out


@pytest.mark.parametrize("kept", [0, 20])
def test_a_sample_of_a_filtered_table_reads_no_more_than_it_is_told(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any, kept: int
) -> None:
    rows = [{"pk": {"S": f"k{n}"}, "n": {"N": "9" if n < kept else "0"}} for n in range(1000)]
    copied = make_table(dynamodb, mongo, name, tmp_path, rows, **FILTER)
    copied.copy()
    assert run(copied, "--sample", "100") == 0
    assert "of 100 scanned items were compared" in capsys.readouterr().out


# ---- scan filter


def test_with_a_scan_filter_only_what_it_keeps_is_compared_and_that_is_said(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(10), **FILTER)
    copied.copy()
    assert copied.collection.count_documents({}) == 4
    assert run(copied) == 0
    out = capsys.readouterr().out
    assert f"table {name}: 4 items compared: no difference" in out
    assert f"SCAN FILTER ON: table {name}: 4 of 10 scanned items were compared" in out
    assert "equal" not in out
    copied.collection.insert_one({"pk": "k1", "n": 1})
    assert run(copied) == 0
    copied.collection.insert_one({"pk": "foreign"})
    assert run(copied) == 1


# ---- keys that became doubles


LONG = ["12345678901234567890", "0.1234567890123456789", "3"]


@pytest.mark.parametrize("mode", ["objectid", "key"])
def test_doubles_for_keys_are_compared_both_ways(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str, capsys: Any
) -> None:
    numbers = LONG if mode == "objectid" else ["1.5", "-7", "3"]
    settings: dict[str, Any] = {"convert__type": "mchange", "id__mode": mode}
    keys = [{"pk": {"N": text}} for text in numbers]
    copied = make_table(dynamodb, mongo, name, tmp_path, keys, pk=("pk", "N"), **settings)
    copied.copy()
    assert run(copied) == 0
    copied.delete(pk={"N": numbers[0]})
    assert run(copied) == 1
    assert "2 items compared: 0 missing, 0 different, 1 extra" in capsys.readouterr().out
    assert run(copied, "--repair", "--yes", "--delete-extra") == 0
    assert copied.collection.count_documents({}) == 2


def test_two_keys_that_became_one_double_are_a_difference(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    keys = [{"pk": {"N": text}} for text in ("9007199254740993", "9007199254740992", "1")]
    settings: dict[str, Any] = {"convert__type": "mchange"}
    copied = make_table(dynamodb, mongo, name, tmp_path, keys, pk=("pk", "N"), **settings)
    copied.copy(indexes=False)
    copied.collection.delete_one({"pk": 9007199254740992.0})
    copied.collection.create_index("pk", unique=True)
    assert run(copied) == 1
    assert "0 missing, 0 different, 0 extra, 0 duplicate, 1 folded" in capsys.readouterr().out
    assert run(copied, "--repair", "--yes") == 1


def test_a_double_that_is_there_too_often_is_a_duplicate_and_nothing_is_deleted(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    keys = [{"pk": {"N": text}} for text in LONG]
    settings: dict[str, Any] = {"convert__type": "mchange"}
    copied = make_table(dynamodb, mongo, name, tmp_path, keys, pk=("pk", "N"), **settings)
    copied.copy(indexes=False)
    copied.collection.insert_one({"pk": float(LONG[0])})
    assert run(copied) == 1
    assert "0 missing, 0 different, 0 extra, 1 duplicate, 1 index" in capsys.readouterr().out


# ---- items that cannot be stored


def test_an_item_that_no_document_can_hold_is_missing_with_the_reason(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    """Some pages have an item that can be stored first, and then one that cannot."""
    copied = make_table(dynamodb, mongo, name, tmp_path, items(12))
    copied.copy()
    bad = [{"S": f"bad{number}"} for number in range(12)]
    copied.put(*({"pk": key, "before": {"S": "x"}, "a\0b": {"S": "x"}} for key in bad))
    path = tmp_path / "report"
    pages = "--set=qps.full.batch_num=2"
    for repair in ([], ["--repair", "--yes"]):
        assert run(copied, pages, *repair, "--report", str(path)) == 1
        _, *lines, _ = map(json.loads, path.read_text().splitlines())
        assert {(line["kind"], line["repaired"]) for line in lines} == {("missing", False)}
        assert sorted(line["key"]["pk"]["S"] for line in lines) == sorted(key["S"] for key in bad)
        assert all("U+0000" in line["note"] for line in lines)
        path.unlink()


# ---- faults


def test_keys_that_the_source_did_not_come_to_are_asked_for_again(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(5))
    copied.copy()
    copied.collection.delete_many({})
    forwarded = forward(dynamodb.url)
    answered = 0

    def answer(request: Request) -> Reply:
        nonlocal answered
        body = json.loads(request.body)
        if request.operation != "BatchGetItem":
            return forwarded(request)
        answered += 1
        keys = body["RequestItems"][name]["Keys"]
        body["RequestItems"][name]["Keys"] = keys[:2]
        some = json.loads(
            forwarded(Request("", json.dumps(body).encode(), request.headers, 0)).body
        )
        some["UnprocessedKeys"] = {name: {"Keys": keys[2:]}} if keys[2:] else {}
        return Reply(json.dumps(some).encode())

    assert through(copied, answer) == 1
    assert "5 items compared: 5 missing" in capsys.readouterr().out
    assert answered == 4  # the first one tries whether reading is allowed


def test_a_page_that_is_no_answer_is_fetched_again(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(5))
    copied.copy()
    forwarded = forward(dynamodb.url)
    spoilt: list[Request] = []

    def answer(request: Request) -> Reply:
        if b"TotalSegments" in request.body and not spoilt:
            spoilt.append(request)
            return Reply(b"{}")
        return forwarded(request)

    assert through(copied, answer) == 0
    assert spoilt


# ---- how it opened


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    name: str, tmp_path: Path, capsys: Any
) -> None:
    settings = ["--set", f"id={name}", "--set", "target.address=mongodb://127.0.0.1:1/"]
    missing = str(tmp_path / "no folder" / "report")
    assert check.main([*settings, "--report", missing]) == 2
    assert capsys.readouterr().err.startswith(f"shake-check: --report {missing} cannot be written")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"filter.collection.white": "nowhere"}, "there is no table nowhere"),
        ({"convert.type": "chagne"}, "allowed is"),
        ({"target.type": "aliyun_dynamo_proxy", "target.address": "http://localhost"}, "MongoDB"),
        ({"target.address": "mongodb://u:s3cretword@127.0.0.1:1/?serverSelectionTimeoutMS=50"}, ""),
        ({"source.endpoint_url": "http://127.0.0.1:1/"}, "http://127.0.0.1:1"),
    ],
    ids=["no table", "bad value", "no MongoDB", "no target", "no source"],
)
def test_what_cannot_be_compared_ends_with_2_and_one_line_without_secrets(
    dynamodb: Any,
    mongo: Any,
    name: str,
    tmp_path: Path,
    settings: dict[str, str],
    said: str,
    capsys: Any,
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [])
    pairs = [f"--set={key}={value}" for key, value in settings.items()]
    assert run(copied, "--set=log.level=error", *pairs) == 2
    err = capsys.readouterr().err
    assert err.startswith("shake-check: ")
    assert err.count("\n") == 1
    assert said in err
    assert "s3cretword" not in err


def test_a_check_that_is_stopped_proves_nothing(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(3))
    copied.copy()
    forwarded = forward(dynamodb.url)

    def answer(request: Request) -> Reply:
        if b"TotalSegments" in request.body:
            os.kill(os.getpid(), signal.SIGTERM)
        return forwarded(request)

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert through(copied, answer) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "stopped before its end, nothing is proven" in capsys.readouterr().err


def test_nimoshakes_spelling_of_the_option_is_taken(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, items(1))
    copied.copy()
    assert check.main([f"-conf={copied.conf}"]) == 0


@pytest.mark.parametrize("arguments", [["--sample", "0"], ["--sample", "x"], ["--nonsense"]])
def test_a_bad_command_line_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        check.main(arguments)
    assert caught.value.code == 2


def test_a_schema_without_data_is_compared_by_its_indexes(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    indexes = {"by_n": (("n", "N"), None)}
    copied = make_table(
        dynamodb, mongo, name, tmp_path, items(3), indexes=indexes, sync_schema_only="true"
    )
    copied.collection.create_index("pk", unique=True)
    assert run(copied) == 1
    assert run(copied, "--repair", "--yes") == 0
    assert run(copied) == 0
    assert f"table {name}: indexes equal" in capsys.readouterr().out
    assert copied.collection.count_documents({}) == 0


def test_a_copy_that_is_not_complete_is_neither_compared_nor_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(100)))
    host, port = mongo.client.address
    with Wire(host, port) as wire:
        stopped = Migration(dynamodb.url, wire.uri, name, tmp_path, qps__full__batch_num=10)
        place = f"{name}.{name}"
        wire.stop_at("answer", "insert", place, lambda: stopped.kill(stopped.running[-1]), skip=3)
        assert stopped.run().status == -signal.SIGKILL
    migration = Migration(dynamodb.url, mongo.uri, name, tmp_path, qps__full__batch_num=10)
    for arguments in ([], ["--repair", "--yes"]):
        assert check.main(["--conf", str(migration.conf), *arguments]) == 3
        captured = capsys.readouterr()
        assert f"table {name}: the copy is not complete (status copying)" in captured.err
        assert "missing" not in captured.out
    assert mongo.client[name][name].count_documents({}) < 100  # some may have been on their way
    assert migration.run().status == 0
    assert check.main(["--conf", str(migration.conf), "--repair", "--yes"]) == 0


def test_an_equal_id_of_another_type_is_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name, ("pk", "N"))
    put_items(dynamodb.client, name, ({"pk": {"N": str(item)}} for item in range(3)))
    migration = Migration(dynamodb.url, mongo.uri, name, tmp_path, id__mode="key")
    assert migration.run().status == 0
    collection = mongo.client[name][name]
    collection.delete_one({"_id": 2})
    collection.insert_one({"_id": 2.0, "pk": 2.0})
    assert check.main(["--conf", str(migration.conf)]) == 1
    assert check.main(["--conf", str(migration.conf), "--repair", "--yes"]) == 0
    assert sorted(type(one["_id"]).__name__ for one in collection.find()) == ["int"] * 3
