"""Plans a run: for a dry run, before the task lock is held, and under it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace

from shake.checkpoint.contract import StoreUnavailable
from shake.checkpoint.holder import Life
from shake.checkpoint.standing import Run, standing
from shake.checkpoint.task_lock import TaskLock
from shake.config import Config
from shake.errors import RunError, as_refusal, refuse
from shake.phase import Phase
from shake.plan.plan import Plan, TablePlan
from shake.plan.preflight import gap_warnings, local_problems, make_plan, spreading_problems
from shake.plan.profile import take_profiles
from shake.plan.report import Facts, PlanReport, make_report
from shake.plan.sample import take_samples
from shake.process.ulimits import files_problem
from shake.run.connections import RunConnections, open_connections
from shake.run.status_pages import page_stays
from shake.targets.choice import open_target

log = logging.getLogger("shake")


def dry_run(config: Config, workers: int, profile: int = 0, nodes: str = "") -> PlanReport:
    """The plan of a run, which is not begun: nothing is changed anywhere.

    ``nodes``: on which machines its workers run, "" for this one.

    Where nothing stands against the run, a few items of each table are read, to know their size in
    the target; and so many for its profile.
    """
    with (
        open_connections(config, spread=bool(nodes)) as opened,
        contextlib.closing(opened.client(threading.Event())) as source,
    ):
        plan = _plan(config, workers, opened)
        refusals = list(plan.refusals)
        gaps = () if refusals else gap_warnings(source, plan)
        with as_refusal(RunError):
            holder, life = TaskLock.holder(opened.store)
            if life is Life.UNKNOWN:  # on another machine: it is watched, as a start does
                stood = standing(opened.store)
                holder = stood.holder if stood.run in (Run.STARTING, Run.RUNNING) else None
        if holder and life is not Life.GONE:
            refusals.append(f"this task is already run by {holder}: stop that one first")
        # A run has the ports while it is alive, and its page gives way when the next one starts.
        ports = life is not Life.ALIVE and not page_stays(config)
        refusals += local_problems(config, ports=ports)
        refusals += filter(None, [files_problem(workers, writers_at_once(config, workers))])
        plan = replace(plan, refusals=tuple(refusals), warnings=(*plan.warnings, *gaps))
        facts = Facts(opened.endpoint, workers, time.time(), nodes=nodes)
        if not plan.refusals:
            facts = replace(facts, samples=take_samples(config, source, plan.tables))
            if profile:
                taken = take_profiles(config, source, plan.tables, profile)
                facts = replace(facts, profiles=taken)
        return make_report(config, plan, facts)


def first_plan(config: Config, workers: int, opened: RunConnections, *, ports: bool) -> Plan:
    """The plan before the lock is held; with ``ports``, that they are free is checked too."""
    plan = _plan(config, workers, opened)
    return replace(plan, refusals=(*plan.refusals, *local_problems(config, ports=ports)))


def planned(config: Config, workers: int, opened: RunConnections, lock: TaskLock) -> Plan:
    """The plan, which a late command of an earlier run cannot make wrong before it is begun.

    A late rename can give an unfinished copy the final name. So one that is to be begun again is
    removed first, and then planned. What stands against the plan counts only while this run has the
    task: else it is what another run has made.
    """
    plan = _plan(config, workers, opened)
    with as_refusal(StoreUnavailable):  # but not a lock that is lost
        lock.check()
    return checked(_plan(config, workers, opened)) if sweep(config, checked(plan)) else plan


def checked(plan: Plan) -> Plan:
    refuse(plan.refusals)
    return plan


def _plan(config: Config, workers: int, opened: RunConnections) -> Plan:
    stop = threading.Event()
    client = opened.client(stop)
    target = open_target(config, stop=stop, on_retry=lambda reason: log.info("%s", reason))
    with contextlib.closing(client), contextlib.closing(target), as_refusal(RunError):
        scanners, checkpoints = scanners_at_once(config, workers), opened.checkpoints
        plan = make_plan(config, scanners, source=client, target=target, checkpoints=checkpoints)
        if opened.spread:
            names = [table.table.name for table in plan.tables]
            kept = sum(one.items for one in checkpoints.kept_tallies(names).values())
            problems = spreading_problems(config, target, kept)
            plan = replace(plan, refusals=(*plan.refusals, *problems))
        return plan


def sweep(config: Config, plan: Plan) -> bool:
    """Remove what late commands of earlier runs have created, where no writer is to do it.

    A writer does it when it has taken over a staging collection, and before it applies changes.
    Returns whether an unfinished copy was removed too, which is to be begun again.
    """
    swept = [one for one in plan.tables if one.record.staged and _swept_first(one)]
    if not swept:
        return False
    target = open_target(config, stop=threading.Event(), on_retry=log.info)
    with contextlib.closing(target), as_refusal(RunError):
        for table in swept:
            copy = table.record.copy_run
            if staging := target.staging(table.namespace, table.table, copy, log.info):
                # Another process can have taken the number of an unfinished run by now.
                staging.sweep(published=table.record.published)
    return not all(one.record.published for one in swept)


def _swept_first(table: TablePlan) -> bool:
    if table.record.published:
        return table.stream is None
    if table.anew:  # another process can have taken over the unfinished copy, and can fill it
        return False
    return table.record.run > 0 and table.record.phase is Phase.PREPARING


def writers_at_once(config: Config, workers: int) -> int:
    """How many writers copy at once, as far as the configuration says it."""
    return config.full_concurrency * min(
        config.full_writers or 1, scanners_at_once(config, workers)
    )


def scanners_at_once(config: Config, workers: int) -> int:
    """How many segments the farm reads at once."""
    return workers * config.full_document_parser
