"""Shell completion of the commands, by shtab."""

from __future__ import annotations

import argparse

import shtab

from shake.config.declared_keys import KEYS


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a command for ``bash``, ``zsh`` or ``fish``."""
    _complete(parser)
    return f"{shtab.complete(parser, shell).strip()}\n"


def _complete(parser: argparse.ArgumentParser) -> None:
    """Say what completes the values of each option."""
    for action in parser._actions:
        # Fish knows no -conf: one dash goes with one letter.
        action.option_strings = [n for n in action.option_strings if n[:2] == "--" or len(n) == 2]
        if isinstance(action, argparse._SubParsersAction):
            for summary in action._choices_actions:
                command = action.choices[summary.dest]
                command.description = summary.help
                _complete(command)
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "KEY":
            action.choices = [name for key in KEYS for name in key.names]
