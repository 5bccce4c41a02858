"""The embedded servers answer when started, keep their data, and never outlive their owner."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from shake.demo.mongo import VERSION, Mongod, SecantusDB, mongo_server
from shake.demo.servers import Server
from shake.errors import RunError
from tests.support.followed import Followed
from tests.support.replica_set import ARBITER, DATA, ReplicaSet
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.support.wire import TRANSACTION_TOO_OLD

pytestmark = pytest.mark.slow


class Script(Server):
    """A server that is a line of Python."""

    name = "script"

    def __init__(self, line: str, folder: Path) -> None:
        super().__init__(folder)
        self.line = line

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.line]

    def answers(self) -> bool:
        return "ready" in self.log.read_text()


STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", os.getpid(), flush=True)
while True: signal.pause()
"""


def test_dynamodb_local_serves_tables_and_streams(dynamodb: Any, name: str) -> None:
    create_table(
        dynamodb.client,
        name,
        sk=("sk", "N"),
        indexes={"by-sk": (("sk", "N"), None)},
        stream="NEW_AND_OLD_IMAGES",
    )
    put_items(dynamodb.client, name, ({"pk": {"S": "a"}, "sk": {"N": str(i)}} for i in range(60)))
    assert dynamodb.client.scan(TableName=name)["Count"] == 60
    table = dynamodb.client.describe_table(TableName=name)["Table"]
    assert table["LatestStreamArn"]
    assert table["GlobalSecondaryIndexes"][0]["IndexName"] == "by-sk"


def test_mongo_takes_test_commands(mongo: Any, name: str) -> None:
    mongo.client[name].c.insert_one({"a": 1})
    mongo.client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert mongo.client[name].c.count_documents({}) == 1


def test_a_killed_server_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    with mongo_server(folder=tmp_path) as server, MongoClient[Any](server.uri) as client:
        client.d.c.insert_one({"a": 1})
        server.kill()
        hasty = MongoClient[Any](server.uri, serverSelectionTimeoutMS=100)
        with hasty, pytest.raises(PyMongoError):
            hasty.d.c.find_one()
        server.restart()
        assert client.d.c.count_documents({"a": 1}) == 1


def test_options_may_change_between_restarts(tmp_path: Path) -> None:
    with mongo_server(folder=tmp_path) as server, MongoClient[Any](server.uri) as client:
        client.admin.command("createUser", "u", pwd="p", roles=["root"])
        server.auth = True
        server.restart()
        with pytest.raises(OperationFailure):
            client.d.c.find_one()
        with MongoClient[Any](server.uri, username="u", password="p") as user:
            assert user.d.c.find_one() is None


def test_mongod_orders_numbered_writes_as_a_replica_set_does(tmp_path: Path) -> None:
    session = {"id": bson.Binary.from_uuid(uuid.uuid4())}

    def insert(client: MongoClient[Any], number: int) -> None:
        command = {"insert": "c", "documents": [{"_id": number}], "lsid": session}
        durably = {"txnNumber": bson.Int64(number), "writeConcern": {"w": "majority", "j": True}}
        client.d.command(command | durably)

    with Mongod(folder=tmp_path) as server, MongoClient[Any](server.uri) as client:
        insert(client, 1)
        insert(client, 1)
        with pytest.raises(OperationFailure) as refused:
            insert(client, 0)
        assert refused.value.code == TRANSACTION_TOO_OLD
        assert list(client.d.c.find()) == [{"_id": 1}]


@pytest.fixture
def other_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What lies in the cache as mongod's binary; to be written by the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binary = tmp_path / f"shake/mongod-{VERSION}/mongod"
    binary.parent.mkdir(parents=True)
    binary.touch(0o755)
    return binary


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("#!/no/such/loader\n", "No such file or directory"),
        ("#!/bin/sh\necho 'no libssl.so.3:\nnot found' >&2; exit 127\n", "libssl.so.3: not found"),
        ("#!/bin/sh\nkill -ILL $$\n", "exit status -4"),
    ],
)
def test_a_mongod_that_does_not_run_is_replaced_and_that_is_said_in_one_line(
    other_binary: Path, tmp_path: Path, content: str, reason: str
) -> None:
    other_binary.write_text(content)
    said: list[str] = []
    assert mongo_server(tmp_path, said.append).product == "SecantusDB"
    [line] = said
    assert reason in line
    assert "\n" not in line


def test_where_mongod_cannot_run_secantusdb_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    said: list[str] = []
    server = mongo_server(tmp_path, said.append)
    [line] = said
    assert "aarch64" in line
    assert server.product in line
    with server, MongoClient[Any](server.uri) as client:
        client.d.c.insert_one({"a": 1})


def test_a_whole_migration_works_into_what_stands_in_for_mongod(
    followed: Followed, tmp_path: Path
) -> None:
    """It gives a collection that is renamed another UUID."""
    followed.simulator.table(followed.name)
    followed.put("a")
    with SecantusDB(tmp_path / "stand-in") as server, MongoClient[Any](server.uri) as client:
        migration = followed.task(target=server.uri)
        for value in ("1", "2"):
            followed.put("b", n={"N": value})
            assert migration.run("--until-consistent").status == 0
        stored = client[followed.name][followed.name].find({}, {"_id": 0})
        assert sorted(stored, key=itemgetter("pk")) == [{"pk": "a"}, {"pk": "b", "n": 2}]


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"script on port \d+ ended: no room left"):
        Script("import sys; sys.exit('no room left')", tmp_path).start()


def test_a_server_that_never_answers_is_given_up_and_stopped(tmp_path: Path) -> None:
    before = psutil.Process().children(recursive=True)
    with pytest.raises(RunError, match="does not answer"):
        Script("import time; time.sleep(600)", tmp_path).start(deadline=0.5)
    assert psutil.Process().children(recursive=True) == before


def test_a_hanging_server_goes_on_where_it_was(tmp_path: Path) -> None:
    with Script(STUBBORN, tmp_path) as server:
        process = psutil.Process(int(server.log.read_text().split()[1]))
        server.signal(signal.SIGSTOP)
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        server.signal(signal.SIGCONT)
        until(lambda: process.status() != psutil.STATUS_STOPPED)
        server.kill()
        assert not process.is_running()


def test_no_server_outlives_an_owner_that_was_killed(tmp_path: Path) -> None:
    owner = f"""
import pathlib, sys, time
from shake.demo.mongo import Mongod, mongo_server
server = mongo_server(folder=pathlib.Path({str(tmp_path)!r}))
server.start()
print(server.uri, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE) as process:
        assert process.stdout
        uri = process.stdout.readline().decode().strip()
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2, uri
        process.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive


# -- replica sets --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("three")) as replica_set:
        yield replica_set


@pytest.mark.parametrize("way", ["uri", "plain_uri"])
def test_writes_go_on_when_the_primary_is_killed(three: ReplicaSet, way: str, name: str) -> None:
    three.settle()
    with MongoClient[Any](getattr(three, way)) as client:
        client[name].c.insert_one({"_id": 1})
        primary = three.primary()
        primary.kill()
        client[name].c.insert_one({"_id": 2})
        assert three.primary() is not primary
        primary.restart()
        three.settle()
        assert primary in three.secondaries()
        assert client[name].c.count_documents({}) == 2


def test_another_member_is_primary_after_a_step_down(three: ReplicaSet) -> None:
    three.settle()
    old = three.primary()
    assert three.step_down() is three.primary() is not old
    three.settle()


def test_a_hanging_primary_is_replaced_and_comes_back(three: ReplicaSet) -> None:
    three.settle()
    old = three.primary()
    old.signal(signal.SIGSTOP)
    try:
        until(lambda: three.primary() is not old)
    finally:
        old.signal(signal.SIGCONT)
    until(lambda: old in three.secondaries())
    three.settle()


def test_what_only_a_lost_primary_held_is_rolled_back(tmp_path: Path) -> None:
    """So the set shows what an acknowledgement by one member is worth."""
    with (
        ReplicaSet(tmp_path, (DATA, DATA, ARBITER)) as replica_set,
        MongoClient[Any](replica_set.plain_uri, w=1) as client,
    ):
        client.d.c.insert_one({"_id": "both"})
        replica_set.settle()
        primary, [secondary] = replica_set.primary(), replica_set.secondaries()
        secondary.kill()
        client.d.c.insert_one({"_id": "primary only"})
        primary.kill()
        secondary.restart()
        until(lambda: replica_set.primary() is secondary)
        client.d.c.insert_one({"_id": "secondary only"})
        primary.restart()
        replica_set.settle()
        found = [document["_id"] for document in client.d.c.find().sort("_id")]
        assert found == ["both", "secondary only"]
