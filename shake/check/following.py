"""Whether a task applies changes beside the check, and through which time it has."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.holder import Holder, Life
from shake.checkpoint.store import Store, open_store
from shake.checkpoint.stream_records import AppliedRecord
from shake.checkpoint.task_lock import EXPIRY, TaskLock
from shake.config import Config
from shake.errors import ShakeError
from shake.status.figures import duration, utc

log = logging.getLogger("shake.check")

#: Seconds between two reads of what the task has saved.
_EVERY = 1.0
#: Seconds without progress after which the check says that it waits, and gives up waiting.
_WORD, _DEADLINE = 30.0, 600.0


class SavedPoint(NamedTuple):
    """What a task had saved last at some moment: the name of its run, and a number that rises."""

    run: str = ""
    number: int = 0


class Wait(Enum):
    """Whether the changes made before a moment are applied."""

    NO_TASK = "no task applies changes"
    APPLIED = "they are applied"
    NOT_YET = "the task has not saved that yet"
    STUCK = "the task has saved nothing new for long"


class Following:
    """What the task has applied, by its checkpoints. Thread-safe.

    ``follows``: a task of this configuration applies changes while it runs. The store is opened
    when it is first needed.
    """

    def __init__(
        self,
        config: Config,
        *,
        follows: bool,
        clock: Callable[[], float] = time.monotonic,
        opened: Callable[[Config], Store] = lambda config: open_store(config, writable=False),
    ) -> None:
        self._config = config
        self._follows = follows
        self._clock = clock
        self._opened = opened
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._read = float("-inf")  # when the store was read last
        self._runs = False
        self._ran = False  # whether it was ever certain that it did
        self._sign: tuple[str, int] | None = None  # of the task lock
        self._signed = 0.0  # since when that is so
        self._applied = AppliedRecord("")
        self._moved: dict[str, float] = {}  # by table: when its time rose last
        self._said = 0.0

    def saved_point(self) -> SavedPoint:
        """What the task has saved by now."""
        with self._lock:
            self._refresh()
            return SavedPoint(self._applied.run, self._applied.number)

    def wait(self, table: str, moment: float, point: SavedPoint, since: float) -> Wait:
        """Whether every change made before ``moment``, on the source's clock, is applied.

        ``point`` is of about that moment, and ``since``, by ``clock``, when the wait began. Only
        what the task has worked out later than the point counts: a clock can be set back.
        """
        with self._lock:
            self._refresh()
            if not self._runs:
                return Wait.NO_TASK
            applied, now = self._applied, self._clock()
            through = applied.through.get(table, 0.0)
            # The first save after the point can have been worked out before it.
            before = point.number if applied.run == point.run else 0
            if through > moment and applied.number >= before + 2:
                return Wait.APPLIED
            still = now - max(since, self._moved.get(table, since))
            if still > _WORD:
                self._say(table, moment, through, still)
            return Wait.STUCK if still > _DEADLINE else Wait.NOT_YET

    def through(self, table: str) -> str:
        """Through which time a table's changes are applied, in words."""
        with self._lock:
            moment = self._applied.through.get(table, 0.0)
        return f"applied through {utc(moment)}" if moment else "no time is known yet"

    @property
    def ran(self) -> bool:
        """Whether a task was seen at work so far."""
        with self._lock:
            self._refresh()
            return self._ran

    def learn(self, *, ran: bool) -> None:
        """Take over what another process of this check has seen."""
        with self._lock:
            self._ran |= ran

    @property
    def runs(self) -> bool:
        """Whether a task applies changes now."""
        with self._lock:
            self._refresh()
            return self._runs

    @property
    def ended(self) -> bool:
        """Whether a task has applied changes beside this check, and none does now."""
        with self._lock:
            self._refresh()
            return self._ran and not self._runs

    def close(self) -> None:
        with self._lock:
            self._follows = self._runs = False
            if self._store:
                self._store.close()

    def _refresh(self) -> None:
        now = self._clock()
        if not self._follows or now - self._read < _EVERY:
            return
        self._read = now
        try:
            self._store = self._store or self._opened(self._config)
            self._runs = self._task_runs(self._store, now)
            applied = Checkpoints(self._store).load_applied()
        except ShakeError as error:
            log.debug("%s", error)
            # A store that does not answer now says nothing of the task.
            self._runs = self._runs or self._store is not None or error.passes
            return
        if applied:
            before = self._applied.through
            for table, moment in applied.through.items():
                if moment != before.get(table):
                    self._moved[table] = now
            self._applied = applied

    def _task_runs(self, store: Store, now: float) -> bool:
        """Whether a process holds the task lock: one on another machine must renew it."""
        holder, sign = TaskLock.sign(store)
        if holder is None:
            self._ran |= self._sign is not None
            return False
        life = holder.life(Holder.me())
        if life is not Life.UNKNOWN:
            self._ran |= life is Life.ALIVE
            return life is Life.ALIVE
        if sign != self._sign:
            self._ran |= self._sign is not None
            self._sign, self._signed = sign, now
        return now - self._signed < EXPIRY

    def _say(self, table: str, moment: float, through: float, still: float) -> None:
        if self._clock() - self._said > _WORD:
            self._said = self._clock()
            known = f"applied through {utc(through)}" if through else "has not said how far it is"
            log.warning(
                "table %s: waiting for shake to apply the changes made before %s: it %s, and has "
                "said nothing new for %s; after %s the check goes on, and proves nothing of the "
                "keys that wait",
                *(table, utc(moment), known, duration(still), duration(_DEADLINE)),
            )
