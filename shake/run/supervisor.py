"""The supervisor: the life of a run, from its start to its end. It never touches item data."""

from __future__ import annotations

import gc
import signal
import threading
import time

from shake.control.commands import Command, GetStatus, Reply
from shake.plan.plan import Plan
from shake.run.parts import RunOptions, RunResources
from shake.run.running_task import RunningTask
from shake.run.shutdown import Ending, keep_status
from shake.run.summaries import summarize

#: Seconds between checkpoints of a copy that moves.
_SAVE_SECONDS = 1.0
#: Seconds between looks at credentials that refresh themselves.
_CREDENTIAL_SECONDS = 10.0
#: Tables that are shown in a second.
_SHOWN_TABLES = 500


class TaskRun:
    """Runs a plan.

    Where ``until_consistent`` is set, the run ends when all tables are consistent: then every
    change made before the run started is applied.
    """

    def __init__(self, options: RunOptions, plan: Plan, resources: RunResources) -> None:
        self._refresh = options.refresh
        self._resources = resources
        self._lock = resources.lock
        self._until = resources.lock.until
        self._renewal = threading.Thread()  # of the credentials: the last one
        self._task = task = RunningTask(options, plan, resources)
        self._loop = task.loop
        self._parts = task.parts
        self._shutdown = task.shutdown
        self.snapshot, self.look = task.snapshot, task.look
        self.diagnostics = task.diagnostics

    def run(self) -> Ending:
        """Run to the end; return how it ended."""
        gc.unfreeze()  # what an earlier run in this process has left
        gc.collect()
        # As in a child: each page is some small objects and no cycle.
        gc.freeze()
        gc.set_threshold(1_000_000)
        loop = self._loop
        self._resources.opened.retries.take()  # what failed before has ended well
        loop.every(_SAVE_SECONDS, self._each_second)
        self._resources.desk.open(loop.post, self._execute)
        # A snapshot costs some 20 us a table: of many tables it is made less often.
        pause = max(self._refresh, len(self._parts.copies) / _SHOWN_TABLES)
        loop.every(pause, self._task.show)
        if self._resources.opened.credentials.refreshable:
            loop.every(_CREDENTIAL_SECONDS, self._renew_credentials)
        signals = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it ignored
            signals.append(signal.SIGHUP)
        with loop.signals(signals, self._shutdown.signalled):
            self._parts.sites.attach(loop, self._task)
            self._parts.pool.start()
            self._parts.checkpointer.start()
            self._parts.follow_phases.start()
            self._parts.copy_phases.begin_tables()
            self._task.limit_kept()
            loop.run(self._over)
            self._resources.desk.close()
            self._end()
            while self._shutdown.ending.goes_on and not self._closed and loop.signalled is None:
                time.sleep(0.1)  # the next run must not begin before all of this one is closed
            if not self._shutdown.ending.goes_on:
                keep_status(self._shutdown.ending.status)
        if self._shutdown.ending.goes_on and loop.signalled is not None:
            self._shutdown.stop_instead(loop.signalled)  # a later signal raises an exception
            self._task.show()
        elif loop.signalled is not None:
            self._shutdown.asked()
        return self._shutdown.ending

    def _end(self) -> None:
        """End all processes, and save what came since the last time."""
        parts = self._parts
        errors = "; ".join(copy.error for copy in parts.copies if copy.error)
        self._shutdown.end(errors if parts.copy_phases.over else "")
        for process in parts.writing:
            process.dismiss()
        parts.pool.close()
        for process in parts.writing:
            process.reap()
        parts.follow_phases.close()
        self._save()
        if not parts.checkpointer.close(timeout=1.0):
            self._shutdown.missed("the checkpoint store")
        ending, loop = self._shutdown.ending, self._loop
        parts.sites.end(lambda: not ending.goes_on or loop.signalled is not None)
        self._task.show()

    def _over(self) -> bool:
        if self._shutdown.running:
            return self._parts.complete
        if self._shutdown.late:
            if not (self._drained and self._parts.checkpointer.idle):
                self._shutdown.missed(self._awaited)
            return True
        if not self._drained:
            return False
        self._save()
        return self._parts.checkpointer.idle

    @property
    def _drained(self) -> bool:
        return self._parts.pool.ledger.drained

    @property
    def _awaited(self) -> str:
        """What has not answered in time, and through which nodes: one of them can be cut off."""
        if self._drained:
            return "the checkpoint store"
        nodes = ", ".join(filter(None, self._parts.pool.awaited))
        return f"the target (asked by node {nodes})" if nodes else "the target"

    @property
    def _closed(self) -> bool:
        return self._parts.follow_phases.closed and not self._parts.checkpointer.is_alive()

    def _save(self) -> None:
        self._parts.checkpointer.save_segments(self._parts.copies)
        self._parts.follow_phases.save()

    def _each_second(self) -> None:
        """Each second: save what has moved, and send on what waited for the task lock."""
        for text in self._resources.opened.retries.take():
            self._task.retrying(text)
        if self._parts.checkpointer.idle:
            self._save()
        self._parts.guard.release()
        if (until := self._lock.until) != self._until:
            self._until = until
            for process in self._parts.writing:
                process.extend()
        self._task.steering.each_second()
        self._task.fitness.each_second()
        if self._task.ends_when_consistent and self._parts.follow_phases.active:
            self._parts.follow_phases.poll_quickly()

    def _execute(self, command: Command) -> Reply:
        """Carry out a command, and show what it has changed."""
        if isinstance(command, GetStatus):
            return Reply(True, "", summarize(self.snapshot(), "").document())
        reply = self._task.steering.execute(command)
        self._task.show()
        return reply

    def _renew_credentials(self) -> None:
        if self._renewal.is_alive():  # what gives them does not answer
            return
        source = self._resources.opened.credentials

        def fetch() -> None:
            fresh = source()
            self._loop.post(lambda: self._parts.pool.renew_credentials(fresh))
            if problem := source.problem:
                self._loop.post(lambda: self._task.retrying(problem))

        self._renewal = threading.Thread(target=fetch, name="credentials", daemon=True)
        self._renewal.start()

    # ---- for other threads

    def poll_quickly(self) -> None:
        """``/ready`` was asked."""
        self._loop.post(self._parts.follow_phases.poll_quickly)
