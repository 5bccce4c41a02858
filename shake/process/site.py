"""Where child processes run: this machine, or another one that shake.nodes reaches."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from shake.process import arena
from shake.process.channel import SupervisorChannel
from shake.process.messages import FromChild, Ping, Pong, Start
from shake.process.packing import Message
from shake.process.role import Role, Sent, SetUp, Taken
from shake.process.spawn import spawn
from shake.process.spawn_many import Process

if TYPE_CHECKING:
    from shake.process.loop import Loop, Peer


TakenSetUp = TypeVar("TakenSetUp", bound=Message, contravariant=True)
TakenMessage = TypeVar("TakenMessage", bound=Message, contravariant=True)


class ChildConnection(Protocol[TakenSetUp, TakenMessage, Sent]):
    """The supervisor's end of the connection to a child: see SupervisorChannel."""

    def attach(self, loop: Loop, peer: Peer) -> None:
        """Have ``peer`` read what comes, and hear of the child's end."""

    def detach(self, loop: Loop) -> None: ...

    def begin(self, start: Start, set_up: TakenSetUp) -> None: ...

    def send(self, message: Ping | TakenMessage) -> None: ...

    def receive(self) -> tuple[list[Pong | FromChild | Sent], bool]: ...

    def close(self) -> None: ...


class Ahead(NamedTuple):
    """By how many seconds the boot clock of a machine is ahead of this one's."""

    least: float
    most: float


class Site(Protocol):
    """A machine on which children run.

    ``node`` is its name, "" for this machine. ``ahead`` is None until it is known. ``reachable``:
    what is sent to its children arrives.
    """

    @property
    def node(self) -> str: ...

    @property
    def ahead(self) -> Ahead | None: ...

    @property
    def reachable(self) -> bool: ...

    def create_arena(self, slots: int) -> int:
        """The descriptor, there, of memory for so many slots."""

    def close_arena(self, descriptor: int) -> None: ...

    def launch(
        self, role: Role[SetUp, Taken, Sent], descriptors: tuple[int, ...]
    ) -> tuple[Process, ChildConnection[SetUp, Taken, Sent]]:
        """Start a child, which inherits descriptors. Raises OSError where there is no room."""


class ThisMachine:
    """The machine of this process: a Site."""

    node = ""
    ahead = Ahead(0.0, 0.0)
    reachable = True

    def create_arena(self, slots: int) -> int:
        return arena.create(slots)

    def close_arena(self, descriptor: int) -> None:
        os.close(descriptor)

    def launch(
        self, role: Role[SetUp, Taken, Sent], descriptors: tuple[int, ...]
    ) -> tuple[Process, ChildConnection[SetUp, Taken, Sent]]:
        process, ours = spawn(role.module, descriptors=descriptors)
        return process, SupervisorChannel(ours, role)


HERE = ThisMachine()

#: Seconds that sites have to end their children where the run must end soon. They kill them.
HURRY_SECONDS = 1.5


#: States of a node in which it does its work.
WORKING = ("joined", "member", "leaving")


class NodeStatus(NamedTuple):
    """A machine on which children run. ``state`` is a word of nodes.membership.State.

    ``cpu`` is how many CPUs its processes use of late, and ``memory`` their resident bytes.
    """

    name: str
    address: str
    state: str
    workers: int
    cpu: float
    memory: int


class SiteUser(Protocol):
    """A run, which uses sites."""

    @property
    def allowed_until(self) -> float:
        """When its right to write ends, on the boot clock."""

    @property
    def wants_sites(self) -> bool:
        """There is something to be read that more sites would help with."""

    def sites_changed(self, why: str, lost: Sequence[Site]) -> None:
        """Other sites are to be used; some are lost, or cannot do their work."""


class Sites(Protocol):
    """The sites of a task. One run after another uses them, each with those that are there."""

    @property
    def workers(self) -> int:
        """How many workers they have room for."""

    def wait(self) -> None:
        """Wait until there is one."""

    def places(self, count: int) -> list[Site]:
        """A run begins: where each of so many workers runs."""

    def attach(self, loop: Loop, user: SiteUser) -> None:
        """Serve a run, in its loop, until :meth:`end`."""

    def end(self, hurried: Callable[[], bool]) -> bool:
        """The run has ended: return whether nothing of it can write any more.

        That is waited for; while it is ``hurried``, HURRY_SECONDS at most.
        """

    def set_aside(self, site: Site, why: str) -> bool:
        """Use a site no longer, which cannot do its work. False where there is no other one."""

    @property
    def problem(self) -> str:
        """Which sites are not used for now, and why; "" where all are."""

    def status(self) -> tuple[NodeStatus, ...]:
        """The nodes, for those who look."""


class OneMachine:
    """This machine only: Sites."""

    problem = ""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def wait(self) -> None:
        """It is there."""

    def places(self, count: int) -> list[Site]:
        return [HERE] * count

    def attach(self, loop: Loop, user: SiteUser) -> None:
        """It does not change."""

    def end(self, hurried: Callable[[], bool]) -> bool:
        """Its children have been waited for."""
        return True

    def set_aside(self, site: Site, why: str) -> bool:
        return False

    def status(self) -> tuple[NodeStatus, ...]:
        return ()
