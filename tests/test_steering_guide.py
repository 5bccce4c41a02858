"""Every command of docs/steering.md does on a running task what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shake.cli.control import CONTROL
from shake.demo.servers import free_port
from tests.support.followed import Followed, copies
from tests.support.migration import ROOT
from tests.support.streams_faults import slow
from tests.support.wait import until

GUIDE = (ROOT / "docs/steering.md").read_text(encoding="utf-8")
TOKEN = "a-long-random-text"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def commands() -> list[str]:
    return "".join(blocks("sh")).splitlines()


@pytest.mark.slow
def test_the_commands_of_the_guide_steer_a_task(
    followed: Followed, commands: list[str], tmp_path: Path
) -> None:
    followed.simulator.table("orders")
    followed.simulator.tables["orders"].put({"pk": {"S": "a"}})
    followed.simulator.faults.rule(1.0, slow(2.0), where=copies)
    port = free_port()
    migration = followed.task(
        filter__collection__white="orders",
        http_profile=port,
        http__token=TOKEN,
        source__windows="22:00-06:00=100;06:00-22:00=200",
        full__read__concurrency=400,
    )
    (tmp_path / "my.conf").write_text(migration.conf.read_text())
    process = migration.start()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    until(lambda: any(map(copies, list(followed.simulator.journal))))
    last = [one for one in commands if one.endswith("finish")]
    assert len(last) == 1
    assert len(commands) > 8
    for command in [one for one in commands if one not in last] + last:
        if command in last:
            followed.simulator.faults.clear()
        done = subprocess.run(
            command.replace("9340", str(port)),
            shell=True,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, (command, done)
    assert migration.wait(process).status == 0


def test_the_configuration_of_the_guide_loads(followed: Followed) -> None:
    settings = [line for block in blocks("ini") for line in block.splitlines()]
    arguments = [word for line in settings for word in ("--set", line.replace(" = ", "=", 1))]
    result = followed.task().run("--print-config", *arguments)
    assert result.status == 0, result
    assert "source.windows = 22:00-06:00=100%;06:00-22:00=20%" in result.stdout


def test_the_guide_has_all_exit_statuses() -> None:
    table = GUIDE.partition("## Exit statuses")[2].partition("## By HTTP")[0]
    assert {int(one) for one in re.findall(r"^\| (\d) \|", table, re.MULTILINE)} == {
        *CONTROL.statuses
    }
