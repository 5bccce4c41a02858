"""``--since`` compares what changed since the last completed check, all of it and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from shake.cli import check
from tests.support.copied import make_table
from tests.support.followed import Followed, stopped
from tests.support.migration import Migration
from tests.support.streams_faults import calling
from tests.support.streams_workload import Workload
from tests.support.wait import until
from tests.test_full_copy_trouble import failing

pytestmark = pytest.mark.slow


def differences(report: Path) -> set[tuple[str, str]]:
    lines = map(json.loads, report.read_text().splitlines())
    return {(line["kind"], line["key"]["pk"]["S"]) for line in lines if "kind" in line}


def follow(followed: Followed, **settings: Any) -> tuple[Migration, Any]:
    """A task that has reached its consistent point."""
    migration = followed.task(**settings)
    process = migration.start()
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: "consistent point reached" in output.read_text())
    return migration, process


def pages(followed: Followed) -> int:
    """How many pages of a Scan by segments were read so far."""
    return sum("Segment" in call.request for call in followed.simulator.journal.of("Scan"))


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        (1, {}),
        (2, {"id__mode": "key", "convert__type": "raw"}),
        (3, {"checkpoint__type": "file"}),
    ],
    ids=["plain", "raw-key", "file"],
)
def test_all_that_changed_is_compared_and_nothing_else_is_read(
    followed: Followed, tmp_path: Path, seed: int, settings: dict[str, Any]
) -> None:
    if settings.get("checkpoint__type") == "file":
        settings = settings | {"checkpoint__address": tmp_path / "checkpoints"}
    raw = settings.get("convert__type") == "raw"
    simulator = followed.simulator
    table = simulator.table(followed.name, shards=2)
    simulator.clock.advance(-600)
    followed.put("mine8", n={"N": "1"})
    simulator.clock.advance(600)
    workload = Workload(table, seed, cold=100, untidy=2)
    workload.run(200)
    for number in range(8):
        followed.put(f"mine{number}", n={"N": "1"})
    migration, process = follow(followed, incr__margin=2, **settings)
    conf = ["--conf", str(migration.conf)]
    followed.equal()
    assert check.main(conf) == 0
    simulator.delay = 1.5
    workload.run(300)
    for number in range(6):
        followed.put(f"mine{number}", n={"N": "2"})
    table.delete({"pk": {"S": "mine6"}})
    table.delete({"pk": {"S": "mine7"}})
    followed.equal()
    stopped(migration, process)

    stored = followed.collection
    named = {key: {"S": key} if raw else key for key in (f"mine{n}" for n in range(9))}
    field = "_id" if settings.get("id__mode") == "key" else "pk"
    key = {one: {field: value} for one, value in named.items()}
    stored.delete_one(key["mine0"])
    stored.update_one(key["mine1"], {"$set": {"n": -1}})
    stored.insert_one({"pk": named["mine6"]} | key["mine6"])
    stored.delete_one(key["mine8"])  # has not changed at the source
    planted = {("missing", "mine0"), ("different", "mine1"), ("extra", "mine6")}
    before = pages(followed)
    report = tmp_path / "report"
    assert check.main([*conf, "--since", "--report", str(report)]) == 1
    assert differences(report) == planted
    assert pages(followed) == before

    stored.delete_one(key["mine6"])
    assert check.main([*conf, "--since", "--report", str(report)]) == 1
    assert differences(report) == planted - {("extra", "mine6")}
    for number in (0, 1):
        followed.put(f"mine{number}", n={"N": "3"})
    process = migration.start()
    repaired = {field: {"$in": [named["mine0"], named["mine1"]]}, "n": {"N": "3"} if raw else 3}
    until(lambda: stored.count_documents(repaired) == 2)
    assert check.main([*conf, "--since"]) == 0
    stopped(migration, process)
    assert pages(followed) == before


def test_a_change_that_is_not_applied_yet_is_waited_for(followed: Followed, capsys: Any) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration, process = follow(followed, incr__margin=2)
    assert check.main(["--conf", str(migration.conf)]) == 0
    followed.simulator.delay = 1.5
    for number in range(20):
        followed.put(f"k{number}")
    assert check.main(["--conf", str(migration.conf), "--since"]) == 0
    out = capsys.readouterr().out
    assert "keys that changed since" in out
    compared = int(out.split(f"table {followed.name}: ")[-1].split()[0])
    assert compared >= 20
    stopped(migration, process)


def test_a_key_that_has_changed_often_is_named_once(
    followed: Followed, tmp_path: Path, capsys: Any
) -> None:
    arguments = checked(followed)
    for number in range(5):
        followed.put("b", n={"N": str(number)})
        followed.table.stream.roll_over(followed.table.stream.open()[0])
    report = tmp_path / "report"
    assert check.main([*arguments, "--since", "--report", str(report)]) == 1
    assert [line for line in report.read_text().splitlines() if '"kind"' in line][1:] == []
    assert "0 missing, 1 different, 0 extra, 0 duplicate" in capsys.readouterr().out


def test_a_document_whose_key_is_an_array_of_a_changed_key_is_not_taken_for_that_of_the_key(
    followed: Followed, tmp_path: Path
) -> None:
    arguments = checked(followed)
    followed.collection.delete_one({"pk": "b"})
    followed.collection.insert_one({"pk": ["b", "c"]})
    report = tmp_path / "report"
    assert check.main([*arguments, "--since", "--report", str(report)]) == 1
    assert differences(report) == {("missing", "b")}


@pytest.mark.parametrize(
    "fault",
    [{"errorCode": 50}, {"writeConcernError": {"code": 64, "errmsg": "as scripted"}}],
    ids=["not done", "done, and not confirmed"],
)
def test_a_store_that_does_not_answer_when_it_ends_does_not_cost_the_check(
    followed: Followed, fault: dict[str, Any]
) -> None:
    arguments = checked(followed)
    place = f"{followed.name}-checkpoint.{followed.name}~check"
    at = {"failCommands": ["update"], "namespace": place}
    with failing(followed.mongo, {"times": 2}, **at, **fault):
        assert check.main([*arguments, "--since"]) == 0
    assert check.main([*arguments, "--since"]) == 0


def checked(followed: Followed) -> list[str]:
    """A table that was checked; the command line for the next check."""
    followed.simulator.table(followed.name)
    followed.put("a")
    migration, process = follow(followed)
    assert check.main(["--conf", str(migration.conf)]) == 0
    followed.put("b")
    followed.arrived("b")
    stopped(migration, process)
    return ["--conf", str(migration.conf)]


def refused(capsys: Any, *arguments: str) -> str:
    """The one line of a check that needs a full one."""
    capsys.readouterr()
    assert check.main([*arguments, "--since", "--set=log.level=error"]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("run a full check")
    return str(line)


def test_a_stream_that_was_replaced_or_disabled_needs_a_full_check(
    followed: Followed, capsys: Any
) -> None:
    arguments = checked(followed)
    followed.table.disable_stream()
    assert "was replaced or disabled" in refused(capsys, *arguments)
    followed.table.enable_stream()
    assert "was replaced or disabled" in refused(capsys, *arguments)


def test_changes_that_were_trimmed_need_a_full_check(followed: Followed, capsys: Any) -> None:
    arguments = checked(followed)
    followed.simulator.trim(time.time() + 1)
    assert "are trimmed" in refused(capsys, *arguments)


def test_a_shard_that_is_gone_needs_a_full_check(followed: Followed, capsys: Any) -> None:
    arguments = checked(followed)
    followed.table.stream.roll_over(followed.table.stream.open()[0])
    followed.simulator.trim(time.time() + 1)
    assert "is gone" in refused(capsys, *arguments)


def test_a_check_of_a_day_ago_is_too_old(followed: Followed, capsys: Any) -> None:
    arguments = checked(followed)
    checks = followed.mongo.client[f"{followed.name}-checkpoint"][f"{followed.name}~check"]
    began = checks.find_one({"_id": "completed"})["Began"]
    checks.update_one({"_id": "completed"}, {"$set": {"Began": began - 23.5 * 3600}})
    assert "24 hours" in refused(capsys, *arguments)


def test_a_check_of_a_day_ago_is_too_old_whatever_the_source_s_clock_shows(
    followed: Followed, capsys: Any
) -> None:
    """It was set back since: its time is that of a minute later."""
    arguments = checked(followed)
    checks = followed.mongo.client[f"{followed.name}-checkpoint"][f"{followed.name}~check"]
    local = checks.find_one({"_id": "completed"})["LocalBegan"]
    assert abs(local - time.time()) < 600
    checks.update_one({"_id": "completed"}, {"$set": {"LocalBegan": local - 23.5 * 3600}})
    assert "24 hours" in refused(capsys, *arguments)


def test_the_check_of_an_earlier_version_can_be_gone_on_from(followed: Followed) -> None:
    arguments = checked(followed)
    checks = followed.mongo.client[f"{followed.name}-checkpoint"][f"{followed.name}~check"]
    checks.update_one({"_id": "completed"}, {"$unset": {"LocalBegan": ""}})
    assert check.main([*arguments, "--since"]) == 0
    assert checks.find_one({"_id": "completed"})["LocalBegan"]


def test_another_configuration_needs_a_full_check(followed: Followed, capsys: Any) -> None:
    arguments = checked(followed)
    assert "is not the one of the last" in refused(capsys, *arguments, "--eventual")


def test_without_a_completed_check_or_a_stream_a_full_check_is_needed(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [{"pk": {"S": "a"}}])
    copied.copy()
    assert "no check of it was completed" in refused(capsys, *copied.arguments)
    assert check.main(copied.arguments) == 0
    assert "it had no stream" in refused(capsys, *copied.arguments)
    assert check.main([*copied.arguments, "--since", "--sample", "3"]) == 2


def test_what_changes_while_the_stream_is_read_belongs_to_the_next_check(
    followed: Followed, tmp_path: Path
) -> None:
    arguments = checked(followed)
    followed.simulator.faults.next(
        "GetRecords", *[None] * 10, calling(lambda: followed.put("late"))
    )
    first = check.main([*arguments, "--since"])
    assert first in (0, 1)  # it can be read already
    report = tmp_path / "report"
    assert check.main([*arguments, "--since", "--report", str(report)]) == 1
    assert differences(report) == {("missing", "late")}


def test_numeric_keys_that_have_become_doubles_need_a_full_check(
    followed: Followed, capsys: Any
) -> None:
    table = followed.simulator.table(followed.name, pk=("pk", "N"))
    table.put({"pk": {"N": "1"}})
    migration, process = follow(followed, convert__type="mchange")
    arguments = ["--conf", str(migration.conf)]
    assert check.main(arguments) == 0
    stopped(migration, process)
    table.delete({"pk": {"N": "1"}})  # the target keeps it, and no key leads to it
    assert "doubles" in refused(capsys, *arguments)
    assert check.main(arguments) == 1
