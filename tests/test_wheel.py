"""What is released works by itself: a migration with the installed wheel only, and a whole sdist.

``make wheels`` builds what is tested here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.migration import ROOT, Migration, compare
from tests.support.tables import create_table, put_items

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(300)]

DIST = ROOT / "dist"
#: Files of the repository that serve it alone.
ELSEWHERE = {".ci/run", ".gitignore"}
#: What the guide has a user type: blocks of commands, without those for a checkout.
COMMANDS = [
    block
    for block in re.findall(
        r"(?ms)^```sh\n(.*?)^```", (ROOT / "docs/install.md").read_text(encoding="utf-8")
    )
    if not block.startswith("make ")
]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # uvx
    "PIP_FIND_LINKS": f"{DIST} {os.environ.get('PIP_FIND_LINKS', '')}",
    "UV_FIND_LINKS": f"{DIST},{os.environ.get('UV_FIND_LINKS', '')}".strip(","),
    "UV_NO_CACHE": "1",  # uvx would run an older wheel of the same version
    "SHAKE_CODEC": "native",  # fails where the wheel's codec does not load
}


def run(*command: object, folder: Path) -> str:
    answer = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer
    return answer.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment, in which only shake is installed, as the guide says."""
    folder = tmp_path_factory.mktemp("installed")
    run("bash", "-euxc", COMMANDS[0], folder=folder)
    return folder / "venv/bin"


def test_the_other_commands_of_the_guide_work(
    installed: Path, dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    conf = Migration(dynamodb.url, mongo.uri, name, tmp_path).conf
    folder = installed.parents[1]
    shutil.copy(conf, folder / "my.conf")
    assert len(COMMANDS) > 3
    for commands in COMMANDS[1:]:
        run("bash", "-euxc", commands, folder=folder)
    assert "pip install shake-dynamodb\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_installed_wheel_plans_copies_and_checks_a_table(
    installed: Path, dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(20)))
    conf = Migration(dynamodb.url, mongo.uri, name, tmp_path).conf
    assert f"table {name} -> " in run(installed / "shake", "plan", "--conf", conf, folder=tmp_path)
    run(installed / "shake-supervisor", "--conf", conf, folder=tmp_path)
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    assert "20 items equal" in run(installed / "shake-check", "--conf", conf, folder=tmp_path)


@pytest.mark.parametrize("program", ["shake", "shake-dynamodb", "shake-supervisor", "shake-check"])
def test_each_program_tells_its_version(program: str, installed: Path, tmp_path: Path) -> None:
    assert run(installed / program, "--version", folder=tmp_path).startswith("shake ")


def test_man_pages_and_completion_are_installed(installed: Path) -> None:
    for path in (ROOT / "share").rglob("*.[15]"):
        assert (installed.parent / path.relative_to(ROOT)).is_file()
    assert (installed.parent / "share/bash-completion/completions/shake").is_file()
    shipped = installed.parent / "share/shake/deploy"
    assert {one.name for one in shipped.iterdir()} == {
        one.name for one in (ROOT / "deploy").iterdir()
    }


def test_there_is_a_wheel_with_the_codec_for_each_kind_of_processor() -> None:
    wheels = sorted(DIST.glob("*.whl"))
    assert len(wheels) == 2
    for processor, wheel in zip(("aarch64", "x86_64"), wheels, strict=True):
        assert f"cp311-abi3-manylinux2014_{processor}.manylinux_2_17_{processor}" in wheel.name
        with zipfile.ZipFile(wheel) as opened:
            assert "shake/codec/_transcoder.abi3.so" in opened.namelist()


def test_the_source_archive_holds_every_file_of_the_repository() -> None:
    [archive] = DIST.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    tracked = run("git", "ls-files", folder=ROOT).split()
    assert set(tracked) - held == ELSEWHERE
