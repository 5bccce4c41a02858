"""The supervisor's side of a writer: sends unanswered orders again to a replacement process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from shake.config import Config
from shake.errors import RunError, ShakeError
from shake.farm import messages
from shake.farm.messages import FromWriter, ToWriter, WriterSetup
from shake.plan.plan import Action, TablePlan
from shake.process.child import MOST_DEATHS, Child, revival_delay
from shake.process.loop import Loop
from shake.process.messages import Start
from shake.status.snapshot import ProcessStatus
from shake.targets.contract import Held
from shake.targets.mongodb.session import LAST_PROCESS

log = logging.getLogger("shake.farm")

WriterChild: TypeAlias = Child[WriterSetup, ToWriter, FromWriter]


class TableWriter:
    """The writer process of one collection.

    Every order can be executed twice. Documents are stored by ``_id``, and each step of preparing,
    forgetting, indexing and publishing is harmless when it is already done. ``held`` is where the
    writer writes at first. ``run`` is the run that numbers its commands. ``until`` is the time of
    the boot clock from which on it is not allowed to write.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        plan: TablePlan,
        arenas: tuple[int, ...],
        held: Held,
        run: int,
        *,
        staged: bool,
        until: Callable[[], float],
        handle: Callable[[FromWriter], None],
        fatal: Callable[[ShakeError], None],
    ) -> None:
        self._loop = loop
        self._config = config
        self._plan = plan
        self._arenas = arenas
        self._handle = handle
        self._fatal = fatal
        self._held = held
        self._run = run
        self._staged = staged
        self._until = until
        self._order: messages.Order | None = None
        self._pages: dict[int, messages.Write | messages.Apply] = {}
        self._deaths = 0
        self._restarts = 0
        self._child: WriterChild | None = None
        self._closed = False
        self._start()

    def order(self, order: messages.Order) -> None:
        """Give the one order at a time that is answered by Done."""
        self._order = order
        self.say(order)

    def write(self, write: messages.Write | messages.Apply) -> None:
        """Have a slot stored, or applied; answered by Wrote, or Applied."""
        self._pages[write.page] = write
        self.say(write)

    def say(self, message: ToWriter) -> None:
        if self._child is not None:
            self._child.send(message)

    def close(self) -> None:
        """End the process."""
        self._closed = True
        if self._child is not None:
            self._child.dismiss()
            self._child.reap()

    def status(self) -> ProcessStatus:
        pid = self._child.pid if self._child else 0
        return ProcessStatus(f"writer {self._plan.place}", pid, restarts=self._restarts)

    def _start(self) -> None:
        if self._restarts >= LAST_PROCESS:
            place = self._plan.place
            self._fatal(RunError(f"the writer of {place} died {self._restarts} times: start again"))
            return
        set_up = WriterSetup(
            self._plan.table,
            self._plan.place,
            self._plan.record.copy_run,
            self._staged,
            self._held,
            run=self._run,
            process=self._restarts,
            until=self._until(),
            resumed=self._plan.action is Action.RESUME,
            arenas=self._arenas,
        )
        try:
            self._child = Child(
                self._loop,
                messages.WRITER,
                Start(f"writer {self._plan.place}", self._config.as_settings()),
                set_up,
                self._arenas,
                on_message=self._receive,
                on_death=self._died,
            )
        except OSError as error:
            self._died(f"it cannot be started: {error.strerror}")
            return
        if self._order is not None:
            self.say(self._order)
        for write in self._pages.values():
            self.say(write)

    def _receive(self, message: FromWriter) -> None:
        match message:
            case messages.Wrote(page) | messages.Applied(page, _):
                self._deaths = 0
                del self._pages[page]
            case messages.Done():
                self._deaths = 0
                self._order = None
                self._held = Held(message.place, message.collection)
        self._handle(message)

    def _died(self, how: str) -> None:
        self._child = None
        if self._closed:
            return
        self._deaths += 1
        self._restarts += 1
        log.warning("the writer of %s died (%s); it is replaced", self._plan.place, how)
        if self._deaths > MOST_DEATHS:
            self._fatal(
                RunError(
                    f"the writer of {self._plan.place} died {self._deaths} times in a row ({how})"
                )
            )
        else:
            self._loop.later(revival_delay(self._deaths), self._revive)

    def _revive(self) -> None:
        if not self._closed:
            self._start()
