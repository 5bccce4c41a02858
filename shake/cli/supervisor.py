"""``shake-supervisor``: runs a migration, or shows what it would do."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import NamedTuple

from setproctitle import setproctitle

from shake import __version__, codec
from shake.cli import command, streams
from shake.cli.definition import Command
from shake.config import Config, Loaded, Redactor
from shake.errors import RefusedError, refuse
from shake.plan.profile import MAX_ITEMS
from shake.plan.text import describe
from shake.process.cpus import usable_cpus
from shake.process.site import Sites
from shake.process.ulimits import allow_many, refused_where_short
from shake.run import lifecycle, planning
from shake.run.parts import RunOptions
from shake.status.figures import many
from shake.status.logs import logging_to
from shake.status.progress import Screen, make_reporter
from shake.status.wrapping import terminal_width, wrapped

log = logging.getLogger("shake")

#: Seconds between two pictures on a terminal, and between two snapshots elsewhere.
_TERMINAL_SECONDS = 0.5
_QUIET_SECONDS = 1.0


def main(
    argv: Sequence[str] | None = None,
    on_good_end: Callable[[], None] = lambda: None,
    screen: Screen | None = None,
) -> int:
    """Run ``shake-supervisor``; return its exit status.

    ``on_good_end`` is called after a good end, while the status page is still up. ``screen`` shows
    the progress, one on stdout where there is none.
    """
    return _run(command.parse(RUN.parser(), argv), on_good_end, screen)


def _run(
    options: argparse.Namespace,
    on_good_end: Callable[[], None] = lambda: None,
    screen: Screen | None = None,
) -> int:
    if wrong := _wrong(options):
        streams.complain(f"{options.prog}: {wrong}")
        return 2
    stopped = (
        "stopped before it took over the task"
        if options.standby
        else "stopped: start again to go on"
    )
    return command.run(
        options,
        lambda loaded, redactor: _act(options, loaded, redactor, on_good_end, screen),
        # Later the supervisor handles signals itself.
        stopped=(stopped, int(options.until_consistent)),
    )


def _wrong(options: argparse.Namespace) -> str:
    """Which options exclude each other; empty where none do."""
    for flag in ("json", "profile"):
        if getattr(options, flag) and not options.dry_run:
            return f"--{flag} is for --dry-run: give both, or none"
    if options.standby and (options.dry_run or options.until_consistent):
        return (
            "--standby waits to take over a run that goes on: leave out --dry-run and "
            "--until-consistent"
        )
    if options.standby and options.nodes:
        return "--standby does not go with --nodes yet: give one only"
    return ""


def _act(
    options: argparse.Namespace,
    loaded: Loaded,
    redactor: Redactor,
    on_good_end: Callable[[], None],
    screen: Screen | None,
) -> int:
    config = loaded.config
    if options.print_config:
        streams.say("\n".join(loaded.effective_lines()))
        return 0
    setproctitle(f"shake: supervisor {config.id}")
    workers = options.workers or usable_cpus()
    spread = _spread(options, config, workers)
    if options.dry_run:
        return _dry_run(options, loaded, redactor, spread)
    with contextlib.ExitStack() as stack:
        with refused_where_short():
            shown = stack.enter_context(screen or Screen(make_reporter(sys.stdout)))
            log_key = config.log_file, config.log_level, config.log_buffer
            stack.enter_context(logging_to(*log_key, redactor, shown.log))
        file = f"configuration file {options.conf}" if options.conf else "no configuration file"
        by = f"workers on nodes ({options.nodes})" if options.nodes else many(workers, "worker")
        log.info("shake %s: task %s, %s, %s", __version__, config.id, file, by)
        _notices(loaded)
        allow_many()
        terminal = sys.stdout.isatty()
        linger_seconds = inf if terminal and config.http_linger else config.http_linger
        lifecycle.run(
            RunOptions(
                config=config,
                workers=workers,
                reporter=shown,
                refresh=_TERMINAL_SECONDS if terminal else _QUIET_SECONDS,
                until_consistent=options.until_consistent,
                standby=options.standby,
                on_good_end=on_good_end,
                # A script waits for the end of such a run.
                linger_seconds=0.0 if options.until_consistent else linger_seconds,
                width=terminal_width(),
                open_sites=spread.open_sites,
            )
        )
        return 0


class _Spread(NamedTuple):
    """Where children run, None: here; for a plan ``workers`` in all, and ``nodes`` in words."""

    open_sites: Callable[[], contextlib.AbstractContextManager[Sites]] | None
    workers: int
    nodes: str


def _spread(options: argparse.Namespace, config: Config, workers: int) -> _Spread:
    if not options.nodes:
        return _Spread(None, workers, "")
    from shake.nodes.choice import open_nodes, outlook, parse_nodes

    choice = parse_nodes(options.nodes, options.workers)
    return _Spread(partial(open_nodes, choice, config), *outlook(choice, workers))


def _notices(loaded: Loaded) -> None:
    command.log_notices(loaded)
    if codec.NOTICE:
        log.warning("%s", codec.NOTICE)


def _dry_run(
    options: argparse.Namespace, loaded: Loaded, redactor: Redactor, spread: _Spread
) -> int:
    """Print the plan, in words or as JSON.

    Raises RefusedError for a start that is refused, after the plan or, where none could be made,
    after JSON with the refusal alone.
    """
    config = loaded.config
    say = streams.complain if options.json else make_reporter(sys.stdout).print
    with logging_to(None, config.log_level, False, redactor, say):
        _notices(loaded)
        try:
            report = planning.dry_run(config, spread.workers, options.profile, spread.nodes)
        except RefusedError as error:
            if options.json:
                streams.say_json({"task": config.id, "refusals": [redactor.redact(str(error))]})
            raise
    if options.json:
        streams.say_json(report)
    else:
        streams.say("\n".join(wrapped(describe(report), terminal_width())))
    refuse(report.refusals, "the plan shows all")
    return 0


def _define_run(parser: argparse.ArgumentParser) -> None:
    command.add_configuration(parser)
    command.add_workers(parser, "worker processes")
    command.add_flags(
        parser,
        {
            "--dry-run": "check, print the plan, change nothing",
            "--json": "with --dry-run: print the plan as one JSON document",
            "--until-consistent": "end when every change made before this command started is "
            "applied: run it once more after the writes have stopped, and switch",
            "--standby": "where another supervisor runs this task, wait, and take over when it is "
            "gone",
            "--print-config": "print the effective configuration, and where each value is from",
        },
    )
    parser.add_argument(
        "--nodes",
        metavar="WHERE",
        default="",
        help="where workers run: join:HOST:PORT, on the machines where shake node joins this "
        "address; ray, on each node of a Ray cluster; local:N, in N nodes on this machine",
    )
    _add_profile(parser, "with --dry-run: ")


def _add_profile(parser: argparse.ArgumentParser, when: str) -> None:
    parser.add_argument(
        "--profile",
        type=_profiled,
        default=0,
        metavar="N",
        help=f"{when}read N items of each table (at most {MAX_ITEMS}), and print what they "
        "consist of, one item with its document, and what cannot be stored",
    )


def _profiled(text: str) -> int:
    items = command.positive(text)
    if items > MAX_ITEMS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_ITEMS}")
    return items


def _define_plan(parser: argparse.ArgumentParser) -> None:
    command.add_configuration(parser)
    command.add_workers(parser, "worker processes of the run")
    command.add_flags(parser, {"--json": "print the plan as one JSON document"})
    _add_profile(parser, "")
    parser.set_defaults(
        dry_run=True, until_consistent=False, standby=False, print_config=False, nodes=""
    )


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
        ("take over when the run on another machine has ended", "{prog} --conf my.conf --standby"),
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
    description="Makes the checks of a run and prints the plan: how long the copy takes and what "
    "limits it, what it costs, what changes at source and target, sizes, rights. It names "
    "everything that stands in the way, and changes nothing anywhere. It does what shake run "
    "--dry-run does.",
    examples=(
        ("print the plan", "{prog} --conf my.conf"),
        ("the plan as JSON", "{prog} --conf my.conf --json"),
        ("what 200 items of each table consist of", "{prog} --conf my.conf --profile 200"),
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
