"""Starts several children of one module that share the memory of what they import."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import time
from typing import Protocol

from shake.process.spawn import execute, spawn

#: Source: https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
_SET_CHILD_SUBREAPER = 36
#: Seconds between two looks whether a process has ended.
_LOOK_EVERY = 0.02


class Process(Protocol):
    """A child process, as subprocess.Popen has it."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Adopted:
    """A child that another child has forked before it ended: a Process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def kill(self) -> None:
        """Kill it, unless it has ended and was waited for: its number can be another process's."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self._status is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            else:
                time.sleep(_LOOK_EVERY)
        return self._status


def spawn_many(module: str, count: int) -> list[tuple[Process, socket.socket]]:
    """Start so many children, as shake.process.spawn does; each with a socket to it.

    A process that has no other thread imports the module, forks them, and ends: see
    shake.process.template. They become children of this process then. A system that has no such
    adoption starts each of them alone. Raises OSError if the machine lacks the resources.
    """
    if count < 2 or not _adopt_orphans():
        return [spawn(module) for _ in range(count)]
    pairs = [socket.socketpair() for _ in range(count)]
    try:
        pids = _fork(module, tuple(theirs.fileno() for _, theirs in pairs))
    except OSError:
        for ours, _ in pairs:
            ours.close()
        raise
    finally:
        for _, theirs in pairs:
            theirs.close()
    return [(Adopted(pid), ours) for pid, (ours, _) in zip(pids, pairs, strict=True)]


def _fork(module: str, ends: tuple[int, ...]) -> list[int]:
    """The pids of children that have these ends of sockets. Raises OSError."""
    reading, writing = os.pipe()
    with open(reading, "rb") as answer:
        try:
            arguments = (str(writing), module, *map(str, ends))
            template = execute("shake.process.template", *arguments, descriptors=(writing, *ends))
        finally:
            os.close(writing)
        said = answer.read()
    template.wait()
    pids: list[int]
    pids, error = json.loads(said or f"[[], {errno.ECHILD}]")
    if error:
        for process in map(Adopted, pids):
            process.kill()
            process.wait()
        raise OSError(error, os.strerror(error))
    return pids


def _adopt_orphans() -> bool:
    """Have this process become the parent of what its children leave; False where it cannot."""
    with contextlib.suppress(OSError, AttributeError):
        return int(ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0
    return False
