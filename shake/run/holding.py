"""Takes the right to run a task: its pid file, then its task lock, which a standby waits for."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from shake.checkpoint import pidfile
from shake.checkpoint.contract import Store
from shake.checkpoint.holder import Life
from shake.checkpoint.records import STATUS_TABLE
from shake.checkpoint.task_lock import POLL, TaskLock
from shake.config import Config
from shake.config.names import is_bad_name
from shake.errors import RefusedError, RunError, ShakeError, TaskRunning, as_refusal
from shake.plan.plan import Plan
from shake.run.connections import RunConnections, open_connections
from shake.run.planning import checked, first_plan, planned
from shake.status.figures import utc

log = logging.getLogger("shake")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A task that only this process runs, and what is to be done with it first."""

    opened: RunConnections
    lock: TaskLock
    plan: Plan


def take(config: Config, workers: int, stack: contextlib.ExitStack, *, spread: bool) -> HeldTask:
    """Take the task, until ``stack`` is closed. Raises RefusedError where that is not possible.

    Make all checks before taking the lock if another run can still be alive, or if this is the
    first run: a start that is refused does not create the checkpoint database. Where it is refused
    afterwards, for what has changed meanwhile, it leaves none behind.
    """
    stack.enter_context(pidfile.hold(config.pid_path, config.id))
    opened = stack.enter_context(open_connections(config, spread=spread))
    with as_refusal(RunError):
        _, life = TaskLock.holder(opened.store)
        first = STATUS_TABLE not in opened.store.collections()
    if life is Life.UNKNOWN or first:
        checked(first_plan(config, workers, opened, ports=True))

    def outlived() -> bool:
        return spread and changes_kept(config, opened.store)

    lock = stack.enter_context(_locked(opened, log.warning, outlived=outlived))
    return HeldTask(opened, lock, planned(config, workers, opened, lock))


def changes_kept(config: Config, store: Store) -> bool:
    """Whether writers can change kept items, for which there is no fence by run.

    Where ``bad.items`` is ``stop``, those that were kept before leave when they are stored.
    """
    return config.bad_items == "keep" or any(map(is_bad_name, store.collections()))


class Standby:
    """A supervisor that waits until no other one runs its task.

    It retries what cannot be done yet; logs each reason once, however often it comes again.
    """

    def __init__(self, wait: Callable[[float], None] = time.sleep) -> None:
        self._wait = wait
        self._logged = set[str]()

    def notice(self, line: str) -> None:
        """Log a line that is new."""
        if line not in self._logged:
            self._logged.add(line)
            log.warning("%s", line)

    def retry(self, call: Callable[[], T]) -> T:
        """The result of ``call``, made every POLL seconds until no other process is in the way.

        It waits for an election too, or for a server that does not answer: it often comes with the
        failure of the machine that ran the task. Raises what no waiting cures.
        """
        while True:
            try:
                return call()
            except TaskRunning as error:
                self.notice(f"standby: {error.runner} runs this task; waiting until it is gone")
            except ShakeError as error:
                if not error.passes:
                    raise
                self.notice(f"standby: {error}; retrying")
            self._wait(POLL)


def take_over(config: Config, workers: int, stack: contextlib.ExitStack) -> HeldTask | None:
    """Wait until no other supervisor runs this task; then take it.

    None where that one has finished the task by cutover: to go on would undo what users do since.
    All is checked first: a standby that could not go on with the task is refused at once.
    """
    standby, token = Standby(), uuid.uuid4().hex
    with open_connections(config) as opened:
        before = standby.retry(opened.checkpoints.load_summary)
        alone = _first_here(config, stack)  # then the page of a run that has ended gives way
        checked(first_plan(config, workers, opened, ports=alone))
    if not alone:
        standby.retry(lambda: stack.enter_context(pidfile.hold(config.pid_path, config.id)))
    opened = standby.retry(lambda: stack.enter_context(open_connections(config)))
    lock = standby.retry(lambda: stack.enter_context(_locked(opened, standby.notice, token)))
    last = standby.retry(opened.checkpoints.load_summary)
    # A run that ended early has not replaced the summary of the run before it.
    if last and last != before and last.finished_by_cutover:
        log.info("the task was finished by cutover at %s: nothing is left to be done", utc(last.at))
        return None
    return HeldTask(opened, lock, standby.retry(lambda: planned(config, workers, opened, lock)))


def _first_here(config: Config, stack: contextlib.ExitStack) -> bool:
    """Whether no other supervisor of this machine runs the task; then the pid file is held."""
    try:
        stack.enter_context(pidfile.hold(config.pid_path, config.id))
    except TaskRunning:
        return False
    return True


@contextlib.contextmanager
def _locked(
    opened: RunConnections,
    notice: Callable[[str], None],
    token: str = "",
    *,
    outlived: Callable[[], bool] = lambda: False,
) -> Iterator[TaskLock]:
    """Hold the task lock. A refusal behind it leaves no checkpoint database that it created.

    ``outlived``: see TaskLock.acquire.
    """
    with as_refusal(RunError):
        first = STATUS_TABLE not in opened.store.collections()
        lock = TaskLock.acquire(opened.store, notice=notice, token=token, outlived=outlived)
    with lock.held():
        try:
            yield lock
        except RefusedError:
            if first:
                with contextlib.suppress(ShakeError):
                    lock.discard()
            raise
