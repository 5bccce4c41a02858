"""The README tells the truth: its configuration loads, and every command in it works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.migration import ROOT, compare
from tests.support.tables import ACCESS_KEY, SECRET_KEY, create_table, put_items

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = "".join(blocks("sh")).splitlines() + re.findall(
        r"^    (make .*)$", README, re.MULTILINE
    )
    return [line.partition(" #")[0].strip() for line in lines]


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_each_make_target_exists(command: str) -> None:
    result = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_commands_of_the_main_job_do_it(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(100)))
    [conf] = blocks("ini")
    conf = re.sub(r"(?m)^(target\.address) = .*$", rf"\1 = {mongo.uri}", conf)
    # What stands for the user's AWS account here.
    conf += f"source.endpoint_url = {dynamodb.url}\nfilter.collection.white = {name}\n"
    conf += f"checkpoint.db = {name}-checkpoint\nnamespace.map = {name}:{name}.{name}\n"
    (tmp_path / "my.conf").write_text(conf, encoding="utf-8")
    (tmp_path / "bin").symlink_to(ROOT / "bin")
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # tests/test_wheel.py installs it.
    run = [line for line in commands() if not line.startswith(("make ", "pip install "))]
    assert len(run) > 3
    for command in run:
        result = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (command, result)
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
