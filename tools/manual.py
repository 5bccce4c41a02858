"""Man pages of the commands, and of the configuration file, in roff.

https://man7.org/linux/man-pages/man7/man-pages.7.html
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

from shake import __version__
from shake.cli.definition import Command
from shake.config.declared_keys import KEYS
from shake.config.key_type import Key

_PAGES = ("shake(1)", "shake-supervisor(1)", "shake-check(1)", "shake-demo(1)", "shake.conf(5)")


def program_page(command: Command) -> str:
    """The page of a command that is a program."""
    parser = command.parser()
    lines = [*_head(command.program, 1, command.summary), *_synopsis(command.program, parser)]
    lines += [".SH DESCRIPTION", _text(command.description)]
    lines += [".SH OPTIONS", *_options(parser)]
    lines += [".SH EXIT STATUS", *_statuses(command)]
    lines += [".SH EXAMPLES", *_examples(command, command.program)]
    return _page(lines, f"{command.program}(1)")


def root_page(commands: Sequence[Command]) -> str:
    """The page of ``shake``, with a section for each command."""
    lines = [*_head("shake", 1, "move DynamoDB tables into MongoDB"), ".SH SYNOPSIS"]
    lines += [r"\fBshake\fR \fICOMMAND\fR [\fIOPTION\fR...]", ".SH COMMANDS"]
    for command in commands:
        lines += [".TP", _bold(command.name), _text(command.summary)]
    for command in commands:
        prog = f"shake {command.name}"
        parser = argparse.ArgumentParser(prog=prog)
        command.define(parser)
        lines += [f'.SH "{prog.upper()}"', *_usage(prog, parser), ".PP", _text(command.description)]
        lines += _options(parser)
        lines += [".SS Exit status", *_statuses(command)]
        lines += [".SS Examples", *_examples(command, prog)]
    return _page(lines, "shake(1)")


def configuration_page() -> str:
    """The page of the configuration file."""
    lines = [*_head("shake.conf", 5, "configuration of shake"), ".SH DESCRIPTION"]
    lines += [
        _text(
            "A configuration file has one key = value in each line. A line that starts with # is "
            "a comment. An empty value means the default. Each key can also be given as --set "
            "key=value, or in the environment: SHAKE_ and the key in capitals, with dots as "
            "underscores. The command line beats the environment, and the environment the file."
        ),
        ".SH KEYS",
    ]
    for key in KEYS:
        lines += [".TP", ", ".join(map(_bold, key.names)), *_about(key)]
    return _page(lines, "shake.conf(5)")


def _about(key: Key) -> Iterator[str]:
    default = "Required." if key.required else f"Default: {key.default_text or 'none'}."
    yield _text(f"{key.doc}. Value: {key.kind.allowed}. {default}")
    if key.shapes_data:
        yield "It cannot change after the copy of a table has begun."


def _head(name: str, section: int, summary: str) -> list[str]:
    return [
        '.\\" Made by python -m tools.generate.',
        f'.TH "{name.upper()}" "{section}" "" "shake {__version__}" "shake"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
    ]


def _page(lines: list[str], own: str) -> str:
    others = ", ".join(re.sub(r"(.*)(\(.\))", r"\\fB\1\\fR\2", p) for p in _PAGES if p != own)
    return "\n".join([*lines, ".SH SEE ALSO", others.replace("-", r"\-")]) + "\n"


def _synopsis(prog: str, parser: argparse.ArgumentParser) -> list[str]:
    return [".SH SYNOPSIS", *_usage(prog, parser)]


def _usage(prog: str, parser: argparse.ArgumentParser) -> list[str]:
    words = [_bold(prog)]
    for action in parser._actions:
        words.append(f"[{_invocation(action, action.option_strings[:1])}]")
    return [" ".join(words)]


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield ".TP"
        yield _invocation(action, action.option_strings)
        yield _text(action.help or "")


def _invocation(action: argparse.Action, names: Sequence[str]) -> str:
    value = f"\\fI{action.metavar}\\fR" if action.metavar else ""
    if not names:
        return value
    return ", ".join(f"{_bold(name)} {value}".rstrip() for name in names)


def _statuses(command: Command) -> Iterator[str]:
    for status, meaning in command.statuses.items():
        yield from (".TP", _bold(str(status)), _text(meaning))


def _examples(command: Command, prog: str) -> Iterator[str]:
    for purpose, line in command.examples_of(prog):
        yield from (".TP", _text(purpose), ".nf", _text(line), ".fi")


def _bold(text: str) -> str:
    return f"\\fB{_text(text)}\\fR"


def _text(text: str) -> str:
    """Plain text, in which no character is markup."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return re.sub(r"^(?=[.'])", r"\\&", escaped)
