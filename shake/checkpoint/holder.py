"""Who holds a task lock: which process of which machine, and whether it still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from shake.checkpoint.document import Record


class Life(Enum):
    """What is known of a process on this machine or another."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Holder(Record):
    """A process, identified so that no other one, past or future, is equal.

    ``start`` is the process's start in clock ticks since boot: unlike a date it does not move
    when the clock is set, so together with ``boot`` it shows that a ``pid`` was reused. ``boot`` is
    empty where the system does not show it.
    Source: proc_pid_stat(5), field 22
    """

    NAMES: ClassVar = {"boot": "BootId", "namespace": "PidNamespace", "start": "StartTicks"}

    host: str
    boot: str
    namespace: str
    pid: int
    start: int

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        start = _stat(pid)
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            namespace = os.readlink("/proc/self/ns/pid")
        except OSError:  # as where /proc is mounted with subset=pid
            start = None
        if start is None:  # others can only watch this one from afar, as one of another machine
            return cls(socket.gethostname(), "", "", pid, 0)
        return cls(socket.gethostname(), boot, namespace, pid, start[1])

    def life(self, seen_by: Holder) -> Life:
        """Whether this process runs, as seen by another one; on another machine: unknown."""
        here = (seen_by.host, seen_by.boot, seen_by.namespace)
        if not self.boot or (self.host, self.boot, self.namespace) != here:
            return Life.UNKNOWN
        found = _stat(self.pid)
        if found is None:
            return Life.UNKNOWN if _hidden(self.pid) else Life.GONE
        state, start = found
        return Life.GONE if state in "ZX" or start != self.start else Life.ALIVE

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}"


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process, None where /proc does not show it."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = line.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return fields[0], int(fields[19])


def _hidden(pid: int) -> bool:
    """Whether a process that /proc does not show may be there: hidepid hides those of others."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
