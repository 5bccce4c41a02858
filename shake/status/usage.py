"""CPU time and memory of processes, read from the system in a thread that may wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import psutil

from shake.status.snapshot import ProcessStatus


class Usage(NamedTuple):
    """Of one process: CPUs in use of late, CPU seconds so far, resident bytes."""

    cpu: float | None
    cpu_seconds: float
    memory: int


class Meter:
    """Reads what processes use; CPU is what they used since the last reading."""

    def __init__(self) -> None:
        self._used: dict[int, Usage] = {}
        self._then = 0.0

    def read(self, pids: Iterable[int], now: float) -> None:
        """Read anew; ``now`` is any clock in seconds."""
        before, seconds = self._used, now - self._then
        self._used, self._then = {}, now
        for pid in pids:
            with suppress(psutil.Error, OSError):  # it has ended, or /proc does not show it
                process = psutil.Process(pid)
                with process.oneshot():
                    spent = sum(process.cpu_times()[:2])
                    memory = process.memory_info().rss
                last = before.get(pid)
                cpu = (spent - last.cpu_seconds) / seconds if last and seconds > 0 else None
                self._used[pid] = Usage(cpu if cpu is None else max(0.0, cpu), spent, memory)

    def used(self, process: ProcessStatus) -> ProcessStatus:
        """The process with what it used at the last reading."""
        usage = None if process.node else self._used.get(process.pid)
        return replace(process, **usage._asdict()) if usage else process
