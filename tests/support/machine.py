"""Runs that seem to be on another machine, runs that are frozen, and a task lock that ends soon."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import psutil

from tests.support.crash import runs
from tests.support.migration import Migration
from tests.support.wait import until

#: The task lock with short times, for the Python that a supervisor runs first.
SHORT_LOCK = (
    "from shake.checkpoint import task_lock as lease;"
    "lease.INTERVAL, lease.OVERDUE, lease.EXPIRY = 0.4, 0.8, 3;"
    "lease.STOP_BEFORE_EXPIRY, lease.POLL = 1, 0.2"
)
#: The name of the other machine.
OTHER = "elsewhere"
#: Gives a process another host name; without root, in a user namespace.
#: Source: unshare(2), CLONE_NEWUTS and CLONE_NEWUSER
_UNSHARE = (
    "import ctypes, os;"
    "libc = ctypes.CDLL(None, use_errno=True);"
    "assert not libc.unshare(0x04000000 | (0x10000000 if os.geteuid() else 0)), os.strerror("
    "ctypes.get_errno());"
    f"assert not libc.sethostname(b'{OTHER}', {len(OTHER)})"
)
#: A run on another machine, for the Python that a supervisor runs first.
ELSEWHERE = f"{_UNSHARE};{SHORT_LOCK}"


def why_no_other_machine() -> str:
    """Why this kernel gives a process no other host name; empty where it does."""
    tried = subprocess.run([sys.executable, "-c", _UNSHARE], capture_output=True, text=True)
    return tried.stderr.strip().rpartition("\n")[2] if tried.returncode else ""


class Frozen:
    """Processes that are stopped (SIGSTOP) until ``thaw``."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self.processes = processes
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in processes))

    @classmethod
    def whole(cls, migration: Migration) -> Frozen:
        """The last run: its supervisor, which then starts no more children, and all of these."""
        supervisor = psutil.Process(migration.running[-1].pid)
        frozen = cls([supervisor])
        frozen.processes += cls(supervisor.children()).processes
        return frozen

    def thaw(self) -> None:
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def gone(self) -> bool:
        """Whether none of them does anything any more."""
        return not any(map(runs, self.processes))
