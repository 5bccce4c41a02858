"""Sends orders and slots to writer processes, and unanswered ones again to a replacement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shake.config import Config
from shake.errors import RunError
from shake.farm import writer_messages as messages
from shake.farm.contract import Task
from shake.farm.ledger import Ledger
from shake.farm.writer_messages import WRITER, FromWriter, OfWriter, ToWriter, WriterSetup
from shake.plan.plan import Action, TablePlan
from shake.process.loop import Loop
from shake.process.site import HERE, Site
from shake.process.supervised import SupervisedChild
from shake.status.snapshot import ProcessStatus
from shake.targets.contract import LAST_PROCESS, Location


class LockGuard:
    """Runs calls in order; they wait while ``ours`` says that the task lock may have been lost.

    Another supervisor may have taken it over then. Orders that this one has not sent yet must not
    disturb its work.
    """

    def __init__(self, ours: Callable[[], bool]) -> None:
        self._ours = ours
        self._waiting: list[Callable[[], None]] = []

    def run(self, call: Callable[[], None]) -> None:
        """Run ``call`` now, or when the task lock is renewed."""
        self._waiting.append(call)
        self.release()

    def release(self) -> None:
        """Run what waits, if it is allowed to run by now."""
        while self._waiting and self._ours():
            self._waiting.pop(0)()


class WriterProcess(SupervisedChild[WriterSetup, ToWriter, FromWriter]):
    """A process that writes collections: one while it is copied, several while they are followed.

    ``number`` is 1, or a higher one of the further processes that a collection has. ``arenas`` are
    those of the workers at its ``site``. ``until`` is the time of the boot clock from which on it
    is not allowed to write; elsewhere than on this machine the site keeps it.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        arenas: tuple[int, ...],
        *,
        number: int = 1,
        until: Callable[[], float],
        task: Task,
        site: Site = HERE,
    ) -> None:
        super().__init__(loop, WRITER, config, site)
        self._arenas = arenas
        self._number = number
        self._until = until
        self._task = task
        self.writers: dict[int, WriterHandle] = {}  # by table

    @property
    def name(self) -> str:
        namespaces = [writer.namespace for writer in self.writers.values()]
        return messages.writer_name(self._number, namespaces)

    def open(self, writer: WriterHandle) -> None:
        """Also write this collection; the first one starts the process."""
        self.writers[writer.table] = writer
        if len(self.writers) == 1:
            self.start()
        else:
            self._introduce(writer)

    def close(self) -> None:
        self.dismiss()
        self.reap()

    def status(self) -> ProcessStatus:
        return ProcessStatus(self.label, self.pid, restarts=self.restarts, node=self.site.node)

    def extend(self) -> None:
        """Have it write until the later time that is known by now."""
        if self.site is HERE:
            self.send(messages.WriteUntil(self._until()))

    def start(self) -> None:
        if self.restarts >= LAST_PROCESS:
            self.fail(RunError(f"{self.label} crashed {self.restarts} times: start again"))
            return
        super().start()
        for writer in self.writers.values():
            self._introduce(writer)

    def set_up(self) -> tuple[WriterSetup, tuple[int, ...]]:
        until = self._until() if self.site is HERE else 0.0
        set_up = WriterSetup(self._number, self.restarts, until, self._arenas)
        return set_up, self._arenas

    def fail(self, error: RunError) -> None:
        self._task.fail_at(self.site, error)

    def _introduce(self, writer: WriterHandle) -> None:
        for message in writer.unanswered():
            self.send(message)

    def received(self, message: FromWriter) -> None:
        match message:
            case messages.Wrote() | messages.Applied() | messages.Done():
                self.crashes_in_a_row = 0
            case messages.WriteRetried(_, reason):
                self._task.failing_at(self.site, reason)
        table = getattr(message, "table", None)
        if table is None:  # of the process, so any writer can pass it on
            next(iter(self.writers.values())).receive(message)
        elif table in self.writers:
            self.writers[table].receive(message)


@dataclass(slots=True, eq=False)
class WriterHandle:
    """The writer of one collection, in a process that can write others too.

    Every order can be executed twice: documents are stored by ``_id``, and each step of an order is
    harmless when it is already done. ``location`` is where it writes now. ``run`` is the run that
    numbers its commands. ``kept``: see messages.OpenCollection. What it acknowledges goes to the
    ledger, everything else to ``report``.
    """

    process: WriterProcess
    table: int
    plan: TablePlan
    location: Location
    run: int
    staged: bool
    guard: LockGuard
    ledger: Ledger
    report: Callable[[OfWriter], None]
    kept: bool = False
    _order: messages.Order | None = field(default=None, init=False)
    _asides: dict[type[messages.Aside], messages.Aside] = field(default_factory=dict, init=False)
    _unanswered: dict[int, messages.Write | messages.Apply] = field(
        default_factory=dict, init=False
    )

    def __post_init__(self) -> None:
        self.process.open(self)

    @property
    def namespace(self) -> str:
        return self.plan.namespace

    def order(self, order: messages.Order) -> None:
        """Give the one order at a time that is answered by Done, when the task lock is certain."""

        def give() -> None:
            self._order = order
            self.process.send(order)

        self.guard.run(give)

    def write(self, write: messages.Write | messages.Apply) -> None:
        """Have a slot stored, or applied, when the task lock is certain."""

        def send() -> None:
            self._unanswered[write.publication] = write
            self.process.send(write)

        self.guard.run(send)

    def send_aside(self, message: messages.Aside) -> None:
        """Send what is not answered; a replacement process gets the last one of each kind, too."""
        self._asides[type(message)] = message
        self.process.send(message)

    def close(self) -> None:
        """End its process, which writes no other collection."""
        self.process.close()

    def unanswered(self) -> Iterator[ToWriter]:
        """All messages that a new process needs."""
        plan = self.plan
        yield messages.OpenCollection(
            table=self.table,
            description=plan.table,
            namespace=plan.namespace,
            copy=plan.record.copy_run,
            staged=self.staged,
            location=self.location,
            run=self.run,
            resumed=plan.action is Action.RESUME,
            kept=self.kept,
        )
        if self._order is not None:
            yield self._order
        yield from self._asides.values()
        yield from self._unanswered.values()

    def receive(self, message: FromWriter) -> None:
        """Handle an answer, or a report of the process about itself."""
        match message:
            case messages.Wrote(_, publication):
                del self._unanswered[publication]
                self.ledger.acknowledge(publication)
            case messages.Applied(_, publication, skipped):
                del self._unanswered[publication]
                self.ledger.acknowledge(publication, skipped)
            case messages.Done():
                self._order = None
                self.location = Location(message.namespace, message.collection_uuid)
                self.report(message)
            case _:
                self.report(message)
