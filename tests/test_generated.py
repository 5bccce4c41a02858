"""The files that are made of the code say what the code does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shake.cli.definition import Command
from shake.cli.main import COMMANDS
from shake.config import load
from shake.config.declared_keys import KEYS
from tests.support.migration import ROOT
from tools.generate import files
from tools.reference import reference

EXAMPLE = ROOT / "deploy" / "shake.conf"
SCRIPTS = [
    (shell, path)
    for shell, name in (("bash", "bash-completion"), ("zsh", "zsh"), ("fish", "fish"))
    for path in sorted((ROOT / "share" / name).rglob("*shake*"))
    if shutil.which(shell)
]


@pytest.mark.parametrize("path", files())
def test_each_file_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == files()[path](), "run: make generated"


def test_the_reference_has_a_row_for_each_key_and_each_other_name() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(KEYS)
    for key, row in zip(KEYS, rows, strict=True):
        assert all(f"`{name}`" in row for name in key.names)
        assert row.count(" | ") == 4
        assert row.endswith(" yes |") == key.shapes_data


def test_the_example_configuration_loads_and_is_all_defaults() -> None:
    config = load(str(EXAMPLE), {}, []).config
    for key in KEYS:
        if not key.required:
            assert getattr(config, key.attribute) == key.default, key.name


def test_the_example_configuration_loads_with_every_key_that_has_a_default(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert re.findall(r"(?m)^#?([a-z][\w.]*) =", text) == [key.name for key in KEYS]
    (tmp_path / "all.conf").write_text(re.sub(r"(?m)^#(?=[a-z])", "", text), encoding="utf-8")
    assert load(str(tmp_path / "all.conf"), {}, []).config == load(str(EXAMPLE), {}, []).config


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_man_pages_have_each_option_example_and_exit_status(command: Command) -> None:
    page = (ROOT / "share/man/man1/shake.1").read_text(encoding="utf-8")
    section = page.partition(f'.SH "SHAKE {command.name.upper()}"')[2].partition("\n.SH ")[0]
    plain = section.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
    assert len(re.findall(r"(?m)^\d$", plain)) == len(command.statuses)
    for _, line in command.examples_of(f"shake {command.name}"):
        assert f"\n{line}\n" in plain


@pytest.mark.parametrize(("shell", "path"), SCRIPTS, ids=str)
def test_each_completion_is_a_script_that_its_shell_can_read(shell: str, path: Path) -> None:
    subprocess.run([shell, "-n", str(path)], check=True)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", {command.name for command in COMMANDS}),
        ("run --until", {"--until-consistent"}),
        ("keys target.db", {"target.db.exist"}),
        ("plan --conf my.c", {"my.conf"}),
    ],
)
def test_bash_completes_commands_options_keys_and_files(
    typed: str, offered: set[str], tmp_path: Path
) -> None:
    (tmp_path / "my.conf").touch()
    words = ["shake", *typed.split(" ")]
    script = f"""
        source {ROOT}/share/bash-completion/completions/shake
        COMP_WORDS=({" ".join(words)} {"''" * (not typed)}) COMP_CWORD={len(words) - 1}
        $(complete -p shake | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    answer = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert offered <= set(answer.stdout.split()), answer
