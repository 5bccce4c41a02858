"""webhook.url hears of what happens; a server that fails or hangs changes nothing for the task."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.faulty import error
from tests.support.followed import HASTY, Followed, copies, stopped
from tests.support.streams_faults import instead
from tests.support.wait import until

pytestmark = pytest.mark.slow

SECRET = "T0P-s3cret-hook"


class Hook:
    """A server that takes what is posted; the first ``failing`` posts it refuses."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.failing = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.paths.append(self.path)
                hook.failing -= 1
                if hook.failing < 0:
                    hook.heard.append(json.loads(body))
                self.send_response(204 if hook.failing < 0 else 503)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{SECRET}"

    @property
    def events(self) -> list[str]:
        return [one["event"] for one in self.heard]


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def begin(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")


def test_consistent_and_done_are_posted(followed: Followed, hook: Hook) -> None:
    begin(followed)
    migration = followed.task(webhook__url=hook.url)
    assert migration.run("--until-consistent").status == 0
    assert hook.events == ["consistent", "done"]
    assert {one["task"] for one in hook.heard} == {followed.name}
    assert hook.heard[-1]["exit_status"] == 0
    assert "every change made before" in hook.heard[0]["text"]


def test_a_failure_is_posted_and_the_url_is_shown_nowhere(followed: Followed, hook: Hook) -> None:
    begin(followed)
    followed.simulator.faults.rule(1.0, instead(error("AccessDeniedException")), where=copies)
    migration = followed.task(webhook__url=hook.url, log__level="debug")
    result = migration.run()
    assert result.status == 1
    assert hook.events == ["failed"]
    assert hook.heard[0]["exit_status"] == 1
    assert "AccessDenied" in hook.heard[0]["text"]
    assert SECRET not in result.stdout + result.stderr
    shown = migration.run("--print-config")
    assert "webhook.url = ***" in shown.stdout


def test_a_source_that_fails_for_long_is_posted_as_degraded(followed: Followed, hook: Hook) -> None:
    begin(followed)
    followed.simulator.faults.rule(1.0, instead(error("ThrottlingException")), where=copies)
    migration = followed.task(webhook__url=hook.url, source__session__max_retries=1)
    process = migration.start()
    until(lambda: "degraded" in hook.events)
    followed.simulator.faults.clear()
    followed.equal()
    until(lambda: "consistent" in hook.events)
    stopped(migration, process)
    assert hook.events.count("degraded") == 1


def test_a_gap_is_posted(followed: Followed, hook: Hook) -> None:
    begin(followed)
    migration = followed.task(webhook__url=hook.url)
    migration.first = HASTY
    process = migration.start()
    followed.equal()
    until(lambda: "consistent" in hook.events)
    followed.table.disable_stream()
    assert migration.wait(process, 120).status == 4
    assert hook.events[-2:] == ["gap", "failed"]


def test_a_post_is_tried_again(followed: Followed, hook: Hook) -> None:
    begin(followed)
    hook.failing = 1
    migration = followed.task(webhook__url=hook.url)
    process = migration.start()
    until(lambda: hook.events == ["consistent"])
    assert len(hook.paths) == 2
    stopped(migration, process)


def test_a_server_that_never_answers_holds_up_nothing(followed: Followed) -> None:
    begin(followed)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/{SECRET}"
        migration = followed.task(webhook__url=url)
        process = migration.start()
        followed.equal()
        output = migration.folder / f"{followed.name}.0.out"
        until(lambda: "consistent point reached" in output.read_text())
        followed.put("b")
        followed.arrived("b")
        stopped(migration, process)


def test_an_undelivered_event_is_a_warning_without_the_secret(followed: Followed) -> None:
    begin(followed)
    migration = followed.task(webhook__url=f"http://127.0.0.1:1/{SECRET}")
    migration.first = "from shake.status import webhook as w; w._PAUSES = (0.1,)"
    process = migration.start()
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: "was not delivered" in output.read_text())
    result = stopped(migration, process)
    assert SECRET not in result.stdout + result.stderr


def test_a_url_that_is_none_is_exit_2(followed: Followed) -> None:
    result = followed.task(webhook__url=f"hooks.example/{SECRET}").run()
    assert (result.status, SECRET in result.stderr) == (2, False), result


def test_a_signal_is_no_event(followed: Followed, hook: Hook) -> None:
    begin(followed)
    migration = followed.task(webhook__url=hook.url)
    process = migration.start()
    until(lambda: "consistent" in hook.events)
    process.send_signal(signal.SIGTERM)
    assert migration.wait(process).status == 0
    assert hook.events == ["consistent"]
