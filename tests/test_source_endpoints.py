"""A task with the endpoints and credentials of AWS's own settings, and what goes wrong there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faulty import Faulty, Reply, Request, error, forward
from tests.support.followed import Followed
from tests.support.wait import until

STREAM_OPERATIONS = frozenset({"DescribeStream", "GetShardIterator", "GetRecords"})


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no endpoint but those that the test sets."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def serving(url: str, which: Callable[[str], bool]) -> Callable[[Request], Reply]:
    """Answer as the server at ``url`` does to these operations; refuse all others."""
    answer = forward(url)
    unknown = error("UnknownOperationException")
    return lambda request: answer(request) if which(request.operation) else unknown


def test_tables_and_streams_are_asked_where_the_environment_says(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.simulator.table(followed.name, stream=None)
    followed.put("a")
    url = followed.simulator.url
    with (
        Faulty(otherwise=serving(url, lambda one: one not in STREAM_OPERATIONS)) as tables,
        Faulty(otherwise=serving(url, STREAM_OPERATIONS.__contains__)) as streams,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", tables.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", f"{streams.url}/")
        result = followed.task(source__endpoint_url="").run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


def test_a_slash_at_the_end_of_an_endpoint_changes_nothing(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    result = followed.task(source=f"{followed.simulator.url}/").run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


def test_a_task_goes_on_with_the_new_keys_of_its_profile(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    file, expired, refused = tmp_path / "credentials", threading.Event(), threading.Event()
    answer = forward(followed.simulator.url)

    def profile(key: str) -> None:
        keys = f"aws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n"
        file.write_text(f"[p]\n{keys}")

    def answered(request: Request) -> Reply:
        if expired.is_set() and "AKIAOLD" in request.headers["authorization"]:
            refused.set()
            return error("ExpiredTokenException", "The security token is expired")
        return answer(request)

    profile("AKIAOLD")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    keys = {"source__access_key_id": "", "source__secret_access_key": ""}
    with Faulty(otherwise=answered) as source:
        migration = followed.task(source=source.url, source__profile="p", **keys)
        migration.first = (
            "from shake.source import aws_session; aws_session._ASK_SECONDS = 0.2;"
            "from shake.run import supervisor; supervisor._CREDENTIAL_SECONDS = 0.2"
        )
        process = migration.start()
        followed.arrived("a")
        expired.set()
        followed.put("b")
        until(refused.is_set)
        profile("AKIANEW")
        followed.arrived("b")
        process.terminate()
        assert migration.wait(process).status == 0


def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.simulator.table(followed.name)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    monkeypatch.setenv("HTTP_PROXY", f"http://me:geheim@{address}")
    result = followed.task().run()
    assert result.status == 3, result
    assert f"by the proxy http://{address}: " in result.line
    assert "geheim" not in result.stdout + result.stderr


def test_a_clock_that_is_wrong_is_named_with_what_to_do(followed: Followed) -> None:
    words = "Signature expired: 20261129T000000Z is now earlier than 20261129T001000Z"
    with Faulty(otherwise=lambda request: error("InvalidSignatureException", words)) as source:
        result = followed.task(source=source.url).run()
    assert result.status == 3, result
    assert "the clocks of this machine and the source differ" in result.line
    assert result.line.endswith("set the clock of this machine, by chrony or another NTP client")
    assert "source.endpoint_url" not in result.line
