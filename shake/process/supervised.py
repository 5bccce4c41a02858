"""A child that is replaced whenever it exits, each time later while it makes no progress."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Generic

from shake.backoff import Backoff
from shake.config import Config
from shake.errors import RunError
from shake.process.child import Child
from shake.process.loop import Loop
from shake.process.messages import Diagnosis, Failed, FromChild, Start
from shake.process.role import Role, Sent, SetUp, Taken
from shake.process.site import HERE, Site
from shake.process.ulimits import shortage

log = logging.getLogger("shake.farm")

#: A child that exits so often in a row without progress will not make any.
MAX_CRASHES = 10
#: Seconds before a replacement starts.
RESTART_BACKOFF = Backoff(first=0.1, longest=5.0)


class SupervisedChild(ABC, Generic[SetUp, Taken, Sent]):
    """Keeps a process of a role alive at a site; a subclass says what it is for."""

    def __init__(
        self, loop: Loop, role: Role[SetUp, Taken, Sent], config: Config, site: Site = HERE
    ) -> None:
        self.child: Child[SetUp, Taken, Sent] | None = None  # None: between exit and replacement
        self.restarts = 0
        self.crashes_in_a_row = 0  # in a row, without progress in between
        self._loop = loop
        self._role = role
        self._config = config
        self.site = site
        self._retired = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in messages and in the list of processes."""

    @property
    def label(self) -> str:
        """Its name, and its node where that is another machine."""
        return f"{self.name} on {self.site.node}" if self.site.node else self.name

    @abstractmethod
    def set_up(self) -> tuple[SetUp, tuple[int, ...]]:
        """The set-up of a new process, and the descriptors that it inherits."""

    @abstractmethod
    def received(self, message: FromChild | Sent) -> None:
        """The process has sent a message."""

    @abstractmethod
    def fail(self, error: RunError) -> None:
        """It crashed too often."""

    def lost(self) -> None:
        """The process has exited. A replacement starts later."""

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self.child.pid if self.child else 0

    def start(self) -> None:
        set_up, descriptors = self.set_up()
        start = Start(self.name, self._config.as_settings())
        received = self._from_node if self.site.node else self.received
        try:
            launched = self.site.launch(self._role, descriptors)
            self.child = Child(self._loop, launched, start, set_up, received, self._exited)
        except OSError as error:
            self._exited(f"it cannot be started: {shortage(error) or error.strerror}")

    def send(self, message: Taken) -> None:
        """Send a message; a replacement process does not get it again."""
        if self.child is not None:
            self.child.send(message)

    def retire(self) -> None:
        """Do not replace the process any more."""
        self._retired = True

    def dismiss(self) -> None:
        """Have the process exit; ``reap`` waits for that."""
        self.retire()
        if self.child is not None:
            self.child.dismiss()

    def reap(self) -> None:
        if self.child is not None:
            self.child.reap()

    def _from_node(self, message: FromChild | Sent) -> None:
        """Handle what can be of the machine only; pass on the rest."""
        match message:
            case Failed(text, detail, of_machine=True):
                log.debug("%s", detail)
                self.fail(RunError(f"{self.label}: {text}"))
            case Diagnosis(role=role):  # so that it differs from that of other machines
                self.received(message._replace(role=f"{role} on {self.site.node}"))
            case _:
                self.received(message)

    def _exited(self, how: str) -> None:
        self.child = None
        self.lost()
        if self._retired:
            return
        self.crashes_in_a_row += 1
        self.restarts += 1
        log.warning("%s crashed (%s); it is replaced", self.label, how)
        if self.crashes_in_a_row > MAX_CRASHES:
            self.fail(
                RunError(f"{self.label} crashed {self.crashes_in_a_row} times in a row ({how})")
            )
        else:
            self._loop.later(RESTART_BACKOFF.most(self.crashes_in_a_row - 1), self._restart)

    def _restart(self) -> None:
        if not self._retired:
            self.start()
