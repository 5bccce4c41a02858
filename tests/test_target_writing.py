"""What write and delete_ranges promise, against a server that fails in every way it can."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from shake.config import load
from shake.demo.mongo import mongo_server
from shake.errors import ItemError, RunError, Stopped
from shake.schema import Attribute, Keys, Table
from shake.targets.contract import Changes, Refusal
from shake.targets.mongodb.target import MongoTarget
from shake.targets.mongodb.writing import RANGES_AT_ONCE, MongoWriter
from tests.support.documents import items, object_id, slot
from tests.support.wait import until

PK = Keys(Attribute("pk", "S"))
Open = Callable[..., MongoWriter]


class Stage:
    """A target on the shared server, one collection, and everything that was retried."""

    def __init__(self, uri: str, name: str) -> None:
        # A server that said "not primary" is asked again at the next heartbeat.
        self.uri = uri + ("&" if "?" in uri else "?") + "heartbeatFrequencyMS=500"
        self.name = name
        self.stop = threading.Event()
        self.retries: list[str] = []
        self.targets: list[MongoTarget] = []

    def writer(self, *settings: str, keys: Keys = PK) -> MongoWriter:
        given = [f"id={self.name}", f"target.address={self.uri}", *settings]
        target = MongoTarget(load(None, {}, given).config, self.stop, self.retries.append)
        self.targets.append(target)
        return target.writer(f"{self.name}.c", Table("things", keys))


@pytest.fixture
def stage(mongo: Any, name: str) -> Iterator[Stage]:
    stage = Stage(mongo.uri, name)
    yield stage
    mongo.client.admin.command("configureFailPoint", "failCommand", mode="off")
    mongo.client.drop_database(name)
    for target in stage.targets:
        target.close()


@pytest.fixture
def stored(mongo: Any, name: str) -> Callable[[], list[dict[str, Any]]]:
    return lambda: list(mongo.client[name].c.find().sort("_id"))


@pytest.fixture
def fail(mongo: Any) -> Callable[..., None]:
    def fail(times: int, **data: Any) -> None:
        mongo.client.admin.command(
            "configureFailPoint", "failCommand", mode={"times": times}, data=data
        )

    return fail


def test_every_document_of_a_slot_arrives_byte_for_byte(stage: Stage, stored: Any) -> None:
    documents = [
        {"_id": object_id(i), "pk": f"k{i}", "n": Decimal128("1.10"), "l": [i, {"m": None}]}
        for i in range(2500)
    ]
    assert stage.writer().write(slot(documents)) == 0
    assert stored() == documents


def test_an_empty_slot_writes_nothing(stage: Stage, stored: Any) -> None:
    assert stage.writer().write(memoryview(b"")) == 0
    assert stored() == []


def test_the_slot_may_be_overwritten_after_write(stage: Stage, stored: Any) -> None:
    documents = slot(items(10))
    stage.writer().write(documents)
    documents[:] = bytes(len(documents))
    documents.release()
    assert stored() == items(10)


def test_writing_again_is_harmless_and_the_last_content_wins(stage: Stage, stored: Any) -> None:
    writer = stage.writer("full.document.write.batch=7")
    writer.write(slot(items(20)))
    assert writer.write(slot(items(20))) == 0  # nothing was replaced: all is as it was
    assert writer.write(slot(items(30, x=1))) == 20
    assert stored() == items(30, x=1)


def test_id_mode_key_replaces_what_the_target_holds(stage: Stage, stored: Any, mongo: Any) -> None:
    keys = Keys(Attribute("pk", "S"), Attribute("sk", "N"))
    documents = [{"_id": {"pk": "a", "sk": i}, "pk": "a", "sk": i, "x": "new"} for i in range(3)]
    mongo.client[stage.name].c.insert_one({**documents[1], "x": "old"})
    assert stage.writer("id.mode=key", keys=keys).write(slot(documents)) == 1
    assert stored() == documents


@pytest.mark.parametrize("field", ["$schema", "$set", "$"])
def test_a_name_that_begins_with_a_dollar_is_replaced_as_it_is(
    stage: Stage, stored: Any, field: str
) -> None:
    old = {"_id": object_id(1), "pk": "a", field: {"x": 1}, "y": {"$ref": "a"}}
    new = {"_id": object_id(1), "pk": "a", field: {"x": 2}, "y": {"$ref": "b", "$id": 1}}
    writer = stage.writer()
    writer.write(slot([old]))
    assert writer.write(slot([new])) == 1
    assert [bson.encode(one) for one in stored()] == [bson.encode(new)]


def test_without_dup_update_a_key_held_with_other_content_stops(stage: Stage, mongo: Any) -> None:
    settings = ("id.mode=key", "full.executor.insert_on_dup_update=false")
    documents = [{"_id": f"k{i}", "pk": f"k{i}", "x": i} for i in range(5)]
    writer = stage.writer(*settings)
    writer.write(slot(documents[:4]))
    assert writer.write(slot(documents)) == 0  # what it holds is ours already
    mongo.client[stage.name].c.update_one({"_id": "k2"}, {"$set": {"x": "theirs"}})
    with pytest.raises(ItemError, match=r'things: item {"pk":{"S":"k2"}}: .* already holds'):
        writer.write(slot(documents))
    assert mongo.client[stage.name].c.find_one("k2")["x"] == "theirs"


@pytest.mark.parametrize("id_mode", ["key", "objectid"])
def test_an_insert_of_a_key_held_with_other_content_names_the_key(
    stage: Stage, mongo: Any, id_mode: str
) -> None:
    writer = stage.writer(f"id.mode={id_mode}", "increase.executor.insert_on_dup_update=false")
    held: dict[str, Any] = {"pk": "k", "x": "theirs"}
    mongo.client[stage.name].c.create_index("pk", unique=True)
    mongo.client[stage.name].c.insert_one({"_id": "k", **held} if id_mode == "key" else held)
    document = {"_id": "k"} if id_mode == "key" else {}
    insert = memoryview(bson.encode({**document, "pk": "k", "x": "ours"}))
    nothing = memoryview(b"")
    with pytest.raises(ItemError, match=r'things: item {"pk":{"S":"k"}}: .* holds this key'):
        writer.apply(Changes(nothing, insert, nothing), "shard")


@pytest.mark.parametrize(
    "failure",
    [
        {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},  # not primary
        {"errorCode": 91},  # shutting down
        {"errorCode": 11602},  # interrupted by an election
        {"errorCode": 262},  # exceeded its time limit
        {"closeConnection": True},
        {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
        {"writeConcernError": {"code": 91, "errmsg": "shutting down"}},
    ],
    ids=str,
)
def test_what_passes_is_ridden_out(
    stage: Stage, stored: Any, fail: Any, failure: dict[str, Any]
) -> None:
    writer = stage.writer("full.document.write.batch=10")
    fail(4, failCommands=["insert"], **failure)
    writer.write(slot(items(30)))
    assert stored() == items(30)
    assert stage.retries
    assert all(retry.startswith(f"{stage.name}.c: ") for retry in stage.retries)


def test_a_failure_while_replacing_is_ridden_out(stage: Stage, stored: Any, fail: Any) -> None:
    writer = stage.writer()
    writer.write(slot(items(10)))
    fail(4, failCommands=["update"], closeConnection=True)
    writer.write(slot(items(10, x=1)))
    assert stored() == items(10, x=1)


def test_a_stop_ends_the_waiting(stage: Stage, fail: Any) -> None:
    fail(1_000_000, failCommands=["insert"], errorCode=262)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(stage.writer().write, slot(items(3)))
        until(lambda: stage.retries)
        stage.stop.set()
        with pytest.raises(Stopped):
            writing.result(timeout=30)


@pytest.mark.parametrize(
    "failure",
    [
        {"errorCode": 13},  # unauthorized
        {"writeConcernError": {"code": 100, "errmsg": "not enough members"}},
    ],
    ids=str,
)
def test_what_no_waiting_cures_stops_the_task(
    stage: Stage, fail: Any, failure: dict[str, Any]
) -> None:
    fail(1, failCommands=["insert"], **failure)
    with pytest.raises(RunError, match=rf"^{stage.name}\.c: the target refused a write: "):
        stage.writer().write(slot(items(3)))
    assert not stage.retries


def test_another_unique_index_names_the_item(stage: Stage, mongo: Any) -> None:
    mongo.client[stage.name].c.create_index("x", unique=True)
    documents = [{"_id": object_id(i), "pk": f"k{i}", "x": min(i, 1)} for i in range(3)]
    with pytest.raises(ItemError, match=r'item {"pk":{"S":"k2"}}: .*E11000.*x_1') as error:
        stage.writer().write(slot(documents))
    assert error.value.key == '{"pk":{"S":"k2"}}'


def test_a_document_above_16_megabytes_names_the_item(stage: Stage) -> None:
    documents = [{"_id": object_id(i), "pk": f"k{i}", "b": bytes(i * 17 << 20)} for i in range(2)]
    with pytest.raises(ItemError, match=r'item {"pk":{"S":"k1"}}: .*too large'):
        stage.writer().write(slot(documents))


def test_several_slots_are_written_at_once(stage: Stage, stored: Any) -> None:
    writer = stage.writer("full.document.write.batch=20")
    slots = [slot(items(400)[at : at + 100]) for at in range(0, 400, 50)]  # overlapping: a race
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(writer.write, slots[:-1]))
    assert stored() == items(400)


def test_delete_ranges_deletes_them_and_nothing_else(stage: Stage, stored: Any) -> None:
    segments = (0, 1, 2, RANGES_AT_ONCE + 5, RANGES_AT_ONCE + 50)
    documents = [
        {"_id": object_id(i, segment), "pk": f"{segment}-{i}"}
        for segment in segments
        for i in (0, 1)
    ]
    writer = stage.writer()
    writer.write(slot(documents))
    behind_first = [
        (object_id(1, segment).binary, object_id(0, segment + 1).binary)
        for segment in range(1, RANGES_AT_ONCE + 20)
    ]
    assert writer.delete_ranges(behind_first) == 3
    gone = {object_id(1, segment) for segment in segments[1:4]}
    assert stored() == [document for document in documents if document["_id"] not in gone]
    assert writer.delete_ranges([]) == 0


def test_delete_ranges_rides_out_failures(stage: Stage, stored: Any, fail: Any) -> None:
    writer = stage.writer()
    writer.write(slot(items(10)))
    fail(4, failCommands=["delete"], closeConnection=True)
    writer.delete_ranges([(object_id(5).binary, ObjectId(b"\xff" * 12).binary)])
    assert stored() == items(5)
    assert stage.retries


def test_a_killed_server_loses_and_doubles_nothing(name: str, tmp_path: Any) -> None:
    with mongo_server(folder=tmp_path) as server:
        stage = Stage(server.uri + "?serverSelectionTimeoutMS=1000", name)
        writer = stage.writer("full.document.write.batch=50")
        writer.write(slot(items(1)))
        with ThreadPoolExecutor(4) as pool:
            documents = items(4_000, x="y" * 200)
            writing = [
                pool.submit(writer.write, slot(documents[at : at + 200]))
                for at in range(0, len(documents), 200)
            ]
            until(lambda: any(w.done() for w in writing))
            server.kill()
            until(lambda: stage.retries)
            server.restart()
            for w in writing:
                w.result(timeout=60)
        found = stage.targets[0].writer(f"{name}.c", Table("things", PK))._collection
        assert [bytes(d.raw) for d in found.find().sort("_id")] == [
            bson.encode(d) for d in documents
        ]
        stage.targets[0].close()


def test_a_change_that_is_left_out_counts_beside_one_that_is_refused(
    stage: Stage, mongo: Any, name: str
) -> None:
    mongo.client[name].create_collection("c", validator={"v": {"$ne": "wrong"}})
    mongo.client[name].c.insert_one({"pk": "there"})
    nothing, refused = memoryview(b""), list[Refusal]()
    updates = [
        bson.encode({"q": {"pk": pk}, "u": {"pk": pk, "v": value}})
        for pk, value in [("there", "wrong"), ("missing", "right")]
    ]
    changes = Changes(memoryview(b"".join(updates)), nothing, nothing)
    assert stage.writer().apply(changes, "shard", refused) == 1
    assert len(refused) == 1
