"""Runs a program to its end, and measures it with all processes that it starts (on Linux)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import MappingProxyType

import psutil

ROOT = Path(__file__).resolve().parent.parent

#: Seconds between two samples of the processes.
_EVERY = 0.2

#: A process of shake, by its title, or by its command line until it has set one.
_OURS = re.compile(r"\bshake(?:: |\.farm\.|-)(\w+ ?\d*)")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run used, or, as ``whole - start``, what it used beyond another one.

    ``cpu`` is exact: the kernel's own sum over the program and all its descendants. ``roles`` is
    the same sum by what a process calls itself; ``servers`` is what source and sink used meanwhile,
    which ``cpu`` does not hold. ``peak`` is bytes: the highest sum of PSS, in
    which memory that processes share counts once. ``samples`` are times, and what was used by then.
    """

    seconds: float
    cpu: float
    peak: int
    roles: dict[str, float]
    servers: dict[str, float] = field(default_factory=dict)
    samples: tuple[tuple[float, float], ...] = ()

    def cpu_until(self, moment: float) -> float:
        """CPU seconds used up to a moment of CLOCK_MONOTONIC."""
        before = max(sample for sample in self.samples if sample[0] <= moment)
        after = min((sample for sample in self.samples if sample[0] > moment), default=before)
        share = (moment - before[0]) / (after[0] - before[0]) if after > before else 0.0
        return before[1] + share * (after[1] - before[1])

    def __sub__(self, start: Usage) -> Usage:
        return Usage(
            self.seconds - start.seconds,
            self.cpu - start.cpu,
            self.peak,
            _minus(self.roles, start.roles),
            _minus(self.servers, start.servers),
        )


def _minus(whole: dict[str, float], start: dict[str, float]) -> dict[str, float]:
    return {name: cpu - start.get(name, 0.0) for name, cpu in whole.items()}


def typical(runs: Sequence[Usage]) -> Usage:
    """The median of each figure; the highest peak."""
    return Usage(
        median(run.seconds for run in runs),
        median(run.cpu for run in runs),
        max(run.peak for run in runs),
        _medians([run.roles for run in runs]),
        _medians([run.servers for run in runs]),
    )


def _medians(all_of: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in all_of for name in each)
    return {name: median(each.get(name, 0.0) for each in all_of) for name in names}


class Failed(Exception):
    """A measured program failed; the message holds its output."""


def measure(
    command: list[str],
    log: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    enough: Callable[[], bool] | None = None,
) -> Usage:
    """Run a command, its output in ``log``. Raises Failed where it does not exit with 0.

    A program that does not end by itself gets SIGTERM when it has done ``enough``.
    """
    began = time.monotonic()
    with running(command, log, environment) as process, _Watch(process.pid) as watch:
        if enough is not None:
            _stop(process, enough)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # leaves it there to be read
        seconds = time.monotonic() - began
        watch.ended(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{' '.join(command)}: exit {process.returncode}\n{log.read_text()[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return Usage(seconds, cpu, watch.peak, watch.roles(cpu), samples=tuple(watch.samples))


def _stop(process: subprocess.Popen[bytes], enough: Callable[[], bool]) -> None:
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, process.pid, ended) is None:
        if enough():
            process.terminate()
            return
        time.sleep(_EVERY / 4)


@dataclass(slots=True)
class _Seen:
    """The last sample of a process; ``whole`` if it was taken after its end."""

    role: str
    cpu: float = 0.0
    whole: bool = False


class _Watch:
    """Follows a process and its descendants, each to its end, while it is entered.

    A process that has ended is read before its parent reaps it. Where the parent was faster, the
    kernel's sum still holds the figures.
    """

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self.samples = [(time.monotonic(), 0.0)]
        self._pid = pid
        self._seen: dict[int, _Seen] = {}
        self._ends: dict[int, int] = {}  # file descriptor, readable at the end: pid
        self._poll = select.poll()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def ended(self, pid: int) -> None:
        """Read a process that has ended, if its parent has not made it disappear."""
        seen = self._seen.setdefault(pid, _Seen(""))
        with contextlib.suppress(OSError):
            seen.cpu, seen.whole = cpu_clock(pid), True

    def roles(self, total: float) -> dict[str, float]:
        """CPU seconds by the first word of what a process calls itself, ``total`` in all."""
        rest = max(0.0, total - sum(seen.cpu for seen in self._seen.values()))
        cut = {pid: seen.cpu for pid, seen in self._seen.items() if not seen.whole}
        sums: dict[str, float] = {}
        for pid, seen in self._seen.items():
            share = rest * cut[pid] / sum(cut.values()) if cut.get(pid) else 0.0
            kind = seen.role.partition(" ")[0]
            sums[kind] = sums.get(kind, 0.0) + seen.cpu + share
        return sums

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for descriptor in self._ends:
            os.close(descriptor)

    def _run(self) -> None:
        due = 0.0
        while not self._over.is_set():
            if (now := time.monotonic()) >= due:
                self._look()
                due = now + _EVERY
            for descriptor, _ in self._poll.poll(_EVERY / 4 * 1000):
                self._poll.unregister(descriptor)
                self.ended(self._ends.pop(descriptor))
                os.close(descriptor)

    def _look(self) -> None:
        total = 0
        for each in family(self._pid):
            with contextlib.suppress(psutil.Error, OSError):
                if each.pid not in self._seen:
                    descriptor = os.pidfd_open(each.pid)
                    self._ends[descriptor] = each.pid
                    self._poll.register(descriptor, select.POLLIN)
                    self._seen[each.pid] = _Seen(role(each))
                seen = self._seen[each.pid]
                if not seen.whole and each.status() != psutil.STATUS_ZOMBIE:
                    seen.role, seen.cpu = role(each) or seen.role, cpu_clock(each.pid)
                    total += memory(each)
        self.peak = max(self.peak, total)
        self.samples.append((time.monotonic(), sum(seen.cpu for seen in self._seen.values())))


@contextlib.contextmanager
def running(
    command: list[str], log: Path, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program without the user's settings; kill it at the end if it still runs."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SHAKE_", "AWS_"))}
    direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited, **direct, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; none if it has ended."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def role(process: psutil.Process) -> str:
    """The role of a process of shake (``worker 0``), else the program's name; empty as it ends."""
    title = " ".join(process.cmdline()).rstrip()
    ours = _OURS.search(title)
    return ours[1] if ours else title and process.name()


def cpu_clock(pid: int) -> float:
    """CPU seconds of all threads of a process, to the nanosecond, as long as it can be waited for.

    The number of its clock is made as clock_getcpuclockid does it. Raises OSError once it is gone.
    Source: https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html
    """
    return time.clock_gettime(~pid << 3 | 2)


def memory(process: psutil.Process) -> int:
    """Bytes of PSS; where the system does not show it, the process's private memory."""
    info = process.memory_full_info()
    return int(getattr(info, "pss", info.uss))
