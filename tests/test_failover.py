"""What a fail-over of the target undoes is done again: nothing is missing, and nothing there twice.

On real replica sets of MongoDB.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from shake.checkpoint.records import CopyRun
from shake.config import load
from shake.demo.mongo import why_no_mongod
from shake.schema import Attribute, Keys, Table
from shake.target.contract import Changes
from shake.target.mongodb import MongoTarget
from tests.support.replica_set import ReplicaSet
from tests.support.wait import until

pytestmark = pytest.mark.skipif(bool(why_no_mongod()), reason=f"no mongod: {why_no_mongod()}")

TABLE = Table("things", Keys(Attribute("pk", "S"), Attribute("sk", "N")))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("three")) as replica_set:
        yield replica_set


# -- calls that a fail-over undoes before they are durable ---------------------------------------


@dataclass
class Undone:
    """Calls whose effect a primary shows, which no other member confirms, and which is then lost.

    ``retries`` are the reasons of failed attempts.
    """

    replica_set: ReplicaSet
    client: MongoClient[dict[str, Any]]
    target: MongoTarget
    name: str
    retries: list[str]

    def staging(self, place: str, run: int = 0) -> Any:
        return self.target.staging(place, TABLE, CopyRun(7, run, 7), lambda line: None)

    def filled(self, place: str) -> str:
        """The UUID of a staging collection with a document."""
        held = self.staging(place).begin()
        self.collection(held.place).insert_one({"_id": 1})
        return str(held.collection)

    def collection(self, place: str) -> Any:
        database, _, collection = place.partition(".")
        return self.client[database][collection]

    def names(self, place: str) -> list[str]:
        return sorted(self.target.collections(place, place))

    def call(self, calls: Mapping[str, tuple[Callable[[], Any], str]]) -> dict[str, Any]:
        """The answers of the calls; each shows a document or a collection in a place."""
        self.replica_set.settle()
        primary, others = self.replica_set.primary(), self.replica_set.secondaries()
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="alwaysOn")
        answers: dict[str, Any] = {}
        threads = [
            threading.Thread(target=lambda name=name: answers.update({name: calls[name][0]()}))
            for name in calls
        ]
        uri = f"mongodb://{primary.host}/?directConnection=true"
        with MongoClient[dict[str, Any]](uri) as client:
            for thread in threads:
                thread.start()
            for _, place in calls.values():
                database, _, collection = place.partition(".")
                until(lambda: collection in client[database].list_collection_names())  # noqa: B023
            for name in calls:  # by now each waits for the other members
                until(lambda: sum(name in reason for reason in self.retries) > 2)  # noqa: B023
        primary.kill()
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="off")
        for thread in threads:
            thread.join(60)
        primary.restart()
        self.replica_set.settle()
        return answers


@pytest.fixture
def undone(three: ReplicaSet, name: str) -> Iterator[Undone]:
    address = f"target.address={three.uri}&wtimeoutMS=300"
    settings = [f"id={name}", address, "increase.executor.insert_on_dup_update=false"]
    retries: list[str] = []
    target = MongoTarget(load(None, {}, settings).config, threading.Event(), retries.append)
    with contextlib.closing(target), MongoClient[dict[str, Any]](three.uri) as client:
        yield Undone(three, client, target, name, retries)


def test_what_a_fail_over_undoes_is_done_again(undone: Undone) -> None:
    """A staging collection is created, taken over, published; a change is applied."""
    begun, resumed, inserts, updates = (
        f"{undone.name}.{one}" for one in ("begun", "resumed", "inserts", "updates")
    )
    fates = {fate: f"{undone.name}.fate-{fate}" for fate in ("create", "drop", "rename")}
    for fate, place in fates.items():
        if fate != "create":
            undone.collection(place).insert_one({"_id": "old"})
    uuids = {place: undone.filled(place) for place in [resumed, *fates.values()]}
    document = {"_id": bson.ObjectId(), "pk": "a", "sk": 1, "v": 1}
    update = {"q": {"pk": "a", "sk": 1}, "u": document, "upsert": True}
    empty = {"updates": memoryview(b""), "inserts": memoryview(b""), "deletes": memoryview(b"")}

    def apply(place: str, command: str, statement: Any) -> Callable[[], Any]:
        writer = undone.target.writer(place, TABLE)
        changes = Changes(**{**empty, command: memoryview(bson.encode(statement))})
        return lambda: writer.apply(changes, "shard")

    def publish(fate: str, place: str) -> Callable[[], Any]:
        return lambda: undone.staging(place).publish(uuids[place], fate, f"{place}.backup", "")

    answers = undone.call(
        {
            begun: (undone.staging(begun).begin, f"{begun}.shake-7-0"),
            resumed: (
                lambda: undone.staging(resumed, 1).resume(uuids[resumed]),
                f"{resumed}.shake-7-1",
            ),
            **{place: (publish(fate, place), place) for fate, place in fates.items()},
            inserts: (apply(inserts, "inserts", document), inserts),
            updates: (apply(updates, "updates", update), updates),
        }
    )
    assert undone.names(begun) == [answers[begun].place] == [f"{begun}.shake-7-0"]
    assert answers[begun].collection
    assert answers[resumed] == (f"{resumed}.shake-7-1", uuids[resumed])
    assert undone.names(resumed) == [f"{resumed}.shake-7-1"]
    for fate, place in fates.items():
        assert answers[place] == (place, uuids[place])
        assert list(undone.collection(place).find()) == [{"_id": 1}]
        assert undone.names(place) == [place, *[f"{place}.backup"] * (fate == "rename")]
    for place in inserts, updates:
        assert [one["v"] for one in undone.collection(place).find()] == [1]
