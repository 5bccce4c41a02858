"""Runs the work of a table's check, in this process alone or in child processes."""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing import TimeoutError
from multiprocessing.pool import IMapIterator, ThreadPool
from typing import Protocol, TypeAlias, TypeVar

from shake.check import messages
from shake.check.findings import Difference
from shake.check.gate import Unfinished
from shake.check.part import CheckPart
from shake.check.sides import Advanced, Listener, Repair
from shake.check.state import CheckSnapshot, SumsPart
from shake.config import Config
from shake.errors import RunError
from shake.process.allocator import give_memory_back
from shake.process.channel import SupervisorChannel
from shake.process.child import Child
from shake.process.loop import Loop
from shake.process.messages import Diagnosis, Failed, Log, Ready, Silent, Start
from shake.process.spawn_many import spawn_many
from shake.source.endpoint import Credentials, Endpoint

log = logging.getLogger("shake.check")

#: Seconds between two looks whether the credentials have been refreshed.
_RENEWAL = 1.0
#: Seconds between two looks whether something else is due.
_TICK = 1.0

R = TypeVar("R", bound=messages.Result)
CheckChild: TypeAlias = Child[messages.CheckSetup, messages.ToChecker, messages.FromChecker]


def _nothing() -> None:
    pass


class Crew(Protocol):
    """The processes that work on one table. ``kind`` is the type of the results."""

    def each(self, pieces: Sequence[messages.Work], kind: type[R]) -> Iterator[R]:
        """Have every piece done once, by any process; gives the results as they come."""

    def run_all(self, pieces: Sequence[messages.Work]) -> None:
        """Have every piece done once, by any process, where no result is needed."""
        for _ in self.each(pieces, messages.Done):
            pass

    def all(self, work: messages.Work) -> None:
        """Have every process do the same work, where no result is needed."""

    def snapshots(
        self, durable: Mapping[int, int], within: float
    ) -> Iterator[tuple[int, CheckSnapshot]]:
        """The number of each process, and what it has done; ``durable``: see messages.Save.

        Raises Unfinished where one of them sends no progress within so many seconds.
        """


class OneProcess(Crew):
    """A crew of this process only. ``tick`` is called about each second."""

    def __init__(self, part: CheckPart, tick: Callable[[], None]) -> None:
        self._part = part
        self._tick = tick

    def each(self, pieces: Sequence[messages.Work], kind: type[R]) -> Iterator[R]:
        if not pieces:
            return
        # Not an Executor, which waits for its threads: one may hang in a request.
        most = self._part.sides.config.full_document_parser
        with ThreadPool(min(most, len(pieces))) as threads:
            try:
                results = threads.imap_unordered(self._part.do, pieces)
                for _ in pieces:
                    yield _expected(self._next(results), kind)
            except BaseException as error:
                if not isinstance(error, KeyboardInterrupt):  # then what is done is saved first
                    self._part.stop.set()  # so that the others end at once
                raise

    def _next(self, results: IMapIterator[messages.Result]) -> messages.Result:
        while True:
            with contextlib.suppress(TimeoutError):
                return results.next(_TICK)
            self._tick()

    def all(self, work: messages.Work) -> None:
        self.run_all([work])

    def snapshots(
        self, durable: Mapping[int, int], within: float
    ) -> Iterator[tuple[int, CheckSnapshot]]:
        yield 0, self._part.snapshot(durable.get(0, 0))


class CheckProcesses(Crew):
    """A crew of child processes, as many as the largest table so far has needed; to be closed."""

    def __init__(
        self,
        config: Config,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        repair: Repair,
        listener: Listener,
    ) -> None:
        self._config = config
        self._endpoint = endpoint
        self._credentials = credentials
        self._repair = repair
        self._sent = credentials()
        self._listener = listener
        self._children: list[CheckChild] = []
        self._count = 0  # of those that work on the present table
        self._results: deque[tuple[int, messages.Result]] = deque()
        self._sums: defaultdict[tuple[int, bool], bytearray] = defaultdict(bytearray)
        self._snapshots: dict[int, CheckSnapshot] = {}
        self._tick: Callable[[], None] = _nothing
        self._loop = Loop()
        self._loop.every(_RENEWAL, self._renew)
        self._loop.every(_TICK, lambda: self._tick())

    def open(self, begun: messages.Open, tick: Callable[[], None] = _nothing) -> Crew:
        """The crew for a table; the fence is that of this process.

        ``tick`` is called about each second.
        """
        self._count, self._tick = begun.processes, tick
        self._start(self._count - len(self._children))
        fence = begun.fence
        for process, child in enumerate(self._children[: self._count], fence.process + 1):
            child.send(begun._replace(fence=fence._replace(process=process)))
        return self

    def each(self, pieces: Sequence[messages.Work], kind: type[R]) -> Iterator[R]:
        waiting = deque(pieces)
        for place in range(min(self._count * self._config.full_document_parser, len(pieces))):
            self._children[place % self._count].send(waiting.popleft())
        for _ in pieces:
            number, result = self._next()
            if waiting:
                self._children[number].send(waiting.popleft())
            yield _expected(result, kind)

    def all(self, work: messages.Work) -> None:
        for child in self._children[: self._count]:
            child.send(work)
        for _ in range(self._count):
            _expected(self._next()[1], messages.Done)

    def snapshots(
        self, durable: Mapping[int, int], within: float
    ) -> Iterator[tuple[int, CheckSnapshot]]:
        end = self._loop.clock() + within
        self._loop.later(within, _nothing)
        # One after the other: an answer takes 4 MB.
        for number, child in enumerate(self._children[: self._count]):
            self._snapshots.clear()  # one that came too late
            child.send(messages.Save(durable.get(number, 0)))
            yield number, self._snapshot(number, end)

    def _snapshot(self, number: int, end: float) -> CheckSnapshot:
        self._loop.run(lambda: number in self._snapshots or self._loop.clock() >= end)
        if number not in self._snapshots:
            raise Unfinished("a process of the check sends no progress")
        return self._snapshots.pop(number)

    def _next(self) -> tuple[int, messages.Result]:
        """The next result, and which child it is of. Raises RunError where one of them fails."""
        self._loop.run(lambda: bool(self._results))
        return self._results.popleft()

    def close(self) -> None:
        """End all of them, whatever they are at."""
        for child in self._children:
            child.dismiss()
        for child in self._children:
            child.reap()

    def _start(self, count: int) -> None:
        """Start so many more. This process reads no pages then."""
        if count > 0:
            give_memory_back()
        try:
            spawned = spawn_many(messages.CHECKER.module, count)
        except OSError as error:
            raise RunError(
                f"the {count} processes of the check cannot be started: {error.strerror}: the "
                "machine has no room for so many; use fewer --workers"
            ) from error
        for number, (process, ours) in enumerate(spawned, len(self._children)):
            channel = SupervisorChannel(ours, messages.CHECKER)
            start = Start(f"check {self._config.id} {number + 1}", self._config.as_settings())
            self._children.append(
                Child(
                    self._loop,
                    (process, channel),
                    start,
                    messages.CheckSetup(self._endpoint, self._credentials(), self._repair),
                    on_message=partial(self._received, number),
                    on_exit=_died,
                )
            )

    def _received(self, number: int, message: messages.FromChecker) -> None:
        match message:
            case Difference():
                self._listener.differs(message)
            case messages.WriteLine(line):
                self._listener.write_line(line)
            case messages.Settle(settled):
                self._listener.settle()
                self._children[number].send(messages.Settled(settled))
            case Advanced():
                self._listener.advanced(message)
            case SumsPart(theirs, packed):
                self._sums[number, theirs] += packed
            case CheckSnapshot():
                found, others = (bytes(self._sums.pop((number, one), b"")) for one in (False, True))
                self._snapshots[number] = message._replace(
                    found=message.found._replace(packed=found),
                    theirs=message.theirs._replace(packed=others),
                )
            case Log(level, logger, text):
                logging.getLogger(logger).log(level, "%s", text)
            case Failed(text, detail):
                log.debug("%s", detail)
                raise RunError(text)
            case Silent(text, answers_again=False):
                log.warning("%s", text)
            case Ready() | Diagnosis() | Silent():
                pass
            case _:
                self._results.append((number, message))

    def _renew(self) -> None:
        """Pass on what the chain of credentials has refreshed."""
        if (current := self._credentials()) != self._sent:
            self._sent = current
            for child in self._children:
                child.send(current)


def _expected(result: messages.Result, kind: type[R]) -> R:
    if not isinstance(result, kind):
        raise AssertionError(f"{type(result).__name__} for {kind.__name__}")
    return result


def _died(how: str) -> None:
    raise RunError(
        f"a process of the check has crashed ({how}), so nothing is proven: start it again, with "
        "fewer --workers if memory ran out"
    )
