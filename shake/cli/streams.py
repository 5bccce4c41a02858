"""The standard streams of a command, which its caller may have closed, and which may be lost."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading

import orjson

from shake.errors import RunError
from shake.process.outlet import Direct

#: Seconds that stderr has to take a line.
_COMPLAIN_SECONDS = 0.5


def complete() -> None:
    """Put /dev/null in the place of what is closed, for the children too.

    A socket that got the number instead would be written to by whatever prints. What is open loses
    Python's buffer, and no text fails for its encoding.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115  # has the lowest number that is free
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # not what a test put in its place
            with contextlib.suppress(OSError):
                stream.flush()
            file, escape = Direct(stream.fileno(), "w", closefd=False), "backslashreplace"
            direct = io.TextIOWrapper(file, stream.encoding, escape, write_through=True)
            setattr(sys, name, direct)


def say(text: str) -> None:
    """Print on stdout, unless its reader has closed the pipe. Raises RunError on a full disk."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        pass
    except OSError as error:
        raise RunError(
            f"stdout cannot be written to: {error.strerror}; send it to another file or disk"
        ) from error


def say_json(document: object) -> None:
    """Print a document for a program."""
    say(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def complain(text: str) -> None:
    """Print on stderr; where that is lost or not read, only the exit status is left."""

    def write() -> None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)

    thread = threading.Thread(target=write, name="complain", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system allows no more threads
        write()
    else:
        thread.join(_COMPLAIN_SECONDS)


def let_go() -> None:
    """A terminal or pipe that was lost must not become exit status 120, as Python's own flush does.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
