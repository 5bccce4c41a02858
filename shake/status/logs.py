"""The log: one line per record, in UTC, without secrets, to a file or above the progress bars."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from shake.errors import UsageError

#: ``log.level`` by name; ``none`` is above every record.
LEVELS = {
    "none": logging.CRITICAL + 1,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

_SHORT_NAMES = {"WARNING": "WARN", "CRITICAL": "ERROR"}
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_ESCAPES |= {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}
_ESCAPES |= {ord("\n"): "\\n", ord("\t"): " "}


def one_line(text: str) -> str:
    """The text with escapes for what would break the line, steer a terminal or not encode."""
    return text.translate(_ESCAPES)


class Redactor(Protocol):
    """Whatever blots secrets out of a text."""

    def redact(self, text: str) -> str: ...


@contextmanager
def logging_to(
    file: str | None,
    level: str,
    buffered: bool,
    redactor: Redactor,
    write: Callable[[str], None],
    *,
    hold: float = 1.0,
) -> Iterator[None]:
    """Send Python's logging to ``file``, or line by line to ``write`` where ``file`` is empty.

    ``level`` (of :data:`LEVELS`) rules the loggers under ``shake``; the libraries' own are heard
    from ``warning`` on, since their debug records show requests with their credentials. Lines for
    a file wait at most ``hold`` seconds when ``buffered``, never at ``warning`` and above. Raises
    UsageError when the file cannot be opened.
    """
    handler = FileHandler(_open(file), hold if buffered else 0) if file else LineHandler(write)
    handler.setFormatter(Formatter(redactor, traces=level == "debug"))
    levels = {None: max(LEVELS[level], logging.WARNING), "shake": LEVELS[level]}
    before = {name: logging.getLogger(name).level for name in levels}
    logging.getLogger().addHandler(handler)
    for name, number in levels.items():
        logging.getLogger(name).setLevel(number)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        for name, number in before.items():
            logging.getLogger(name).setLevel(number)


class Formatter(logging.Formatter):
    """``2019-07-01T12:10:11.123Z INFO  shake.farm: text``, and a stack trace where allowed."""

    converter = staticmethod(time.gmtime)

    def __init__(self, redactor: Redactor, traces: bool) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")
        self._redactor = redactor
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        # Redacted before it is escaped: a secret is known as it is, not as we write it.
        text = one_line(self._redactor.redact(record.getMessage()))
        level = _SHORT_NAMES.get(record.levelname, record.levelname)
        when = f"{self.formatTime(record, self.datefmt)}.{int(record.msecs):03d}Z"
        line = f"{when} {level:<5} {record.name}: {text}"
        if self._traces and record.exc_info:
            line += "\n" + self._redactor.redact(self.formatException(record.exc_info))
        return line


class LineHandler(logging.Handler):
    """Gives each line away; when that fails, one line on stderr says so, once."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._complained = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except Exception:
            self.complain()

    def complain(self) -> None:
        """A full disk or a closed pipe must neither stop the task nor fill stderr with traces."""
        if not self._complained:
            self._complained = True
            with suppress(OSError, ValueError):  # where stderr is lost too
                print(f"shake: the log cannot be written: {sys.exc_info()[1]}", file=sys.stderr)


class FileHandler(LineHandler):
    """Appends to a file, holding lines below ``warning`` back for at most ``hold`` seconds."""

    def __init__(self, stream: io.TextIOWrapper, hold: float) -> None:
        super().__init__(lambda line: print(line, file=stream))
        self._stream = stream
        self._hold = hold
        self._guard = threading.RLock()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        with self._guard:
            super().emit(record)
            if not self._hold or record.levelno >= logging.WARNING:
                self.flush()
            elif self._timer is None:
                self._timer = threading.Timer(self._hold, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        with self._guard:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            try:
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: closed a moment ago
                self.complain()

    def close(self) -> None:
        with self._guard:
            self.flush()
            with suppress(OSError):  # flush has said so
                self._stream.close()
        super().close()


def _open(file: str) -> io.TextIOWrapper:
    try:
        return open(file, "a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(
            f"log.file: {file} cannot be opened ({error.strerror}); give a file in a folder that "
            "exists and is writable, or leave the key empty to log on stdout"
        ) from error
