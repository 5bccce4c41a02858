"""``shake control``: acts on the running task, without a restart."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from shake.cli import command, streams
from shake.cli.definition import Command
from shake.config import Config, Loaded, Redactor
from shake.control.address import socket_path
from shake.control.client import NotRunning, ask
from shake.control.commands import USER_ACTIONS, AwaitEnd, Finish, Pause, Resume, SetBudget
from shake.control.commands import Command as Order
from shake.errors import UsageError

DONE, REFUSED, USAGE, NOT_RUNNING = 0, 1, 2, 3


def _run(options: argparse.Namespace) -> int:
    def body(loaded: Loaded, redactor: Redactor) -> int:
        return _steer(loaded.config, _orders(options))

    stopped = ("not waiting any longer: the task carries out the command", REFUSED)
    return command.run(options, body, stopped=stopped)


def _orders(options: argparse.Namespace) -> list[Order]:
    """What is sent. Raises UsageError."""
    action, given = options.action, options.given
    if given and action != "budget":
        raise UsageError(f"{action} takes nothing more, but {given[0]} is given")
    if options.no_wait and action != "finish":
        raise UsageError("--no-wait goes with finish")
    if action == "budget":
        return _budgets(given)
    if action == "finish":
        return [Finish()] if options.no_wait else [Finish(), AwaitEnd()]
    return [Pause() if action == "pause" else Resume()]


def _budgets(given: Sequence[str]) -> list[Order]:
    orders: list[Order] = []
    for one in given:
        table, separator, units = one.partition("=")
        if not (table and separator and units):
            raise UsageError(f"budget {one}: write TABLE=UNITS, such as orders=500")
        orders.append(SetBudget(table, units))
    if not orders:
        raise UsageError("budget: of which table? Write TABLE=UNITS, such as orders=500")
    return orders


def _steer(config: Config, orders: Sequence[Order]) -> int:
    path = socket_path(config.pid_path, config.id)
    try:
        for reply in ask(path, orders):
            if not reply.done:
                streams.complain(f"shake control: {reply.line}")
                return REFUSED
            streams.say(reply.line)
    except NotRunning as error:
        raise NotRunning(
            f"no run of task {config.id} can be reached: {error}; shake status says whether it "
            "runs, and where: use the same id and pid_path on that machine"
        ) from error
    return DONE


def _define(parser: argparse.ArgumentParser) -> None:
    command.add_configuration(parser)
    command.add_flags(parser, {"--no-wait": "with finish: do not wait until the task has ended"})
    parser.add_argument("action", choices=USER_ACTIONS, help="what the task is to do")
    parser.add_argument(
        "given",
        nargs="*",
        default=[],  # without it argparse calls the argument required
        metavar="TABLE=UNITS",
        help="for budget: read units a second for the scan of a table, a share of its provisioned "
        "capacity (50%%), none, auto (50%% in AWS), or default (what the configuration says); "
        "* and ? are wildcards",
    )


CONTROL = Command(
    name="control",
    summary="pause, resume or finish the running task, change its read budget",
    description="Acts on the task that runs on this machine under this id, without a restart. "
    "pause: nothing more is read at the source; what was read is written, and the task keeps its "
    "place. resume: it reads on. budget: other read units a second for the scan of a table, in "
    "force at once, until the run ends. finish: the task ends once every change that was made at "
    "the source before this command is applied, and this command waits for that.",
    examples=(
        ("read nothing for a while", "{prog} --conf my.conf pause"),
        ("read on", "{prog} --conf my.conf resume"),
        ("scan one table with 500 read units a second", "{prog} --conf my.conf budget orders=500"),
        ("lift the limit of all tables", "{prog} --conf my.conf budget '*=none'"),
        ("the cutover: after the writes have stopped", "{prog} --conf my.conf finish"),
    ),
    statuses={
        DONE: "done; finish: the task has ended, and every change made before is applied",
        REFUSED: "refused, or no answer; finish: the task has ended otherwise. The line says why",
        USAGE: "wrong command line or configuration",
        NOT_RUNNING: "no run of this task can be reached on this machine",
    },
    define=_define,
    act=_run,
)
