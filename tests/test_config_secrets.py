"""No secret of the configuration shows anywhere that people look."""

from __future__ import annotations

import json
import re
from urllib.parse import quote_plus

import pytest

from shake.config import Config, Redactor, load
from shake.errors import UsageError

ADDRESS = (
    "mongodb://user:p%40ss%2Fword@h1:1,h2:2/db?authMechanismProperties=AWS_SESSION_TOKEN:tok3n%2B9"
    "&tlsCertificateKeyFilePassword=pemphrase&appName=shake"
)
SETTINGS = {
    "id": "task",
    "target.address": ADDRESS,
    "checkpoint.address": "mongodb://other:different@h3",
    "source.access_key_id": "AKIAEXAMPLE",
    "source.secret_access_key": "abc/def+ghi=",
    "source.session_token": "sess/tok==",
    "http.token": "bearer-me",
}
SECRETS = {
    *("p%40ss%2Fword", "tok3n%2B9", "pemphrase", "different", "AKIAEXAMPLE"),
    *("abc/def+ghi=", "sess/tok==", "bearer-me"),
}


def test_secrets_are_found_inside_addresses_too() -> None:
    assert Config.from_settings(SETTINGS).secrets() == SECRETS


def test_printed_lines_mask_secrets_and_only_those() -> None:
    lines = Config.from_settings(SETTINGS).effective_lines()
    assert not [s for s in SECRETS for line in lines if s in line]
    assert (
        "target.address = mongodb://user:***@h1:1,h2:2/db?authMechanismProperties="
        "AWS_SESSION_TOKEN:***&tlsCertificateKeyFilePassword=***&appName=shake"
    ) in lines
    assert "source.access_key_id = ***" in lines


@pytest.mark.parametrize(
    "option",
    [
        *("tlsCertificateKeyFilePassword", "sslClientCertificateKeyPassword", "proxyPassword"),
        *("ssl_pem_passphrase", "password", "PWD", "clientSecret", "accessToken"),
    ],
)
def test_an_option_that_is_named_like_a_secret_is_one(option: str) -> None:
    address = f"mongodb://h/?appName=a&{option}=hush%21x&w=majority"
    config = Config.from_settings({"id": "task", "target.address": address})
    assert config.secrets() == {"hush%21x"}
    assert f"target.address = {address.replace('hush%21x', '***')}" in config.effective_lines()


def test_an_address_without_a_password_is_printed_whole() -> None:
    address = "mongodb+srv://user@cluster.example.com/?retryWrites=true"
    config = Config.from_settings({"id": "task", "target.address": address})
    assert f"target.address = {address}" in config.effective_lines()
    assert config.secrets() == frozenset()


def test_the_text_of_a_configuration_object_shows_no_secret() -> None:
    text = repr(Config.from_settings(SETTINGS))
    assert "AKIAEXAMPLE" not in text
    assert not [s for s in SECRETS if s in text]


def test_a_redactor_hides_every_form_of_a_secret() -> None:
    redact = Redactor(Config.from_settings(SETTINGS).secrets()).redact
    for secret in (
        "p@ss/word",
        "p%40ss%2Fword",
        "abc/def+ghi=",
        quote_plus("abc/def+ghi="),
        ADDRESS,
    ):
        shown = redact(f"failed: <{secret}>, so there")
        assert shown.startswith("failed: <")
        assert "***" in shown
        for part in ("ss/", "%2Fword", "ghi", "tok3n", "pemphrase"):
            assert part not in shown
    quoted = 'pass"word\\x'
    assert "word" not in Redactor([quoted]).redact(json.dumps(quoted))
    assert Redactor([]).redact("as it is") == "as it is"


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    assert Redactor(["secret", "secret-and-more"]).redact("secret-and-more") == "***"


def test_a_short_secret_hides_words_and_not_letters() -> None:
    assert Redactor(["a"]).redact("a table: key=a") == "*** table: key=***"


@pytest.mark.parametrize(
    "address",
    [
        "mongodb://user:topsecret/hush@quiet@h",
        "mongodb://user:topsecret?hush@h",
        "mongodb://user:topsecret@hush@h",
        "mongodb://user:topsecret/hush.quiet",
        "mongodb://user:topsecret%@h",
        "mongodb://user:/topsecret.hu%73h y@h",
        "mongodb+srv://user:topsecret/x.y@h",
        # Hosts to a client, which asks DNS for them:
        "mongodb://user:topsecret@hush/quiet@h",
        "mongodb://user:topsecret@hush?quiet@h",
        "mongodb://user:topsecret@hush#quiet@h",
        "mongodb://topsecret/hush:quiet@h",
        "mongodb://topsecret:27017/hush@h",
        "mongodb+srv://user:topsecret@hush.com/quiet@h",
        "http://user:topsecret@h",
        "topsecret",
    ],
)
def test_an_address_that_is_refused_is_not_shown(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(None, {}, ["id=a", f"target.address={address}"])
    assert str(caught.value).startswith("target.address ")
    for part in ("topsecret", "hush", "quiet"):
        assert part not in str(caught.value)


def test_an_address_of_the_source_is_not_shown_or_looked_up_either() -> None:
    given = ["id=a", "target.address=mongodb://h"]
    with pytest.raises(
        UsageError, match=r"source\.endpoint_url holds a user or password"
    ) as caught:
        load(None, {}, [*given, "source.endpoint_url=http://user:topsecret@hush/quiet@h"])
    assert not set(re.findall("topsecret|hush|quiet", str(caught.value)))


@pytest.mark.parametrize("name", ["https_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy", ["http://user:topsecret@hush/quiet@h:1", "http://user:1/hush@h:1", "u:hush#x@h"]
)
def test_a_proxy_whose_password_would_be_taken_for_its_host_is_refused(
    name: str, proxy: str
) -> None:
    given = ["id=a", "target.address=mongodb://h"]
    with pytest.raises(UsageError, match=name) as caught:
        load(None, {name: proxy}, given)
    assert not set(re.findall("topsecret|hush|quiet", str(caught.value)))
    load(None, {name: "http://user:p%40ss@h:1/", "no_proxy": "a@b/c@d"}, given)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("mongodb://user:topsecret@h/?w=1", "write key = value"),
        ("target.address mongodb://user:topsecret@h/?w=1", r"write target\.address = value"),
        ("target.address: mongodb://user:topsecret@h/?w=1", r"write target\.address = value"),
        ("http.token topsecret", r"write http\.token = value"),
    ],
)
def test_a_line_without_its_equals_sign_is_not_shown(line: str, advice: str) -> None:
    with pytest.raises(UsageError, match=advice) as caught:
        load(None, {}, [line])
    assert "topsecret" not in str(caught.value)


def test_a_bad_value_of_a_secret_key_is_not_shown() -> None:
    for setting in ("http.token=top secret", "source.session_token=top\nsecret"):
        with pytest.raises(UsageError) as caught:
            load(None, {}, ["id=a", "target.address=mongodb://h", setting])
        assert "top" not in str(caught.value)


def test_a_printed_mask_is_not_taken_for_a_secret() -> None:
    for setting in ("http.token=***", "target.address=mongodb://u:***@h"):
        with pytest.raises(UsageError, match="give the secret"):
            load(None, {}, ["id=a", "target.address=mongodb://h", setting])


def test_an_option_that_can_be_a_piece_of_a_secret_is_not_named() -> None:
    address = (
        "mongodb://h/?appName=my app&nonsense=1&tlsCertificateKeyFilePassword=pem&phrase=2&w=1"
    )
    loaded = load(None, {}, ["id=task", f"target.address={address}"])
    options = [re.findall("know option (.*) and", one)[0] for one in loaded.warnings]
    assert options == ["nonsense", "number 4"]
