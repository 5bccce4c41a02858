"""A heartbeat: counts how long a child process has not answered, and says when that is too long.

In a child, a kernel timer ends the process if it was frozen (SIGSTOP) for 10 minutes, before it
goes on.
"""

from __future__ import annotations

import signal
import threading
import time
from enum import Enum, auto

#: Seconds between two pings of a child.
EVERY = 5.0
#: Seconds without an answer after which a child is reported, and after which it is killed.
REPORT_AFTER, KILL_AFTER = 30.0, 120.0
#: What the report says, before the seconds.
UNANSWERED = "has not answered for"
#: Seconds after which the kernel ends a child that is frozen. One that was frozen just before it
#: sends a command would send it when it goes on. A target refuses a late command by its number, but
#: its session in MongoDB expires after 30 minutes, and the number with it.
FROZEN_AFTER = 600.0


def end_if_frozen() -> None:
    """Have the kernel end this process if it is frozen for FROZEN_AFTER seconds.

    A thread restarts the timer while the process runs. In a frozen process the timer expires. It
    has no handler, so its signal ends the process before any other instruction is executed.
    """

    def go_on() -> None:
        while True:
            signal.setitimer(signal.ITIMER_REAL, FROZEN_AFTER)
            time.sleep(FROZEN_AFTER / 10)

    threading.Thread(target=go_on, name="frozen", daemon=True).start()


class Liveness(Enum):
    """What the answers of a child say about it."""

    ALIVE = auto()  # it has answered the last ping: send the next one
    AWAITED = auto()  # its answer is not here yet
    SILENT = auto()  # report it
    EXPIRED = auto()  # kill it


class Heartbeat:
    """The answers of one child. ``now`` is in seconds on a clock that is never set.

    Time counts only while this process runs: where a check comes late, the supervisor was frozen
    or busy and could not read the answers. So one check adds at most EVERY seconds.
    """

    def __init__(self, now: float) -> None:
        self._checked = now
        self._silent: float | None = None  # seconds since the ping, None: no ping is open

    def answered(self) -> None:
        self._silent = None

    def check(self, now: float) -> Liveness:
        """To be called every EVERY seconds. ALIVE opens the next ping."""
        passed, self._checked = now - self._checked, now
        if self._silent is None:
            self._silent = 0.0
            return Liveness.ALIVE
        self._silent += min(passed, EVERY)
        if self._silent >= KILL_AFTER:
            return Liveness.EXPIRED
        return Liveness.SILENT if self._silent >= REPORT_AFTER else Liveness.AWAITED
