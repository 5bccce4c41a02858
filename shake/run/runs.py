"""Carries out one plan after another, until a run of the task has ended for good."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from shake.checkpoint.checks import Checks
from shake.checkpoint.task_lock import TaskLock
from shake.errors import GapError, RefusedError, RunError, ShakeError
from shake.plan.origins import save_identities
from shake.plan.plan import Plan
from shake.plan.positions import StreamPosition, choose_positions
from shake.process.site import Sites
from shake.process.ulimits import refused_where_short
from shake.run.connections import RunConnections
from shake.run.oversight import Oversight
from shake.run.parts import RunOptions, RunResources
from shake.run.planning import planned, scanners_at_once
from shake.run.resync import Resync
from shake.run.shutdown import Ending, keep_status
from shake.run.status_pages import Asked, StatusPages
from shake.run.supervisor import TaskRun
from shake.run.target_sessions import end_repairs, replaced_fenced
from shake.source.clock import NO_DATE
from shake.source.contract import Source
from shake.status.summary import FULL_SYNC_DONE, summary
from shake.status.wrapping import wrapped

log = logging.getLogger("shake")


class Ended(RunError):
    """The run has ended badly, as its ending says."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.exit_status = ending.status
        super().__init__(ending.line)


@dataclass(slots=True)
class Runs:
    """The runs of one process. After a gap, for other sites, and after outages all is planned anew.

    ``lock`` is held, and ``options.workers`` are those that ``sites`` have room for.
    """

    options: RunOptions
    pages: StatusPages
    opened: RunConnections
    lock: TaskLock
    sites: Sites
    oversight: Oversight
    _resync: Resync = field(init=False)

    def __post_init__(self) -> None:
        config, workers = self.options.config, self.options.workers
        scanners = scanners_at_once(config, workers)
        self._resync = Resync(config, scanners, self.opened.checkpoints, self.lock)

    def carry_out(self, first: Plan) -> Ending | None:
        """Carry out the first plan; how the last run ended, None where a signal came between.

        Raises Ended for a run that has ended badly.
        """
        plan: Plan | None = first
        try:
            while True:
                with self._resync.waiting_out_outages():
                    self.sites.wait()
                    self.options = options = replace(self.options, workers=self.sites.workers)
                    plan = plan or planned(options.config, options.workers, self.opened, self.lock)
                    if ending := self._run(plan):
                        return ending
                plan = None
        except RefusedError as error:
            if not self._resync.begun:
                raise
            raise RunError(f"the task cannot go on: {error}") from error  # something was changed
        except KeyboardInterrupt:  # while no supervisor handles signals
            if self.options.until_consistent:
                text = "stopped before all was consistent: start again to go on"
                raise RunError(text) from None
            log.info("stopped: what is done is saved, start again to go on")
            return None

    def _run(self, plan: Plan) -> Ending | None:
        """Carry out the plan; its good end, None where all is to be planned anew."""
        config, checkpoints = self.options.config, self.opened.checkpoints
        with contextlib.ExitStack() as stack:
            with refused_where_short():
                self.pages.begin(plan, self.oversight)
            self._resync.begun = True
            checkpoints.take_number([one.table.name for one in plan.tables], self.lock.renew)
            save_identities(checkpoints, plan, self.lock.check)
            watch, positions = stack.enter_context(self._watching(plan))
            end_repairs(config, checkpoints, plan, positions)
            stack.enter_context(replaced_fenced(config, checkpoints, plan, positions))
            ending = self._supervise(plan, watch, positions)
            last = self.pages.last
            self._resync.look(last)
            if ending.regroup:
                return None
            if ending.gap:
                try:
                    self._mark(ending.gap, plan)
                    return None
                except ShakeError as error:
                    ending = replace(ending, status=error.exit_status, line=str(error))
                    self.pages.last = replace(last, state="failed", reason=str(error))
            self._report(plan, ending)
            return ending

    @contextlib.contextmanager
    def _watching(self, plan: Plan) -> Iterator[tuple[Source, dict[str, StreamPosition]]]:
        """A client for the streams, and where each is read from: durable before the copy."""
        opened, stop = self.opened, threading.Event()
        watch = opened.client(stop)
        with contextlib.closing(watch), contextlib.ExitStack() as stack:
            stack.callback(stop.set)
            ours, now = self.lock.check, opened.clock.earliest
            positions = choose_positions(
                self.options.config, watch, opened.checkpoints, plan, ours, now
            )
            if opened.clock.dated is False:
                log.warning("%s", NO_DATE)
            yield watch, positions

    def _supervise(self, plan: Plan, watch: Source, positions: dict[str, StreamPosition]) -> Ending:
        """The end of the run, which the pages have shown."""
        pages, opened = self.pages, self.opened
        resources = RunResources(
            opened=opened,
            watch=watch,
            positions=positions,
            lock=self.lock,
            screen=pages,
            desk=self.oversight.desk,
            sites=self.sites,
        )
        run = TaskRun(self.options, plan, resources)
        pages.show(run.snapshot())
        pages.asked = Asked(
            fresh=run.look,
            reports=run.diagnostics.gather,
            poll_quickly=run.poll_quickly,
            check=Checks(opened.store).load_status,
        )
        try:
            if opened.checkpoints.status() is None:
                self.lock.check()
                opened.checkpoints.set_status("full_sync")
            return run.run()
        finally:
            pages.asked = Asked()
            self.options.reporter.close(pages.last)

    def _mark(self, gap: GapError, plan: Plan) -> None:
        with contextlib.closing(self.opened.client(threading.Event())) as client:
            while True:
                with self._resync.waiting_out_outages():
                    self._resync.mark(gap, plan, client)
                    return

    def _report(self, plan: Plan, ending: Ending) -> None:
        """How it went; the page stays for ``linger_seconds`` after a good end."""
        options, pages, last = self.options, self.pages, self.pages.last
        if ending.status:
            pages.hurry = keep_status(ending.status)
        finished = last.state == "finished"
        self.oversight.end(ending.status, ending.line or last.state, complete=finished)
        for line in wrapped(summary(last, options.width), options.width):
            options.reporter.print(line)
        if ending.status:
            raise Ended(ending)
        if not finished or plan.follows:
            if options.config.log_file:  # else it stands above the summary's figures
                log.info("%s", ending.line)
        elif not options.config.sync_schema_only:
            options.reporter.print(FULL_SYNC_DONE)
        if finished or plan.follows:  # what follows ends well when it is stopped, too
            options.on_good_end()
        pages.hurry = keep_status(0)
