"""Which nodes work for a task, and until when each of them can: the rules, without any process.

A node works in one epoch after another, each with the same nodes from its begin to its end. While
an epoch lasts, its nodes ask for time and get it. An epoch follows when no node of the one before
can still write: it has confirmed that its children are gone, or its time has run out.

A node that cannot do its work takes no part for a while. So does one that was lost or has left
again and again: each time it has kept the others from work. The pause doubles.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from shake.backoff import Backoff

#: A node.
N = TypeVar("N", bound=Hashable)

#: Seconds for which a node is allowed to write after it has asked.
GRANT = 20.0
#: Seconds after the end of a grant at which the head takes it as ended: for clocks that do not run
#: at the same speed.
MARGIN = 5.0
#: Seconds without a request after which a node is expected to be lost soon.
QUIET = 7.0
#: Seconds that an epoch lasts at least before a node that has joined begins another.
SETTLE = 10.0
#: Seconds for which a node takes no part: none after its first loss, then 30 and more. A node that
#: cannot do its work pauses at once.
PAUSES = Backoff(first=30.0, longest=960.0)
#: Seconds after the end of such a pause from which on what was before does not count.
STEADY = 600.0


class State(Enum):
    """What a node is."""

    #: It takes part in the next epoch.
    JOINED = auto()
    #: It works.
    MEMBER = auto()
    #: It works, and takes part in no further epoch.
    LEAVING = auto()
    #: It cannot be reached, and can work until its time runs out.
    CUT = auto()
    #: Its time has run out.
    LOST = auto()
    #: It has confirmed that nothing is left of the epoch.
    ENDED = auto()
    #: It takes no part for a while.
    ASIDE = auto()


_WORKING = (State.MEMBER, State.LEAVING)
_WRITING = (*_WORKING, State.CUT)  # until its time runs out


@dataclass(slots=True, eq=False)
class _Past:
    """What has become of a machine's nodes: each is a new one when it joins again."""

    failures: int = 0
    pause: float = 0.0  # seconds for which it takes no part
    after: float = -STEADY  # when that is over
    why: str = ""
    unfit: bool = False  # it cannot do its work, as far as is known

    def failed(self, now: float, *, unfit: str = "") -> None:
        """It was lost or has left, or, with the reason, is ``unfit``."""
        self.failures = self.failures + 1 if now < self.after + STEADY else 1
        self.pause = PAUSES.most(self.failures + (1 if unfit else -1))
        self.after, self.unfit = now + self.pause, bool(unfit)
        self.why = unfit or (
            f"it was lost or has left {self.failures} times of late. It works sooner where there "
            "is no other node"
        )


@dataclass(slots=True)
class _Node:
    name: str
    past: _Past
    state: State = State.JOINED
    until: float = 0.0  # it writes nothing from then on, by the head's clock
    asked: float = 0.0
    leaves: bool = False
    denied: bool = False  # it asked, and the head had no time to grant
    aside: bool = False  # it works, and is to be in no further epoch for a while

    def is_aside(self, now: float) -> bool:
        """It takes no part for a while, or is about to."""
        return self.aside or (self.state is State.JOINED and now < self.past.after)

    def is_unfit(self, now: float) -> bool:
        """The same, because it cannot do its work."""
        return self.is_aside(now) and self.past.unfit

    def shown(self, now: float) -> State:
        """Its state, ASIDE only while it is otherwise as it should be."""
        sound = self.state in (State.JOINED, State.MEMBER, State.ENDED)
        return State.ASIDE if sound and self.is_aside(now) else self.state


class Membership(Generic[N]):
    """The nodes of a task. ``now`` is in seconds of a clock that is never set."""

    def __init__(self) -> None:
        self._nodes: dict[N, _Node] = {}
        self._pasts: dict[str, _Past] = {}  # by machine
        self.epoch = 0
        self._epoch_open = False
        self._began = 0.0

    def state(self, node: N, now: float) -> State | None:
        """None where it is unknown: it has left, or was lost."""
        found = self._nodes.get(node)
        return found.shown(now) if found else None

    def why_aside(self, node: N, now: float) -> str:
        """Why a node takes no part; "" where it does."""
        found = self._nodes.get(node)
        if found is None or not found.is_aside(now):
            return ""
        return f"node {found.name} is set aside for {found.past.pause:.0f} s: {found.past.why}"

    def ready(self, now: float) -> list[N]:
        """Nodes that can take part in the next epoch.

        Where all others are gone, those that were lost too often can, too.
        """
        fit = self._fit(now)
        return [node for node in fit if not self._nodes[node].is_aside(now)] or fit

    def _fit(self, now: float) -> list[N]:
        states = (State.JOINED, State.MEMBER, State.ENDED)
        return [
            node
            for node, one in self._nodes.items()
            if one.state in states and not (one.leaves or one.is_unfit(now))
        ]

    @property
    def members(self) -> list[N]:
        """Nodes of the present epoch, or of the last one."""
        return [node for node, one in self._nodes.items() if one.state is not State.JOINED]

    @property
    def answering(self) -> bool:
        """Some node is going to confirm the end of the epoch, as far as is known."""
        return any(one.state in _WORKING for one in self._nodes.values())

    def has_left(self, node: N) -> bool:
        """It asked to leave, and does nothing any more."""
        found = self._nodes.get(node)
        return found is not None and found.leaves and found.state is State.ENDED

    # ---- what nodes do

    def join(self, node: N, name: str, machine: str, now: float) -> None:
        """A node is there that was never there before; others of its ``machine`` can have been."""
        self._pasts = {
            key: past
            for key, past in self._pasts.items()
            if now < past.after + STEADY or past in [one.past for one in self._nodes.values()]
        }
        self._nodes[node] = _Node(name, self._pasts.setdefault(machine, _Past()))

    def leave(self, node: N, now: float) -> None:
        """A node is to be stopped."""
        found = self._nodes.get(node)
        if found and not found.leaves:
            found.leaves = True
            found.past.failed(now)
            if found.state is State.MEMBER:
                found.state = State.LEAVING

    def set_aside(self, node: N, why: str, now: float) -> bool:
        """A node cannot do its work. False where no other one can do it."""
        found = self._nodes.get(node)
        if found is None or self._fit(now) in ([], [node]):
            return False
        if not found.aside:
            found.aside = True
            found.past.failed(now, unfit=why)
        return True

    def cut(self, node: N, now: float) -> None:
        """The connection of a node is closed; it never comes back as the same one."""
        found = self._nodes.get(node)
        if found is None:
            return
        counts = found.state in (*_WORKING, State.JOINED, State.ENDED)
        if counts and not (found.leaves or found.denied or found.is_aside(now)):
            found.past.failed(now)
        if found.state in _WORKING:
            found.state = State.CUT
        elif found.state in (State.JOINED, State.ENDED):
            del self._nodes[node]

    def ask(self, node: N, now: float, most: float = GRANT) -> float:
        """A node asks for time: how many seconds it gets, at most ``most``; 0.0 for none."""
        found = self._nodes.get(node)
        if found is None or not self._epoch_open or found.state not in _WORKING:
            return 0.0
        found.asked = now
        seconds = max(0.0, min(GRANT, most))
        found.denied = found.denied and not seconds
        found.until = max(found.until, now + seconds + MARGIN)
        return seconds

    def deny(self, node: N) -> bool:
        """A node got no time, since the head has none to grant: return whether that is news."""
        found = self._nodes.get(node)
        news = found is not None and found.state is State.MEMBER and not found.denied
        if found and news:
            found.denied = True
        return news

    def confirm(self, node: N, epoch: int) -> None:
        """A node has ended all that it did in an epoch, which is over."""
        found, over = self._nodes.get(node), epoch == self.epoch and not self._epoch_open
        if found and over and found.state in _WORKING:
            found.state = State.ENDED

    # ---- epochs

    def begin(self, now: float) -> list[N]:
        """Begin an epoch with all nodes that are ready; return them. See :meth:`over`."""
        assert self.over(now)
        self._nodes = {
            node: one
            for node, one in self._nodes.items()
            if one.state in (State.JOINED, State.ENDED) and not one.leaves
        }
        begun = self.ready(now)
        for node, one in self._nodes.items():
            one.aside, one.denied, one.state = False, False, State.JOINED
            if node in begun:
                one.asked = now
                # A first grant can be on its way.
                one.state, one.until = State.MEMBER, now + GRANT + MARGIN
        self._epoch_open, self._began = True, now
        self.epoch += 1
        return begun

    def change(self, now: float, *, wanted: bool = True) -> tuple[str, list[N]]:
        """Why the epoch is to end, "" if it is not, and the nodes that are lost.

        ``wanted``: there is work for a node that joins. One that was set aside takes part again
        after its pause in any case.
        """
        lost = self.lose(now)
        names = {
            state: [one.name for one in self._nodes.values() if one.shown(now) is state]
            for state in State
        }
        if names[State.LOST]:
            return f"lost: {', '.join(names[State.LOST])}", lost
        if names[State.LEAVING]:
            return f"leaving: {', '.join(names[State.LEAVING])}", lost
        if aside := [one.name for one in self._nodes.values() if one.aside]:
            return f"set aside: {', '.join(aside)}", lost
        again = any(
            one.past.unfit and one.shown(now) is State.JOINED for one in self._nodes.values()
        )
        settled = now - self._began >= SETTLE and not self._is_one_missing(now)
        if names[State.JOINED] and settled and (wanted or again):
            return f"joined: {', '.join(names[State.JOINED])}", lost
        return "", lost

    def lose(self, now: float) -> list[N]:
        """The nodes whose time has run out since the last call: they are lost."""
        lost = [
            node for node, one in self._nodes.items() if one.state in _WRITING and now >= one.until
        ]
        for node in lost:
            one = self._nodes[node]
            if one.state is not State.CUT and not (one.leaves or one.denied or one.aside):
                one.past.failed(now)
            one.state = State.LOST
        return lost

    def unconfirmed(self, now: float) -> list[tuple[str, float]]:
        """Nodes that can still write, by name, and for how many seconds."""
        writing = [one for one in self._nodes.values() if one.state in _WRITING]
        return [(one.name, one.until - now) for one in writing if one.until > now]

    def _is_one_missing(self, now: float) -> bool:
        """Some node is lost soon, as it seems: then a join waits, for one change instead of two."""
        return any(
            one.state is State.CUT or (one.state in _WORKING and now - one.asked > QUIET)
            for one in self._nodes.values()
        )

    def end(self) -> None:
        """The epoch is over: no node gets more time."""
        self._epoch_open = False

    def over(self, now: float) -> bool:
        """Whether no node can write any more what belongs to the epoch that has ended."""
        return not (self._epoch_open or self.unconfirmed(now))
