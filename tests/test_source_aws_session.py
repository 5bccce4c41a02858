"""Endpoint and credentials are found as every AWS tool finds them, or refused with the way out."""

from __future__ import annotations

import pickle
import socket
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import orjson
import pytest

from shake.config import load
from shake.demo.servers import free_port
from shake.errors import RefusedError
from shake.source.aws_session import CredentialSource, open_source
from shake.source.endpoint import Credentials, Endpoint
from tests.support.faulty import Faulty, Reply, Request, error

STATIC = ("source.access_key_id=AKIASTATIC", "source.secret_access_key=static-secret")


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, region or endpoint but those that the test sets."""
    for name in ("PROFILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CA_BUNDLE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    urls = ("ENDPOINT_URL", "ENDPOINT_URL_DYNAMODB", "ENDPOINT_URL_DYNAMODB_STREAMS")
    for name in ("DEFAULT_REGION", "REGION", *urls):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def opened(*settings: str) -> tuple[Endpoint, CredentialSource]:
    given = ("id=shake", "target.address=mongodb://localhost", *settings)
    return open_source(load(None, {}, given).config)


def later(hours: float) -> str:
    moment = datetime.now(timezone.utc) + timedelta(hours=hours)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_static_keys_and_region_of_the_configuration() -> None:
    endpoint, credentials = opened(
        *STATIC,
        "source.session_token=static-token",
        "source.region=eu-central-1",
        "source.session.timeout=1500",
    )
    assert credentials() == Credentials("AKIASTATIC", "static-secret", "static-token")
    assert endpoint == Endpoint(
        "https://dynamodb.eu-central-1.amazonaws.com",
        "eu-central-1",
        timeout=1.5,
        streams_url="https://streams.dynamodb.eu-central-1.amazonaws.com",
    )


def test_no_time_out_is_no_time_out() -> None:
    endpoint, _ = opened(*STATIC, "source.region=eu-west-1", "source.session.timeout=0")
    assert endpoint.timeout is None


def test_an_endpoint_of_the_configuration_serves_streams_too_and_needs_no_region() -> None:
    endpoint, _ = opened(*STATIC, "source.endpoint_url=http://localhost:8000")
    assert (endpoint.url, endpoint.streams_url) == ("http://localhost:8000",) * 2
    assert endpoint.region == "us-east-1"


def test_an_endpoint_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:8000")
    endpoint, _ = opened(*STATIC)
    assert (endpoint.url, endpoint.streams_url) == ("http://localhost:8000",) * 2


VPCE = "https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com"
STREAMS = "https://streams.dynamodb.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("settings", "environment", "url", "streams"),
    [
        ({"endpoint_url": "http://a:1", "streams_endpoint_url": "http://b:2"}, {}, "a", "b"),
        ({"streams_endpoint_url": "http://b:2"}, {"DYNAMODB": "http://a:1"}, "a", "b"),
        ({}, {"DYNAMODB": "http://a:1", "DYNAMODB_STREAMS": "http://b:2"}, "a", "b"),
        ({"endpoint_url": "http://a:1"}, {"DYNAMODB_STREAMS": "http://b:2"}, "a", "b"),
        ({"endpoint_url": "http://a:1"}, {"": "http://b:2"}, "a", "a"),
        ({}, {"": "http://a:1"}, "a", "a"),
        ({"endpoint_url": VPCE}, {}, VPCE, STREAMS),
        ({"endpoint_url": f"{VPCE}/"}, {}, f"{VPCE}/", STREAMS),
        ({}, {"DYNAMODB": VPCE}, VPCE, STREAMS),
        ({"endpoint_url": VPCE, "streams_endpoint_url": "http://b:2"}, {}, VPCE, "b"),
        ({"endpoint_url": VPCE}, {"DYNAMODB_STREAMS": "http://b:2"}, VPCE, "b"),
        (
            {"endpoint_url": "https://dynamodb.eu-west-1.amazonaws.com/"},
            {},
            "https://dynamodb.eu-west-1.amazonaws.com/",
            STREAMS,
        ),
    ],
)
def test_tables_and_streams_have_endpoints_by_key_or_by_the_rules_of_the_sdk(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    environment: dict[str, str],
    url: str,
    streams: str,
) -> None:
    for service, address in environment.items():
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}".rstrip("_"), address)
    given = (f"source.{key}={value}" for key, value in settings.items())
    endpoint, _ = opened(*STATIC, "source.region=eu-west-1", *given)
    short = {"a": "http://a:1", "b": "http://b:2"}
    assert (endpoint.url, endpoint.streams_url) == (
        short.get(url, url),
        short.get(streams, streams),
    )


@pytest.mark.parametrize("given", [(), ("source.endpoint_url=http://a:1",)])
def test_an_endpoint_of_streams_can_be_in_the_services_section_of_a_profile(
    tmp_path: Path, given: tuple[str, ...]
) -> None:
    (tmp_path / "config").write_text(
        "[profile p]\nregion = eu-west-1\nservices = s\n"
        "aws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\n"
        "[services s]\ndynamodb =\n  endpoint_url = http://a:1\n"
        "dynamodb_streams =\n  endpoint_url = http://b:2/\n"
    )
    endpoint, _ = opened("source.profile=p", *given)
    assert (endpoint.url, endpoint.streams_url) == ("http://a:1", "http://b:2/")


def profile(tmp_path: Path, key: str) -> None:
    """Write the keys of profile p."""
    (tmp_path / "credentials").write_text(
        f"[p]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n"
    )


def test_the_file_of_a_profile_is_read_again_once_its_keys_have_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shake.source.aws_session._ASK_SECONDS", 0.0)
    expired = threading.Event()

    def answer(request: Request) -> Reply:
        old = "AKIAOLD" in request.headers["authorization"]
        return error("ExpiredTokenException") if old and expired.is_set() else Reply()

    profile(tmp_path, "AKIAOLD")
    with Faulty(otherwise=answer) as server:
        _, credentials = opened("source.profile=p", f"source.endpoint_url={server.url}")
        assert credentials().access_key == "AKIAOLD"
        assert credentials().refreshable
        assert not server.requests
        profile(tmp_path, "AKIAANOTHER")
        assert credentials().access_key == "AKIAOLD"  # which is still good
        expired.set()
        (tmp_path / "credentials").write_text("[p]\n")  # half of it
        assert credentials().access_key == "AKIAOLD"
        assert credentials.problem
        profile(tmp_path, "AKIANEW")
        assert credentials() == Credentials("AKIANEW", "s", "t", True)
        assert credentials.problem == ""
        asked = len(server.requests)
        credentials()
        assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("credential_process = false", r"credential_process failed and printed no reason"),
        ("credential_process = true", r"\(credential_process\) printed no JSON"),
        (
            "role_arn = arn:aws:iam::1:role/r\nsource_profile = base\n"
            "mfa_serial = arn:aws:iam::1:mfa/me",
            r"mfa_serial, and there is no terminal to ask for the code",
        ),
    ],
)
def test_a_profile_that_gives_no_keys_is_refused_in_words(
    tmp_path: Path, settings: str, words: str
) -> None:
    (tmp_path / "config").write_text(
        f"[profile p]\n{settings}\n[profile base]\naws_access_key_id = AKIABASE\n"
        "aws_secret_access_key = s\n"
    )
    with pytest.raises(RefusedError, match=words):
        opened("source.profile=p", "source.region=eu-west-1")


@pytest.mark.parametrize("role", ["", "role_arn = arn:aws:iam::1:role/r\nsource_profile = base\n"])
def test_a_program_for_credentials_that_hangs_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr("shake.source.aws_profile.PROGRAM_SECONDS", 0.2)
    hangs = "credential_process = sleep 1000\n"
    (tmp_path / "config").write_text(f"[profile p]\n{role or hangs}[profile base]\n{hangs}")
    with pytest.raises(RefusedError, match=r"credential_process .* has not ended within 0\.2 s"):
        opened("source.profile=p", "source.region=eu-west-1")


def test_a_dead_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:geheim@{address}")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the tries of the SDK
    with pytest.raises(RefusedError, match=f"proxy.*{address}") as failure:
        opened(*ROLE)
    assert "geheim" not in str(failure.value)


def test_a_profile_brings_keys_region_and_certificates(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile p]\nregion = cn-north-1\nca_bundle = /etc/own.pem\n"
        "aws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\n"
    )
    endpoint, credentials = opened("source.profile=p")
    assert credentials().access_key == "AKIAPROFILE"
    assert endpoint.url == "https://dynamodb.cn-north-1.amazonaws.com.cn"
    assert endpoint.ca_bundle == "/etc/own.pem"


def test_the_environment_is_part_of_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    endpoint, credentials = opened()
    assert credentials().access_key == "AKIAENVIRONMENT"
    assert endpoint.region == "us-west-2"


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ((*STATIC,), r"no AWS region: set source\.region"),
        (("source.region=eu-west-1",), r"no AWS credentials: set source\.access_key_id"),
        (("source.profile=missing",), r"profile \(missing\) could not be found.*source\.profile"),
    ],
)
def test_what_is_missing_is_refused_with_the_way_out(
    settings: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(RefusedError, match=remedy) as failure:
        opened(*settings)
    assert "\n" not in str(failure.value)


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(RefusedError, match=r"nonsense.*the AWS environment"):
        opened(*STATIC, "source.region=eu-west-1")


def test_credentials_that_run_out_are_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    def container(key: str, hours: float) -> Reply:
        answer = {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t"}
        return Reply(orjson.dumps(answer | {"Expiration": later(hours)}))

    with Faulty([container("AKIAFIRST", 0.01), container("AKIASECOND", 6)]) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url)
        _, credentials = opened("source.region=eu-west-1")
        keys = [credentials() for _ in range(3)]
    assert [key.access_key for key in keys] == ["AKIASECOND"] * 3
    assert credentials.refreshable
    assert all(key.refreshable for key in keys)
    assert len(server.requests) == 2


def sts(key: str, hours: float) -> Reply:
    """The answer to AssumeRole."""
    return Reply(
        f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
        <AssumeRoleResult><Credentials><AccessKeyId>{key}</AccessKeyId>
        <SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken>
        <Expiration>{later(hours)}</Expiration></Credentials>
        <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/r/shake</Arn>
        <AssumedRoleId>A:shake</AssumedRoleId></AssumedRoleUser>
        </AssumeRoleResult></AssumeRoleResponse>""".encode()
    )


ROLE = (
    *STATIC,
    "source.region=eu-west-1",
    "source.assume_role_arn=arn:aws:iam::123456789012:role/r",
    "source.external_id=outside",
)


def test_a_role_is_assumed_with_its_external_id(monkeypatch: pytest.MonkeyPatch) -> None:
    with Faulty([sts("AKIAROLE", 1)]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        _, credentials = opened(*ROLE)
        assert credentials() == Credentials("AKIAROLE", "role-secret", "role-token", True)
    (request,) = server.requests
    assert b"ExternalId=outside" in request.body
    assert b"RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fr" in request.body
    assert "AKIASTATIC/" in request.headers["authorization"]


def test_a_role_that_may_not_be_assumed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = Reply(
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
        b"</ErrorResponse>",
        403,
    )
    with Faulty([denied]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        with pytest.raises(RefusedError, match=r"AccessDenied.*not you.*source\.assume_role_arn"):
            opened(*ROLE)


def test_a_role_that_cannot_be_asked_for_now_can_be_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a standby tries again; a role that is refused ends it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(RefusedError, match="no AWS session") as refused:
        opened(*ROLE)
    assert refused.value.passes


def test_a_refresh_that_fails_keeps_the_old_credentials_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = Reply(b"<html>\nlog in to the hotel as AKIAFIRST", 403)
    with Faulty([sts("AKIAFIRST", 0.01), lost, sts("AKIASECOND", 1)]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
        _, credentials = opened(*ROLE)
        assert credentials().access_key == "AKIAFIRST"
        assert "log in to the hotel as ***" in credentials.problem
        assert credentials().access_key == "AKIASECOND"
        assert credentials.problem == ""


def test_credentials_travel_to_workers_and_show_nothing() -> None:
    credentials = Credentials("AKIASTATIC", "static-secret", "static-token", True)
    assert pickle.loads(pickle.dumps(credentials)) == credentials
    assert f"{credentials} {credentials!r} {[credentials]}".count("Credentials(***)") == 3
