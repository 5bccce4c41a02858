"""The mistakes that users make: each gets one line that says what is wrong and what to do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from shake.config import load
from shake.demo.mongo import MongoServer, mongo_server, why_no_mongod
from shake.demo.servers import free_port
from shake.errors import SourceError, UsageError
from shake.source.advice import advice, advice_on_session
from shake.targets.mongodb.build_progress import build_progress
from tests.support.faulty import Faulty, Reply, Request, error, forward
from tests.support.migration import Migration, Result
from tests.support.tables import create_table, put_items

Migrate = Callable[..., Migration]

#: A file without mistakes; what a mistake adds or changes stands behind it.
GOOD = """id = orders
source.endpoint_url = http://127.0.0.1:8000
target.address = mongodb://127.0.0.1:27017/
"""

#: Values that shake does not read closer than as text, where a mistake would go far.
FREE_TEXT = {
    "id": "orders",
    "pid_path": "/tmp",
    "log.file": "/tmp/a.log",
    "source.region": "us-east-1",
    "source.profile": "prod",
    "source.secret_access_key": "hush",
    "source.assume_role_arn": "arn:aws:iam::123456789012:role/a",
    "source.endpoint_url": "http://h:1",
    "target.address": "mongodb://u:hush@h/",
    "webhook.url": "http://h/hush",
    "namespace.map": "orders:shop.orders",
    "filter.collection.white": "orders",
    "convert._id": "pre",
}


def _refused_by(operation: str, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


def said(lines: str, *, without: str = "", folder: Path) -> str:
    file = folder / "my.conf"
    kept = [line for line in GOOD.splitlines() if not without or not line.startswith(without)]
    file.write_text("\n".join([*kept, lines]))
    with pytest.raises(UsageError) as caught:
        load(str(file), {}, [])
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("lines", "without", "words"),
    [
        ("", "id", ["id is required", "add id = VALUE"]),
        ("target.address = 127.0.0.1:27017", "target", ["target.address", "begin with mongodb://"]),
        ("target.address = 'mongodb://h/'", "target", ["target.address", "remove the quotes"]),
        ('target.address = "mongodb://h/"', "target", ["target.address", "remove the quotes"]),
        ("source.endpoint_url = 'http://h:1'", "source", ["endpoint_url", "remove the quotes"]),
        ("target.address = mongodb+srv://h.example.net:27017/", "target", ["no port"]),
        ("target.address = mongodb+srv://a.x.net,b.x.net/", "target", ["one host name"]),
        ("source.endpoint_url = http://h h:1", "source", ["and nothing else"]),
        ("source.endpoint_url = http://u:hush@h:1", "source", ["and nothing else"]),
        ("source.streams_endpoint_url = http://h:1?x=y", "", ["and nothing else"]),
        ("source.endpoint_url = http://h:1/#x", "source", ["and nothing else"]),
        ("source.endpoint_url = h:8000", "source", ["endpoint_url", "http://host:port"]),
        ("sync_mod = full", "", ["my.conf:4", "'sync_mod'", "nearest known key is sync_mode"]),
        ("sync_mode = ful", "", ["my.conf:4", "sync_mode = ful", "one of: all, full, incr"]),
        ("qps.full = 10 # fast", "", ["my.conf:4", "qps.full", "a remark needs a line of its own"]),
        ("sync_mode = full  # a", "", ["my.conf:4", "a remark needs a line of its own"]),
        ("qps.full: 10", "", ["my.conf:4", "write qps.full = value"]),
        ("[main]", "", ["my.conf:4", "no sections", "remove the line"]),
        ("; a remark", "", ["my.conf:4", "a remark begins with #"]),
        ("// a remark", "", ["my.conf:4", "a remark begins with #"]),
        ("log.buffer = true // a", "", ["my.conf:4", "a remark needs a line of its own"]),
        *(
            (f"{key} = {value} # a", key, ["my.conf:", key, "a remark needs a line of its own"])
            for key, value in FREE_TEXT.items()
        ),
        *(
            (f"{key} = {quote[0]}{value}{quote[1]}", key, ["my.conf:", key, "remove the quotes"])
            for key, value in FREE_TEXT.items()
            for quote in ("''", '""', "\u201c\u201d")
        ),
        ("source.region =\u00a0us-east-1", "", ["my.conf:4", "source.region", "U+00A0"]),
        ("source.region\u200b= us-east-1", "", ["my.conf:4", "U+200B", "type the line by hand"]),
        ("target.address = mongodb://<user>:<password>@h/", "target", ["placeholder", "< and >"]),
        ("target.address = mongodb+srv://u:<db_password>@h.a.net", "target", ["placeholder"]),
        ("namespace.map = orders:local.orders", "", ["namespace.map", "local", "choose another"]),
        ("checkpoint.db = config", "", ["checkpoint.db", "config", "choose another"]),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_names_the_line_and_the_way_out(
    lines: str, without: str, words: list[str], tmp_path: Path
) -> None:
    line = said(lines, without=without, folder=tmp_path)
    for word in words:
        assert word in line
    assert "hush" not in line


@pytest.mark.parametrize("key", ["target.address", "checkpoint.address"])
@pytest.mark.parametrize("password", ["top@hush", "top/hush", "top?hush", "top:hush", "top%hush"])
def test_a_password_that_is_not_percent_encoded_is_explained_and_not_shown(
    password: str, key: str, tmp_path: Path
) -> None:
    without = "target" if key == "target.address" else ""
    line = said(f"{key} = mongodb://u:{password}@h:27017/", without=without, folder=tmp_path)
    assert line.startswith(f"{key} ")
    for word in ("not percent-encoded", "%40", "%2F", "%3F", "%25"):
        assert word in line
    assert "top" not in line
    assert "hush" not in line


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server that asks for a user: root, who may do all; reader; and writer of one database."""
    if reason := why_no_mongod():
        pytest.skip(f"SecantusDB knows no rights ({reason})")
    with mongo_server(folder=tmp_path_factory.mktemp("guarded")) as server:
        with MongoClient[Any](server.uri) as client:
            create = client.admin.command
            create("createUser", "root", pwd="pw", roles=["root"])
            create("createUser", "reader", pwd="pw", roles=["readAnyDatabase"])
            create("createUser", "writer", pwd="pw", roles=[{"role": "readWrite", "db": "x"}])
        server.auth = True
        server.restart()
        yield server


@pytest.mark.parametrize(
    ("user", "query", "words"),
    [
        ("", "", ["requires authentication", "add a user to target.address"]),
        ("root:wrong@", "", ["Authentication failed", "check user and password", "authSource"]),
        ("nobody:pw@", "", ["Authentication failed", "check user and password"]),
        ("root:pw@", "authSource=shop", ["Authentication failed", "authSource"]),
        ("reader:pw@", "", ["not authorized", "readWrite on that database"]),
        ("writer:pw@", "", ["not authorized", "readWrite on that database"]),
    ],
)
def test_a_user_that_cannot_do_the_work_is_refused_with_the_way_out(
    guarded: MongoServer, migrate: Migrate, user: str, query: str, words: list[str]
) -> None:
    address = guarded.uri.replace("//", f"//{user}").rstrip("/") + f"/?{query}"
    _one_line(migrate(target=address).run(), words)


def test_without_the_right_to_see_operations_the_progress_of_index_builds_is_not_known(
    guarded: MongoServer, caplog: pytest.LogCaptureFixture
) -> None:
    for user, known in (("writer", False), ("root", True)):
        address = guarded.uri.replace("//", f"//{user}:pw@")
        with MongoClient[Any](address) as client:
            assert build_progress(client, "x.orders") is None  # nothing is being built
            with pytest.raises(OperationFailure) if not known else contextlib.nullcontext():
                list(client.admin.aggregate([{"$currentOp": {"allUsers": True}}]))
    assert caplog.messages == []


@pytest.mark.slow
def test_a_target_that_is_not_there_is_refused_with_the_way_out(
    mongo: Any, migrate: Migrate
) -> None:
    quick = "serverSelectionTimeoutMS=500"
    nowhere = f"127.0.0.1:{free_port()}"
    for address, words in (
        (f"mongodb://{nowhere}/?{quick}", [nowhere, "refused", "check host and port"]),
        (f"mongodb://no-such-host.invalid/?{quick}", ["no-such-host", "check the host name"]),
        (f"{mongo.uri.rstrip('/')}/?replicaSet=wrong&{quick}", ["wrong", "correct replicaSet"]),
        (f"{mongo.uri.rstrip('/')}/?tls=true&tlsCAFile={__file__}", ["no certificate", "of tls"]),
        (f"{mongo.uri.rstrip('/')}/?tls=true&{quick}", ["SSL", "check the options of tls in"]),
    ):
        _one_line(migrate(target=address).run(), ["target.address", *words])


def test_a_source_that_is_not_there_is_refused_with_the_way_out(migrate: Migrate) -> None:
    for host in (f"127.0.0.1:{free_port()}", "no-such-host.invalid"):
        result = migrate(source=f"http://{host}").run()
        _one_line(result, [host, "check source.endpoint_url"])


@pytest.fixture
def table(dynamodb: Any, name: str) -> str:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}])
    return name


def test_a_table_that_is_not_there_is_refused_with_the_nearest_name(
    table: str, migrate: Migrate
) -> None:
    result = migrate(filter__collection__white=f"{table}s").run()
    _one_line(result, [f"there is no table {table}s", f"the nearest is {table}"])


def test_a_pattern_that_selects_nothing_is_refused(table: str, migrate: Migrate) -> None:
    result = migrate(filter__collection__white=f"no-{table}*").run()
    _one_line(result, ["no table to copy", f"filter.collection.white = no-{table}*"])


@pytest.mark.parametrize(
    ("operation", "code", "words"),
    [
        ("Scan", "AccessDeniedException", ["dynamodb:Scan", "arn:aws:iam::1:user/me"]),
        ("DescribeTable", "AccessDeniedException", ["dynamodb:DescribeTable"]),
        ("ListTables", "AccessDeniedException", ["dynamodb:ListTables"]),
        ("UpdateTable", "AccessDeniedException", ["dynamodb:UpdateTable"]),
        ("ListTables", "UnrecognizedClientException", ["source.access_key_id", "key is wrong"]),
        ("ListTables", "InvalidSignatureException", ["source.secret_access_key", "key is wrong"]),
    ],
)
def test_what_the_source_refuses_names_the_right_or_the_key(
    dynamodb: Any, table: str, migrate: Migrate, operation: str, code: str, words: list[str]
) -> None:
    answer = forward(dynamodb.url)
    text = f"User: arn:aws:iam::1:user/me is not authorized to perform: dynamodb:{operation}"
    if code != "AccessDeniedException":
        text = "what the service says"

    def deny(request: Request) -> Reply:
        return error(code, text) if request.operation == operation else answer(request)

    with Faulty(otherwise=deny) as source:
        wild = {"filter__collection__white": f"{table}*", "sync_mode": "all"}
        _one_line(migrate(source=source.url, **wild).run(), words)


@pytest.mark.parametrize(
    "code", ["InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException"]
)
def test_keys_that_are_refused_are_named_by_the_end_of_their_id(
    table: str, migrate: Migrate, code: str
) -> None:
    with Faulty(otherwise=lambda request: error(code, "no")) as source:
        key_id = "AKIAIOSFODNN7EXAMPLE"
        result = migrate(source=source.url, source__access_key_id=key_id).run()
    _one_line(result, [f"{code}: no (access key ID ***MPLE); "])
    assert key_id not in result.line


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        ("AccessDenied", "not authorized", ["allow dynamodb:Scan in the IAM policy"]),
        ("AccessDeniedException", "KMS key access denied error: x", ["kms:Decrypt", "enabled"]),
        ("AccessDeniedException", "role/kms-reader is not", ["allow dynamodb:Scan"]),
        ("AccessDeniedException", "not authorized to perform: kms:Decrypt", ["key's policy"]),
        *(
            ("AccessDeniedException", f"{words} {policy}", [f"allow dynamodb:Scan in the {policy}"])
            for words, policy in (
                ("with an explicit deny in a", "service control policy"),
                ("because no", "VPC endpoint policy"),
                ("because no", "permissions boundary"),
                ("because no", "session policy"),
            )
        ),
        ("KMSAccessDeniedException", "", ["kms:Decrypt", "key's policy"]),
        ("KMSDisabledException", "", ["check that the key is enabled"]),
        ("SignatureDoesNotMatch", "", ["the secret key is wrong", "source.secret_access_key"]),
        ("MissingAuthenticationToken", "", ["a proxy", "header Authorization"]),
        ("MissingAuthenticationTokenException", "", ["a proxy", "header Authorization"]),
        ("IncompleteSignature", "", ["a proxy", "header Authorization"]),
        ("UnrecognizedClientException", "", ["source.access_key_id", "source.session_token"]),
        ("InvalidClientTokenId", "", ["source.access_key_id"]),
        ("UnknownOperationException", "", ["source.streams_endpoint_url"]),
        ("OptInRequired", "", ["source.region"]),
    ],
)
def test_each_refusal_of_aws_says_what_to_do(code: str, message: str, words: list[str]) -> None:
    line = str(SourceError("Scan", code, message, advice("Scan", code, message)))
    assert code in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (_refused_by("AssumeRole", "AccessDenied"), ["sts:AssumeRole", "source.external_id"]),
        (_refused_by("AssumeRole", "InvalidClientTokenId"), ["source.access_key_id"]),
        (_refused_by("AssumeRole", "SignatureDoesNotMatch"), ["secret key is wrong"]),
        (_refused_by("GetRoleCredentials", "ForbiddenException"), ["sso_role_name"]),
        (_refused_by("GetRoleCredentials", "UnauthorizedException"), ["aws sso login"]),
        (UnauthorizedSSOTokenError(), ["aws sso login"]),
        (TokenRetrievalError(provider="sso", error_msg="expired"), ["aws sso login"]),
        (ProfileNotFound(profile="x"), []),
    ],
)
def test_each_failure_to_get_credentials_says_what_to_do(
    failure: Exception, words: list[str]
) -> None:
    line = advice_on_session(failure)
    assert bool(line) is bool(words)
    for word in words:
        assert word in line


@pytest.mark.parametrize("key", ["log.file", "checkpoint.address", "journal.path"])
def test_a_folder_that_takes_nothing_is_refused_with_its_name(
    table: str, migrate: Migrate, tmp_path: Path, key: str
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "inside"
    file = {"checkpoint.type": "file"} if key == "checkpoint.address" else {}
    parallel = {"sync_mode": "all", "incr_sync_parallel": "true"} if key == "journal.path" else {}
    settings = {name.replace(".", "__"): value for name, value in {**file, **parallel}.items()}
    result = migrate(**settings, **{key.replace(".", "__"): place}).run()
    _one_line(result, [os.fspath(place.parent)], statuses=(2, 3))


@pytest.mark.parametrize("place", ["/proc/x", "link"])
def test_a_plan_refuses_a_journal_whose_folder_cannot_be_made(
    table: str, migrate: Migrate, tmp_path: Path, place: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    folder = tmp_path / place  # which an absolute one replaces
    migration = migrate(sync_mode="all", journal__path=folder)
    found = [
        migration.run("--dry-run", "--set", f"incr_sync_parallel={used}").status
        for used in ("true", "false")
    ]
    assert found == [3, 0]
    assert not (tmp_path / "nowhere").exists()


def _one_line(result: Result, words: list[str], statuses: tuple[int, ...] = (3,)) -> None:
    assert result.status in statuses, result
    for word in words:
        assert word in result.line
