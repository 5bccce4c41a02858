"""The standard streams of a command, which its caller may have closed, and which may be lost."""

from __future__ import annotations

import contextlib
import os
import sys


def complete() -> None:
    """Put /dev/null in the place of what is closed, for the children too.

    A socket that got the number instead would be written to by whatever prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115  # has the lowest number that is free
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def complain(text: str) -> None:
    """Print on stderr; where that is lost, only the exit status is left to tell."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def let_go() -> None:
    """A terminal or pipe that was lost must not become exit status 120, as Python's own flush does.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
