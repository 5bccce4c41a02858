"""``shake-supervisor``: runs a migration, or tells what it would do."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from setproctitle import setproctitle

from shake import codec
from shake.cli import command, streams
from shake.cli.definition import Command
from shake.cli.plan_text import describe
from shake.config import Config, Loaded, Redactor
from shake.process.child import allow_many
from shake.run import task
from shake.run.parts import Wish
from shake.status.logs import logging_to
from shake.status.progress import make_reporter
from shake.status.screen import Screen

log = logging.getLogger("shake")

#: Seconds between two pictures on a terminal, and between two snapshots elsewhere.
_TERMINAL_SECONDS = 0.5
_QUIET_SECONDS = 1.0


def main(argv: Sequence[str] | None = None, linger: Callable[[], None] = lambda: None) -> int:
    """Run ``shake-supervisor``; return its exit status.

    ``linger`` is called after a good end, while the status page is still up.
    """
    return _run(command.parse(RUN.parser(), argv), linger)


def _run(options: argparse.Namespace, linger: Callable[[], None] = lambda: None) -> int:
    return command.run(
        options,
        lambda loaded, redactor: _act(options, loaded, redactor, linger),
        failed=lambda error: error.exit_status,
        # Later the farm hears of signals by itself.
        stopped=("stopped before the copy began", int(options.until_consistent)),
    )


def _act(
    options: argparse.Namespace, loaded: Loaded, redactor: Redactor, linger: Callable[[], None]
) -> int:
    config = loaded.config
    if options.print_config:
        streams.say("\n".join(config.effective_lines()))
        return 0
    setproctitle(f"shake: supervisor {config.id}")
    workers = options.workers or command.usable_cpus()
    reporter = make_reporter(sys.stdout)
    if options.dry_run:
        with logging_to(None, config.log_level, False, redactor, reporter.print):
            _notices(loaded)
            return _dry_run(config, workers)
    with (
        Screen(reporter) as screen,
        logging_to(config.log_file, config.log_level, config.log_buffer, redactor, screen.log),
    ):
        _notices(loaded)
        allow_many()
        refresh = _TERMINAL_SECONDS if sys.stdout.isatty() else _QUIET_SECONDS
        until_consistent = options.until_consistent
        task.run(Wish(config, workers, screen, refresh, until_consistent, linger))
        return 0


def _notices(loaded: Loaded) -> None:
    for notice in loaded.notices:
        log.info("%s", notice)
    if codec.NOTICE:
        log.warning("%s", codec.NOTICE)


def _dry_run(config: Config, workers: int) -> int:
    plan = task.dry_run(config, workers)
    streams.say("\n".join(describe(plan, config, workers)))
    return 3 if plan.refusals else 0


def _define_run(parser: argparse.ArgumentParser) -> None:
    command.add_common(parser, workers="worker processes")
    command.add_flags(
        parser,
        {
            "--dry-run": "check, print the plan, change nothing",
            "--until-consistent": "end when every change made before this command started is "
            "applied: run it once more after the writes have stopped, and switch",
            "--print-config": "print the effective configuration",
        },
    )


def _define_plan(parser: argparse.ArgumentParser) -> None:
    command.add_common(parser, workers="worker processes of the run")
    parser.set_defaults(dry_run=True, until_consistent=False, print_config=False)


RUN = Command(
    name="run",
    program="shake-supervisor",
    summary="copy tables, then follow their changes",
    description="Copies DynamoDB tables into MongoDB, then follows their changes until Ctrl-C, "
    "SIGTERM or SIGHUP. A run that was stopped, or killed, continues when it is started again.",
    examples=(
        ("print what a run would do; change nothing", "{prog} --conf my.conf --dry-run"),
        ("copy with 32 worker processes, then follow", "{prog} --conf my.conf --workers 32"),
        ("copy, apply every change made so far, end", "{prog} --conf my.conf --until-consistent"),
        (
            "limit the scan of each table to 500 read units a second",
            "{prog} --conf my.conf --set source.read_budget=500",
        ),
        ("print every key with its value", "{prog} --conf my.conf --print-config"),
    ),
    statuses={
        0: "finished, or stopped with everything saved; with --until-consistent: every change "
        "made before the start is applied",
        1: "failed while running; the last line says why",
        2: "wrong command line or configuration",
        3: "a check before the start refused; nothing was changed",
        4: "a stream has lost changes of a table before they were applied (a gap)",
    },
    define=_define_run,
    act=_run,
)

PLAN = Command(
    name="plan",
    summary="print what a run would do, its cost and time; change nothing",
    description="Makes the checks of a run and prints the plan: tables, sizes, cost, least time, "
    "indexes, streams, and what happens to existing collections. It names everything that stands "
    "in the way, and changes nothing anywhere. It does what shake run --dry-run does.",
    examples=(
        ("print the plan", "{prog} --conf my.conf"),
        (
            "the plan of one table only",
            "{prog} --conf my.conf --set filter.collection.white=orders",
        ),
    ),
    statuses={
        0: "nothing stands in the way of a run",
        1: "not completed; the last line says why",
        2: "wrong command line or configuration",
        3: "a run would be refused; the plan says why",
    },
    define=_define_plan,
    act=_run,
)
