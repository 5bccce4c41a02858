"""The diagnostics page: what every process is doing right now, as plain text."""

from __future__ import annotations

from collections.abc import Callable

from shake.process.messages import Diagnosis
from shake.status.figures import size
from shake.status.http import HttpResponse, Route, Server


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
