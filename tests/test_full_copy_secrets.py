"""No secret is ever shown, whatever is asked for and whatever goes wrong."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient

from shake.demo.mongo import MongoServer, mongo_server
from shake.demo.servers import free_port
from tests.support.faulty import Faulty, Reply, Request, error, forward
from tests.support.migration import Migration
from tests.support.tables import create_table, put_items
from tests.support.wait import until

PASSWORD = "geheim/pass:wort@1"
SESSION_TOKEN = "geheimsessiontoken"
SECRETS = [
    PASSWORD,
    urllib.parse.quote_plus(PASSWORD),
    SESSION_TOKEN,
    "geheimsecretkey",
    "geheimaccesskey",
    "geheimhttptoken",
]


@pytest.fixture
def locked_mongo(tmp_path: Path) -> Iterator[MongoServer]:
    """A server that asks for a password."""
    with mongo_server(folder=tmp_path / "mongo") as server:
        with MongoClient[Any](server.uri) as client:
            client.admin.command("createUser", "me", pwd=PASSWORD, roles=["root"])
        server.auth = True
        server.restart()
        yield server


def test_no_secret_is_shown_anywhere(
    dynamodb: Any,
    locked_mongo: MongoServer,
    name: str,
    migrate: Callable[..., Migration],
    tmp_path: Path,
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, ({"pk": {"S": f"k{i}"}} for i in range(200)))
    port, profile = free_port(), free_port()
    log = tmp_path / "log"
    target = locked_mongo.uri.replace("://", f"://me:{urllib.parse.quote_plus(PASSWORD)}@")
    seen = []
    with Faulty(otherwise=(source := Quoting(dynamodb.url))) as proxy:
        migration = migrate(
            source=proxy.url,
            target=target,
            source__access_key_id="geheimaccesskey",
            source__secret_access_key="geheimsecretkey",
            source__session_token=SESSION_TOKEN,
            http__token="geheimhttptoken",
            http_profile=port,
            system_profile=profile,
            log__file=log,
            log__level="debug",
            qps__full=5,
            qps__full__batch_num=10,
        )
        run = migration.start()
        until(lambda: migration.children("writer") and migration.children("worker"))
        seen += [get(port, path) for path in ("/", "/status", "/metrics", "/progress", "/metric")]
        state = until(lambda: json.loads(get(port, "/status")))
        seen.append(get(profile, "/"))
        for process in (psutil.Process(run.pid), *migration.children()):
            seen.append(" ".join(process.cmdline()))
        source.refusing = True
        result = migration.wait(run)
    assert result.status == 1
    assert "InvalidSignatureException" in result.stderr
    assert state["tables"][0]["name"] == name
    for arguments in (["--dry-run"], ["--print-config"]):
        more = migration.run(*arguments)
        seen += [more.stdout, more.stderr]
    wrong = migration.run("--set", f"target.address={target.replace('me:', 'you:')}")
    assert wrong.status == 3
    seen += [result.stdout, result.stderr, log.read_text(), wrong.stdout, wrong.stderr]
    for secret in SECRETS:
        assert [text for text in seen if secret in text] == []


class Quoting:
    """Answers as the server does, until it refuses, and quotes what it was sent as AWS does."""

    def __init__(self, url: str) -> None:
        self._answer = forward(url)
        self.refusing = False

    def __call__(self, request: Request) -> Reply:
        if not self.refusing:
            return self._answer(request)
        return error(
            "InvalidSignatureException",
            "The Canonical String for this request should have been 'POST / x-amz-security-token:"
            f"{request.headers['x-amz-security-token']} {request.headers['authorization']}'",
        )


def get(port: int, path: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": "Bearer geheimhttptoken"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: bytes = answer.read()
        return body.decode()
