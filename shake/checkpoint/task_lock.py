"""The lock of a task id: two supervisors never run one at the same time, on whatever machines."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shake.checkpoint.contract import (
    Document,
    Store,
    StoreUnavailable,
    Superseded,
    read_one,
)
from shake.checkpoint.document import Fields
from shake.checkpoint.holder import Holder, Life
from shake.checkpoint.records import STATUS_TABLE
from shake.clock import boot_clock
from shake.errors import RunError, ShakeError, TaskRunning

#: The names of the locks: for a run of the task, and for a check of it. "lease" is the task lock's
#: former name. It stays in the store, so that an older version and this one exclude each other.
TASK, CHECK = "lease", "check-lease"

#: Seconds between two renewals.
INTERVAL = 10.0

#: Seconds after which another thread renews the lock, because the checkpointer has not.
OVERDUE = 15.0

#: Seconds without a renewal after which a challenger takes over.
EXPIRY = 30.0

#: Seconds before EXPIRY at which the holder itself stops, for what is under way to end.
STOP_BEFORE_EXPIRY = 5.0

#: Seconds between two checks of a lock that another process holds.
POLL = 1.0

#: Seconds that the store has to take the lock back in the end.
_RELEASE_SECONDS = 1.0


class TaskLockLost(Superseded):
    """Another process runs this task now: this one must not write any more."""


class TaskHeld(TaskRunning):
    """Another process that is alive, ``holder``, has the task lock."""

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        super().__init__(
            f"this task is already run by {holder} (shake run, or shake check --repair): stop "
            "that one first, or give this task another id; shake run --standby waits for its end",
            str(holder),
        )


class TaskLock:
    """The right to run a task, kept by renewing it every INTERVAL. Thread-safe.

    The right to check it is another lock of the same kind, by its ``name``.

    Clocks of two machines are never compared. The holder increments a counter. A challenger
    watches, by its local clock, whether the counter changes.
    """

    def __init__(
        self, store: Store, document: Document, clock: Callable[[], float], renewed: float
    ) -> None:
        self._store = store
        self._document = document
        self._clock = clock
        self._renewed = renewed
        self._guard = threading.Lock()  # of who renews or releases
        self._expires = False

    @classmethod
    def acquire(
        cls,
        store: Store,
        *,
        notice: Callable[[str], None],
        clock: Callable[[], float] = boot_clock,
        wait: Callable[[float], None] = time.sleep,
        me: Holder | None = None,
        name: str = TASK,
        token: str = "",
        outlived: Callable[[], bool] = lambda: False,
    ) -> TaskLock:
        """Take the task lock: at once if it is free or its holder has ended, else when it expires.

        ``outlived``: whether what this holder starts on other machines writes without a fence until
        the lock expires. Then the lock always expires first where this holder ends without
        releasing it. It is asked after the wait, in which nodes of an earlier holder can write.
        ``wait(seconds)`` can raise to give up. Raises TaskHeld if the holder is alive. Who tries
        again gives the same ``token``: an earlier try can have taken the lock without an answer.
        """
        me, token = me or Holder.me(), token or uuid.uuid4().hex
        lock = {"_id": name, "Token": token, "Renewals": 0}
        mine = me.document() | lock
        watched: Document | None = None
        since = 0.0
        while True:
            now = clock()
            held = _read(store, name)
            if held is None:
                mine["Outlived"] = outlived()
                if store.swap(STATUS_TABLE, None, mine):
                    return cls(store, mine, clock, now)
            else:
                holder, ours = Holder.of(STATUS_TABLE, held), held["Token"] == token
                life = Life.GONE if ours else holder.life(me)
                outlives = life is Life.GONE and not ours and held.get("Outlived") is True
                if life is Life.ALIVE or (watched and _sign(held) != _sign(watched)):
                    raise TaskHeld(holder)
                expired = watched is not None and now - since >= EXPIRY
                if expired or (life is Life.GONE and not outlives):
                    mine |= {"Renewals": held["Renewals"] + 1, "Outlived": outlived()}
                    if store.swap(STATUS_TABLE, held, mine):
                        if not ours:
                            notice(f"took this task over from {holder}, which is gone")
                        return cls(store, mine, clock, now)
                elif not watched:
                    notice(_why_wait(holder, outlives))
                    watched, since = held, clock()
            wait(POLL)

    @staticmethod
    def holder(store: Store) -> tuple[Holder | None, Life]:
        """The process that holds the task lock now, and its life; changes nothing."""
        holder, _ = TaskLock.sign(store)
        return holder, Life.GONE if holder is None else holder.life(Holder.me())

    @staticmethod
    def sign(store: Store) -> tuple[Holder | None, tuple[str, int]]:
        """The process that holds the task lock, and what changes whenever it renews the lock."""
        held = _read(store, TASK)
        return (Holder.of(STATUS_TABLE, held), _sign(held)) if held else (None, ("", 0))

    def renew(self, age: float = 0.0) -> None:
        """Move the counter, unless that was done less than ``age`` seconds ago.

        Raises TaskLockLost when the lock is not ours any more.
        """
        with self._guard:
            started = self._clock()
            if started - self._renewed < age:
                return
            if not self._swap(lambda held: {**held, "Renewals": held["Renewals"] + 1}):
                self._renewed = -math.inf
                held = _read(self._store, self._document["_id"])
                cause = f"{Holder.of(STATUS_TABLE, held)} took over" if held else "it was deleted"
                raise TaskLockLost(f"the lock of this task is lost: {cause}; this run must stop")
            self._renewed = started

    def check(self) -> None:
        """Call before each write: renew the lock if that is due. Raises as ``renew``."""
        self.renew(INTERVAL)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the task lock in a thread when no write renews it, as while the task is planned.

        The thread renews it whatever this process waits for. So no other process takes over a task
        whose process is alive and whose children work: a user must stop it. The next write detects
        that the lock is lost.
        """
        over = threading.Event()

        def keep() -> None:
            with suppress(ShakeError):
                while not over.wait(POLL):
                    with suppress(StoreUnavailable):
                        self.renew(OVERDUE)

        threading.Thread(target=keep, name="task-lock", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    @contextmanager
    def held(self) -> Iterator[TaskLock]:
        """Renew the task lock as ``renewing`` does, and release it in the end.

        It also expires by itself. So a store that hangs does not delay the exit. After
        :meth:`let_expire` it is not released.
        """

        def release() -> None:
            with suppress(RunError):
                self.release()

        try:
            with self.renewing():
                yield self
        finally:
            if not self._expires:
                thread = threading.Thread(target=release, name="release", daemon=True)
                with suppress(RuntimeError):  # the system gives no thread: the lock expires
                    thread.start()
                    thread.join(_RELEASE_SECONDS)

    @property
    def token(self) -> str:
        """Identifies this run."""
        return str(self._document["Token"])

    @property
    def until(self) -> float:
        """Before this time, of the clock given to acquire, no other supervisor can take over."""
        return self._renewed + EXPIRY - STOP_BEFORE_EXPIRY

    def fresh(self, now: float) -> bool:
        """Whether no other supervisor can have taken over at ``now``."""
        return now < self.until

    def let_expire(self) -> None:
        """Never release it: what this run has started elsewhere can still write until it expires.

        A run on this machine does not wait for that, and relies on fences alone, unless the lock
        was acquired as ``outlived``.
        """
        self._expires = True

    def let_release(self) -> None:
        """Take :meth:`let_expire` back: nothing elsewhere can write any more."""
        self._expires = False

    def release(self) -> None:
        """Give the lock back; harmless when it is lost already."""
        with self._guard:
            self._swap(lambda held: None)

    def discard(self) -> None:
        """Give the lock back; delete the collection made for it, if nothing else is in it."""
        with self._guard:
            self._store.discard(STATUS_TABLE, self._document)

    def _swap(self, change: Callable[[Document], Document | None]) -> bool:
        for _ in range(2):
            new = change(self._document)
            if self._store.swap(STATUS_TABLE, self._document, new):
                self._document = new or self._document
                return True
            held = _read(self._store, self._document["_id"])
            if held is None or held["Token"] != self._document["Token"]:
                return False
            self._document = held  # an earlier swap that the store did not confirm
        raise StoreUnavailable("the task lock cannot be renewed: the store reads stale data")


def _why_wait(holder: Holder, outlives: bool) -> str:
    """The notice of a challenger that waits until the lock expires."""
    if outlives:
        return f"{holder} is gone: waiting {EXPIRY:g} s until its nodes cannot write any more"
    return (
        f"{holder} holds the task lock: waiting {EXPIRY:g} s to see whether it still renews the "
        "lock"
    )


def _read(store: Store, name: str) -> dict[str, Any] | None:
    if document := read_one(store, STATUS_TABLE, name):
        _sign(document)
    return document


def _sign(document: Document) -> tuple[str, int]:
    fields = Fields(STATUS_TABLE, document)
    return fields.text("Token"), fields.number("Renewals")
