"""The client retries what waiting cures, stops at what it does not, and shows no secrets."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import orjson
import pytest

from shake.errors import SourceError, Stopped
from shake.source.answer import Transient, judge
from shake.source.client import Client, Retry, Unreachable
from shake.source.endpoint import Credentials, Endpoint
from tests.support import faulty
from tests.support.faulty import Faulty, Reply
from tests.support.wait import until

KEYS = Credentials("AKIAVERYPUBLIC", "very-secret-key", "very-secret-token")
GOOD = Reply(b'{"Items":[{"pk":{"N":"77.00"}}],  "Count":1}\n')


class Hasty(random.Random):
    """Draws the shortest pause."""

    def random(self) -> float:
        return 0.0


class Endless(random.Random):
    """Draws a pause that no test can sit out."""

    def random(self) -> float:
        return 1e6


@contextmanager
def client_of(
    url: str,
    *,
    credentials: Callable[[], Credentials] = lambda: KEYS,
    timeout: float | None = 10.0,
    stop: threading.Event | None = None,
    pauses: random.Random | None = None,
    streams_url: str = "",
) -> Iterator[tuple[Client, list[Retry]]]:
    retries: list[Retry] = []
    client = Client(
        Endpoint(url, "eu-west-1", timeout, streams_url=streams_url),
        credentials,
        on_retry=retries.append,
        stop=stop or threading.Event(),
        random=pauses or Hasty(),
    )
    yield client, retries
    client.close()


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (faulty.throttled(), "throttle", "ProvisionedThroughputExceededException: as scripted"),
        (Reply(b"", 429), "throttle", "HTTP 429"),
        (faulty.error("InternalServerError", status=500), "fault", "InternalServerError"),
        (Reply(b"<html>Bad Gateway</html>", 502), "fault", "HTTP 502"),
        (Reply(GOOD.body, crc=1), "fault", "CRC32"),
        (Reply(GOOD.body, cut=20), "fault", "was closed after 20 of"),
        (faulty.dropped(), "fault", "was closed before the answer"),
        (Reply(b"<html>Welcome to the hotel</html>"), "fault", "not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_waiting_cures_is_asked_again(reply: Reply, kind: str, reason: str) -> None:
    with Faulty([reply, reply, GOOD]) as server, client_of(server.url) as (client, retries):
        assert client.call("Scan", b'{"TableName":"t"}') == GOOD.body
    assert [(retry.kind, retry.operation, retry.tries) for retry in retries] == [
        (kind, "Scan", 1),
        (kind, "Scan", 2),
    ]
    assert reason in retries[0].reason
    assert [request.body for request in server.requests] == [b'{"TableName":"t"}'] * 3


def test_a_slow_answer_is_given_up_and_asked_again() -> None:
    with (
        Faulty([Reply(slow=60), GOOD]) as server,
        client_of(server.url, timeout=0.2) as (client, retries),
    ):
        assert client.call("Scan", b"{}") == GOOD.body
    assert "no byte came for 0.2 s" in retries[0].reason


def test_without_a_time_out_a_slow_answer_is_waited_for() -> None:
    with (
        Faulty([Reply(GOOD.body, slow=0.3)]) as server,
        client_of(server.url, timeout=None) as (client, retries),
    ):
        assert client.call("Scan", b"{}") == GOOD.body
    assert retries == []


def test_throttling_is_waited_for_also_where_attempts_are_few() -> None:
    with (
        Faulty([faulty.throttled()] * 4 + [GOOD]) as server,
        client_of(server.url) as (client, retries),
    ):
        assert client.call("Scan", b"{}", max_tries=2) == GOOD.body
    assert len(retries) == 4


@pytest.mark.parametrize(
    ("operation", "reply", "advice"),
    [
        (
            "Scan",
            faulty.error("InvalidSignatureException", "Signature expired: 20200101T000000Z"),
            "set the clock of this machine",
        ),
        ("Scan", faulty.error("RequestTimeTooSkewed"), "set the clock of this machine"),
        ("Scan", faulty.error("InternalFailure", status=500), "check source.endpoint_url"),
        ("GetRecords", faulty.dropped(), "check source.streams_endpoint_url"),
    ],
)
def test_what_cannot_be_reached_comes_with_the_advice_that_helps(
    operation: str, reply: Reply, advice: str
) -> None:
    with (
        Faulty([reply] * 2) as server,
        client_of(server.url) as (client, _),
        pytest.raises(Unreachable, match=rf"in 2 tries: .*; {advice}"),
    ):
        client.call(operation, b"{}", max_tries=2)


def test_a_source_that_comes_back_is_found_again() -> None:
    with Faulty() as gone:
        url = gone.url
    with client_of(url) as (client, retries):
        with pytest.raises(Unreachable) as failure:
            client.call("ListTables", b"{}", max_tries=3)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.call, "ListTables", b"{}")
            until(lambda: len(retries) > 4)
            with Faulty(port=int(url.rstrip("/").rpartition(":")[2])):
                assert answer.result(10) == b"{}"
    assert "ListTables" in str(failure.value)
    assert "3 tries" in str(failure.value)
    assert "Connection refused" in str(failure.value)


def test_faults_are_ridden_out_for_as_long_as_they_last() -> None:
    with (
        Faulty([faulty.throttled()] * 200 + [GOOD]) as server,
        client_of(server.url) as (client, retries),
    ):
        assert client.call("Scan", b"{}") == GOOD.body
    assert [retry.tries for retry in retries] == list(range(1, 201))


def test_what_no_waiting_cures_is_an_error_at_once() -> None:
    refusal = faulty.error("AccessDeniedException", "User u may not\nScan")
    with (
        Faulty([refusal]) as server,
        client_of(server.url) as (client, retries),
        pytest.raises(SourceError, match="AccessDeniedException: User u may not Scan") as e,
    ):
        client.call("Scan", b"{}")
    assert (e.value.operation, e.value.code) == ("Scan", "AccessDeniedException")
    assert retries == []


def test_stopping_ends_the_wait_between_two_tries() -> None:
    stop = threading.Event()
    with (
        Faulty(otherwise=lambda request: faulty.throttled()) as server,
        client_of(server.url, stop=stop, pauses=Endless()) as (client, retries),
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.call, "Scan", b"{}")
        until(lambda: retries)
        stop.set()
        with pytest.raises(Stopped):
            answer.result(10)
        with pytest.raises(Stopped):
            client.call("Scan", b"{}")
    assert len(server.requests) == 1


def test_threads_share_one_client() -> None:
    asked = itertools.count()

    def echo(request: faulty.Request) -> Reply:
        return Reply(request.body, crc=7 if next(asked) % 5 == 0 else None)

    bodies = [b'{"%d":%d}' % (i, i) for i in range(200)]
    with (
        Faulty(otherwise=echo) as server,
        client_of(server.url) as (client, retries),
        ThreadPoolExecutor(8) as pool,
    ):
        assert list(pool.map(lambda body: client.call("Scan", body), bodies)) == bodies
    assert len(retries) == 50


def test_a_connection_is_kept_for_the_next_request() -> None:
    with Faulty() as server, client_of(server.url) as (client, _):
        for _ in range(5):
            client.call("Scan", b"{}")
    assert len({request.peer for request in server.requests}) == 1


def test_requests_are_signed_json_for_the_operation_and_answers_are_not_compressed() -> None:
    with Faulty() as server, client_of(server.url) as (client, _):
        client.ask("GetRecords", {"Limit": 5})
        client.ask("Scan", {})
    records, scan = server.requests
    assert records.headers["x-amz-target"] == "DynamoDBStreams_20120810.GetRecords"
    assert scan.headers["x-amz-target"] == "DynamoDB_20120810.Scan"
    assert records.body == b'{"Limit":5}'
    assert records.headers["content-type"] == "application/x-amz-json-1.0"
    assert records.headers["accept-encoding"] == "identity"
    assert records.headers["x-amz-security-token"] == KEYS.token
    assert "AKIAVERYPUBLIC/" in records.headers["authorization"]
    assert "/eu-west-1/dynamodb/aws4_request" in records.headers["authorization"]


def test_streams_are_read_where_they_are() -> None:
    with (
        Faulty() as tables,
        Faulty() as streams,
        client_of(tables.url, streams_url=streams.url) as (client, _),
    ):
        client.call("DescribeStream", b"{}")
        client.call("DescribeTable", b"{}")
    assert [request.operation for request in streams.requests] == ["DescribeStream"]
    assert [request.operation for request in tables.requests] == ["DescribeTable"]


def test_an_answer_that_ask_cannot_parse_is_asked_again() -> None:
    broken = Reply(b'{"a":}')
    with Faulty([broken, Reply(b'{"a":1}')]) as server, client_of(server.url) as (client, retries):
        assert client.ask("ListTables", {}) == {"a": 1}
    assert "not JSON" in retries[0].reason


def test_expired_credentials_are_waited_for_where_newer_ones_follow() -> None:
    old = Credentials("old-access-key", "s", "t", refreshable=True)
    new = Credentials("new-access-key", "s", "t", refreshable=True)
    current = iter([old, old, new])
    expired = faulty.error("ExpiredTokenException")
    with (
        Faulty([expired, expired]) as server,
        client_of(server.url, credentials=lambda: next(current)) as (client, retries),
    ):
        client.call("Scan", b"{}")
    assert len(retries) == 2
    assert "new-access-key" in server.requests[2].headers["authorization"]


def test_expired_static_credentials_are_an_error() -> None:
    with (
        Faulty([faulty.error("ExpiredTokenException")]) as server,
        client_of(server.url) as (client, _),
        pytest.raises(SourceError, match="ExpiredTokenException"),
    ):
        client.call("Scan", b"{}")


def test_secrets_show_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quoted = f"The Canonical String should have been\n'{KEYS.token}' {KEYS.secret_key}"
    replies = [
        faulty.error("ThrottlingException", quoted),
        faulty.error("InvalidSignatureException", quoted),
    ]
    with (
        Faulty(replies) as server,
        client_of(server.url) as (client, retries),
        pytest.raises(SourceError) as failure,
    ):
        client.call("Scan", b"{}")
    shown = f"{failure.value} {retries} {caplog.text} {KEYS} {KEYS!r}"
    assert "should have been '***'" in shown
    for secret in (KEYS.access_key, KEYS.secret_key, KEYS.token):
        assert str(secret) not in shown
    assert "AKIA" not in shown


def test_a_password_in_the_address_is_not_shown() -> None:
    with Faulty([faulty.dropped()] * 2) as server:
        url = server.url.replace("http://", "http://user:password@")
        with (
            client_of(url) as (client, retries),
            pytest.raises(Unreachable, match=r"from http://127\.0\.0\.1:\d+ in 2 tries") as failure,
        ):
            client.call("Scan", b"{}", max_tries=2)
    assert "password" not in f"{failure.value} {retries}"


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Faulty() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with client_of("http://dynamodb.test/") as (client, _):
            assert client.call("Scan", b"{}") == b"{}"
    assert proxy.requests[0].headers["host"] == "dynamodb.test"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ThrottlingException", "throttle"),
        (400, "Throttling", "throttle"),
        (400, "RequestLimitExceeded", "throttle"),
        (400, "LimitExceededException", "throttle"),
        (503, "SlowDown", "throttle"),
        (500, "AnythingNew", "fault"),
        (503, "ServiceUnavailable", "fault"),
        (400, "RequestTimeout", "fault"),
    ],
)
def test_errors_that_waiting_cures(status: int, code: str, kind: str) -> None:
    body = orjson.dumps({"__type": f"com.amazon.coral.service#{code}", "Message": "why"})
    with pytest.raises(Transient, match=f"{code}: why") as failure:
        judge("Scan", status, {}, memoryview(body), KEYS)
    assert failure.value.kind == kind


@pytest.mark.parametrize(
    "code",
    [
        "ResourceNotFoundException",
        "ValidationException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "ExpiredIteratorException",
        "TrimmedDataAccessException",
        "AnythingNew",
    ],
)
def test_errors_that_no_waiting_cures(code: str) -> None:
    body = orjson.dumps({"__type": code, "message": "why"})
    with pytest.raises(SourceError, match=f"Scan was refused by the source: {code}: why") as e:
        judge("Scan", 400, {}, memoryview(body), KEYS)
    assert e.value.code == code


@pytest.mark.parametrize("code", ["InvalidSignatureException", "SignatureDoesNotMatch"])
def test_a_clock_that_is_off_is_waited_for(code: str) -> None:
    body = faulty.error(code, "Signature expired: 20200101T000000Z").body
    with pytest.raises(Transient, match="clocks"):
        judge("Scan", 400, {}, memoryview(body), KEYS)


def test_length_and_checksum_are_held_against_the_bytes() -> None:
    whole, cut = b'{"a":1}', b'{"a":1'
    length, crc = {"content-length": "7"}, {"x-amz-crc32": str(zlib.crc32(whole))}
    judge("Scan", 200, length | crc, memoryview(whole), KEYS)
    with pytest.raises(Transient, match="6 of 7 bytes"):
        judge("Scan", 200, length, memoryview(cut), KEYS)
    with pytest.raises(Transient, match="CRC32"):
        judge("Scan", 200, crc, memoryview(cut), KEYS)
