"""Posts a line of JSON to ``webhook.url`` when something important happens."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from typing import Any

from shake import __version__
from shake.process.outlet import Outlet
from shake.status.figures import total, utc
from shake.status.readiness import applied_sentence, consistency
from shake.status.snapshot import Snapshot

log = logging.getLogger("shake.webhook")

#: Seconds of one try, and between two.
_TRY_SECONDS = 10.0
_PAUSES = (1.0, 5.0, 20.0)
#: Seconds in which "degraded" is said once at most.
_DEGRADED_SECONDS = 600.0
#: Events that wait at most, where the server does not answer.
_MOST = 100


class News:
    """Finds in each snapshot what is new since the last one: pairs of event and text."""

    def __init__(self) -> None:
        self._state = ""
        self._gap = self._consistent = False
        self._degraded = -_DEGRADED_SECONDS

    def of(self, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
        if snapshot.gap and not self._gap:
            yield "gap", snapshot.reason
        self._gap = snapshot.gap
        degraded = snapshot.state == "degraded" and not snapshot.gap
        rested = time.monotonic() - self._degraded >= _DEGRADED_SECONDS
        if degraded and self._state != "degraded" and rested:
            self._degraded = time.monotonic()
            yield "degraded", snapshot.reason
        self._state = snapshot.state
        everything = total(snapshot)
        if everything.consistent and not self._consistent:
            yield "consistent", f"{consistency(snapshot, everything)}: {applied_sentence(snapshot)}"
        self._consistent = everything.consistent


class Webhook:
    """Posts events in a separate thread; a server that fails or hangs holds up nothing."""

    def __init__(self, url: str, task: str, redact: Callable[[str], str]) -> None:
        self._url = url
        self._task = task
        self._redact = redact
        self._news = News()
        self._outlet = Outlet("the webhook", limit=_MOST)
        self._ending = threading.Event()

    def show(self, snapshot: Snapshot) -> None:
        for event, text in self._news.of(snapshot):
            self._offer(event, text)

    def end(self, status: int, line: str, *, complete: bool) -> None:
        """The run has ended. ``complete``: not by a signal, but since all is done."""
        if status:
            self._offer("failed", line, status)
        elif complete:
            self._offer("done", line, status)
        self._ending.set()

    def close(self, seconds: float) -> None:
        """Wait for what is not posted yet, no longer than so."""
        self._outlet.close(seconds)

    def _offer(self, event: str, text: str, status: int | None = None) -> None:
        body: dict[str, Any] = {
            "event": event,
            "task": self._task,
            "text": self._redact(text),
            "time": utc(time.time()),
            "version": __version__,
        }
        if status is not None:
            body["exit_status"] = status
        self._outlet.offer(partial(self._deliver, body))

    def _deliver(self, body: dict[str, Any]) -> None:
        for pause in (*_PAUSES, 0.0):
            if not (problem := _post_in_time(self._url, json.dumps(body).encode())):
                return
            if pause == 0.0 or self._ending.wait(pause):
                break
        log.warning("webhook: %s was not delivered: %s", body["event"], self._redact(problem))


def _post_in_time(url: str, body: bytes) -> str:
    """Why a body could not be posted; empty where it was. It takes _TRY_SECONDS at most."""
    problems: list[str] = []
    thread = threading.Thread(
        target=lambda: problems.append(_post(url, body)), name="webhook-post", daemon=True
    )
    thread.start()
    thread.join(_TRY_SECONDS)
    return problems[0] if problems else f"no answer within {_TRY_SECONDS:g} s"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would become a GET, and take a secret of the URL to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, body: bytes) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": f"shake/{__version__}"}
    try:
        request = urllib.request.Request(url, body, headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_TRY_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"the server answers {error.code} {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        return str(getattr(error, "reason", "") or error) or type(error).__name__
