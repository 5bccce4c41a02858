"""``shake-supervisor``: runs a migration, or tells what it would do."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

import orjson
from setproctitle import setproctitle

from shake import codec
from shake.cli import command, streams
from shake.config import Config, Loaded, Redactor
from shake.plan.text import describe
from shake.process.cpus import usable_cpus
from shake.process.ulimits import allow_many
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
    """Run the command; return its exit status (README: exit status).

    ``linger`` is called after a good end, while the status page is still up.
    """
    parser = command.parser(
        "shake-supervisor",
        "Copies DynamoDB tables into MongoDB, then follows their changes. A run that was stopped, "
        "or killed, goes on where it was when it is started again.",
        workers="worker processes",
        flags={
            "--dry-run": "check, print the plan, change nothing",
            "--json": "with --dry-run: print the plan as one JSON document",
            "--until-consistent": "end when every change made before this command started is "
            "applied: run it once more after the writes have stopped, and switch",
            "--print-config": "print the effective configuration",
        },
    )
    options = command.parse(parser, argv)
    if options.json and not options.dry_run:
        streams.complain("shake-supervisor: --json is for --dry-run: give both, or none")
        return 2
    return command.run(
        "shake-supervisor",
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
    workers = options.workers or usable_cpus()
    reporter = make_reporter(sys.stdout)
    if options.dry_run:
        say = streams.complain if options.json else reporter.print
        with logging_to(None, config.log_level, False, redactor, say):
            _notices(loaded)
            return _dry_run(config, workers, as_json=options.json)
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


def _dry_run(config: Config, workers: int, *, as_json: bool) -> int:
    report = task.dry_run(config, workers)
    if as_json:
        streams.say(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        streams.say("\n".join(describe(report)))
    return 3 if report.refusals else 0
