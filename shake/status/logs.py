"""The log: one line per record, in UTC, without secrets, to a file or above the progress bars."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError
from contextlib import contextmanager, suppress
from functools import partial

from shake.config.secrets import Redactor
from shake.errors import UsageError
from shake.process.outlet import Direct, Outlet

#: Seconds that a log file has to be opened, and to take the last lines.
_OPEN_SECONDS = 2.0
_CLOSE_SECONDS = 0.5

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

    ``level`` (of :data:`LEVELS`) rules the loggers under ``shake``; the libraries' own log
    from ``warning`` on, since their debug records show requests with their credentials. Lines for
    a file wait at most ``hold`` seconds when ``buffered``, never at ``warning`` and above. Raises
    UsageError when the file cannot be opened.
    """
    handler = FileHandler(file, hold if buffered else 0) if file else LineHandler(write)
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
        except Exception as error:
            # A full disk or a closed pipe must neither stop the task nor fill stderr with traces.
            if not self._complained:
                self._complained = True
                with suppress(OSError, ValueError):  # where stderr is lost too
                    print(f"shake: the log cannot be written: {error}", file=sys.stderr)


class FileHandler(logging.Handler):
    """Appends to a file in a separate thread: a disk that hangs holds up no caller.

    Lines below ``warning`` wait for at most ``hold`` seconds. Lines that the disk does not take
    are dropped and counted. Where logrotate(8) has moved the file away, the next line goes to a new
    one. Raises UsageError where the file cannot be opened.
    """

    def __init__(self, file: str, hold: float) -> None:
        super().__init__()
        self._hold = hold
        self._file = os.path.abspath(file)
        self._stream: Direct | None = None
        self._lines: list[str] = []  # touched in the outlet's thread only, as the stream is
        self._outlet = Outlet(
            f"the log {file}", dropped=lambda number: self._add(dropped_lines(number), urgent=True)
        )
        opened: Future[None] = Future()
        self._outlet.put(lambda: self._open(file, opened))
        try:
            # Where a disk hangs, or a FIFO has no reader, the lines wait and the task goes on.
            opened.result(_OPEN_SECONDS)
        except TimeoutError:
            opened.cancel()
        except OSError as error:
            raise UsageError(
                f"log.file: {file} cannot be opened ({error.strerror}); give a file in a folder "
                "that exists and is writable, or leave the key empty to log on stdout"
            ) from error

    def emit(self, record: logging.LogRecord) -> None:
        urgent = not self._hold or record.levelno >= logging.WARNING
        self._outlet.offer(partial(self._add, self.format(record), urgent))

    def close(self) -> None:
        self._outlet.put(self._end)
        self._outlet.close(_CLOSE_SECONDS)
        super().close()

    def _open(self, file: str, opened: Future[None]) -> None:
        try:
            self._stream = Direct(file, "a")
        except OSError as error:
            if not opened.set_running_or_notify_cancel():
                raise  # the start does not wait any more: the outlet reports it
            opened.set_exception(error)
        else:
            if opened.set_running_or_notify_cancel():
                opened.set_result(None)

    def _add(self, line: str, urgent: bool) -> None:
        self._lines.append(f"{line}\n")
        if urgent:
            self._flush()
        elif len(self._lines) == 1:
            timer = threading.Timer(self._hold, self._outlet.put, [self._flush])
            timer.daemon = True
            timer.start()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines and self._stream:
            self._follow_rotation(self._stream)
            self._stream.write("".join(lines).encode("utf-8", "backslashreplace"))

    def _follow_rotation(self, stream: Direct) -> None:
        """Open the file again where it was moved away; until that succeeds, write on to it."""
        with suppress(OSError):
            try:
                if os.path.samestat(os.stat(self._file), os.fstat(stream.fileno())):
                    return
            except FileNotFoundError:
                pass
            self._stream = Direct(self._file, "a")
            stream.close()

    def _end(self) -> None:
        try:
            self._flush()
        finally:
            if self._stream:
                self._stream.close()


def dropped_lines(number: int) -> str:
    """The line in the place of lines that a log did not take in time."""
    return f"({number} lines of the log were dropped here: it was not written fast enough)"
