"""What a fail-over of the target undoes is done again: nothing is missing, and nothing there twice.

On real replica sets of MongoDB.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from shake.checkpoint.records import CopyRun
from shake.config import load
from shake.demo.mongo import why_no_mongod
from shake.schema import Attribute, Keys, Table
from shake.target.contract import Changes, Fence
from shake.target.mongodb import MongoTarget
from tests.support.replica_set import ReplicaSet
from tests.support.wait import until

pytestmark = pytest.mark.skipif(bool(why_no_mongod()), reason=f"no mongod: {why_no_mongod()}")

TABLE = Table("things", Keys(Attribute("pk", "S"), Attribute("sk", "N")))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("three")) as replica_set:
        yield replica_set


# -- one call, that a fail-over undoes before it is durable ---------------------------------------


@dataclass
class Undone:
    """A target whose writes reach the primary alone, and are confirmed by no other member.

    ``retries`` are the reasons of its failed attempts.
    """

    replica_set: ReplicaSet
    target: MongoTarget
    place: str
    retries: list[str]

    def staging(self, run: int) -> Any:
        return self.target.staging(self.place, TABLE, CopyRun(7, run, 7), lambda line: None)

    @property
    def database(self) -> Any:
        return self.target.database(self.place.partition(".")[0])

    def call(self, call: Callable[[], Any], shown: Callable[[Any], bool]) -> Any:
        """The answer of a call, whose effect was ``shown`` by a primary that is then lost."""
        self.replica_set.settle()
        primary, others = self.replica_set.primary(), self.replica_set.secondaries()
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="alwaysOn")
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
        uri = f"mongodb://{primary.host}/?directConnection=true"
        with MongoClient[dict[str, Any]](uri) as client:
            thread.start()
            until(lambda: shown(client[self.database.name]))
            seen = len(self.retries)
            until(lambda: len(self.retries) > seen + 1)  # so it waits for the other members
            primary.kill()
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="off")
        thread.join(60)
        primary.restart()
        self.replica_set.settle()
        [answer] = answers
        return answer


@pytest.fixture
def undone(three: ReplicaSet, name: str) -> Iterator[Undone]:
    address = f"target.address={three.uri}&wtimeoutMS=300"
    settings = [f"id={name}", address, "increase.executor.insert_on_dup_update=false"]
    retries: list[str] = []
    target = MongoTarget(load(None, {}, settings).config, threading.Event(), retries.append)
    with contextlib.closing(target):
        yield Undone(three, target, f"{name}.things", retries)


def names(database: Any) -> list[str]:
    return list(database.list_collection_names())


def test_a_staging_collection_is_created_for_good(undone: Undone) -> None:
    staging = undone.staging(0)
    held = undone.call(staging.begin, lambda database: "things.shake-7-0" in names(database))
    assert held.collection
    assert held == staging.look(held.collection)


def test_a_staging_collection_is_taken_over_for_good(undone: Undone) -> None:
    filled = undone.staging(0).begin()
    undone.database["things.shake-7-0"].insert_one({"_id": 1})
    held = undone.call(
        lambda: undone.staging(1).resume(filled.collection),
        lambda database: "things.shake-7-1" in names(database),
    )
    assert held == (f"{undone.place}.shake-7-1", filled.collection)
    assert names(undone.database) == ["things.shake-7-1"]


@pytest.mark.parametrize("fate", ["create", "drop", "rename"])
def test_a_complete_copy_gets_its_name_for_good(undone: Undone, fate: str) -> None:
    if fate != "create":
        undone.database.things.insert_one({"_id": "old"})
    staging = undone.staging(0)
    filled = staging.begin()
    undone.database["things.shake-7-0"].insert_one({"_id": 1})
    held = undone.call(
        lambda: staging.publish(filled.collection, fate, f"{undone.place}.backup", ""),
        lambda database: database.things.find_one({"_id": 1}),
    )
    assert held == (undone.place, filled.collection)
    assert list(undone.database.things.find()) == [{"_id": 1}]
    backup = ["things.backup"] if fate == "rename" else []
    assert sorted(names(undone.database)) == ["things", *backup]


@pytest.mark.parametrize("command", ["inserts", "updates"])
def test_a_change_is_applied_for_good(undone: Undone, command: str) -> None:
    document = {"_id": bson.ObjectId(), "pk": "a", "sk": 1, "v": 1}
    key = {"pk": "a", "sk": 1}
    statement = document if command == "inserts" else {"q": key, "u": document, "upsert": True}
    held = undone.staging(0).begin()
    writer = undone.target.writer(held.place, TABLE, Fence(held.collection, 0, 0))
    writer.build_indexes(lambda line: None)
    empty = {"updates": memoryview(b""), "inserts": memoryview(b""), "deletes": memoryview(b"")}
    changes = Changes(**{**empty, command: memoryview(bson.encode(statement))})
    database, _, collection = held.place.partition(".")
    undone.call(
        lambda: (writer.apply(changes, "shard"),),
        lambda database: database[collection].find_one(key),
    )
    found = undone.database[collection].find_one(key)
    assert found
    assert found["v"] == 1
