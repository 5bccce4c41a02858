"""The report of shake-check: a header, each difference with both values, and a verdict."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import bson
import pytest

from shake import __version__
from shake.check import plan
from shake.cli import check
from tests.support.copied import Copied, make_table
from tests.support.faulty import Faulty, Request, forward


def report(copied: Copied, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The lines of a check's report."""
    path = folder / "report.jsonl"
    check.main([*copied.arguments, "--report", str(path), *arguments])
    return [json.loads(line) for line in path.read_text().splitlines()]


def small(dynamodb: Any, mongo: Any, name: str, folder: Path, **settings: Any) -> Copied:
    rows = [{"pk": {"S": f"k{n}"}, "n": {"N": str(n)}, "b": {"B": b"\0\1"}} for n in range(5)]
    copied = make_table(dynamodb, mongo, name, folder, rows, **settings)
    copied.copy()
    return copied


def test_a_report_names_what_was_compared_and_ends_with_the_verdict(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    header, verdict = report(small(dynamodb, mongo, name, tmp_path), tmp_path)
    assert (header["task"], header["check"], header["source"]) == (name, "full", dynamodb.url)
    assert header["target"] in mongo.uri
    assert header["versions"]["shake"] == __version__
    assert header["tables"][name]["place"] == f"{name}.{name}"
    assert header["time"] <= verdict["time"]
    assert (tmp_path / "report.jsonl").stat().st_mode & 0o777 == 0o600
    assert (verdict["verdict"], verdict["differences"], verdict["tables"]) == ("equal", 0, {})
    out = capsys.readouterr().out
    assert f"EQUAL: every item and every document of task {name}" in out
    assert "items equal (1 read unit used)" in out


@pytest.mark.parametrize("mode", ["objectid", "key"])
def test_each_difference_has_both_values(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str
) -> None:
    copied = small(dynamodb, mongo, name, tmp_path, id__mode=mode)
    stored = copied.collection
    stored.delete_one({"pk": "k0"})
    stored.update_one({"pk": "k1"}, {"$set": {"n": bson.Int64(2**40)}})
    stored.insert_one({"pk": "foreign", "n": 1.5} | ({"_id": "foreign"} if mode == "key" else {}))
    _, *lines, verdict = report(copied, tmp_path)
    found = {line["kind"]: line for line in lines}
    item = {"pk": {"S": "k0"}, "n": {"N": "0"}, "b": {"B": "AAE="}}
    assert (found["missing"]["source"], "target" in found["missing"]) == (item, False)
    different = found["different"]
    assert different["source"]["n"] == {"N": "1"}
    assert [one["n"] for one in different["target"]] == [{"$numberLong": str(2**40)}]
    assert different["target"][0]["b"] == {"$binary": {"base64": "AAE=", "subType": "00"}}
    [extra] = found["extra"]["target"]
    assert (extra["pk"], extra["n"]) == ("foreign", {"$numberDouble": "1.5"})
    assert verdict["verdict"] == "different"
    assert verdict["tables"] == {name: {"missing": 1, "different": 1, "extra": 1}}


def test_a_repair_reports_what_it_overwrites_and_deletes(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = small(dynamodb, mongo, name, tmp_path)
    copied.collection.update_one({"pk": "k1"}, {"$set": {"n": 77}})
    copied.collection.insert_one({"pk": "foreign", "n": 78})
    _, *lines, verdict = report(copied, tmp_path, "--repair", "--yes", "--delete-extra")
    for column in ("before_repair", "kind"):  # before it is changed, and as a difference
        gone = [
            one["n"]["$numberInt"] for line in lines if column in line for one in line["target"]
        ]
        assert sorted(gone) == ["77", "78"]
    assert all(line["repaired"] for line in lines if "kind" in line)
    assert verdict["verdict"] == "repaired"
    assert copied.collection.count_documents({}) == 5
    before = (tmp_path / "report.jsonl").read_text()
    (tmp_path / "report.jsonl").write_text(f'{before}{{"cut')
    check.main([*copied.arguments, "--repair", "--yes", "--report", str(tmp_path / "report.jsonl")])
    after = (tmp_path / "report.jsonl").read_text()
    assert after.startswith(f'{before}{{"cut\n{{"format"'), "an earlier report stays"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_repair_changes_nothing_that_its_report_cannot_keep(
    dynamodb: Any,
    mongo: Any,
    name: str,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    copied = small(dynamodb, mongo, name, tmp_path)
    copied.collection.update_many({}, {"$set": {"n": 77}})
    copied.collection.insert_one({"pk": "foreign", "n": 78})
    before = sorted(map(str, copied.collection.find()))
    monkeypatch.setattr(plan, "ITEMS_A_PROCESS", 1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def read_the_header() -> None:
        with pipe.open() as reader:
            reader.readline()

    reader = threading.Thread(target=read_the_header)
    reader.start()
    repair = ["--repair", "--yes", "--delete-extra", f"--workers={workers}"]
    segments = "--set=full.read.concurrency=2"
    assert check.main([*copied.arguments, segments, *repair, "--report", str(pipe)]) == 2
    reader.join()
    assert f"--report {pipe} cannot be written: Broken pipe" in capsys.readouterr().err
    assert sorted(map(str, copied.collection.find())) == before


def test_a_sample_and_a_filter_prove_less_and_say_so(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = small(dynamodb, mongo, name, tmp_path)
    header, verdict = report(copied, tmp_path, "--sample", "3")
    assert (header["check"], verdict["verdict"]) == ("sample", "no difference")
    assert "no difference in what was compared" in capsys.readouterr().out


def test_a_check_that_is_not_completed_says_so_in_its_report(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = small(dynamodb, mongo, name, tmp_path)

    def answer(request: Request) -> Any:
        if request.operation == "Scan" and b"TotalSegments" in request.body:
            copied.collection.drop()
        return forward(dynamodb.url)(request)

    with Faulty(otherwise=answer) as source:
        *_, verdict = report(copied, tmp_path, f"--set=source.endpoint_url={source.url}")
    assert verdict["verdict"] == "not completed"
    assert "counts for nothing" in verdict["reason"]
