"""shake-check by several processes: what it finds is what one finds, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
from bson.decimal128 import Decimal128

import shake.check.comparing
import shake.check.plan
from shake.check.findings import Findings
from shake.check.messages import Compare, CountItems, Counts, Open, ReadKeys
from shake.check.processes import CheckProcesses
from shake.check.progress import CheckProgress
from shake.check.sides import Repair
from shake.check.stored import KeyRange
from shake.cli import check
from shake.config import load
from shake.process import heartbeat
from shake.schema import Attribute, Keys, Table
from shake.source.aws_session import open_source
from shake.source.endpoint import Credentials, Endpoint
from tests.support.copied import Copied, make_table
from tests.support.faulty import Faulty, Reply, Request, error, forward, throttled

SMALL = ("--set=log.level=error", "--set=full.read.concurrency=5", "--set=qps.full.batch_num=7")


@pytest.fixture(autouse=True)
def _small_tables_are_worth_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shake.check.plan, "ITEMS_A_PROCESS", 1)
    monkeypatch.setattr(shake.check.comparing, "_SMALLEST_RANGE", 8)
    monkeypatch.setattr(shake.check.comparing, "_MANY", 0)


def children() -> list[psutil.Process]:
    """Those of the check, which give themselves a title, not the servers."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "shake: check" in " ".join(child.cmdline())
    ]


def found(copied: Copied, folder: Path, *arguments: str) -> list[str]:
    """The lines of the report, sorted, after the exit status."""
    path = folder / "report.jsonl"
    status = check.main([*copied.arguments, *SMALL, "--report", str(path), *arguments])
    assert not children()
    lines = sorted(line for line in path.read_text().splitlines() if '"kind"' in line)
    return [str(status), *lines]


def spoil(copied: Copied, *, twice: bool) -> None:
    """Make every kind of difference, and what is none."""
    stored = copied.collection
    several = list(stored.find().sort("sk", 1))
    for number, document in enumerate(several):
        mine = {"_id": document["_id"]}
        if number % 9 == 0:
            stored.delete_one(mine)
        elif number % 9 == 1:
            stored.update_one(mine, {"$set": {"n": "other"}})
        elif number % 9 == 2:
            stored.replace_one(mine, dict(reversed(document.items())))
        elif number % 9 == 3 and twice:
            stored.insert_one(document | {"_id": bson.ObjectId()})
        elif number % 9 == 4 and "pk" in document:
            stored.insert_one(
                document | {"_id": bson.ObjectId(), "pk": f"foreign {number}", "sk": number}
            )
    for odd in (None, 5, b"b", ["a", "p2x", "z"], {"a": 1}, bson.Regex("p"), Decimal128("1.5")):
        stored.insert_one({"pk": odd, "sk": Decimal128("1.5")})
    stored.insert_one({"_id": "text", "other": 1})
    stored.insert_one({"_id": 5.0, "sk": 1})
    stored.drop_index("pk_1")


@pytest.mark.parametrize("indexes", [True, False], ids=["key index", "no key index"])
def test_three_processes_find_what_one_finds(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, indexes: bool, capsys: Any
) -> None:
    rows = [
        {"pk": {"S": f"p{n % 7}"}, "sk": {"N": f"{n}.5"}, "n": {"N": str(n)}} for n in range(70)
    ]
    copied = make_table(dynamodb, mongo, name, tmp_path, rows, sk=("sk", "N"))
    copied.copy()
    if not indexes:
        copied.collection.drop_index("pk_1_sk_1")
    spoil(copied, twice=not indexes)
    copied.put({"pk": {"S": "bad"}, "sk": {"N": "1"}, "a\0b": {"S": "x"}})
    alone = found(copied, tmp_path, "--workers=1")
    assert "by 1 process:" in (one := capsys.readouterr().out)
    assert found(copied, tmp_path, "--workers=3") == alone
    assert "by 3 processes:" in (three := capsys.readouterr().out)
    assert one.splitlines()[1:] == three.splitlines()[1:]
    kinds = {json.loads(line)["kind"] for line in alone[1:]}
    assert kinds == {"missing", "different", "extra", "index"} | (
        set() if indexes else {"duplicate"}
    )


def test_keys_that_became_doubles_are_compared_by_several_processes(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    numbers = [*(f"{n}.5" for n in range(40)), "9007199254740993", "9007199254740992"]
    rows = [{"pk": {"N": text}} for text in numbers]
    settings: dict[str, Any] = {"convert__type": "mchange"}
    copied = make_table(dynamodb, mongo, name, tmp_path, rows, pk=("pk", "N"), **settings)
    copied.copy(indexes=False)
    copied.delete(pk={"N": "3.5"})
    for sort in (7.5, 9007199254740992.0):
        copied.collection.delete_one({"pk": sort})
    copied.collection.insert_one({"pk": 11.5})
    alone = found(copied, tmp_path, "--workers=1")
    kinds = {json.loads(line)["kind"] for line in alone[1:]}
    assert kinds == {"missing", "extra", "duplicate", "folded", "index"}
    assert found(copied, tmp_path, "--workers=2") == alone


def test_several_processes_repair(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> None:
    rows = [{"pk": {"S": f"p{n % 7}"}, "sk": {"N": f"{n}.5"}} for n in range(40)]
    copied = make_table(dynamodb, mongo, name, tmp_path, rows, sk=("sk", "N"))
    copied.copy()
    spoil(copied, twice=False)
    status, *lines = found(copied, tmp_path, "--workers=2", "--repair", "--yes", "--delete-extra")
    assert (status, len(lines)) == ("0", len([one for one in lines if json.loads(one)["repaired"]]))
    assert found(copied, tmp_path, "--workers=1") == ["0"]


def test_a_child_that_is_killed_ends_the_check_with_2_and_one_line(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    status = interrupted(dynamodb, mongo, name, tmp_path, lambda: children()[0].kill())
    assert status == 2
    assert said(capsys).startswith("shake-check: a process of the check has crashed (signal 9)")


def test_a_child_that_does_not_answer_ends_the_check_with_2_and_one_line(
    dynamodb: Any,
    mongo: Any,
    name: str,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for constant, seconds in (("EVERY", 0.1), ("REPORT_AFTER", 0.5), ("KILL_AFTER", 3.0)):
        monkeypatch.setattr(heartbeat, constant, seconds)
    status = interrupted(dynamodb, mongo, name, tmp_path, lambda: children()[0].suspend())
    assert status == 2
    assert "has crashed (killed: no answer for 3 s)" in said(capsys)


def test_a_signal_ends_all_processes_at_once(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    began: list[float] = []

    def stop() -> None:
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    try:
        assert interrupted(dynamodb, mongo, name, tmp_path, stop) == 2
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert time.monotonic() - began[0] < 5
    assert "stopped before its end, nothing is proven" in said(capsys)


@pytest.mark.parametrize("refused", ["Scan", "BatchGetItem"])
def test_a_source_that_refuses_is_one_line_too(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any, refused: str
) -> None:
    """BatchGetItem is tried first. Else only an item that differs would show that it is denied."""

    def refuse(request: Request) -> Reply:
        single = request.operation == "Scan" and b"TotalSegments" not in request.body
        if request.operation == refused and not single:
            return error("AccessDeniedException", "as scripted")
        return forward(dynamodb.url)(request)

    assert through(dynamodb, mongo, name, tmp_path, refuse) == 2
    assert said(capsys).startswith(f"shake-check: {refused} was refused by the source: AccessDen")


def test_credentials_that_are_refreshed_reach_the_children(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [{"pk": {"S": "k"}}])
    config = load(str(copied.conf), {}, []).config
    current = [Credentials("first", "secret")]

    def answer(request: Request) -> Reply:
        if "Credential=second/" in request.headers["authorization"]:
            return forward(dynamodb.url)(request)
        current[:] = [Credentials("second", "secret")]
        return throttled()

    with Faulty(otherwise=answer) as source:
        endpoint = Endpoint(source.url, "us-east-1")
        progress = CheckProgress(name, Findings(print, None), filtered=False)
        crews = CheckProcesses(config, endpoint, lambda: current[0], Repair.NONE, progress)
        with contextlib.closing(crews):
            table = Table(name, Keys(Attribute("pk", "S")))
            crew = crews.open(Open(table, 1, bytes(16)))
            assert list(crew.each([CountItems(0, 1)], Counts)) == [Counts({})]
    assert len(source.requests) > 1


def test_the_memory_of_a_process_does_not_grow_with_each_table(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [{"pk": {"S": "k"}}])
    copied.copy()
    config = load(str(copied.conf), {}, []).config
    endpoint, credentials = open_source(config)
    progress = CheckProgress(name, Findings(print, None), filtered=False)
    crews = CheckProcesses(config, endpoint, credentials, Repair.NONE, progress)
    table = Table(name, Keys(Attribute("pk", "S")))
    used = []
    with contextlib.closing(crews):
        for _ in range(20):
            crew = crews.open(Open(table, 1, bytes(16)))
            crew.run_all([Compare(0, 1), ReadKeys(0, KeyRange(None, None, None))])
            [child] = children()
            used.append(child.memory_info().rss)
    assert used[-1] - used[4] < 16 << 20, [one >> 20 for one in used]


def said(capsys: Any) -> str:
    """The one line on stderr; the server of the test has its own, about connections that broke."""
    lines = capsys.readouterr().err.splitlines()
    [line] = [str(line) for line in lines if line.startswith("shake-check")]
    return line


def interrupted(dynamodb: Any, mongo: Any, name: str, folder: Path, act: Callable[[], None]) -> int:
    """Check with two processes; ``act`` when the first of them scans, which is never answered."""
    acted: list[Request] = []

    def answer(request: Request) -> Reply:
        if request.operation == "Scan" and b"TotalSegments" in request.body:
            if not acted:
                acted.append(request)
                act()
            return Reply(slow=60)
        return forward(dynamodb.url)(request)

    return through(dynamodb, mongo, name, folder, answer)


def through(
    dynamodb: Any, mongo: Any, name: str, folder: Path, answer: Callable[[Request], Reply]
) -> int:
    rows = [{"pk": {"S": f"k{n}"}} for n in range(10)]
    copied = make_table(dynamodb, mongo, name, folder, rows)
    copied.copy()
    with Faulty(otherwise=answer) as source:
        endpoint = f"--set=source.endpoint_url={source.url}"
        status = check.main([*copied.arguments, *SMALL, "--workers=2", endpoint])
    assert not children()
    return status
