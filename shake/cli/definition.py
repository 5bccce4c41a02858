"""What a command is: help, man page and shell completion are made of this one definition."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from shake import __version__

_WIDTH = 79

#: What argparse says of a mistyped command or action, and what it offers.
_INVALID = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")


_FINISH = "shake control finish ends a run once every change made so far is applied"
#: What is meant by words that are no commands or actions.
_MEANT = {
    "budget": "shake control budget",
    "compare": "shake check",
    "config": "shake run --print-config",
    "copy": "shake run",
    "cutover": _FINISH,
    "diff": "shake check",
    "dry-run": "shake plan",
    "finish": _FINISH,
    "migrate": "shake run",
    "pause": "shake control pause",
    "repair": "shake check --repair",
    "replay": "shake check --repair",
    "restart": "shake run, which goes on from what is saved",
    "resume": "shake control resume; a run that has ended goes on by shake run",
    "start": "shake run",
    "stop": f"{_FINISH}; Ctrl-C, or SIGTERM to its process, ends it at once with everything saved",
    "switch": _FINISH,
    "sync": "shake run",
    "verify": "shake check",
    "version": "shake --version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of ``shake``, which can also be a separate program.

    ``program`` is the name of that program, empty where there is none. ``examples`` are pairs of
    a purpose and a command line, in which ``{prog}`` stands for the name. ``define`` adds the
    options to a parser, and ``act`` carries the command out and returns its exit status.
    """

    name: str
    summary: str
    description: str
    examples: Sequence[tuple[str, str]]
    statuses: Mapping[int, str]
    define: Callable[[argparse.ArgumentParser], None]
    act: Callable[[argparse.Namespace], int]
    program: str = ""

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(**self._texts(self.program))
        add_version(parser)
        self._complete(parser)
        return parser

    def add_to(self, commands: Any) -> None:
        """Add the parser of ``shake NAME`` to what ``add_subparsers`` gave."""
        parser = commands.add_parser(
            self.name, help=self.summary, **self._texts(f"shake {self.name}")
        )
        self._complete(parser)

    def examples_of(self, prog: str) -> list[tuple[str, str]]:
        """The examples, for the command under this name."""
        return [(purpose, line.format(prog=prog)) for purpose, line in self.examples]

    def _texts(self, prog: str) -> dict[str, Any]:
        lines = ["examples:"]
        for purpose, line in self.examples_of(prog):
            lines += [f"  # {purpose}", f"  {line}"]
        lines += ["", "exit status:"]
        for status, meaning in self.statuses.items():
            lines += textwrap.wrap(f"  {status}  {meaning}", _WIDTH, subsequent_indent=" " * 5)
        return {
            "prog": prog,
            "description": textwrap.fill(self.description, _WIDTH, break_on_hyphens=False),
            "epilog": "\n".join(lines),
            "formatter_class": argparse.RawDescriptionHelpFormatter,
        }

    def _complete(self, parser: argparse.ArgumentParser) -> None:
        self.define(parser)
        parser.set_defaults(act=self.act, prog=parser.prog, parser=parser)


class _Parser(argparse.ArgumentParser):
    """Names what is meant, or the nearest choice, where a word is none of the choices."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with 2."""
        if found := _INVALID.search(message):
            typed, choices = found.groups()
            if meant := _MEANT.get(typed.lower()):
                message += f"; instead: {meant}"
            else:
                for near in get_close_matches(typed, re.findall(r"[\w-]+", choices), 1, 0.65):
                    message += f"; the nearest is {near}"
        elif message.endswith("required: COMMAND"):
            message += f"; {self.epilog}"
        super().error(message)


def root_parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser of ``shake``, which has all commands."""
    parser = _Parser(
        prog="shake",
        description="Moves Amazon DynamoDB tables into MongoDB: one full copy, then every change.",
        epilog="shake COMMAND --help shows options, examples and exit statuses of a command.",
    )
    add_version(parser)
    added = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        command.add_to(added)
    return parser


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"shake {__version__}")
