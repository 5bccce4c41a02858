"""The messages between the head and the agent of a node.

``child`` is a number that the head gives. Times are seconds.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, get_args

from shake.process.packing import Packing

# ---- head to agent


class Begin(NamedTuple):
    """A new epoch begins: end all children of the one before. Answered by Begun."""

    epoch: int


class CreateArena(NamedTuple):
    """Create memory for so many slots, for this epoch. Answered by ArenaCreated."""

    number: int
    slots: int


class StartChild(NamedTuple):
    """Start a child with descriptors of arenas; ``first`` are its first bytes."""

    child: int
    module: str
    descriptors: tuple[int, ...]
    first: bytes


class ToChild(NamedTuple):
    """Whole messages for a child."""

    child: int
    data: bytes


class CloseChild(NamedTuple):
    """Close the connection to a child, so that it ends; kill it if it does not."""

    child: int


class KillChild(NamedTuple):
    """Kill a child."""

    child: int


class EndEpoch(NamedTuple):
    """Kill all children. Answered by Ended when they are gone."""

    epoch: int


class Granted(NamedTuple):
    """Children are allowed to write for so long after the node ``asked``, on the node's clock."""

    asked: float
    seconds: float


class Over(NamedTuple):
    """The task has ended, or the node is not needed any more."""


# ---- agent to head


class Joined(NamedTuple):
    """The node is ready, for so many workers."""

    workers: int


class Begun(NamedTuple):
    """The node belongs to this epoch."""

    epoch: int


class ArenaCreated(NamedTuple):
    """The descriptor that children inherit."""

    number: int
    descriptor: int


class Started(NamedTuple):
    """A child runs."""

    child: int
    pid: int


class FromChild(NamedTuple):
    """What a child has sent, cut anywhere."""

    child: int
    data: bytes


class ChildEnded(NamedTuple):
    """A child is gone; ``status`` as in subprocess.Popen."""

    child: int
    status: int


class Ended(NamedTuple):
    """No child of this epoch is left."""

    epoch: int


class Renew(NamedTuple):
    """Grant more time from this moment on, which is on the node's boot clock.

    ``answered`` is the last one that was, and ``took`` how long its answer took: 0.0 before that.
    """

    asked: float
    answered: float = 0.0
    took: float = 0.0


class Usage(NamedTuple):
    """CPUs in use of late, and resident bytes, of the agent and its children."""

    cpu: float
    memory: int


class Leaving(NamedTuple):
    """The node is to be stopped: give its work to others."""


ToAgent: TypeAlias = (
    Begin | CreateArena | StartChild | ToChild | CloseChild | KillChild | EndEpoch | Granted | Over
)
FromAgent: TypeAlias = (
    Joined
    | Begun
    | ArenaCreated
    | Started
    | FromChild
    | ChildEnded
    | Ended
    | Renew
    | Usage
    | Leaving
)

TO_AGENT = Packing[ToAgent](get_args(ToAgent))
FROM_AGENT = Packing[FromAgent](get_args(FromAgent))
