"""How a run ends: what ends it, how long it can take then, and what the user is shown of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import FrameType

from shake.checkpoint.contract import Superseded
from shake.errors import GapError, ShakeError

#: Seconds that pages under way have to arrive when the task stops, and when it fails. Where the
#: target hangs, checkpointer, task lock and driver need more, and all is to be over within ten.
DRAIN_SECONDS = 5.0
FAIL_SECONDS = 2.0
#: The same for ``--until-consistent``: thousands of shards can need saving.
FINISH_SECONDS = 60.0
#: Seconds that a run which has ended has to close its connections, once a signal asks for it.
_CLOSE_SECONDS = 8.0


class Stage(Enum):
    """Where a run is. What ends it first decides how it ends; a signal only ends it sooner."""

    RUNNING = auto()
    ENDING = auto()  # nothing more is begun; what was published arrives
    ASKED = auto()  # the same, by a signal: a second one ends it at once
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends: exit status, the line that says why, and its deadline.

    ``gap``: a table is to be copied anew, and all to go on then. ``regroup``: all is to go on at
    once, at other sites. ``consistent``: the run was to end when all is consistent, and it was.
    ``signalled``: the user has asked for the end.
    """

    status: int
    line: str
    deadline: float = 0.0
    gap: GapError | None = None
    consistent: bool = False
    signalled: bool = False
    regroup: bool = False

    @property
    def goes_on(self) -> bool:
        """Another run follows in this process."""
        return self.gap is not None or self.regroup


class Shutdown:
    """The stages of one run. It decides; ``drain`` acts.

    ``resyncs``: a gap is repaired by a new copy, not fatal. ``until_consistent``: only being
    consistent is a good end. ``drain`` is called each time that an end is decided, with the seconds
    that are left until then.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        resyncs: bool,
        until_consistent: bool = False,
        drain: Callable[[float], None],
    ) -> None:
        self.stage = Stage.RUNNING
        self.ending = Ending(0, "")
        self._clock = clock
        self._resyncs = resyncs
        self._until_consistent = until_consistent
        self._drain = drain

    @property
    def running(self) -> bool:
        return self.stage is Stage.RUNNING

    @property
    def gap(self) -> bool:
        """It ends because changes are lost."""
        return self.ending.status == GapError.exit_status

    @property
    def late(self) -> bool:
        """It was to be over by now."""
        return not self.running and self._clock() >= self.ending.deadline

    def fail(self, error: ShakeError) -> None:
        """End it because of an error that retrying cannot fix.

        The first error counts, except that losing the task lock replaces any other: that another
        run has the task explains all of them.
        """
        if isinstance(error, Superseded) and self.stage is not Stage.ENDED:
            self.stage = Stage.RUNNING
        if isinstance(error, GapError) and self._resyncs:
            line = f"table {error.table}: changes are lost: {error.what}; it is copied again"
            self._begin(DRAIN_SECONDS, Ending(error.exit_status, line, gap=error))
            return
        # Another process has the task lock and continues: this one must not write any more.
        grace_seconds = 0.0 if isinstance(error, Superseded) else FAIL_SECONDS
        self._begin(grace_seconds, Ending(error.exit_status, str(error)))

    def regroup(self, why: str) -> None:
        """End the run because the task goes on at other sites."""
        if self.running:
            line = f"{why}: the task goes on with those that are there"
            self._begin(DRAIN_SECONDS, Ending(0, line, regroup=True))

    def finish(self, line: str) -> None:
        """End it because all tables are consistent; ``line`` says what that means."""
        self._begin(FINISH_SECONDS, Ending(0, line, consistent=True))

    def signalled(self, number: int) -> None:
        """Stop the task because of a signal; after a second signal, stop at once."""
        grace_seconds = 0.0 if self.stage is Stage.ASKED else DRAIN_SECONDS
        deadline = self._clock() + grace_seconds
        if self.running or self.ending.goes_on:  # the next start finds the same gap
            self.ending = self._stopped(number, deadline)
        else:
            self.ending = replace(
                self.ending, deadline=min(self.ending.deadline, deadline), signalled=True
            )
        self.stage = Stage.ASKED
        self._drain(grace_seconds)

    def missed(self, component: str) -> None:
        """The time is over and not all is durable: ``component`` did not answer."""
        if self.ending.status == 0 and not self.ending.regroup:
            line = f"stopped, but {component} did not answer in time; start again to go on"
            self.ending = replace(self.ending, status=1, line=line)

    def end(self, errors: str) -> None:
        """It is over; no end is good where the target has refused an index (``errors``)."""
        self.stage = Stage.ENDED
        if errors and self.ending.status == 0 and not self.ending.regroup:
            self.ending = replace(self.ending, status=1, line=errors)

    def asked(self) -> None:
        """A signal came when it was over already: the user waits for nothing more."""
        self.ending = replace(self.ending, signalled=True)

    def stop_instead(self, number: int) -> None:
        """A signal came before the resync began."""
        self.ending = self._stopped(number, self._clock())

    def state(self, problem: str, *, complete: bool) -> tuple[str, str]:
        """What is shown, and why; ``complete``: all is copied, and no changes are followed."""
        if self.running:
            return "degraded" if problem else "running", problem
        line = self.ending.line
        if self.ending.goes_on:
            return "degraded", line
        if self.ending.status:
            return "failed", line
        ended = self.stage is Stage.ENDED
        if complete or (ended and self.ending.consistent):
            return "finished", line
        return "stopped" if ended else "stopping", line

    def _begin(self, grace_seconds: float, ending: Ending) -> None:
        if self.running:
            self.stage = Stage.ENDING
            self.ending = replace(ending, deadline=self._clock() + grace_seconds)
            self._drain(grace_seconds)

    def _stopped(self, number: int, deadline: float) -> Ending:
        line = f"stopped by {signal.Signals(number).name}"
        if self._until_consistent:  # a script that waits for that must not see status 0
            line = f"{line} before all was consistent: start again to go on"
            return Ending(1, line, deadline, signalled=True)
        line = f"{line}: what is done is saved, start again to go on"
        return Ending(0, line, deadline, signalled=True)


def keep_status(status: int) -> Callable[[], bool]:
    """From now on a signal does not change the exit status, because only closing is left.

    A signal then only makes sure that the process ends, also where a server does not answer.
    Returns a function: True if a signal has come.
    """
    came: list[int] = []

    def hasten(number: int, frame: FrameType | None) -> None:
        came.append(number)
        timer = threading.Timer(_CLOSE_SECONDS, os._exit, (status,))
        timer.daemon = True
        timer.start()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hasten)
    return lambda: bool(came)
