"""What the target promises around the data: probing, existing collections, sharding, names."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.write_concern import WriteConcern

from shake.checkpoint.records import TableRecord
from shake.config import load
from shake.demo.mongo import mongo_server
from shake.errors import ItemError, RefusedError, RunError
from shake.plan.plan import Action, Plan, TablePlan
from shake.run.planning import sweep
from shake.schema import Attribute, Keys, Table
from shake.targets.contract import Changes, CopyRun, Fence
from shake.targets.mongodb import fields
from shake.targets.mongodb.applying import MAX_DUPLICATES
from shake.targets.mongodb.concern import durable, weakness
from shake.targets.mongodb.namespaces import namespace_problem
from shake.targets.mongodb.session import unfenced
from shake.targets.mongodb.target import MongoTarget
from tests.support.cluster import Cluster, shard_of
from tests.support.documents import object_id, slot

TABLE = Table("things", Keys(Attribute("pk", "S"), Attribute("sk", "N")))
Open = Callable[..., MongoTarget]


@pytest.fixture
def open_target(name: str) -> Iterator[Open]:
    opened: list[MongoTarget] = []

    def open_target(address: str, *settings: str) -> MongoTarget:
        config = load(None, {}, [f"id={name}", f"target.address={address}", *settings]).config
        opened.append(MongoTarget(config, threading.Event(), lambda reason: None))
        return opened[-1]

    yield open_target
    for target in opened:
        target.close()


@pytest.fixture
def target(mongo: Any, name: str, open_target: Open) -> Iterator[MongoTarget]:
    yield open_target(mongo.uri)
    mongo.client.drop_database(name)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def sharded(cluster: Cluster, open_target: Open) -> MongoTarget:
    return open_target(cluster.uri, "target.mongodb.type=sharding")


# -- probing -------------------------------------------------------------------------------------


def test_a_probe_leaves_nothing_behind(target: MongoTarget, mongo: Any, name: str) -> None:
    mongo.client[name].there.insert_one({"a": 1})
    target.probe([f"{name}.there", f"{name}.new", f"{name}-other.new"])
    assert mongo.client[name].list_collection_names() == ["there"]
    assert mongo.client[name].there.count_documents({}) == 1
    assert f"{name}-other" not in mongo.client.list_database_names()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("view", {"viewOn": "other", "pipeline": []}),
        ("timeseries", {"timeseries": {"timeField": "t"}}),
    ],
)
def test_what_is_no_collection_is_refused(
    target: MongoTarget, mongo: Any, name: str, kind: str, options: dict[str, Any]
) -> None:
    mongo.client[name].create_collection("there", **options)
    with pytest.raises(RefusedError, match=f"there is a {kind}, which cannot .*: remove it, or"):
        target.probe([f"{name}.there"])


def test_nobody_there_is_refused_in_the_time_that_the_user_gave(open_target: Open) -> None:
    began = time.monotonic()
    target = open_target("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300")
    with pytest.raises(RefusedError, match=r"does not answer: .*refused") as refused:
        target.probe(["d.c"])
    assert time.monotonic() - began < 5
    assert "Topology" not in str(refused.value)
    assert refused.value.passes


@pytest.mark.parametrize(
    ("option", "cause"),
    [
        ("", None),
        ("timeoutMS=20000", "target.address names timeoutMS: remove it"),
        ("retryWrites=false", "target.address names retryWrites=false: remove it"),
    ],
)
def test_a_connection_string_that_takes_the_fence_away_is_warned_of(
    open_target: Open, mongo: Any, option: str, cause: str | None
) -> None:
    target = open_target(f"{mongo.uri}?{option}")
    target.probe([])
    assert [one.rpartition("; ")[2] for one in target.weaknesses] == [cause] * bool(cause)


@pytest.mark.parametrize(
    ("concern", "hello", "weak"),
    [
        ({}, {"hosts": ["a", "b", "c"]}, False),
        ({"w": 1}, {"hosts": ["a"]}, False),
        ({"w": 2}, {"hosts": ["a", "b", "c"]}, False),
        ({"w": 1}, {"hosts": ["a", "b", "c"]}, True),
        ({"w": 1}, {"hosts": ["a", "b"], "arbiters": ["c"]}, True),
        ({"w": 1}, {"hosts": ["a"], "passives": ["b", "c"]}, True),  # of priority 0
        ({"w": 2}, {"hosts": ["a", "b"], "passives": ["c", "d"]}, True),
        ({"w": 1}, {"msg": "isdbgrid"}, True),
        ({"w": "majority"}, {"msg": "isdbgrid"}, False),
        ({"w": "near"}, {"hosts": ["a", "b", "c"]}, True),
    ],
)
def test_a_write_concern_that_a_fail_over_can_undo_is_warned_of(
    concern: dict[str, Any], hello: dict[str, Any], weak: bool
) -> None:
    said = weakness(durable(WriteConcern(**concern)), hello)
    assert (said is not None) == weak
    assert not said or f"names w={concern['w']}:" in said


def test_a_standalone_server_is_warned_of() -> None:
    options = MongoClient[Any]("mongodb://localhost", connect=False).options
    warning = unfenced(options, {"maxWireVersion": 17})
    assert warning is not None
    assert "the target is a standalone server: make it a replica set" in warning


def test_a_write_concern_that_acknowledges_nothing_is_refused(open_target: Open) -> None:
    with pytest.raises(RefusedError, match="w=0"):
        open_target("mongodb://127.0.0.1:1/?w=0").probe([])


def test_a_sharded_cluster_must_be_called_one(open_target: Open, cluster: Cluster) -> None:
    with pytest.raises(RefusedError, match=r"is a sharded cluster: set target\.mongodb\.type"):
        open_target(cluster.uri).probe([])


def test_a_replica_set_must_not_be_called_sharded(open_target: Open, mongo: Any) -> None:
    with pytest.raises(RefusedError, match="is not a sharded cluster: set target"):
        open_target(mongo.uri, "target.mongodb.type=sharding").probe([])


def test_a_mongos_passes_the_probe(sharded: MongoTarget, cluster: Cluster) -> None:
    sharded.probe(["d.c"])
    assert not cluster.collections


def test_a_user_who_may_not_write_is_refused(cluster: Cluster, sharded: MongoTarget) -> None:
    cluster.fail("delete", 13, "not authorized on d to execute command")
    with pytest.raises(
        RefusedError, match=r"^d\.c: the target refuses: not authorized on d"
    ) as refused:
        sharded.probe(["d.c"])
    assert not refused.value.passes


def test_a_wrong_password_is_refused_and_not_shown(tmp_path: Any, open_target: Open) -> None:
    with mongo_server(folder=tmp_path) as server:
        address = server.uri.replace("//", "//me:s3cr3t-pass@") + "?authSource=admin"
        with pytest.raises(RefusedError) as refused:
            open_target(address).probe(["d.c"])
    assert "s3cr3t-pass" not in str(refused.value)


def test_an_address_that_cannot_be_used_is_refused(open_target: Open, tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_text("this is no certificate")
    with pytest.raises(RefusedError, match=r"^target\.address cannot be used: ") as refused:
        open_target(f"mongodb://me:s3cr3t@h/?tls=true&tlsCAFile={tmp_path}/ca.pem")
    assert "s3cr3t" not in str(refused.value)


# -- collections ---------------------------------------------------------------------------------


def test_a_collection_lives_from_create_to_drop(target: MongoTarget, name: str) -> None:
    namespace = f"{name}.c"
    assert target.find(namespace, TABLE) is None
    for _ in range(2):
        target.create(namespace, TABLE)
        assert target.find(namespace, TABLE)
    for _ in range(2):
        target.drop(namespace)
        assert target.find(namespace, TABLE) is None


def test_a_dot_in_a_collections_name_is_part_of_it(target: MongoTarget, name: str) -> None:
    target.create(f"{name}.a.b-c_d", TABLE)
    assert target.find(f"{name}.a.b-c_d", TABLE)
    assert target.find(f"{name}.a", TABLE) is None


def test_a_renamed_collection_keeps_its_documents(
    target: MongoTarget, mongo: Any, name: str
) -> None:
    mongo.client[name].c.insert_one({"_id": 1})
    target.rename(f"{name}.c", f"{name}.c.2019-07-01Z12:10:11")
    assert target.find(f"{name}.c", TABLE) is None
    assert mongo.client[name]["c.2019-07-01Z12:10:11"].find_one() == {"_id": 1}


def test_a_backup_is_never_overwritten(target: MongoTarget, mongo: Any, name: str) -> None:
    mongo.client[name].c.insert_one({"_id": 1})
    mongo.client[name].backup.insert_one({"_id": 2})
    assert not target.rename(f"{name}.c", f"{name}.backup")
    staging = target.staging(f"{name}.c", TABLE, CopyRun(7, 0, 7), lambda line: None)
    assert staging
    held = staging.begin()
    mongo.client[name]["c.backup"].insert_one({"_id": 3})
    with pytest.raises(RunError, match=r"c cannot be renamed to .*c\.backup, which exists"):
        staging.publish(held.collection_uuid, "rename", f"{name}.c.backup", [])
    assert mongo.client[name].c.find_one() == {"_id": 1}
    assert mongo.client[name].backup.find_one() == {"_id": 2}
    assert mongo.client[name]["c.backup"].find_one() == {"_id": 3}


def test_a_staging_collection_that_is_gone_is_named_with_its_checkpoint(
    target: MongoTarget, mongo: Any, name: str
) -> None:
    staging = target.staging(f"{name}.c", TABLE, CopyRun(7, 0, 7), lambda line: None)
    assert staging
    held = staging.begin()
    mongo.client.drop_database(name)
    there = rf"checkpoint \(collection things of database {name}-checkpoint\)"
    with pytest.raises(RunError, match=rf"is gone: .*; start over .* removes its {there}"):
        staging.resume(held.collection_uuid)


def test_a_plan_leaves_the_staging_collection_of_the_run_it_would_begin(
    mongo: Any, name: str
) -> None:
    """Another machine can have taken the task over, and that number."""
    config = load(None, {}, [f"id={name}", f"target.address={mongo.uri}"]).config
    record = TableRecord(TABLE.name, f"{name}.c", 7, 1, run=2, staged=True)
    for run in range(4):
        mongo.client[name][f"c.shake-7-{run}"].insert_one({"_id": 1})
    assert sweep(config, Plan((TablePlan(TABLE, Action.RESYNC, record, ()),)))
    left = sorted(mongo.client[name].list_collection_names())
    mongo.client.drop_database(name)
    assert left == ["c.shake-7-2", "c.shake-7-3"]


def test_renaming_nothing_says_so(target: MongoTarget, name: str) -> None:
    assert not target.rename(f"{name}.none", f"{name}.backup")


def test_a_rename_whose_answer_was_lost_is_done(cluster: Cluster, sharded: MongoTarget) -> None:
    sharded.create("d.c", TABLE)
    cluster.fail("renameCollection", 189, "stepped down", "after")
    assert not sharded.rename("d.c", "d.backup")  # where it is now is looked up by its UUID
    assert list(cluster.collections) == ["d.backup"]
    assert cluster.names().count("renameCollection") == 2


def test_a_server_that_minds_what_exists_is_content(cluster: Cluster, open_target: Open) -> None:
    target = open_target(cluster.uri)
    for _ in range(2):
        target.create("d.c", TABLE)
    assert cluster.names() == ["create", "create"]


# -- sharding ------------------------------------------------------------------------------------


def test_a_collection_is_sharded_before_its_first_document(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    sharded.create("d.c", TABLE)
    writer = sharded.writer("d.c", TABLE)
    writer.write(slot([{"_id": object_id(i), "pk": f"k{i}", "sk": i} for i in range(50)]))
    writer.build_indexes(pytest.fail)
    assert cluster.names() == [
        *("enableSharding", "shardCollection", "insert", "createIndexes", "createIndexes")
    ]
    assert cluster.commands[0]["enableSharding"] == "d"
    assert cluster.commands[1]["shardCollection"] == "d.c"
    collection = cluster.collections["d.c"]
    assert collection.key == {"pk": "hashed"}
    assert set(collection.indexes) == {"pk_hashed", "pk_1_sk_1"}
    assert collection.indexes["pk_1_sk_1"]["unique"]
    assert all(collection.shards)


def test_sharding_twice_is_harmless(cluster: Cluster, sharded: MongoTarget) -> None:
    sharded.create("d.c", TABLE)
    sharded.create("d.c", TABLE)
    cluster.fail("enableSharding", 23, "sharding already enabled for database d")
    sharded.create("d.c", TABLE)
    assert cluster.collections["d.c"].key == {"pk": "hashed"}


def test_raw_shards_on_the_typed_path(cluster: Cluster, open_target: Open) -> None:
    settings = ("target.mongodb.type=sharding", "convert.type=raw")
    target = open_target(cluster.uri, *settings)
    target.create("d.c", TABLE)
    assert cluster.collections["d.c"].key == {"pk.S": "hashed"}
    typed = [
        {"_id": object_id(i), "pk": {"S": f"k{i}"}, "sk": {"N": f"{i}"}, "x": {"BOOL": True}}
        for i in range(9)
    ]
    writer = target.writer("d.c", TABLE)
    writer.write(slot(typed))
    assert writer.write(slot(typed)) == 0
    writer.build_indexes(pytest.fail)
    assert set(cluster.collections["d.c"].indexes) == {"pk.S_hashed", "pk.S_1_sk.N_1"}


def test_another_shard_key_is_an_error_that_names_the_place(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    sharded.create("d.c", Table("other", Keys(Attribute("other", "S"))))
    with pytest.raises(RunError, match=r"^d\.c: the target refused: sharding already enabled"):
        sharded.create("d.c", TABLE)


def test_a_full_collection_is_not_sharded_behind_the_back(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    sharded.writer("d.c", TABLE).write(slot([{"_id": object_id(0), "pk": "a", "sk": 1}]))
    with pytest.raises(RunError, match="Please create an index that starts with"):
        sharded.create("d.c", TABLE)


def test_writing_again_to_shards_is_harmless(cluster: Cluster, sharded: MongoTarget) -> None:
    sharded.create("d.c", TABLE)
    writer = sharded.writer("d.c", TABLE)
    documents = [{"_id": object_id(i), "pk": f"k{i}", "sk": i} for i in range(20)]
    writer.write(slot(documents))
    assert writer.write(slot([{**d, "x": 1} for d in documents])) == 20
    stored = sorted(cluster.collections["d.c"].documents(), key=lambda d: d["_id"])
    assert stored == [{**d, "x": 1} for d in documents]


def same_shard(first: str) -> Iterator[str]:
    return (
        f"k{i}" for i in range(100) if shard_of(f"k{i}") == shard_of(first) and f"k{i}" != first
    )


def test_another_item_under_the_same_id_gives_way(cluster: Cluster, sharded: MongoTarget) -> None:
    # What a dying process stored behind the frontier: the restart scans both items again.
    sharded.create("d.c", TABLE)
    writer = sharded.writer("d.c", TABLE)
    first, other = "k0", next(same_shard("k0"))
    writer.write(slot([{"_id": object_id(0), "pk": first, "sk": 0}]))
    writer.write(
        slot(
            [
                {"_id": object_id(0), "pk": other, "sk": 0},
                {"_id": object_id(1), "pk": first, "sk": 0},
            ]
        )
    )
    stored = {d["pk"]: d["_id"] for d in cluster.collections["d.c"].documents()}
    assert stored == {other: object_id(0), first: object_id(1)}


def test_an_insert_that_gets_in_between_is_replaced(cluster: Cluster, sharded: MongoTarget) -> None:
    sharded.create("d.c", TABLE)
    writer = sharded.writer("d.c", TABLE)
    document = {"_id": object_id(0), "pk": "a", "sk": 0}
    writer.write(slot([document]))
    cluster.fail("update", 11000, "E11000 duplicate key error index: _id_ dup key", "write")
    assert writer.write(slot([{**document, "x": 1}])) == 1
    assert list(cluster.collections["d.c"].documents()) == [{**document, "x": 1}]


DUPLICATES = [
    (11000, "E11000 duplicate key error collection: orders index: _id_"),
    (11000, "Unique index constraint violation."),
    (None, "E11000 duplicate key error"),
]


@pytest.mark.parametrize(("code", "message"), DUPLICATES)
@pytest.mark.parametrize("settings", [(), ("id.mode=key",)], ids=str)
def test_a_document_that_is_there_is_known_whatever_words_the_server_has(
    cluster: Cluster, open_target: Open, code: int | None, message: str, settings: tuple[str, ...]
) -> None:
    target = open_target(cluster.uri, "target.mongodb.type=sharding", *settings)
    target.create("d.c", TABLE)
    writer = target.writer("d.c", TABLE)
    identifier = {"pk": "a", "sk": 0} if settings else object_id(0)
    document = {"_id": identifier, "pk": "a", "sk": 0}
    writer.write(slot([document]))
    cluster.fail("insert", code, message, "write")  # the first attempt, whose answer was lost
    assert writer.write(slot([{**document, "x": 1}])) == 1
    assert list(cluster.collections["d.c"].documents()) == [{**document, "x": 1}]


@pytest.mark.parametrize(("code", "message"), DUPLICATES)
def test_another_unique_index_names_the_item_whatever_words_the_server_has(
    cluster: Cluster, sharded: MongoTarget, code: int | None, message: str
) -> None:
    sharded.create("d.c", TABLE)
    writer = sharded.writer("d.c", TABLE)
    cluster.fail("insert", code, message, "write")
    with pytest.raises(ItemError, match=r'item {"pk":{"S":"a"},"sk":{"N":"0"}}: .*'):
        writer.write(slot([{"_id": object_id(0), "pk": "a", "sk": 0}]))


def test_a_document_that_another_index_keeps_from_being_replaced_is_named(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    sharded.create("d.c", TABLE)
    writer = sharded.writer("d.c", TABLE)
    document = {"_id": object_id(0), "pk": "a", "sk": 0}
    writer.write(slot([document]))
    for _ in range(MAX_DUPLICATES):
        cluster.fail("update", 11000, "Unique index constraint violation.", "write")
    with pytest.raises(ItemError, match=r"Unique index constraint violation"):
        writer.write(slot([{**document, "x": 1}]))


@pytest.mark.parametrize(
    ("code", "message", "how"),
    [
        (16500, "Request rate is large", "write"),
        (16500, "Request rate is large", "before"),
        (None, "Error=16500, RetryAfterMs=4, Details='Response status code ...", "write"),
        (None, "Error=16500, RetryAfterMs=4, Details='Response status code ...", "before"),
    ],
)
def test_a_target_that_throttles_is_waited_for(
    cluster: Cluster, sharded: MongoTarget, code: int | None, message: str, how: str
) -> None:
    sharded.create("d.c", TABLE)
    document = {"_id": object_id(0), "pk": "a", "sk": 0}
    for _ in range(2):
        cluster.fail("insert", code, message, how)
    assert sharded.writer("d.c", TABLE).write(slot([document])) == 0
    assert list(cluster.collections["d.c"].documents()) == [document]


def test_a_write_error_without_a_code_names_the_item(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    sharded.create("d.c", TABLE)
    cluster.fail("insert", None, "no such thing here", "write")
    with pytest.raises(ItemError, match=r'item {"pk":{"S":"a"},.*: no such thing here'):
        sharded.writer("d.c", TABLE).write(slot([{"_id": object_id(0), "pk": "a", "sk": 0}]))


def test_a_change_that_is_refused_without_a_code_names_its_key(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    sharded.create("d.c", TABLE)
    cluster.fail("update", None, "no such thing here", "write")
    update = bson.encode({"q": {"pk": "a", "sk": 0}, "u": {"pk": "a", "sk": 0}, "upsert": True})
    nothing = memoryview(b"")
    changes = Changes(updates=memoryview(update), inserts=nothing, deletes=nothing)
    with pytest.raises(ItemError, match=r'item {"pk":{"S":"a"},.*: no such thing here'):
        sharded.writer("d.c", TABLE).apply(changes, "shard")


@pytest.mark.parametrize(("version", "warned"), [(9, True), (13, False)])
def test_a_server_that_refuses_dollar_names_is_warned_of(
    cluster: Cluster, sharded: MongoTarget, version: int, warned: bool
) -> None:
    cluster.wire_version = version
    sharded.probe([])
    said = [one for one in sharded.weaknesses if "begins with $" in one]
    assert len(said) == warned


def test_removing_a_copy_spares_its_namesake_on_another_shard(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    sharded.create("d.c", TABLE)
    there, here = (
        next(f"k{i}" for i in range(100) if shard_of(f"k{i}") == shard) for shard in (0, 1)
    )
    writer = sharded.writer("d.c", TABLE)
    for number, pk in [(0, here), (1, here), (0, there)]:
        writer.write(slot([{"_id": object_id(number), "pk": pk, "sk": 0}]))
    notices: list[str] = []
    writer.build_indexes(notices.append, segments=1)
    assert notices == ["d.c: removed 1 duplicate document that an interrupted run left"]
    stored = {d["pk"]: d["_id"] for d in cluster.collections["d.c"].documents()}
    assert stored == {here: object_id(1), there: object_id(0)}


def test_a_mongos_that_is_being_refreshed_is_asked_again(
    cluster: Cluster, sharded: MongoTarget
) -> None:
    for command in ("enableSharding", "shardCollection", "insert", "createIndexes"):
        cluster.fail(command, 13388, "stale config")
    sharded.create("d.c", TABLE)
    writer = sharded.writer("d.c", TABLE)
    writer.write(slot([{"_id": object_id(0), "pk": "a", "sk": 1}]))
    writer.build_indexes(pytest.fail)
    assert list(cluster.collections["d.c"].documents())
    assert len(cluster.collections["d.c"].indexes) == 2


@pytest.mark.parametrize("how", ["before", "write"], ids=["whole", "statement"])
def test_changes_behind_those_of_another_supervisor_are_an_error(
    cluster: Cluster, sharded: MongoTarget, how: str
) -> None:
    sharded.create("d.c", TABLE)
    deletes = slot([{"q": {"pk": "a", "sk": 1}, "limit": 1}])
    changes = Changes(memoryview(b""), memoryview(b""), deletes)
    cluster.fail("delete", 225, "a newer retryable write has already started", how)
    with pytest.raises(RunError, match=r"^d\.c: .* another shake run is at work"):
        sharded.writer("d.c", TABLE, Fence(run=1)).apply(changes, "shard")


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "reason"),
    [
        ("task", "form"),
        ("task.", "form"),
        (".table", "form"),
        ("local.table", "belongs to MongoDB"),
        ("a b.table", "cannot hold ' '"),
        ("a$b.table", "cannot hold '\\$'"),
        ("d" * 64 + ".table", "63 bytes"),
        ("d.system.users", "start with system"),
        ("d.a$b", "cannot hold \\$"),
        ("d.a..b", "two in a row"),
        ("d..a", "two in a row"),
        ("d.a.", "two in a row"),
        ("d." + "t" * 254, "255 bytes"),
    ],
)
def test_a_name_that_mongodb_refuses_is_told(namespace: str, reason: str) -> None:
    problem = namespace_problem(namespace)
    assert problem is not None
    assert re.search(reason, problem)


def test_good_names_pass() -> None:
    assert namespace_problem("d.a.b-c_d") is None
    assert namespace_problem("d" * 63 + ".systematic") is None
    assert namespace_problem("d." + "t" * 253) is None
    assert "235 bytes" in str(namespace_problem("d." + "t" * 253, sharded=True))


def keys_of(pk: str, sk: str | None = None) -> Table:
    return Table("odd", Keys(Attribute(pk, "S"), Attribute(sk, "S") if sk else None))


@pytest.mark.parametrize(
    ("settings", "table", "reason"),
    [
        ((), keys_of("a.b"), r"'a\.b' holds a dot; set id\.mode = key"),
        ((), keys_of("a", "$b"), r"starts with \$"),
        ((), keys_of("a\0"), r"U\+0000"),
        (("id.mode=key",), keys_of("a", "$b"), "cannot be the _id"),
        (("id.mode=key",), keys_of("a\0"), r"U\+0000"),
        (("id.mode=key", "target.mongodb.type=sharding"), keys_of("a.b"), "dot$"),
        (("target.mongodb.type=sharding",), keys_of("a", "b.c"), "dot"),
    ],
)
def test_a_key_that_mongodb_cannot_hold_is_told(
    settings: tuple[str, ...], table: Table, reason: str, name: str
) -> None:
    config = load(None, {}, [f"id={name}", "target.address=mongodb://h/", *settings]).config
    problem = fields.key_problem(table, config)
    assert problem is not None
    assert re.search(reason, problem)


@pytest.mark.parametrize(
    ("settings", "table"),
    [
        ((), keys_of("a", "_id")),
        ((), keys_of("a$b", "c d")),
        (("id.mode=key",), keys_of("a.b")),
        (("id.mode=key",), keys_of("$a")),
        (("id.mode=key",), keys_of("a.b", "c")),
        (("id.mode=key", "target.mongodb.type=sharding"), keys_of("a", "b.c")),
    ],
)
def test_other_keys_pass(settings: tuple[str, ...], table: Table, name: str) -> None:
    config = load(None, {}, [f"id={name}", "target.address=mongodb://h/", *settings]).config
    assert fields.key_problem(table, config) is None
