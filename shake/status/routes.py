"""The status page with its API, and the diagnostics page; all are made at each request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Any

from shake.control.commands import AwaitEnd, Command, GetStatus, Reply, read_command
from shake.process.messages import Diagnosis
from shake.status import nimoshake
from shake.status.charts import charts
from shake.status.figures import fraction, iso, size, total
from shake.status.http_server import HttpResponse, Query, Route, Server
from shake.status.monitor import Monitor
from shake.status.readiness import readiness
from shake.status.snapshot import Snapshot, TableStatus
from shake.status.view import view


def status_server(
    snapshot: Callable[[], Snapshot],
    bind: str,
    port: int,
    token: str | None,
    *,
    poll_quickly: Callable[[], None] = lambda: None,
    steer: Callable[[Command], Reply] | None = None,
    monitor: Monitor | None = None,
) -> Server:
    """The server of ``http_profile``: a context manager that serves while it is entered.

    ``/`` the page, with ``/view`` and ``/charts``, which it shows: both are made of what was shown
    last, so a viewer costs the supervisor's loop nothing. ``/status`` the whole snapshot,
    ``/progress`` and ``/metric`` NimoShake's JSON,
    ``/metrics`` Prometheus, ``/healthz`` 200, or 503 once the task has failed, ``/ready`` 200 while
    one could switch, else 503. ``poll_quickly`` is called for each ``/ready``. ``/control`` passes
    commands to ``steer``, where there is a token. Raises RefusedError when the port cannot be had.
    """
    posts = {"/control": partial(_steer, steer)} if token and steer else {}
    watch = monitor or Monitor(snapshot)
    start = HttpResponse(page("page.html"), "text/html; charset=utf-8")

    def data(of: Callable[[Snapshot], dict[str, Any]]) -> Route:
        return Route(lambda _: _json(of(watch.complete(snapshot()))))

    def ready(query: Query) -> HttpResponse:
        poll_quickly()
        return _ready(snapshot(), query)

    routes = {
        "/": Route(lambda _: start, unauthorized=start),
        "/status": data(lambda one: status(one) | {"control": bool(posts)}),
        **{f"/{name}": _part(name, type) for name, type in _PARTS.items()},
        "/view": Route(lambda _: _json(view(watch.watched(), control=bool(posts)))),
        "/charts": Route(lambda _: _json(charts(watch.history))),
        "/progress": data(nimoshake.progress),
        "/metric": data(nimoshake.metric),
        "/metrics": Route(lambda _: _metrics(watch.complete(snapshot()))),
        "/ready": Route(ready),
        "/healthz": Route(lambda _: _health(snapshot().state), open=True),
    }
    return Server("http_profile", bind, port, token, routes, posts)


def _steer(steer: Callable[[Command], Reply], body: bytes) -> HttpResponse:
    """``/control``: 200 where the command was carried out, 409 where it was refused."""
    try:
        command = read_command(body)
    except ValueError as error:
        return _json({"done": False, "line": str(error)}, 400)
    if isinstance(command, AwaitEnd | GetStatus):
        return _json({"done": False, "line": "see /status"}, 400)
    reply = steer(command)
    return _json({"done": reply.done, "line": reply.line}, 200 if reply.done else 409)


def _health(state: str) -> HttpResponse:
    return HttpResponse(f"{state}\n".encode(), status=503 if state == "failed" else 200)


def _metrics(snapshot: Snapshot) -> HttpResponse:
    from shake.status.metrics import CONTENT_TYPE_LATEST, metrics  # only on request

    return HttpResponse(metrics(snapshot), CONTENT_TYPE_LATEST)


#: What the page consists of besides its HTML; nothing of it is about the task.
_PARTS = {
    "page.css": "text/css; charset=utf-8",
    **dict.fromkeys(("page.js", "charts.js", "elements.js"), "text/javascript; charset=utf-8"),
}


def page(name: str) -> bytes:
    return files("shake.status").joinpath("page").joinpath(name).read_bytes()


def _part(name: str, type: str) -> Route:
    body = page(name)
    return Route(lambda _: HttpResponse(body, type), open=True)


def status(snapshot: Snapshot) -> dict[str, Any]:
    """``/status``: the snapshot's fields, ``total`` (all tables as one) and each ``fraction``.

    ``time``, ``source_time``, ``saved_at``, ``applied_through`` and ``newest_change`` are UTC in
    ISO 8601, or null.
    """
    return asdict(snapshot) | {
        "time": iso(snapshot.time),
        "saved_at": iso(snapshot.saved_at),
        "paused_at": iso(snapshot.paused_at),
        "source_time": iso(snapshot.source_time),
        "nodes": [node._asdict() for node in snapshot.nodes],
        "check": snapshot.check and snapshot.check._asdict() | {"time": iso(snapshot.check.time)},
        "tables": [_table(table) for table in snapshot.tables],
        "total": _table(total(snapshot)),
    }


def _table(table: TableStatus) -> dict[str, Any]:
    return asdict(table) | {
        "fraction": fraction(table),
        "applied_through": iso(table.applied_through),
        "newest_change": iso(table.newest_change),
        "open_shards": [
            one._asdict() | {"applied_through": iso(one.applied_through)}
            for one in table.open_shards
        ],
    }


def _ready(snapshot: Snapshot, query: Query) -> HttpResponse:
    """``/ready``; ``after`` is a time of the source's clock, as ISO 8601.

    A script that switches relies on it: what it does not understand is refused.
    """
    given = dict(query)
    if unknown := sorted(given.keys() - {"after"}):
        return _json({"error": f"{unknown[0]} is unknown: /ready takes after only"}, 400)
    if len(query) > 1:
        return _json({"error": "after is given more than once"}, 400)
    after = given.get("after")
    try:
        found = readiness(snapshot, 0.0 if after is None else _moment(after))
    except ValueError:
        return _json({"error": f"after = {after}: it must be like 2026-11-29T12:00:03Z"}, 400)
    answer = found._asdict() | {"applied_through": iso(found.applied_through)}
    return _json(answer, 200 if found.ready else 503)


def _moment(text: str) -> float:
    """Unix seconds of an ISO 8601 time. Raises ValueError for one without its offset from UTC."""
    # A + of the address is a blank here; Python 3.10 reads no Z.
    moment = datetime.fromisoformat(text.strip().replace(" ", "+").replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.timestamp()


def _json(data: dict[str, Any], status: int = 200) -> HttpResponse:
    # Not orjson: an error may quote an item's lone surrogates.
    return HttpResponse(json.dumps(data).encode(), "application/json", status)


def profile_server(
    reports: Callable[[], list[Diagnosis]], bind: str, port: int, token: str | None
) -> Server:
    """The server of ``system_profile``; it serves, and raises RefusedError, like the other one."""
    routes = {"/": Route(lambda _: HttpResponse(diagnostics(reports()).encode("utf-8", "replace")))}
    return Server("system_profile", bind, port, token, routes)


def diagnostics(reports: list[Diagnosis]) -> str:
    """The diagnostics page: a line for each process, then the stacks of each."""
    lines = [f"{'process':<32} {'pid':>8} {'memory':>10} {'cpu s':>10}  queue"]
    lines += [
        f"{each.role:<32} {each.pid:>8} {size(each.rss_bytes):>10} {each.cpu_seconds:>10.1f}"
        f"  {each.queue}".rstrip()
        for each in reports
    ]
    for each in reports:
        lines += ["", f"=== {each.role}, pid {each.pid} ===", each.stacks.rstrip()]
    return "\n".join(lines) + "\n"
