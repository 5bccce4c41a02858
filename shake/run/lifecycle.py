"""Runs a task from its start to its end: takes it, shows the plan, and has it carried out."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace

from shake.checkpoint.task_lock import TaskLock
from shake.errors import refuse
from shake.plan.origins import save_identities
from shake.plan.plan import Plan
from shake.plan.preflight import spreading_problems
from shake.plan.report import Facts, make_report
from shake.plan.text import brief
from shake.process.site import OneMachine, Sites
from shake.process.ulimits import check_files, refused_where_short
from shake.run.holding import take, take_over
from shake.run.oversight import overseen
from shake.run.parts import RunOptions
from shake.run.planning import writers_at_once
from shake.run.runs import Ended, Runs
from shake.run.shutdown import Ending
from shake.run.status_pages import StatusPages

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
    with contextlib.ExitStack() as stack:
        with refused_where_short():
            begun = _begin(options, pages, stack)
        return begun[0].carry_out(begun[1]) if begun else None


def _begin(
    options: RunOptions, pages: StatusPages, stack: contextlib.ExitStack
) -> tuple[Runs, Plan] | None:
    """Take the task, until ``stack`` is closed; None where nothing is to be done."""
    config = options.config
    sites: Sites = OneMachine(options.workers)
    spread = options.open_sites is not None
    if options.open_sites:
        refuse(spreading_problems(config))
        sites = stack.enter_context(options.open_sites())
    sites.wait()
    options = replace(options, workers=sites.workers)
    if options.standby:
        held = take_over(config, options.workers, stack)
    else:
        held = take(config, options.workers, stack, spread=spread)
    if held is None:
        return None
    opened, lock, plan = held.opened, held.lock, held.plan
    stack.callback(_end_sites, sites, lock)
    for warning in plan.warnings:
        log.warning("%s", warning)
    nodes = "the nodes that have joined by now" if spread else ""
    facts = Facts(opened.endpoint, options.workers, time.time(), nodes=nodes)
    for line in brief(make_report(config, plan, facts)):
        log.info("%s", line)
    if plan.complete and not plan.follows:
        names = [table.table.name for table in plan.tables]
        opened.checkpoints.take_number(names, lock.renew)
        save_identities(opened.checkpoints, plan, lock.check)
        done = ", ".join(names)
        options.reporter.print(f"the full copy is complete already, nothing is to be done: {done}")
        return None
    oversight = stack.enter_context(overseen(config, opened.checkpoints, lock))
    return Runs(options, pages, opened, lock, sites, oversight), plan


def _end_sites(sites: Sites, lock: TaskLock) -> None:
    """Whatever has happened: release the task lock only when no site can write any more."""
    lock.let_expire()  # first: an error or an interrupt can cut off what follows
    if sites.end(lambda: True):
        lock.let_release()
