"""The supervisor's side of writers: gives a replacement process what is not answered yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeAlias

from shake.config import Config
from shake.errors import RunError
from shake.farm import messages
from shake.farm.ledger import Ledger
from shake.farm.messages import FromWriter, OfWriter, ToWriter
from shake.farm.roles import WRITER, WriterSetup
from shake.farm.task import Task
from shake.plan.plan import Action, TablePlan
from shake.process.child import MOST_DEATHS, Child, revival_delay
from shake.process.loop import Loop
from shake.process.messages import Start
from shake.status.figures import in_short
from shake.status.snapshot import ProcessStatus
from shake.targets.contract import LAST_PROCESS, Held

log = logging.getLogger("shake.farm")

WriterChild: TypeAlias = Child[WriterSetup, ToWriter, FromWriter]


class LockGuard:
    """Runs calls in order; holds them while ``ours`` says that the task lock may have been lost.

    Another supervisor may have taken it over then. Its work must not be disturbed by what this one
    still had in mind.
    """

    def __init__(self, ours: Callable[[], bool]) -> None:
        self._ours = ours
        self._held: list[Callable[[], None]] = []

    def run(self, call: Callable[[], None]) -> None:
        """Run ``call`` now, or when the task lock is renewed."""
        if not self._held and self._ours():
            call()
        else:
            self._held.append(call)
            self.release()

    def release(self) -> None:
        """Run what was held, if it may run by now."""
        while self._held and self._ours():
            self._held.pop(0)()


class WriterProcess:
    """A process that writes collections: one while it is copied, several while they are followed.

    ``until`` is the time of the boot clock from which on it is not allowed to write.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        arenas: tuple[int, ...],
        *,
        until: Callable[[], float],
        task: Task,
    ) -> None:
        self._loop = loop
        self._config = config
        self._arenas = arenas
        self._until = until
        self._task = task
        self._writers: dict[int, TableWriter] = {}
        self._deaths = 0
        self._restarts = 0
        self._child: WriterChild | None = None
        self._closed = False

    @property
    def load(self) -> int:
        """How many collections it writes."""
        return len(self._writers)

    @property
    def name(self) -> str:
        """The collections that it writes."""
        return in_short([writer.place for writer in self._writers.values()])

    def open(self, writer: TableWriter) -> None:
        """Write a collection more; the first one starts the process."""
        self._writers[writer.table] = writer
        if len(self._writers) == 1:
            self._start()
        else:
            self._introduce(writer)

    def close(self) -> None:
        """End the process."""
        self.dismiss()
        self.reap()

    def dismiss(self) -> None:
        """Have the process exit; ``reap`` waits for that."""
        self._closed = True
        if self._child is not None:
            self._child.dismiss()

    def reap(self) -> None:
        if self._child is not None:
            self._child.reap()

    def say(self, message: ToWriter) -> None:
        """Send a message; a replacement process does not get it again."""
        if self._child is not None:
            self._child.send(message)

    def status(self) -> ProcessStatus:
        pid = self._child.pid if self._child else 0
        return ProcessStatus(f"writer {self.name}", pid, restarts=self._restarts)

    def _start(self) -> None:
        if self._restarts >= LAST_PROCESS:
            text = f"the writer of {self.name} died {self._restarts} times: start again"
            self._task.fail(RunError(text))
            return
        set_up = WriterSetup(self._restarts, self._until(), self._arenas)
        try:
            self._child = Child(
                self._loop,
                WRITER,
                Start(f"writer {self.name}", self._config.as_settings()),
                set_up,
                self._arenas,
                on_message=self._receive,
                on_death=self._died,
            )
        except OSError as error:
            self._died(f"it cannot be started: {error.strerror}")
            return
        for writer in self._writers.values():
            self._introduce(writer)

    def _introduce(self, writer: TableWriter) -> None:
        for message in writer.unanswered():
            self.say(message)

    def _receive(self, message: FromWriter) -> None:
        match message:
            case messages.Wrote() | messages.Applied() | messages.Done():
                self._deaths = 0
        table = getattr(message, "table", None)
        if table is None:  # of the process, so any writer can pass it on
            next(iter(self._writers.values())).receive(message)
        elif table in self._writers:
            self._writers[table].receive(message)

    def _died(self, how: str) -> None:
        self._child = None
        if self._closed:
            return
        self._deaths += 1
        self._restarts += 1
        log.warning("the writer of %s died (%s); it is replaced", self.name, how)
        if self._deaths > MOST_DEATHS:
            text = f"the writer of {self.name} died {self._deaths} times in a row ({how})"
            self._task.fail(RunError(text))
        else:
            self._loop.later(revival_delay(self._deaths), self._revive)

    def _revive(self) -> None:
        if not self._closed:
            self._start()


class TableWriter:
    """The writer of one collection, in a process that can write others too.

    Every order can be executed twice. Documents are stored by ``_id``, and each step of preparing,
    forgetting, indexing and publishing is harmless when it is already done. ``held`` is where the
    writer writes at first. ``run`` is the run that numbers its commands. What it acknowledges goes
    to the ledger, everything else to ``report``.
    """

    def __init__(
        self,
        process: WriterProcess,
        table: int,
        plan: TablePlan,
        held: Held,
        run: int,
        *,
        staged: bool,
        guard: LockGuard,
        ledger: Ledger,
        report: Callable[[OfWriter], None],
    ) -> None:
        self.process = process
        self.table = table
        self._plan = plan
        self._guard = guard
        self._ledger = ledger
        self._report = report
        self._held = held
        self._run = run
        self._staged = staged
        self._order: messages.Order | None = None
        self._pages: dict[int, messages.Write | messages.Apply] = {}
        process.open(self)

    @property
    def place(self) -> str:
        return self._plan.place

    def order(self, order: messages.Order) -> None:
        """Give the one order at a time that is answered by Done, when the task lock is certain."""

        def give() -> None:
            self._order = order
            self.process.say(order)

        self._guard.run(give)

    def write(self, write: messages.Write | messages.Apply) -> None:
        """Have a slot stored, or applied, when the task lock is certain."""

        def send() -> None:
            self._pages[write.page] = write
            self.process.say(write)

        self._guard.run(send)

    def say(self, message: messages.Aside) -> None:
        """Send what is not answered; a replacement process does not get it again."""
        self.process.say(message)

    def close(self) -> None:
        """End its process, which writes no other collection."""
        self.process.close()

    def unanswered(self) -> Iterator[ToWriter]:
        """All that a new process must know and do."""
        plan = self._plan
        yield messages.OpenCollection(
            table=self.table,
            description=plan.table,
            place=plan.place,
            copy=plan.record.copy_run,
            staged=self._staged,
            held=self._held,
            run=self._run,
            resumed=plan.action is Action.RESUME,
        )
        if self._order is not None:
            yield self._order
        yield from self._pages.values()

    def receive(self, message: FromWriter) -> None:
        """Take in an answer, or what the process says of itself."""
        match message:
            case messages.Wrote(_, page):
                del self._pages[page]
                self._ledger.acknowledge(page)
            case messages.Applied(_, page, skipped):
                del self._pages[page]
                self._ledger.acknowledge(page, skipped)
            case messages.Done():
                self._order = None
                self._held = Held(message.place, message.collection)
                self._report(message)
            case _:
                self._report(message)
