"""Commands by HTTP: only with the token, and never from another site."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from shake.control.commands import Command, Finish, Pause, Reply, SetBudget
from shake.demo.servers import free_port
from shake.status.http_server import Server
from shake.status.routes import status_server
from shake.status.snapshot import Snapshot
from tests.support.followed import Followed, stopped
from tests.support.wait import until

TOKEN = "s3cret-token"
GOOD = {
    "Authorization": f"Bearer {TOKEN}",
    "X-Shake-Control": "1",
    "Content-Type": "application/json",
}
PAUSE = b'{"action": "pause"}'


def look() -> Snapshot:
    return Snapshot("orders", "all", "running", 0.0, 0.0)


@pytest.fixture
def obeyed() -> list[Command]:
    return []


@pytest.fixture
def server(obeyed: list[Command]) -> Iterator[Server]:
    def steer(command: Command) -> Reply:
        obeyed.append(command)
        return Reply(not isinstance(command, Finish), "said")

    with status_server(look, "127.0.0.1", 0, TOKEN, steer=steer) as running:
        yield running


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body or None, headers or {})
    response = connection.getresponse()
    found = response.status, response.read(), response.headers
    connection.close()
    return found


@pytest.mark.parametrize(
    ("body", "command"),
    [
        (PAUSE, Pause()),
        (b'{"action": "pause", "table": null, "units": null}', Pause()),
        (b'{"action": "budget", "table": "a*", "units": "50%"}', SetBudget("a*", "50%")),
    ],
)
def test_a_command_with_all_that_it_needs_is_carried_out(
    server: Server, obeyed: list[Command], body: bytes, command: Command
) -> None:
    status, answer, _ = ask(server.port, "POST", "/control", body, GOOD)
    assert (status, json.loads(answer)) == (200, {"done": True, "line": "said"})
    assert obeyed == [command]


def test_a_command_that_the_task_refuses_is_409(server: Server) -> None:
    status, answer, _ = ask(server.port, "POST", "/control", b'{"action": "finish"}', GOOD)
    assert (status, json.loads(answer)["done"]) == (409, False)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"X-Shake-Control": ""}, 403),
        ({"X-Shake-Control": "yes"}, 403),
        ({"Content-Type": "text/plain"}, 403),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1.evil.example:80"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
    ],
)
def test_what_lacks_anything_or_comes_from_elsewhere_is_refused(
    server: Server, obeyed: list[Command], changed: dict[str, str], status: int
) -> None:
    headers = {name: value for name, value in (GOOD | changed).items() if value}
    assert ask(server.port, "POST", "/control", PAUSE, headers)[0] == status
    assert obeyed == []


def test_the_page_itself_can_send_commands(server: Server, obeyed: list[Command]) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}
    assert ask(server.port, "POST", "/control", PAUSE, GOOD | own)[0] == 200
    assert obeyed == [Pause()]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_no_other_method_is_taken(server: Server, obeyed: list[Command], method: str) -> None:
    status, _, headers = ask(server.port, method, "/control", headers=GOOD)
    assert (status, headers["Allow"]) == (405, "POST")
    assert obeyed == []


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/nothing"])
def test_no_other_path_takes_a_body(server: Server, path: str) -> None:
    assert ask(server.port, "POST", path, PAUSE, GOOD)[0] == 405


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"action": "stop"}', b'{"action": "wait"}', b'{"action": "status"}'],
)
def test_what_is_no_command_is_400(server: Server, obeyed: list[Command], body: bytes) -> None:
    assert ask(server.port, "POST", "/control", body, GOOD)[0] == 400
    assert obeyed == []


def test_a_body_that_is_too_long_is_refused(server: Server, obeyed: list[Command]) -> None:
    assert ask(server.port, "POST", "/control", b" " * 10_000, GOOD)[0] in (400, 413)
    assert obeyed == []


def test_without_a_token_nothing_is_offered(obeyed: list[Command]) -> None:
    def steer(command: Command) -> Reply:
        obeyed.append(command)
        return Reply(True, "")

    with status_server(look, "127.0.0.1", 0, None, steer=steer) as server:
        assert ask(server.port, "POST", "/control", PAUSE, GOOD)[0] == 413
        assert ask(server.port, "POST", "/control", headers=GOOD)[0] == 405
        shown = json.loads(ask(server.port, "GET", "/status")[1])
    assert shown["control"] is False
    assert obeyed == []


def test_a_running_task_is_paused_by_http(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    port = free_port()
    migration = followed.task(http_profile=port, http__token=TOKEN)
    process = migration.start()
    followed.equal()
    status, answer, _ = ask(port, "POST", "/control", PAUSE, GOOD)
    assert status == 200, answer

    def shown() -> Any:
        return json.loads(ask(port, "GET", "/status", headers=GOOD)[1])

    assert until(shown)["state"] == "paused"
    assert shown()["control"] is True
    assert ask(port, "POST", "/control", b'{"action": "resume"}', GOOD)[0] == 200
    followed.put("b")
    followed.arrived("b")
    stopped(migration, process)
