"""``shake-supervisor``: runs a migration, or tells what it would do."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from setproctitle import setproctitle

from shake import __version__, codec, task
from shake.config import Config, Redactor, load
from shake.errors import RunError, ShakeError
from shake.plan import describe
from shake.status.logs import logging_to
from shake.status.progress import make_reporter

log = logging.getLogger("shake")

#: Seconds between two pictures on a terminal, and between two snapshots elsewhere.
_TERMINAL_SECONDS = 0.5
_QUIET_SECONDS = 1.0


def main(argv: Sequence[str] | None = None, linger: Callable[[], None] = lambda: None) -> int:
    """Run the command; return its exit status (contract, section 1).

    ``linger`` is called after a good end, while the status page is still up.
    """
    try:
        return _main(argv, linger)
    finally:
        _let_go_of_stdout()


def _main(argv: Sequence[str] | None, linger: Callable[[], None]) -> int:
    options = _parser().parse_args(argv)
    # Until the farm runs, and queues both signals, SIGTERM is as good as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    redactor = Redactor(())
    debug = False
    try:
        loaded = load(options.conf, os.environ, options.set)
        config = loaded.config
        redactor = Redactor(config.secrets())
        debug = config.log_level == "debug"
        if options.print_config:
            _print(config.effective_lines())
            return 0
        setproctitle(f"shake: supervisor {config.id}")
        workers = options.workers or _usable_cpus()
        reporter = make_reporter(sys.stdout)
        with logging_to(
            config.log_file, config.log_level, config.log_buffer, redactor, reporter.print
        ):
            for notice in loaded.notices:
                log.info("%s", notice)
            if codec.NOTICE:
                log.warning("%s", codec.NOTICE)
            if options.dry_run:
                return _dry_run(config, workers)
            refresh = _TERMINAL_SECONDS if sys.stdout.isatty() else _QUIET_SECONDS
            task.run(config, workers, reporter, refresh=refresh, linger=linger)
            return 0
    except Exception as error:
        if debug:
            print(redactor.redact(traceback.format_exc()), file=sys.stderr)
        if not isinstance(error, ShakeError):
            error = RunError(f"unexpected {type(error).__name__}: {error}")
        print(f"shake-supervisor: {redactor.redact(str(error))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("shake-supervisor: stopped before the copy began", file=sys.stderr)
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shake-supervisor",
        description="Copies DynamoDB tables into MongoDB. A run that was stopped, or killed, goes "
        "on where it was when it is started again.",
    )
    # NimoShake's users type -conf=FILE.
    parser.add_argument("--conf", "-conf", metavar="FILE", help="configuration file")
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="worker processes (default: the CPUs this process may use)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a configuration key; beats environment (SHAKE_KEY) and file",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check, print the plan, change nothing"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective configuration"
    )
    parser.add_argument("--version", action="version", version=f"shake {__version__}")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _dry_run(config: Config, workers: int) -> int:
    plan = task.dry_run(config, workers)
    _print(describe(plan, config, workers))
    return 3 if plan.refusals else 0


def _print(lines: list[str]) -> None:
    with contextlib.suppress(BrokenPipeError):  # of somebody who has read enough
        print("\n".join(lines), flush=True)


def _let_go_of_stdout() -> None:
    """A terminal or pipe that was lost must not become exit status 120, as Python's own flush does.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
