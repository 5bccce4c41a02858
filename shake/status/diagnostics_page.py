"""The diagnostics page: what every process is doing right now, as plain text."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress

import psutil

from shake.process.messages import Diagnosis
from shake.status.figures import size
from shake.status.http import HttpResponse, Route, Server


def report(role: str, queue: str = "") -> Diagnosis:
    """The report of the process that calls this."""
    rss, cpu = 0, 0.0
    with suppress(psutil.Error, OSError):  # where /proc does not show it
        me = psutil.Process()
        rss, cpu = me.memory_info().rss, sum(me.cpu_times()[:2])
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = "\n".join(
        f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
    return Diagnosis(role, os.getpid(), rss, cpu, stacks, queue)


def profile_server(
    reports: Callable[[], list[Diagnosis]], bind: str, port: int, token: str | None
) -> Server:
    """The server of ``system_profile``: a context manager that serves while it is entered.

    Raises RefusedError when the port cannot be had.
    """
    routes = {"/": Route(lambda _: HttpResponse(text(reports()).encode("utf-8", "replace")))}
    return Server("system_profile", bind, port, token, routes)


def text(reports: list[Diagnosis]) -> str:
    """A line for each process, then the stacks of each."""
    lines = [f"{'process':<32} {'pid':>8} {'memory':>10} {'cpu s':>10}  queue"]
    lines += [
        f"{each.role:<32} {each.pid:>8} {size(each.rss_bytes):>10} {each.cpu_seconds:>10.1f}"
        f"  {each.queue}".rstrip()
        for each in reports
    ]
    for each in reports:
        lines += ["", f"=== {each.role}, pid {each.pid} ===", each.stacks.rstrip()]
    return "\n".join(lines) + "\n"
