"""Runs the work of a table's check, in this process alone or in child processes.

A piece of work is the name of a method of Part, and its arguments. Each child is a new process with
separate clients. It receives all that it needs, secrets too, through a socket, and sends its
results back through it. A child ends as soon as its end of the socket closes.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

from shake.check.findings import Difference
from shake.check.part import Part
from shake.check.sides import Listener, Repair
from shake.errors import RunError
from shake.process.spawn import spawn
from shake.schema import Table
from shake.source.endpoint import Credentials, Endpoint

#: Pieces of work that a process does at the same time: the network is the wait.
THREADS = 8

#: Seconds after which it is looked whether the credentials have been refreshed.
_RENEWAL = 1.0
#: Seconds that a child may take to end.
_END = 2.0

Piece = tuple[Any, ...]


# ---- to a child


class Setup(NamedTuple):
    """The first message. ``settings`` are the configuration, secrets included."""

    settings: dict[str, str]
    endpoint: Endpoint
    credentials: Credentials
    repair: Repair


class Open(NamedTuple):
    """Begin with a table, of which so many processes each do a part."""

    table: Table
    processes: int


class Work(NamedTuple):
    """Call a method of Part."""

    method: str
    arguments: Piece


# ---- from a child


class Result(NamedTuple):
    """What the method returned."""

    value: Any


class Failed(NamedTuple):
    """What no waiting cures; ``stack`` is for log.level = debug."""

    text: str
    stack: str


class Advanced(NamedTuple):
    """See Listener.advanced."""

    compared: int
    scanned: int
    size: int
    keys: int


class Logged(NamedTuple):
    """A line for the log, which only the parent writes."""

    level: int
    logger: str
    text: str


class Alone:
    """This process, with several threads."""

    def __init__(self, part: Part, stop: Callable[[], None]) -> None:
        self._part = part
        self._stop = stop

    def each(self, method: str, pieces: Sequence[Piece]) -> Iterator[Any]:
        """Do every piece; gives their results as they come."""
        call = getattr(self._part, method)
        # Not an Executor, which waits for its threads: one may hang in a request.
        with ThreadPool(min(THREADS, len(pieces))) as threads:
            try:
                yield from threads.imap_unordered(lambda piece: call(*piece), pieces)
            except BaseException:
                self._stop()  # so that the others end at once
                raise

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """Have every process call the method; gives what each returned."""
        return [getattr(self._part, method)(*arguments)]


class Children:
    """Child processes, as many as the largest table so far has needed; to be closed."""

    def __init__(
        self, setup: Callable[[], Setup], credentials: Callable[[], Credentials], listener: Listener
    ) -> None:
        self._setup = setup
        self._credentials = credentials
        self._listener = listener
        self._all: list[_Child] = []
        self._sent = credentials()

    def open(self, table: Table, count: int) -> Crew:
        """So many children, for a table."""
        while len(self._all) < count:
            self._all.append(_Child(self._setup(), len(self._all) + 1))
        chosen = self._all[:count]
        for child in chosen:
            child.send(Open(table, count))
        return Crew(self, chosen)

    def results(self, children: list[_Child]) -> Iterator[tuple[_Child, Any]]:
        """What children return, for ever."""
        by_connection = {child.connection: child for child in children}
        while True:
            for connection in wait(list(by_connection), _RENEWAL):
                child = by_connection[connection]  # type: ignore[index]
                match child.receive():
                    case Result(value):
                        yield child, value
                    case Difference() as difference:
                        self._listener.differs(difference)
                    case Advanced() as more:
                        self._listener.advanced(**more._asdict())
                    case Logged(level, logger, text):
                        logging.getLogger(logger).log(level, "%s", text)
                    case Failed(text, stack):
                        logging.getLogger("shake.check").debug("%s", stack)
                        raise RunError(text)
            self._renew()

    def _renew(self) -> None:
        """Pass on what the chain of credentials has refreshed."""
        if (current := self._credentials()) != self._sent:
            self._sent = current
            for child in self._all:
                child.send(current)

    def close(self) -> None:
        """End all of them, whatever they are at."""
        for child in self._all:
            child.connection.close()
        for child in self._all:
            child.reap()


class Crew:
    """The children that work on one table."""

    def __init__(self, children: Children, chosen: list[_Child]) -> None:
        self._children = children
        self._chosen = chosen

    def each(self, method: str, pieces: Sequence[Piece]) -> Iterator[Any]:
        """As Alone does."""
        waiting, left = deque(pieces), len(pieces)
        for child in self._chosen * THREADS:
            if waiting:
                child.send(Work(method, waiting.popleft()))
        results = self._children.results(self._chosen)
        while left:
            child, value = next(results)
            left -= 1
            if waiting:
                child.send(Work(method, waiting.popleft()))
            yield value

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """As Alone does."""
        for child in self._chosen:
            child.send(Work(method, arguments))
        results = self._children.results(self._chosen)
        return [next(results)[1] for _ in self._chosen]


class _Child:
    """One child."""

    def __init__(self, setup: Setup, number: int) -> None:
        try:
            self._process, ours = spawn("shake.check.child", str(number))
        except OSError as error:
            raise RunError(
                f"process {number} of the check cannot be started: {error.strerror}: the "
                "machine has no room for so many; use fewer --workers"
            ) from error
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self.send(setup)

    def send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError:
            raise self._death() from None

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            raise self._death() from None

    def reap(self) -> None:
        """Wait until it has ended, not long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)
        self._process.kill()
        self._process.wait()

    def _death(self) -> RunError:
        self.reap()
        status = self._process.returncode
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return RunError(
            f"a process of the check has died ({how}), so nothing is proven: start it again, with "
            "fewer --workers if memory ran out"
        )
