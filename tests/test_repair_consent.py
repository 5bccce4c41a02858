"""--repair says what it will do, asks, and leaves alone what a cutover has handed to users."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.mongodb import MongoStore
from shake.checkpoint.summary import TaskSummary
from shake.cli import check
from tests.support.copied import Copied, make_table
from tests.support.followed import Followed
from tests.support.migration import ROOT

REPAIR = ("--repair", "--delete-extra")


def item(key: str, number: int) -> dict[str, Any]:
    return {"pk": {"S": key}, "n": {"N": str(number)}}


@pytest.fixture
def different(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Copied:
    """A copy with a document that is different, and an extra one."""
    copied = make_table(dynamodb, mongo, name, tmp_path, [item("a", 1), item("b", 1)])
    copied.copy()
    copied.delete(pk={"S": "b"})
    copied.put(item("a", 2))
    return copied


def stored(copied: Copied) -> dict[str, int]:
    return {one["pk"]: one["n"] for one in copied.collection.find()}


def answered(copied: Copied, answer: bytes, *arguments: str) -> tuple[int, str]:
    """Status and output of the command on a terminal where a user answers so."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "bin/shake-check"), *copied.arguments, *arguments],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(theirs)
        terminal.write(answer)
        output, _ = process.communicate(timeout=60)
    return process.returncode, output


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"what\n", b"\x04"])
def test_what_a_user_does_not_confirm_is_not_repaired(different: Copied, answer: bytes) -> None:
    status, output = answered(different, answer, *REPAIR)
    assert status == 3
    assert "--repair stores what is missing or different in " in output
    assert "it deletes documents whose key the source does not have" in output
    assert "not confirmed: nothing was changed" in output
    assert stored(different) == {"a": 1, "b": 1}


@pytest.mark.parametrize("answer", [b"y\n", b"YES\n"])
def test_what_a_user_confirms_is_repaired(different: Copied, answer: bytes) -> None:
    status, output = answered(different, answer, *REPAIR)
    assert status == 0, output
    assert stored(different) == {"a": 2}


def test_without_a_terminal_a_repair_needs_yes(different: Copied, capsys: Any) -> None:
    assert check.main([*different.arguments, "--repair"]) == 2
    assert "without a terminal, add --yes" in capsys.readouterr().err
    assert stored(different) == {"a": 1, "b": 1}
    assert check.main([*different.arguments, *REPAIR, "--yes"]) == 0
    assert stored(different) == {"a": 2}


@pytest.mark.parametrize("flag", ["--yes", "--after-cutover"])
def test_options_of_a_repair_go_with_it(different: Copied, flag: str, capsys: Any) -> None:
    assert check.main([*different.arguments, flag]) == 2
    assert f"{flag} goes with --repair" in capsys.readouterr().err


def test_after_a_cutover_users_content_is_not_replaced(followed: Followed, capsys: Any) -> None:
    """The last run ended by --until-consistent, and a user has changed a document since."""
    followed.simulator.table(followed.name)
    followed.put("a", n={"N": "1"})
    migration = followed.task()
    assert migration.run("--until-consistent").status == 0
    followed.collection.update_one({"pk": "a"}, {"$set": {"n": 7}})
    repair = ["--conf", str(migration.conf), "--repair", "--yes"]
    assert check.main(repair) == 3
    refused = capsys.readouterr()
    assert "finished at" in refused.err
    assert "--repair stores" not in refused.out  # the refusal comes first
    assert followed.collection.find_one({"pk": "a"})["n"] == 7
    assert check.main([*repair, "--after-cutover"]) == 0
    assert followed.collection.find_one({"pk": "a"})["n"] == 1


@pytest.mark.parametrize(
    ("change", "finished"),
    [
        ({}, True),
        ({"state": "stopped"}, False),
        ({"state": "failed", "exit_status": 1}, False),
        ({"state": "running", "exit_status": -1}, False),
        ({"phase": "copy"}, False),
    ],
)
def test_only_an_end_that_was_asked_for_once_all_is_applied_is_a_cutover(
    mongo: Any, name: str, change: dict[str, Any], finished: bool
) -> None:
    summary = TaskSummary(
        token="token",
        state="finished",
        phase="follow",
        reason="",
        exit_status=0,
        started=1.0,
        at=2.0,
        fraction=1.0,
        items=1,
        kept=0,
        bytes=1,
        applied_through=3.0,
        consistent=True,
        tables=1,
        tables_done=1,
    )
    with closing(MongoStore.open(mongo.uri, name)) as store:
        Checkpoints(store).save_summary(replace(summary, **change), lambda: None)
        saved = Checkpoints(store).load_summary()
    assert saved
    assert saved.finished_by_cutover is finished
