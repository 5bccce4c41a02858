"""shake-check beside a running task: changes on their way count as no difference."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shake.check import following
from shake.cli import check
from tests.support.bad import KEEP, LONG
from tests.support.faulty import Reply
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import ROOT, Migration
from tests.support.streams_faults import Call
from tests.support.streams_workload import Workload
from tests.support.wait import until

pytestmark = pytest.mark.slow

SLOWLY = ("--set=qps.full.batch_num=20", "--set=full.read.concurrency=4", "--set=qps.full=12")


def begin(migration: Migration, report: Path, *arguments: str) -> subprocess.Popen[str]:
    """shake-check in a separate process."""
    command = [sys.executable, str(ROOT / "bin/shake-check"), "--conf", str(migration.conf)]
    return subprocess.Popen(
        [*command, "--report", str(report), *SLOWLY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def differences(report: Path) -> set[tuple[str, str]]:
    """Kind and partition key of each line of a report."""
    lines = map(json.loads, report.read_text().splitlines())
    return {(line["kind"], line["key"]["pk"]["S"]) for line in lines if "kind" in line}


def consistent(migration: Migration) -> None:
    """Wait until the first run of a task is consistent."""
    output = migration.folder / f"{migration.conf.stem}.0.out"
    until(lambda: "consistent point reached" in output.read_text())


def plant(followed: Followed) -> set[tuple[str, str]]:
    """Differences in the target, of keys that nothing else changes."""
    stored = followed.collection
    foreign = [{"pk": f"foreign{n}"} for n in range(3)]
    by_id = followed.settings.get("id__mode") == "key"
    stored.insert_many([one | ({"_id": one["pk"]} if by_id else {}) for one in foreign])
    for number in range(3):
        assert stored.delete_one({"pk": f"still{number}"}).deleted_count
        assert stored.update_one({"pk": f"still{number + 3}"}, {"$set": {"n": -1}}).modified_count
    return {
        *(("extra", one["pk"]) for one in foreign),
        *(("missing", f"still{number}") for number in range(3)),
        *(("different", f"still{number}") for number in range(3, 6)),
    }


@pytest.mark.parametrize(
    ("seed", "settings", "arguments"),
    [
        (1, {}, []),
        (2, {"id__mode": "key", "convert__type": "mchange"}, []),
        (3, {"checkpoint__type": "file"}, ["--workers=1", "--eventual"]),
    ],
    ids=["plain", "key", "file"],
)
def test_a_check_beside_a_busy_task_finds_what_was_planted_and_nothing_else(
    followed: Followed, tmp_path: Path, seed: int, settings: dict[str, Any], arguments: list[str]
) -> None:
    """Keys come, change, go and come back, and shards split, in the whole of it."""
    if settings.get("checkpoint__type") == "file":
        settings = settings | {"checkpoint__address": tmp_path / "checkpoints"}
    table = followed.simulator.table(followed.name, shards=2)
    table.stale = 20
    followed.simulator.delay = 1.5
    workload = Workload(table, seed, hot=4, cold=300, untidy=2)
    workload.run(400)
    for number in range(60):
        followed.put(f"still{number}", n={"N": str(number)})
    migration = followed.task(incr__margin=2, **settings)
    process = migration.start()
    with workload.running(60):
        consistent(migration)
        planted = plant(followed)
        checking = begin(migration, tmp_path / "report", *arguments)
        time.sleep(6)
    out, err = checking.communicate(timeout=120)
    assert differences(tmp_path / "report") == planted, (out, err)
    assert checking.returncode == 1
    assert "NOT equal: 9 differences" in out
    stopped(migration, process)
    followed.collection.delete_many({"pk": {"$regex": "^foreign"}})
    for number in range(6):
        followed.put(f"still{number}", n={"N": str(number + 100)})
    process = migration.start()
    followed.equal()
    assert check.main(["--conf", str(migration.conf)]) == 0
    stopped(migration, process)


def test_a_difference_is_reported_and_a_key_that_goes_and_comes_back_is_none(
    followed: Followed, tmp_path: Path
) -> None:
    followed.simulator.table(followed.name)
    for number in range(6):
        followed.put(f"still{number}", n={"N": str(number)})
    migration = followed.task()
    process = migration.start()
    consistent(migration)
    planted = plant(followed)
    hot = {"pk": {"S": "hot"}}
    looks: list[Call] = []

    def looks_for_hot(call: Call) -> bool:
        """Whether it is a Scan, or one of the first looks at what seems to be extra."""
        keys = call.request.get("RequestItems", {}).get(followed.name, {})
        if "ProjectionExpression" in keys and hot in keys["Keys"]:
            looks.append(call)
            return len(looks) <= 4
        return copies(call)

    def gone_for_a_moment(call: Call, answer: Callable[[], Reply]) -> Reply:
        followed.table.delete(hot)
        reply = answer()
        followed.put("hot", n={"N": str(time.monotonic_ns())})
        return reply

    followed.simulator.faults.rule(1.0, gone_for_a_moment, where=looks_for_hot)
    report = tmp_path / "report"
    assert check.main(["--conf", str(migration.conf), "--report", str(report)]) == 1
    assert differences(report) == planted
    assert len(looks) > 4
    stopped(migration, process)


def test_an_item_that_can_be_stored_again_by_now_is_no_difference(
    followed: Followed, capsys: Any
) -> None:
    """The scan shows an item that cannot be stored, which the task has never seen alone."""
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(full__read__concurrency=1, **KEEP)
    process = migration.start()
    consistent(migration)

    def bad_for_a_moment(call: Call, answer: Callable[[], Reply]) -> Reply:
        followed.put("a", n=LONG)
        reply = answer()
        followed.put("a", v={"S": "new"})
        return reply

    followed.simulator.faults.rule(1.0, bad_for_a_moment, where=copies)
    assert check.main(["--conf", str(migration.conf)]) == 0, capsys.readouterr().out
    stopped(migration, process)
    followed.compare()


def test_what_a_task_that_is_killed_during_the_check_has_not_applied_is_undecided(
    followed: Followed, capsys: Any
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    process = migration.start()
    consistent(migration)
    followed.simulator.delay = 1e6  # what is put now never reaches the stream's readers
    followed.put("a", n={"N": "1"})
    followed.put("b")

    def killed(call: Call, answer: Callable[[], Reply]) -> Reply:
        """The task is killed at the first look at keys in doubt."""
        reply = answer()
        process.kill()
        process.wait()
        return reply

    def looks(call: Call) -> bool:
        keys = call.request.get("RequestItems", {}).get(followed.name, {}).get("Keys", [])
        return {"pk": {"S": "a"}} in keys

    followed.simulator.faults.rule(1.0, killed, where=looks)
    assert check.main(["--conf", str(migration.conf)]) == 1
    out = capsys.readouterr().out
    assert "NOT PROVEN: 2 keys undecided: the task ended while the check ran" in out


def test_what_a_frozen_task_has_not_applied_is_undecided(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    followed.put("b")
    migration = followed.task()
    process = migration.start()
    consistent(migration)
    monkeypatch.setattr(following, "_WORD", 0.5)
    monkeypatch.setattr(following, "_DEADLINE", 3.0)
    process.send_signal(signal.SIGSTOP)
    try:
        followed.put("a", n={"N": "1"})
        followed.table.delete({"pk": {"S": "b"}})
        followed.put("c")
        time.sleep(1)
        followed.collection.delete_one({"pk": "a"})  # the workers may go on for a moment
        followed.collection.delete_one({"pk": "c"})
        assert check.main(["--conf", str(migration.conf)]) == 1
    finally:
        process.send_signal(signal.SIGCONT)
    captured = capsys.readouterr()
    assert "undecided" in captured.out
    assert "NOT PROVEN: " in captured.out
    assert "waiting for shake to apply the changes" in captured.out + captured.err
    assert "missing {" not in captured.out
    stopped(migration, process)
