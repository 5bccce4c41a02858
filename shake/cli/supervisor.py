"""``shake-supervisor``: runs a migration, or tells what it would do."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from setproctitle import setproctitle

from shake import __version__
from shake.checkpoint import pidfile
from shake.checkpoint.lease import Lease
from shake.checkpoint.records import Progress
from shake.checkpoint.store import Store, open_store
from shake.config import Config, Redactor, load
from shake.errors import RefusedError, RunError, ShakeError
from shake.farm.supervisor import Ending, Supervisor
from shake.plan import Plan, describe
from shake.preflight import make_plan
from shake.source.client import Client, Endpoint
from shake.source.session import CredentialSource, open_source
from shake.status.logs import logging_to
from shake.status.profile import profile_server
from shake.status.progress import Reporter, make_reporter
from shake.status.server import status_server
from shake.status.snapshot import Snapshot
from shake.status.summary import FULL_SYNC_DONE, summary
from shake.target import open_target

log = logging.getLogger("shake")

#: Seconds between two pictures on a terminal, and between two snapshots elsewhere.
_TERMINAL_SECONDS = 0.5
_QUIET_SECONDS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (contract, section 1)."""
    options = _parser().parse_args(argv)
    redactor = Redactor(())
    debug = False
    try:
        loaded = load(options.conf, os.environ, options.set)
        config = loaded.config
        redactor = Redactor(config.secrets())
        debug = config.log_level == "debug"
        if options.print_config:
            print("\n".join(config.effective_lines()))
            return 0
        setproctitle(f"shake: supervisor {config.id}")
        workers = options.workers or len(os.sched_getaffinity(0))
        reporter = make_reporter(sys.stdout)
        with logging_to(
            config.log_file, config.log_level, config.log_buffer, redactor, reporter.print
        ):
            for notice in loaded.notices:
                log.info("%s", notice)
            if options.dry_run:
                return _dry_run(config, workers)
            return _run(config, workers, reporter)
    except ShakeError as error:
        if debug:
            traceback.print_exc()
        print(f"shake-supervisor: {redactor.redact(str(error))}", file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shake-supervisor",
        description="Copies DynamoDB tables into MongoDB. A run that was stopped, or killed, goes "
        "on where it was when it is started again.",
    )
    # NimoShake's users type -conf=FILE.
    parser.add_argument("--conf", "-conf", metavar="FILE", help="configuration file")
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="worker processes (default: the CPUs this process may use)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a configuration key; beats environment (SHAKE_KEY) and file",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check, print the plan, change nothing"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective configuration"
    )
    parser.add_argument("--version", action="version", version=f"shake {__version__}")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


@dataclass(frozen=True)
class Task:
    """Everything that a run needs and pre-flight has opened."""

    endpoint: Endpoint
    credentials: CredentialSource
    store: Store
    progress: Progress


@contextlib.contextmanager
def _open(config: Config) -> Iterator[Task]:
    endpoint, credentials = open_source(config)
    with contextlib.closing(open_store(config)) as store:
        yield Task(endpoint, credentials, store, Progress(store))


def _plan(config: Config, workers: int, task: Task) -> Plan:
    stop = threading.Event()
    client = Client(
        task.endpoint,
        task.credentials,
        on_retry=lambda retry: log.info("%s: %s; it is tried again", retry.operation, retry.reason),
        stop=stop,
        random=random.Random(),
    )
    target = open_target(config, stop=stop, on_retry=lambda reason: log.info("%s", reason))
    with contextlib.closing(client), contextlib.closing(target):
        lanes = workers * config.full_document_parser
        return make_plan(config, lanes, client=client, target=target, progress=task.progress)


def _dry_run(config: Config, workers: int) -> int:
    with _open(config) as task:
        plan = _plan(config, workers, task)
    print("\n".join(describe(plan, config, workers)))
    return 3 if plan.refusals else 0


def _run(config: Config, workers: int, reporter: Reporter) -> int:
    with (
        pidfile.hold(config.pid_path, config.id),
        _open(config) as task,
        _hold_lease(task.store) as lease,
    ):
        plan = _plan(config, workers, task)
        if plan.refusals:
            more = f" (and {len(plan.refusals) - 1} more: --dry-run shows all)"
            raise RefusedError(plan.refusals[0] + (more if len(plan.refusals) > 1 else ""))
        for warning in plan.warnings:
            log.warning("%s", warning)
        if plan.complete:
            names = ", ".join(table.table.name for table in plan.tables)
            reporter.print(f"the full copy is complete already, nothing is to be done: {names}")
            return 0
        if task.progress.status() is None:
            task.progress.set_status("full_sync")
        return _supervise(config, workers, reporter, task, lease, plan)


@contextlib.contextmanager
def _hold_lease(store: Store) -> Iterator[Lease]:
    lease = Lease.acquire(store, notice=log.warning)
    try:
        yield lease
    finally:
        with contextlib.suppress(RunError):
            lease.release()


def _supervise(
    config: Config, workers: int, reporter: Reporter, task: Task, lease: Lease, plan: Plan
) -> int:
    shown: list[Snapshot] = []

    def show(snapshot: Snapshot) -> None:
        shown[:] = [snapshot]
        reporter.tick(snapshot, time.monotonic())

    supervisor = Supervisor(
        config,
        plan,
        workers,
        endpoint=task.endpoint,
        credentials=task.credentials,
        progress=task.progress,
        lease=lease,
        show=show,
        refresh=_TERMINAL_SECONDS if sys.stdout.isatty() else _QUIET_SECONDS,
        redact=Redactor(config.secrets()).redact,
    )
    show(supervisor.snapshot())
    with contextlib.ExitStack() as servers:
        access = (config.http_bind, config.http_token)
        if config.http_profile >= 0:
            page = status_server(lambda: shown[0], access[0], config.http_profile, access[1])
            servers.enter_context(page)
        if config.system_profile is not None:
            profile = supervisor.diagnostics.gather
            servers.enter_context(
                profile_server(profile, access[0], config.system_profile, access[1])
            )
        ending = supervisor.run()
    reporter.close(shown[0])
    for line in summary(shown[0]):
        reporter.print(line)
    return _tell(ending, shown[0], reporter)


def _tell(ending: Ending, last: Snapshot, reporter: Reporter) -> int:
    """Say how it ended: ``full sync done!`` on stdout, or the one clear line on stderr."""
    if ending.status:
        raise RunError(ending.line)
    if last.state == "finished":
        reporter.print(FULL_SYNC_DONE)
    else:
        log.info("%s", ending.line)
    return 0
