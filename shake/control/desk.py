"""Takes commands from other threads to the loop of the run, and keeps what they have changed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, TimeoutError
from dataclasses import dataclass, field
from functools import partial

from shake.config.kinds import ReadBudget
from shake.control.commands import AwaitEnd, Command, Reply

#: Seconds that a thread waits for the loop.
_WAIT_SECONDS = 5.0


@dataclass(slots=True)
class Steered:
    """What commands have changed since this process started. Touched in the loop only.

    ``paused``: since then, in Unix seconds. ``budgets`` are those of tables by name.
    ``finishing``: the run ends when every change made before the command is applied.
    """

    paused: float | None = None
    budgets: dict[str, ReadBudget] = field(default_factory=dict)
    finishing: bool = False


class Desk:
    """Where commands arrive. Thread-safe; no caller waits.

    A process can have one supervisor after the other, as after a gap: each opens the desk.
    """

    def __init__(self) -> None:
        self.steered = Steered()
        self._lock = threading.Lock()
        self._begin: Callable[[Command, Future[Reply]], None] | None = None
        self._asked: set[Future[Reply]] = set()
        self._end: Future[Reply] = Future()

    def open(
        self, post: Callable[[Callable[[], None]], None], execute: Callable[[Command], Reply]
    ) -> None:
        """Have commands carried out by ``execute``, which ``post`` runs in the loop."""

        def answer(command: Command, reply: Future[Reply]) -> None:
            _settle(reply, execute(command))
            with self._lock:
                self._asked.discard(reply)

        with self._lock:
            self._begin = lambda command, reply: post(partial(answer, command, reply))

    def close(self) -> None:
        """The loop is over: what it has not answered is refused."""
        with self._lock:
            self._begin = None
            asked, self._asked = self._asked, set()
        for one in asked:
            _settle(one, _NOT_NOW)

    def ask(self, command: Command) -> Future[Reply]:
        """Have a command carried out."""
        if isinstance(command, AwaitEnd):
            return self._end
        reply: Future[Reply] = Future()
        with self._lock:
            if self._begin:
                self._asked.add(reply)
                self._begin(command, reply)
            else:
                _settle(reply, _NOT_NOW)
        return reply

    def command(self, command: Command) -> Reply:
        """The same for a thread that can wait."""
        try:
            return self.ask(command).result(_WAIT_SECONDS)
        except TimeoutError:
            return Reply(False, f"the task has not answered within {_WAIT_SECONDS:g} s")

    def conclude(self, reply: Reply) -> None:
        """The run has ended: the first reply counts."""
        _settle(self._end, reply)


_NOT_NOW = Reply(False, "the task is being prepared, or ends: try again in a moment")


def _settle(future: Future[Reply], reply: Reply) -> None:
    with contextlib.suppress(InvalidStateError):
        future.set_result(reply)
