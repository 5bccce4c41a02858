"""Runs a program to its end, and measures it with all processes that it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving import ROOT

#: Seconds between two looks at the processes.
_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run took.

    ``cpu`` is exact: the kernel's own sum over the program and all its descendants. ``roles`` are
    CPU seconds by what a process is called, as last seen, so a little less. ``peak`` is bytes: the
    highest sum of PSS, in which memory that processes share counts once.
    """

    seconds: float
    cpu: float
    peak: int
    roles: Mapping[str, float]


class Failed(Exception):
    """A measured program did not end well; the message holds what it said."""


def measure(command: list[str], log: Path) -> Usage:
    """Run a command, its output in ``log``. Raises Failed where it does not exit with 0."""
    began = time.monotonic()
    with running(command, log) as process, _Watch(process.pid) as watch:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{' '.join(command)}: exit {process.returncode}\n{log.read_text()[-2000:]}")
    return Usage(seconds, usage.ru_utime + usage.ru_stime, watch.peak, watch.roles)


class _Watch:
    """Looks at a process and its descendants again and again, while it is entered."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._seen: dict[int, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def roles(self) -> dict[str, float]:
        """CPU seconds by the first word of what a process calls itself."""
        sums: dict[str, float] = {}
        for name, cpu in self._seen.values():
            kind = name.split()[0]
            sums[kind] = sums.get(kind, 0.0) + cpu
        return sums

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_EVERY):
            total = 0
            for each in family(self._pid):
                with contextlib.suppress(psutil.Error):
                    self._seen[each.pid] = role(each), cpu_seconds(each)
                    total += memory(each)
            self.peak = max(self.peak, total)


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is killed at the end, where it still runs; no setting of the user's counts."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SHAKE_", "AWS_"))}
    environment["NO_PROXY"] = environment["no_proxy"] = "127.0.0.1"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def family(pid: int) -> list[psutil.Process]:
    """A process with all its descendants; none where it is gone."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def role(process: psutil.Process) -> str:
    """What a process of ours calls itself (``worker 0``), else the program's name."""
    title = " ".join(process.cmdline()).rstrip()
    return title.removeprefix("shake: ") if title.startswith("shake: ") else process.name()


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def memory(process: psutil.Process) -> int:
    """Bytes of PSS; where the system does not tell, what the process has for itself alone."""
    info = process.memory_full_info()
    return int(getattr(info, "pss", info.uss))
