"""What the commands share: their common options, and one clear line for every error."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import shlex
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import FrameType

from setproctitle import setproctitle

from shake.cli import streams
from shake.config import Loaded, Redactor, load
from shake.config.check import UNKNOWN_OPTION
from shake.config.secrets import MASK
from shake.errors import RunError, ShakeError, UsageError
from shake.process.entry import log_thread_error
from shake.process.ulimits import shortage
from shake.status.logs import one_line

log = logging.getLogger("shake")

#: Seconds that an end by a signal may take.
_PATIENCE = 8.0


def given_file(options: argparse.Namespace) -> str:
    """The options that another command needs for the same configuration file, behind a space."""
    return f" --conf {shlex.quote(options.conf)}" if options.conf else ""


def add_workers(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--workers``; ``what`` says what the processes do."""
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help=f"{what} (default: the CPUs this process may use)",
    )


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add ``--conf`` and ``--set``."""
    # NimoShake's users type -conf=FILE.
    parser.add_argument("--conf", "-conf", metavar="FILE", help="configuration file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a configuration key; beats environment (SHAKE_KEY) and file",
    )


def add_flags(parser: argparse.ArgumentParser, flags: Mapping[str, str]) -> None:
    """Add options without a value; ``flags`` says what each means."""
    for flag, text in flags.items():
        parser.add_argument(flag, action="store_true", help=text)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; exit status 2 for wrong ones, whether or not that can be said.

    No secret of the command line is in a list of processes for longer than that takes, or in an
    error.
    """
    streams.complete()
    try:
        options, more = parser.parse_known_args(argv)
        setproctitle(f"shake: {parser.prog}")
        if more:
            shown = [one if re.fullmatch(r"[\w-]+", one) else MASK for one in more]
            asked = options.parser
            advice = _nearest(asked, more) or (
                "give the configuration file as --conf FILE, and write --set KEY=VALUE as one word"
            )
            asked.error(f"unknown arguments: {' '.join(shown)}; {advice}")
        return options
    except OSError:  # before Python 3.11
        raise SystemExit(2) from None
    finally:
        streams.let_go()


def _nearest(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> str:
    """The option that is nearest to the first unknown one, in words; empty where none is near."""
    options = re.findall(r"--[\w-]+", parser.format_usage())
    typed = next((one for one in unknown if one.startswith("--")), "").partition("=")[0]
    near = get_close_matches(typed, options, 1, 0.75)
    return f"the nearest is {near[0]}" if near else ""


def positive(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def log_notices(loaded: Loaded) -> None:
    """Log what is to be said of a configuration that can be used."""
    for notice in loaded.notices:
        log.info("%s", notice)
    for warning in loaded.warnings:
        log.warning("%s", warning)


def _log_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Log what a library warns of, but for unknown options, of which the configuration warns."""
    if not str(message).startswith(UNKNOWN_OPTION):
        log.warning("%s", one_line(str(message)))


def exit_status(error: ShakeError) -> int:
    return error.exit_status


def failed_or_wrong(error: ShakeError) -> int:
    """2 for a wrong command line or configuration, else 1."""
    return 2 if isinstance(error, UsageError) else 1


def run(
    options: argparse.Namespace,
    body: Callable[[Loaded, Redactor], int],
    *,
    stopped: tuple[str, int],
    failed: Callable[[ShakeError], int] = exit_status,
) -> int:
    """Call ``body`` with the configuration, guarded; log.level = debug shows an error's stack."""

    def act(shown: Shown) -> int:
        loaded = load(options.conf, os.environ, options.set)
        shown.redactor = Redactor(loaded.config.secrets())
        shown.debug = loaded.config.log_level == "debug"
        return body(loaded, shown.redactor)

    return guarded(options.prog, act, failed=failed, stopped=stopped)


class Shown:
    """What of an error is shown: nothing that ``redactor`` hides; its stack with ``debug``."""

    redactor = Redactor(())
    debug = False


def guarded(
    prog: str,
    act: Callable[[Shown], int],
    *,
    stopped: tuple[str, int],
    failed: Callable[[ShakeError], int] = exit_status,
) -> int:
    """Call ``act``, and return the exit status.

    An error is one line on stderr without secrets, and the status that ``failed`` gives it;
    ``stopped`` is line and status for Ctrl-C, SIGTERM and SIGHUP.
    """

    def stop() -> int:
        line, status = stopped
        streams.complain(f"{prog}: {line}")
        return status

    shown = Shown()
    with _hooks(stop):
        try:
            return act(shown)
        except Exception as error:
            if shown.debug:
                streams.complain(shown.redactor.redact(traceback.format_exc()))
            if not isinstance(error, ShakeError):
                error = RunError(shortage(error) or f"unexpected {type(error).__name__}: {error}")
            streams.complain(f"{prog}: {one_line(shown.redactor.redact(str(error)))}")
            return failed(error)
        except KeyboardInterrupt:
            return stop()


@contextlib.contextmanager
def _hooks(stop: Callable[[], int]) -> Iterator[None]:
    """Turn signals into KeyboardInterrupt, and into ``stop`` and an exit where that does not help.

    What threads raise, and what libraries warn of, is logged meanwhile.
    """
    timers: list[threading.Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        # The exception may come where a library waits for ever, or lets none through.
        timers.append(threading.Timer(_PATIENCE, lambda: os._exit(stop())))
        timers[-1].daemon = True
        timers[-1].start()
        signal.default_int_handler(number, frame)

    before, threading.excepthook = threading.excepthook, log_thread_error
    shown, warnings.showwarning = warnings.showwarning, _log_warning
    signal.signal(signal.SIGTERM, interrupt)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as by a shell's & or by nohup
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        threading.excepthook, warnings.showwarning = before, shown
        for timer in timers:
            timer.cancel()
        streams.let_go()
