"""Sends commands to the running task, and reads its replies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from shake.control.address import connect
from shake.control.commands import AwaitEnd, Command, Reply, read_reply, write_command
from shake.errors import RunError

#: Seconds that a task has to answer, but for its end.
ANSWER_SECONDS = 10.0


class NotRunning(RunError):
    """No process listens at the socket."""

    exit_status = 3


class NoAnswer(RunError):
    """The task does not answer, or has exited while it was asked."""


def ask(path: Path, commands: Sequence[Command]) -> Iterator[Reply]:
    """The replies to commands, which are sent at once. Raises NotRunning, and NoAnswer."""
    try:
        connection = connect(path, ANSWER_SECONDS)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(f"nothing listens at {path}") from None
    except OSError as error:
        raise NoAnswer(f"{path}: {error.strerror or error}") from error
    with contextlib.closing(connection), connection.makefile("rb") as replies:
        try:
            with contextlib.suppress(BrokenPipeError):  # a refusal can come before, and is read
                connection.sendall(b"".join(map(write_command, commands)))
            for command in commands:
                waits = isinstance(command, AwaitEnd)
                connection.settimeout(None if waits else ANSWER_SECONDS)
                line = replies.readline()
                if not line:
                    raise NoAnswer(
                        "the task closed the connection without an answer: shake status says how "
                        "it stands, and what to do"
                    )
                yield read_reply(line)
        except (OSError, ValueError) as error:
            raise NoAnswer(f"the task does not answer at {path}: {error}") from error
