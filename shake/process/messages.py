"""Messages between the supervisor and any child. Each role adds its own: see shake.process.role.

A message is a small named tuple of plain data.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn, TypeAlias

# ---- to any child


class Start(NamedTuple):
    """The first message: what the process is called, and the configuration, secrets included.

    So no secret is on a command line. The second message is the role's set-up.
    """

    name: str
    settings: dict[str, str]


class Ping(NamedTuple):
    """Answer with Pong. The child's channel does that."""


class Report(NamedTuple):
    """Answer with Diagnosis."""


# ---- from any child


class Pong(NamedTuple):
    """The child's main thread handles messages."""


class Ready(NamedTuple):
    """The child has started and mapped its memory."""


class Silent(NamedTuple):
    """Child makes this where its process does not answer, or ``answers_again``, or is gone."""

    text: str
    answers_again: bool = False


class Log(NamedTuple):
    """A line for the log, which only the supervisor writes."""

    level: int
    logger: str
    text: str


class Failed(NamedTuple):
    """What no waiting cures: the task stops with this line.

    ``detail`` is the stack, for log.level = debug. ``of_machine``: another machine might not fail.
    """

    text: str
    detail: str
    of_machine: bool = False


class Diagnosis(NamedTuple):
    """One process: resident memory, CPU time used, all its stacks, and how full its queue is."""

    role: str
    pid: int
    rss_bytes: int
    cpu_seconds: float
    stacks: str
    queue: str = ""


#: What the supervisor of any child has to handle.
FromChild: TypeAlias = Ready | Silent | Log | Failed | Diagnosis


def unhandled(message: NoReturn) -> NoReturn:
    """Ends a ``match`` over messages: mypy reports a call of it that can be reached."""
    raise AssertionError(f"no handler takes {message!a}")
