"""``shake node``: works on this machine for a run on another one."""

from __future__ import annotations

import argparse
import os
import signal
import threading

from shake.cli import command, streams
from shake.cli.definition import Command
from shake.config import Redactor
from shake.errors import UsageError
from shake.status.logs import logging_to

ENDED, FAILED, WRONG, REFUSED = 0, 1, 2, 3


def _run(options: argparse.Namespace) -> int:
    stopped = ("stopped before it had joined", ENDED)
    return command.guarded(options.prog, lambda _: _work(options), stopped=stopped)


def _work(options: argparse.Namespace) -> int:
    # Nothing of nodes is imported by a command that needs none.
    from shake.nodes.credentials import read_secret
    from shake.nodes.hello import NAME
    from shake.nodes.joining import default_name, work
    from shake.nodes.link import Address

    try:
        address = Address.parse(options.join)
    except ValueError as error:
        raise UsageError(f"--join: {error}") from None
    name = options.name or default_name()
    if not NAME.fullmatch(name):
        raise UsageError("--name: at most 64 of the characters A-Z a-z 0-9 _ . -")
    secret = read_secret(options.secret_file or os.environ.get("SHAKE_NODES_SECRET_FILE"))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    with logging_to(None, "info", False, Redactor(()), streams.say):
        work(address, secret, name, options.workers or 0, stop)
    return ENDED


def _define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--join", required=True, metavar="HOST:PORT", help="where the run waits for nodes"
    )
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="file with the secret of the run's nodes.secret_file (default: the file that the "
        "environment variable SHAKE_NODES_SECRET_FILE names)",
    )
    parser.add_argument(
        "--name", help="name of this node in log and metrics (default: this machine's)"
    )
    command.add_workers(parser, "worker processes of this node")


NODE = Command(
    name="node",
    summary="work on this machine for a run on another one",
    description="Joins a run that was started with --nodes join:HOST:PORT, and works for it "
    "with the processors of this machine. It needs no configuration: the run sends it. Where the "
    "run is not there yet, or the link to it is lost, it joins again. SIGTERM and Ctrl-C hand its "
    "work back, within 10 seconds.",
    examples=(
        (
            "work for the run that waits at port 7070 of 10.0.0.5",
            "{prog} --join 10.0.0.5:7070 --secret-file nodes.secret",
        ),
        (
            "the same, with 8 worker processes",
            "{prog} --join 10.0.0.5:7070 --secret-file nodes.secret --workers 8",
        ),
    ),
    statuses={
        ENDED: "the task has ended, or this node was stopped and has handed its work back",
        FAILED: "failed; the last line says why",
        WRONG: "wrong command line, or a secret that cannot be used",
        REFUSED: "the run refused this node: another secret, or another version of shake",
    },
    define=_define,
    act=_run,
)
