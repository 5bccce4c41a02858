"""``shake``: one name for all commands, and a help that is complete and true."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shake.cli.definition import Command, root_parser
from shake.cli.main import COMMANDS, main
from shake.config.declared_keys import KEYS
from tests.support.migration import ROOT, Migration, compare
from tests.support.starter import run
from tests.support.tables import create_table, put_items

each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


shake = partial(run, "shake", folder=ROOT)


def help_of(command: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text: str = capsys.readouterr().out
    return text


def test_the_help_lists_every_command() -> None:
    answer = shake("--help")
    assert answer.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command.name} +\S", answer.stdout, re.MULTILINE)


@each_command
def test_the_help_of_a_command_shows_options_examples_and_exit_statuses(
    command: Command, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(command.name, capsys, monkeypatch)
    assert max(map(len, text.splitlines())) < 80
    assert "`" not in text
    assert f"\n  shake {command.name}" in text.partition("\nexamples:\n")[2]
    statuses = re.findall(r"^  (\d)  \S", text.partition("\nexit status:\n")[2], re.MULTILINE)
    assert [int(one) for one in statuses] == list(command.statuses)


@each_command
def test_each_example_is_a_command_line_that_is_understood(command: Command) -> None:
    assert command.examples
    for prog in filter(None, [command.program]):
        for _, line in command.examples_of(prog):
            assert line.startswith(prog)
            command.parser().parse_args(shlex.split(line)[1:])
    for _, line in command.examples_of(f"shake {command.name}"):
        assert root_parser(COMMANDS).parse_args(shlex.split(line)[1:]).act == command.act


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("run", "--nothing"), ("plan", "--conf")])
def test_a_wrong_command_line_is_refused(arguments: tuple[str, ...]) -> None:
    answer = shake(*arguments)
    assert answer.returncode == 2
    assert "usage: shake" in answer.stderr


def test_a_table_is_planned_copied_and_checked_by_one_name(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(20)))
    conf = str(Migration(dynamodb.url, mongo.uri, name, tmp_path).conf)
    plan = shake("plan", f"-conf={conf}", folder=tmp_path)
    assert plan.returncode == 0, plan
    assert f"table {name} -> " in plan.stdout
    assert mongo.client[name].list_collection_names() == []
    assert shake("run", "--conf", conf, folder=tmp_path).returncode == 0
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    check = shake("check", "--conf", conf, folder=tmp_path)
    assert check.returncode == 0, check
    assert "20 items equal" in check.stdout


def test_an_error_names_the_command() -> None:
    answer = shake("check", "--conf", "/nowhere")
    assert answer.returncode == 2
    assert answer.stderr.startswith("shake check: cannot read the configuration file '/nowhere'")


def test_keys_explains_every_key() -> None:
    answer = shake("keys")
    assert answer.returncode == 0
    titles = [line for line in answer.stdout.splitlines() if not line.startswith(" ")]
    assert [title.split()[0] for title in titles] == [key.name for key in KEYS]


def test_keys_tells_all_about_one_key() -> None:
    text = shake("keys", "target.mongodb.exist").stdout
    assert text.startswith("target.db.exist (default: none)\n")
    for words in ("one of: rename, drop", "target.mongodb.exist", "SHAKE_TARGET_DB_EXIST"):
        assert words in text
    assert "id (required)" in shake("keys", "id").stdout
    assert "qps.full = 1000" in shake("keys", "qps.full").stdout
    assert "It shapes the data" in shake("keys", "id.mode").stdout
    assert "Secret" in shake("keys", "http.token").stdout


def test_keys_finds_keys_by_a_part_of_their_names() -> None:
    titles = [line for line in shake("keys", "qps.").stdout.splitlines() if line[0] != " "]
    assert len(titles) == sum(key.name.startswith("qps.") for key in KEYS)


def test_keys_names_the_nearest_key_for_an_unknown_one() -> None:
    answer = shake("keys", "qsp.full")
    assert answer.returncode == 2
    assert "nearest: qps.full" in answer.stderr


def test_a_mistyped_command_or_action_is_answered_with_the_nearest_one() -> None:
    for words, near in (
        (["rnu"], "run"),
        (["chekc", "--conf", "my.conf"], "check"),
        (["control", "paus"], "pause"),
    ):
        answer = shake(*words)
        assert answer.returncode == 2
        assert answer.stderr.endswith(f"; the nearest is {near}\n")
    assert "nearest" not in shake("frobnicate").stderr


def test_a_word_that_is_no_command_is_answered_with_what_is_meant() -> None:
    for words, meant in (
        (["stop"], "shake control finish ends a run"),
        (["control", "stop"], "SIGTERM"),
        (["pause"], "instead: shake control pause"),
        (["verify", "--conf", "my.conf"], "instead: shake check"),
        ([], "shake COMMAND --help shows"),
    ):
        answer = shake(*words)
        assert answer.returncode == 2
        assert meant in answer.stderr


def test_what_is_said_without_a_configuration_file_begins_with_that(tmp_path: Path) -> None:
    answer = shake("status")
    assert answer.returncode == 2
    assert answer.stderr.startswith(
        "shake status: no configuration file is given: give one by --conf FILE, such as "
    )
    (tmp_path / "shop.conf").touch()
    answer = shake("run", "--conf", str(tmp_path / "sohp.conf"))
    assert f"; the nearest is {tmp_path / 'shop.conf'}\n" in answer.stderr


def test_help_is_a_command_too() -> None:
    assert shake("help").stdout == shake("--help").stdout
    assert shake("help", "run").stdout == shake("run", "--help").stdout


def test_a_configuration_file_without_its_option_is_answered_with_the_option() -> None:
    for name in ("run", "status"):
        answer = shake(name, "my.conf")
        assert answer.returncode == 2
        assert "give the configuration file as --conf FILE" in answer.stderr
