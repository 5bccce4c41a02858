"""The servers that tests share, one of each a session, and names that keep tests apart.

SHAKE_TEST_DYNAMODB_URL and SHAKE_TEST_MONGO_URI name servers that run already. SHAKE_TEST_SECONDS
limits the time of a run on a slow machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from pymongo import MongoClient

from shake.demo import fetch
from shake.demo.mongo import MongoServer, mongo_server, why_no_mongod
from shake.demo.servers import DynamoDBLocal
from shake.errors import RunError
from shake.stream import suspicion
from tests.support.crash import MakeCopy, opened
from tests.support.followed import Followed
from tests.support.migration import Migration
from tests.support.streams import Clock, Simulator
from tests.support.tables import connect, create_table, put_items

#: Seconds after which no further test begins: the rest is skipped, and counted as skipped.
SECONDS = float(os.environ.get("SHAKE_TEST_SECONDS", "inf"))
#: A text that decides the order of the test files, so that it is not always the same that is
#: skipped.
ORDER = os.environ.get("SHAKE_TEST_ORDER", "")
BEGAN = time.monotonic()

DYNAMODB_URL = os.environ.get("SHAKE_TEST_DYNAMODB_URL")
MONGO_URI = os.environ.get("SHAKE_TEST_MONGO_URI")

# The same examples each time, on a machine however busy.
settings.register_profile(
    "shake", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shake")


@pytest.fixture(autouse=True)
def _asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is asked again at a start waits less in the process of the tests."""
    monkeypatch.setattr(suspicion, "START", suspicion.Proof(3, 0.2, 0.1))


def pytest_configure() -> None:
    """Let signals through to what tests start: a shell and nohup have some ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if ORDER:
        items.sort(key=lambda item: hashlib.sha256(f"{ORDER}{item.path.name}".encode()).digest())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if time.monotonic() - BEGAN > SECONDS:
        pytest.skip("SHAKE_TEST_SECONDS are over")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download the servers while no test's time runs; where that fails, the fixtures say so."""
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly:
        return
    with contextlib.suppress(RunError):
        if "dynamodb" in needed and not DYNAMODB_URL:
            fetch.dynamodb_local(print)
    with contextlib.suppress(RunError):
        if needed & {"mongo", "own_mongo"} and not MONGO_URI:
            why_no_mongod(notice=print)


@pytest.fixture(scope="session")
def server_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Where the servers keep their logs, which stay behind."""
    folder = tmp_path_factory.mktemp("servers")
    yield folder
    if request.session.testsfailed:
        print(f"\nthe servers' logs are in {folder}")


@pytest.fixture(scope="session")
def dynamodb(server_folder: Path) -> Iterator[Any]:
    """``.url`` of DynamoDB Local, and ``.client`` from boto3."""
    if DYNAMODB_URL:
        yield SimpleNamespace(url=DYNAMODB_URL, client=connect(DYNAMODB_URL))
        return
    with DynamoDBLocal(folder=server_folder) as server:
        yield SimpleNamespace(url=server.url, client=connect(server.url))


@pytest.fixture(scope="session")
def mongo(server_folder: Path) -> Iterator[Any]:
    """``.uri`` of a MongoDB server that takes test commands, and ``.client`` from pymongo."""
    if MONGO_URI:
        with MongoClient[dict[str, Any]](MONGO_URI) as client:
            yield SimpleNamespace(uri=MONGO_URI, client=client)
        return
    with (
        mongo_server(server_folder, print) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
    ):
        yield SimpleNamespace(uri=server.uri, client=client)


@pytest.fixture
def own_mongo(tmp_path: Path) -> Iterator[MongoServer]:
    """A server of the test's own, which may hang."""
    with mongo_server(folder=tmp_path / "mongo") as server:
        yield server
        server.signal(signal.SIGCONT)


@pytest.fixture
def name() -> str:
    """A short name that no other test has, for a table, a database or a task."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def migrate(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> Iterator[Callable[..., Migration]]:
    """Makes migrations between the shared servers, which end with the test.

    The task is called ``name``, unless ``task`` is given; so is ``source`` for another endpoint and
    ``target`` for another connection string. All else are settings of Migration.
    """
    made: list[Migration] = []

    def make(*, task: str = name, source: str = "", target: str = "", **settings: Any) -> Migration:
        ends = source or dynamodb.url, target or mongo.uri
        made.append(Migration(*ends, task, tmp_path, **settings))
        return made[-1]

    yield make
    for migration in made:
        migration.close()


@pytest.fixture
def followed(mongo: Any, migrate: Callable[..., Migration], name: str) -> Iterator[Followed]:
    with Simulator(clock=Clock(time.time)) as simulator:
        yield Followed(simulator, mongo, migrate, name)


@pytest.fixture
def stored(dynamodb: Any, name: str) -> Callable[[], list[dict[str, Any]]]:
    """What DynamoDB Local's table of the test's own name holds, by partition key."""

    def stored() -> list[dict[str, Any]]:
        pages = dynamodb.client.get_paginator("scan").paginate(TableName=name)
        found = [item for page in pages for item in page["Items"]]
        return sorted(found, key=lambda item: str(item["pk"]))

    return stored


@pytest.fixture
def table(dynamodb: Any, name: str) -> str:
    """A source table of 200 items."""
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, ({"pk": {"S": f"k{i}"}} for i in range(200)))
    return name


@pytest.fixture
def make_copy(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[MakeCopy]:
    """Makes copies for crash tests, each by one worker."""
    with opened(dynamodb, mongo, name, tmp_path, workers=1) as make:
        yield make
