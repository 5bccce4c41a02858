"""The status page and its API, made from the supervisor's snapshot at each request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from shake.status import nimoshake
from shake.status.figures import fraction, total
from shake.status.http import Answer, Route, Server
from shake.status.snapshot import Snapshot, TableStatus


def status_server(
    snapshot: Callable[[], Snapshot], bind: str, port: int, token: str | None
) -> Server:
    """The server of ``http_profile``: a context manager that serves while it is entered.

    ``/`` the page, ``/status`` the whole snapshot, ``/progress`` and ``/metric`` NimoShake's JSON,
    ``/metrics`` Prometheus, ``/healthz`` 200, or 503 once the task has failed. Raises RefusedError
    when the port cannot be had.
    """
    html = page()

    def ground() -> Answer:
        return Answer(html, "text/html; charset=utf-8")

    def data(of: Callable[[Snapshot], dict[str, Any]]) -> Route:
        # Not orjson: an error may quote an item's lone surrogates.
        return Route(lambda: Answer(json.dumps(of(snapshot())).encode(), "application/json"))

    def health() -> Answer:
        state = snapshot().state
        return Answer(f"{state}\n".encode(), status=503 if state == "failed" else 200)

    def numbers() -> Answer:
        from shake.status.metrics import CONTENT_TYPE_LATEST, metrics  # if somebody asks for them

        return Answer(metrics(snapshot()), CONTENT_TYPE_LATEST)

    routes = {
        "/": Route(ground, stranger=ground),
        "/status": data(status),
        "/progress": data(nimoshake.progress),
        "/metric": data(nimoshake.metric),
        "/metrics": Route(numbers),
        "/healthz": Route(health, open=True),
    }
    return Server("http_profile", bind, port, token, routes)


def page() -> bytes:
    """The page for people, which fetches ``/status`` itself."""
    return files("shake.status").joinpath("page.html").read_bytes()


def status(snapshot: Snapshot) -> dict[str, Any]:
    """``/status``: the snapshot's fields, ``total`` (all tables as one) and each ``fraction``."""
    return asdict(snapshot) | {
        "tables": [_table(table) for table in snapshot.tables],
        "total": _table(total(snapshot)),
    }


def _table(table: TableStatus) -> dict[str, Any]:
    return asdict(table) | {"fraction": fraction(table)}
