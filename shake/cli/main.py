"""``shake``: all commands behind one name."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shake.cli import command
from shake.cli.bad import BAD
from shake.cli.check import CHECK
from shake.cli.control import CONTROL
from shake.cli.definition import root_parser
from shake.cli.demo import DEMO
from shake.cli.forget import FORGET
from shake.cli.keys import KEYS
from shake.cli.node import NODE
from shake.cli.status import STATUS
from shake.cli.supervisor import PLAN, RUN

#: In the order of a migration. A further command is one more entry here.
COMMANDS = (PLAN, RUN, STATUS, CONTROL, CHECK, BAD, FORGET, NODE, KEYS, DEMO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; return its exit status."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["help"]:  # shake help, shake help run
        given = [*given[1:2], "--help"]
    options = command.parse(root_parser(COMMANDS), given)
    status: int = options.act(options)
    return status
