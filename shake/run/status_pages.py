"""Where a run is shown: its reporter, and its pages, which stay for a while after its end."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from math import isfinite

from shake.checkpoint.pidfile import pid_path
from shake.config import Config
from shake.phase import Phase
from shake.plan.plan import Plan
from shake.process.diagnosis import diagnose
from shake.process.messages import Diagnosis
from shake.run.oversight import Oversight
from shake.run.shutdown import Ending
from shake.status.figures import ENDED, duration
from shake.status.monitor import Monitor
from shake.status.progress import Reporter
from shake.status.routes import profile_server, status_server
from shake.status.snapshot import CheckStatus, Snapshot, TableStatus
from shake.status.summary import FULL_SYNC_DONE

log = logging.getLogger("shake")

#: Seconds without a new snapshot after which the supervisor counts as silent.
_SILENT_SECONDS = 15.0
#: Seconds in which the page of an ended run must answer, and bytes of its state that are read.
_PAGE_SECONDS, _MAX_STATE = 2.0, 20


@dataclass(slots=True)
class Asked:
    """Whom the pages ask: the supervisor and the checkpoint store, while they are there.

    ``fresh`` gives the present snapshot, None where the supervisor's loop does not answer.
    ``check`` returns the last status of a check of the task.
    """

    fresh: Callable[[], Snapshot | None] | None = None
    reports: Callable[[], list[Diagnosis]] = lambda: [diagnose("supervisor")]
    poll_quickly: Callable[[], None] = lambda: None
    check: Callable[[], CheckStatus | None] = lambda: None


@dataclass(slots=True)
class StatusPages:
    """The display of a run, and the servers of its pages; a context manager.

    ``last`` is what was shown last. ``hurry`` says whether a signal came after the end.
    """

    config: Config
    reporter: Reporter
    last: Snapshot = field(init=False)
    asked: Asked = field(default_factory=Asked)
    hurry: Callable[[], bool] = lambda: False
    _oversight: Oversight | None = None
    _follows: bool = False
    _shown: float = 0.0  # when, by the monotonic clock
    _servers: contextlib.ExitStack | None = None

    def __enter__(self) -> StatusPages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._servers:
            self._servers.close()

    def begin(self, plan: Plan, oversight: Oversight) -> None:
        """A plan is carried out. The first time, serve the pages.

        A port that is taken refuses the run, so this comes before any change.
        """
        self._follows = plan.follows
        self._oversight = oversight
        if self._servers is None:
            self.last = _waiting(self.config, plan)
            self._shown = time.monotonic()
            self._servers = contextlib.ExitStack()
            self._serve(self._servers, oversight)

    def _serve(self, servers: contextlib.ExitStack, oversight: Oversight) -> None:
        bind, token = self.config.http_bind, self.config.http_token
        if self.config.http_profile:
            monitor = servers.enter_context(Monitor(self._seen, lambda: self.asked.check()))
        for port in self.config.http_profile:
            server = status_server(
                self._look,
                bind,
                port,
                token,
                poll_quickly=lambda: self.asked.poll_quickly(),
                steer=oversight.desk.command,
                monitor=monitor,
            )
            servers.enter_context(server)
            log.info("status page: %s%s", _url(bind, port), " (needs http.token)" if token else "")
        if (profile := self.config.system_profile) is not None:
            servers.enter_context(
                profile_server(lambda: self.asked.reports(), bind, profile, token)
            )

    # ---- what has changed

    def show(self, snapshot: Snapshot) -> None:
        """Show the state of the task, which has changed."""
        self.last, self._shown = snapshot, time.monotonic()
        self.reporter.tick(snapshot, time.monotonic())
        if self._oversight:
            self._oversight.show(snapshot)

    def copied(self) -> None:
        """The full copy is complete."""
        if self._follows:  # else it is printed at the end
            self.reporter.print(FULL_SYNC_DONE)

    # ---- what the pages show

    def _look(self) -> Snapshot:
        """The present snapshot, asked of the supervisor."""
        if self.asked.fresh is None:
            return self.last
        return self.asked.fresh() or self._silent()

    def _seen(self) -> Snapshot:
        """The snapshot that was shown last, which costs the supervisor nothing."""
        hangs = self.asked.fresh and time.monotonic() - self._shown > _SILENT_SECONDS
        return self._silent() if hangs else self.last

    def _silent(self) -> Snapshot:
        if self.last.state not in ("running", "paused"):
            return self.last
        return replace(self.last, state="degraded", reason="the supervisor does not answer")

    # ---- after the end

    def linger(self, ending: Ending, seconds: float) -> None:
        """Keep the pages for so long, or until a signal comes; not after an end by a signal.

        A later run of the task on this machine needs their ports, so they go when it starts.
        """
        if ending.signalled or not self._servers or not self.config.http_profile:
            return
        end = time.monotonic() + seconds
        later = pid_path(self.config.pid_path, self.config.id)  # this run has removed its own
        if seconds:
            until = f"for {duration(seconds)}" if isfinite(seconds) else "until Ctrl-C"
            self.reporter.print(f"the status page stays up {until}")
        while not self.hurry() and time.monotonic() < end:
            if later.exists():
                return
            time.sleep(0.1)


def page_stays(config: Config) -> bool:
    """Whether the status page of a run that has ended is still up.

    No token is sent: another program can have the port.
    """
    return any(_shows_an_end(config.http_bind, port) for port in config.http_profile)


def _shows_an_end(bind: str, port: int) -> bool:
    connection = HTTPConnection(bind, port, timeout=_PAGE_SECONDS)
    with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
        connection.request("GET", "/healthz")
        return connection.getresponse().read(_MAX_STATE).decode(errors="replace").strip() in ENDED
    return False


def _waiting(config: Config, plan: Plan) -> Snapshot:
    """The task before anything was done."""
    tables = tuple(
        TableStatus(
            one.table.name,
            one.namespace,
            Phase.WAITING.value,
            expected_items=one.table.items,
            expected_bytes=one.table.bytes,
        )
        for one in plan.tables
    )
    now = time.time()
    return Snapshot(config.id, config.sync_mode, "running", now, 0.0, tables, time=now)


def _url(bind: str, port: int) -> str:
    """The address of a page; of all addresses of this machine, the one by its name."""
    host = socket.gethostname() if bind in ("0.0.0.0", "::") else bind
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
