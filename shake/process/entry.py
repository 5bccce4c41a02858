"""Starts and ends the main function of a child process, and sends its log to the supervisor."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from setproctitle import setproctitle

from shake.config import Config
from shake.errors import RefusedError, ShakeError, SourceError, Stopped
from shake.process import heartbeat
from shake.process.channel import ChildChannel
from shake.process.messages import Failed, Log
from shake.process.role import Role, Sent, SetUp, Taken
from shake.process.ulimits import shortage

Received = TypeVar("Received", contravariant=True)


class LogChannel(Protocol):
    """What takes the log records of a child: its channel to the supervisor."""

    def send(self, message: Log | Failed) -> None: ...


class ChannelHandler(logging.Handler):
    """Sends log records to the supervisor, the only process that writes the log."""

    def __init__(self, channel: LogChannel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(Log(record.levelno, record.name, record.getMessage()))


class Serving(Protocol[Received]):
    """The main thread of a child."""

    def serve(self, received: Iterator[Received]) -> None:
        """Handle the supervisor's messages until it closes the channel."""


def main(
    role: Role[SetUp, Taken, Sent],
    begin: Callable[[ChildChannel[SetUp, Taken, Sent], Config, SetUp], Serving[Taken]],
) -> None:
    """Run a child until the supervisor is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    heartbeat.end_if_frozen()
    channel = ChildChannel(socket.socket(fileno=int(sys.argv[1])), role)
    begun = channel.begin()
    if begun is None:
        os._exit(0)
    start, set_up = begun
    setproctitle(f"shake: {start.name}")
    config = Config.from_settings(start.settings)
    log = logging.getLogger("shake")
    log.addHandler(ChannelHandler(channel))
    log.setLevel(logging.DEBUG if config.log_level == "debug" else logging.INFO)
    log.propagate = False
    warnings.filterwarnings("ignore", module="pymongo")  # the supervisor has logged the same
    threading.excepthook = log_thread_error
    # A page is very many small objects and no cycle: looking for one at the usual rate costs a
    # fifth of a worker's time.
    gc.freeze()
    gc.set_threshold(1_000_000)
    with guarded(channel):
        begin(channel, config, set_up).serve(channel.receive())
    # Threads may hang in a request to a server that is gone: nothing here needs them to end well.
    os._exit(0)


def log_thread_error(ended: threading.ExceptHookArgs) -> None:
    """A thread of a library has ended: one line of the log, where Python prints a stack trace."""
    name = ended.thread.name if ended.thread else "?"
    reason = (ended.exc_value and shortage(ended.exc_value)) or ended.exc_value
    logging.getLogger("shake").info(
        "thread %s ended by %s: %s", name, ended.exc_type.__name__, reason
    )


@contextlib.contextmanager
def guarded(channel: LogChannel) -> Iterator[None]:
    """Report any error to the supervisor, so that the user gets one clear line."""
    try:
        yield
    except Stopped:
        pass
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the supervisor is gone
    except ShakeError as error:
        _tell(channel, str(error), of_machine=isinstance(error, (RefusedError, SourceError)))
    except Exception as error:
        unexpected = (
            f"unexpected {type(error).__name__}: {error} (log.level = debug shows the stack)"
        )
        _tell(channel, shortage(error) or unexpected, of_machine=True)


def _tell(channel: LogChannel, text: str, *, of_machine: bool) -> None:
    try:
        channel.send(Failed(text, traceback.format_exc(), of_machine))
    except OSError:
        os._exit(0)  # the supervisor is gone, or has had an error before this one
