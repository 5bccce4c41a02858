"""One run of a task from its start to its end: takes the task lock, and starts the supervisor."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

from shake.checkpoint import pidfile
from shake.checkpoint.checks import Checks
from shake.checkpoint.holder import Life
from shake.checkpoint.records import STATUS_TABLE
from shake.checkpoint.task_lock import TaskLock
from shake.config import Config
from shake.errors import GapError, RefusedError, RunError, ShakeError, TaskRunning, refuse
from shake.plan.origins import save_identities
from shake.plan.plan import Plan
from shake.plan.positions import StreamPosition, choose_positions
from shake.plan.preflight import spreading_problems
from shake.plan.report import Facts, make_report
from shake.plan.text import brief
from shake.process.site import Alone, Sites
from shake.process.ulimits import check_files
from shake.run.connections import RunConnections, open_connections
from shake.run.oversight import Oversight, overseen
from shake.run.parts import RunOptions, RunResources
from shake.run.planning import checked, first_plan, planned, scanners_at_once, writers_at_once
from shake.run.resync import Resync
from shake.run.sessions import end_repairs, replaced_fenced
from shake.run.shutdown import Ending, keep_status
from shake.run.standby import Standby
from shake.run.status_pages import Asked, StatusPages
from shake.run.supervisor import Supervisor
from shake.source.clock import NO_DATE
from shake.source.contract import Source
from shake.status.figures import utc
from shake.status.snapshot import Snapshot
from shake.status.summary import FULL_SYNC_DONE, summary
from shake.status.wrapping import wrapped

log = logging.getLogger("shake")


def run(options: RunOptions) -> None:
    """Run the task to its end.

    Raises ShakeError, with the exit status, for every bad end; a task that was stopped by a signal
    has ended well.
    """
    check_files(options.workers, writers_at_once(options.config, options.workers))
    with StatusPages(options.config, options.reporter) as pages:
        try:
            ending = _run(options, pages)
        except Ended as ended:
            pages.linger(ended.ending, options.linger_seconds)
            raise
        if ending:
            pages.linger(ending, options.linger_seconds)


def _run(options: RunOptions, pages: StatusPages) -> Ending | None:
    """Run the task; how it ended, None where nothing was to be done."""
    config = options.config
    with contextlib.ExitStack() as stack:
        sites: Sites = Alone(options.workers)
        spread = options.open_sites is not None
        if options.open_sites:
            refuse(spreading_problems(config))
            sites = stack.enter_context(options.open_sites())
        sites.wait()
        options = replace(options, workers=sites.workers)
        workers = options.workers
        if options.standby:
            taken = _take_over(config, workers, stack)
            if taken is None:
                return None
            opened, lock, plan = taken
        else:
            stack.enter_context(pidfile.hold(config.pid_path, config.id))
            opened = stack.enter_context(open_connections(config, spread=spread))
            lock = stack.enter_context(_hold_lock(config, workers, opened))
            plan = planned(config, workers, opened, lock)
        for warning in plan.warnings:
            log.warning("%s", warning)
        for line in brief(make_report(config, plan, Facts(opened.endpoint, workers, time.time()))):
            log.info("%s", line)
        if plan.complete and not plan.follows:
            save_identities(opened.checkpoints, plan, lock.check)
            names = ", ".join(table.table.name for table in plan.tables)
            options.reporter.print(
                f"the full copy is complete already, nothing is to be done: {names}"
            )
            return None
        resync = Resync(config, scanners_at_once(config, workers), opened.checkpoints, lock)
        oversight = stack.enter_context(overseen(config, opened.checkpoints, lock))
        try:
            return _carry_out(options, pages, opened, lock, plan, resync, oversight, sites)
        except RefusedError as error:
            if not resync.met:
                raise
            raise RunError(f"the task cannot go on: {error}") from error  # something was changed
        except KeyboardInterrupt:  # while no supervisor handles signals
            if not resync.met or options.until_consistent:
                raise
            log.info("stopped: what is done is saved, start again to go on")
            return None


def _take_over(
    config: Config, workers: int, stack: contextlib.ExitStack
) -> tuple[RunConnections, TaskLock, Plan] | None:
    """Wait until no other supervisor runs this task; then take its lock, and plan.

    None where that one has finished the task by cutover: to go on would undo what users do since.
    All is checked first: a standby that could not go on with the task is refused at once.
    """
    standby, token = Standby(), uuid.uuid4().hex
    with open_connections(config) as opened:
        before = opened.checkpoints.load_summary()
        alone = _first_here(config, stack)  # then the page of a run that has ended gives way
        checked(first_plan(config, workers, opened, ports=alone))
    if not alone:
        standby.retry(lambda: stack.enter_context(pidfile.hold(config.pid_path, config.id)))
    opened = standby.retry(lambda: stack.enter_context(open_connections(config)))
    lock = standby.retry(lambda: stack.enter_context(_acquire(opened, standby.notice, token)))
    last = standby.retry(opened.checkpoints.load_summary)
    # A run that ended early has not replaced the summary of the run before it.
    if last and last != before and last.finished_by_cutover:
        log.info("the task was finished by cutover at %s: nothing is left to be done", utc(last.at))
        return None
    return opened, lock, standby.retry(lambda: planned(config, workers, opened, lock))


def _first_here(config: Config, stack: contextlib.ExitStack) -> bool:
    """Whether no other supervisor of this machine runs the task; then the pid file is held."""
    try:
        stack.enter_context(pidfile.hold(config.pid_path, config.id))
    except TaskRunning:
        return False
    return True


def _carry_out(
    options: RunOptions,
    pages: StatusPages,
    opened: RunConnections,
    lock: TaskLock,
    first: Plan,
    resync: Resync,
    oversight: Oversight,
    sites: Sites,
) -> Ending:
    """Carry out the first plan.

    All is planned anew after a gap, for other sites, and after what may pass then.
    """
    plan: Plan | None = first
    while True:
        with resync.waiting_out_outages():
            sites.wait()
            options = replace(options, workers=sites.workers)
            plan = plan or planned(options.config, options.workers, opened, lock)
            if ending := _run_plan(options, pages, opened, lock, plan, resync, oversight, sites):
                return ending
        plan = None


def _run_plan(
    options: RunOptions,
    pages: StatusPages,
    opened: RunConnections,
    lock: TaskLock,
    plan: Plan,
    resync: Resync,
    oversight: Oversight,
    sites: Sites,
) -> Ending | None:
    """Carry out the plan; its good end, None where all is to be planned anew, as by a restart."""
    config = options.config
    with contextlib.ExitStack() as stack:
        pages.begin(plan, oversight)
        save_identities(opened.checkpoints, plan, lock.check)
        watch, positions = stack.enter_context(_watching(config, opened, lock, plan))
        end_repairs(config, opened.checkpoints, plan, positions)
        stack.enter_context(replaced_fenced(config, opened.checkpoints, plan, positions))
        resources = RunResources(
            endpoint=opened.endpoint,
            credentials=opened.credentials,
            watch=watch,
            positions=positions,
            checkpoints=opened.checkpoints,
            lock=lock,
            screen=pages,
            desk=oversight.desk,
            sites=sites,
        )
        ending, last = _supervised(options, plan, resources, pages, Checks(opened.store))
        resync.look(last)
        if ending.regroup:
            resync.met = True
            pages.last = last
            return None
        if ending.gap:
            try:
                _mark(ending.gap, opened, plan, resync)
                return None
            except ShakeError as error:
                ending = replace(ending, status=error.exit_status, line=str(error))
                last = replace(last, state="failed", reason=str(error))
        pages.last = last
        _report_ending(options, plan, ending, pages, oversight)
        return ending


def _report_ending(
    options: RunOptions, plan: Plan, ending: Ending, pages: StatusPages, oversight: Oversight
) -> None:
    """How it went; the page stays for as long as ``linger`` says after a good end."""
    last = pages.last
    if ending.status:
        pages.hurry = keep_status(ending.status)
    oversight.end(ending.status, ending.line or last.state, complete=last.state == "finished")
    for line in wrapped(summary(last, options.width), options.width):
        options.reporter.print(line)
    if ending.status:
        raise Ended(ending)
    if last.state != "finished" or plan.follows:
        if options.config.log_file:  # else it stands above the summary's figures
            log.info("%s", ending.line)
    elif not options.config.sync_schema_only:
        options.reporter.print(FULL_SYNC_DONE)
    if last.state == "finished" or plan.follows:  # what follows ends well when it is stopped, too
        options.linger()
    pages.hurry = keep_status(0)


def _mark(gap: GapError, opened: RunConnections, plan: Plan, resync: Resync) -> None:
    with contextlib.closing(opened.client(threading.Event())) as client:
        while True:
            with resync.waiting_out_outages():
                resync.mark(gap, plan, client)
                return


class Ended(RunError):
    """The run has ended badly, as its ending says."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.exit_status = ending.status
        super().__init__(ending.line)


def _hold_lock(
    config: Config, workers: int, opened: RunConnections
) -> contextlib.AbstractContextManager[TaskLock]:
    """Take the task lock.

    The checks come first where a run that might be alive would be ended, and where this is the
    first run: a start that is refused does not create the checkpoint database. Where it is refused
    afterwards, for what has changed meanwhile, it leaves none behind.
    """
    _, life = TaskLock.holder(opened.store)
    if life is Life.UNKNOWN or STATUS_TABLE not in opened.store.collections():
        checked(first_plan(config, workers, opened, ports=True))
    return _acquire(opened, log.warning)


@contextlib.contextmanager
def _acquire(
    opened: RunConnections, notice: Callable[[str], None], token: str = ""
) -> Iterator[TaskLock]:
    """Hold the task lock. A refusal behind it leaves no checkpoint database that it created."""
    first = STATUS_TABLE not in opened.store.collections()
    try:
        held = TaskLock.acquire(opened.store, notice=notice, token=token).held()
    except RunError as error:  # nothing has run yet
        raise RefusedError(str(error), passes=error.passes) from error
    with held as lock:
        try:
            yield lock
        except RefusedError:
            if first:
                with contextlib.suppress(ShakeError):
                    lock.discard()
            raise


@contextlib.contextmanager
def _watching(
    config: Config, opened: RunConnections, lock: TaskLock, plan: Plan
) -> Iterator[tuple[Source, dict[str, StreamPosition]]]:
    """A client for the streams, and where each is read from: that is durable before the copy."""
    stop = threading.Event()
    watch = opened.client(stop)
    with contextlib.closing(watch), contextlib.ExitStack() as stack:
        stack.callback(stop.set)
        positions = choose_positions(
            config, watch, opened.checkpoints, plan, lock.check, opened.clock.earliest
        )
        if opened.clock.dated is False:
            log.warning("%s", NO_DATE)
        yield watch, positions


def _supervised(
    options: RunOptions, plan: Plan, resources: RunResources, pages: StatusPages, checks: Checks
) -> tuple[Ending, Snapshot]:
    """The end of the run, which has been shown."""
    supervisor = Supervisor(options, plan, resources)
    pages.show(supervisor.snapshots.take())
    pages.asked = Asked(
        *(supervisor.snapshots.look, supervisor.diagnostics.gather, supervisor.poll_quickly),
        checks.load_status,
    )
    if resources.checkpoints.status() is None:
        resources.lock.check()
        resources.checkpoints.set_status("full_sync")
    try:
        ending = supervisor.run()
    finally:
        pages.asked = Asked()
        options.reporter.close(pages.last)
    return ending, pages.last
