"""Which indexes are built, and what happens when they cannot be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson.objectid import ObjectId

from shake.config import Config, load
from shake.errors import RunError
from shake.schema import Attribute, Keys, SecondaryIndex, Table
from shake.targets.contract import Writer
from shake.targets.mongodb.indexes import wanted_indexes
from shake.targets.mongodb.target import MongoTarget
from tests.support.cluster import Cluster, Collection
from tests.support.documents import object_id, slot
from tests.support.wait import until


def keys(pk: str, sk: str | None = None, kind: str = "S") -> Keys:
    return Keys(Attribute(pk, kind), Attribute(sk, kind) if sk else None)


def secondary(name: str, partition: str, *sort: str) -> SecondaryIndex:
    """An index; several attributes of its partition key are separated by blanks."""
    first, then = (
        tuple(Attribute(one, "S") for one in names) for names in (partition.split(), sort)
    )
    return SecondaryIndex(name, first, then)


SIMPLE = Table("things", keys("p"))
SORTED = Table("things", keys("p", "s"))
RICH = Table(
    "things",
    keys("p", "s"),
    (
        secondary("local", "p", "t"),
        secondary("same", "p", "s"),
        secondary("global", "g", "h"),
        secondary("flat", "g"),
    ),
)


def config(*settings: str, address: str = "mongodb://h/") -> Config:
    return load(None, {}, ["id=t", f"target.address={address}", *settings]).config


def shown(table: Table, *settings: str) -> list[str]:
    return [
        ("unique " if index.unique else "") + ", ".join(f"{f}: {d}" for f, d in index.fields)
        for index in wanted_indexes(table, config(*settings))
    ]


# -- what is wanted ------------------------------------------------------------------------------

SHARDING = "target.mongodb.type=sharding"
KEY = "id.mode=key"


@pytest.mark.parametrize(
    ("table", "settings", "wanted"),
    [
        (SIMPLE, (), ["unique p: 1"]),
        (SIMPLE, (SHARDING,), ["unique p: 1", "p: hashed"]),
        (SORTED, (), ["unique p: 1, s: 1", "p: 1"]),
        (SORTED, (SHARDING,), ["unique p: 1, s: 1", "p: hashed"]),
        (SIMPLE, (KEY,), []),
        (SIMPLE, (KEY, SHARDING), ["p: hashed"]),
        (SORTED, (KEY,), ["p: 1"]),
        (SORTED, (KEY, SHARDING), ["p: hashed"]),
    ],
)
def test_the_tables_key_is_indexed_as_the_contract_says(
    table: Table, settings: tuple[str, ...], wanted: list[str]
) -> None:
    assert shown(table, *settings) == wanted


def test_secondary_indexes_come_once_and_never_unique() -> None:
    assert shown(RICH) == [
        *("unique p: 1, s: 1", "p: 1"),
        *("p: 1, t: 1", "g: 1, h: 1", "g: 1"),
    ]
    assert shown(RICH, SHARDING) == [
        *("unique p: 1, s: 1", "p: hashed"),
        *("p: 1, t: 1", "g: 1, h: 1", "g: hashed", "g: 1"),
    ]
    assert shown(RICH, KEY) == ["p: 1", "p: 1, t: 1", "p: 1, s: 1", "g: 1, h: 1", "g: 1"]


@pytest.mark.parametrize(
    ("sort", "settings", "wanted"),
    [
        (("s", "t"), (), ["a: 1, b: 1, s: 1, t: 1", "a: 1, b: 1"]),
        (("s", "t"), (SHARDING,), ["a: 1, b: 1, s: 1, t: 1", "a: hashed, b: 1"]),
        ((), (), ["a: 1, b: 1"]),
        (("s",), ("convert.type=raw",), ["a.S: 1, b.S: 1, s.S: 1", "a.S: 1, b.S: 1"]),
    ],
)
def test_an_index_of_several_attributes_has_all_of_them_in_their_order(
    sort: tuple[str, ...], settings: tuple[str, ...], wanted: list[str]
) -> None:
    table = Table("things", keys("p"), (secondary("many", "a b", *sort),))
    own = shown(Table("things", keys("p")), *settings)
    assert shown(table, *settings) == own + wanted


@pytest.mark.parametrize("settings", [(), ("target.mongodb.type=sharding",)], ids=str)
def test_an_index_of_several_attributes_is_built(
    open_writer: Open, collection: Any, settings: tuple[str, ...]
) -> None:
    table = Table("things", keys("p"), (secondary("many", "a b", "s", "t"),))
    open_writer(table, *settings).build_indexes(pytest.fail)
    assert "a_1_b_1_s_1_t_1" in built(collection)
    assert ("a_hashed_b_1" if settings else "a_1_b_1") in built(collection)


def test_secondary_indexes_can_be_left_out() -> None:
    assert shown(RICH, "full.enable_index.user=false") == shown(SORTED)


def test_raw_indexes_the_typed_paths() -> None:
    table = Table("things", Keys(Attribute("p", "S"), Attribute("s", "N")))
    assert shown(table, "convert.type=raw") == ["unique p.S: 1, s.N: 1", "p.S: 1"]


def test_a_key_called_id_is_indexed_under_its_new_name() -> None:
    assert shown(Table("t", keys("_id"))) == ["unique pre_id: 1"]
    assert shown(Table("t", keys("_id")), "convert._id=my") == ["unique my_id: 1"]
    assert shown(Table("t", keys("_id")), "convert.type=raw") == ["unique pre_id.S: 1"]


# -- building ------------------------------------------------------------------------------------

Open = Callable[..., Writer]


@pytest.fixture
def open_writer(mongo: Any, name: str) -> Iterator[Open]:
    opened = []

    def open_writer(table: Table, *settings: str, address: str = mongo.uri) -> Writer:
        given = config(*settings, address=address)
        opened.append(MongoTarget(given, threading.Event(), lambda reason: None))
        return opened[-1].writer(f"{name}.c", table)

    yield open_writer
    mongo.client.admin.command("configureFailPoint", "failCommand", mode="off")
    mongo.client.drop_database(name)
    for target in opened:
        target.close()


@pytest.fixture
def collection(mongo: Any, name: str) -> Any:
    return mongo.client[name].c


def built(collection: Any) -> dict[str, bool]:
    return {
        name: spec.get("unique", False)
        for name, spec in collection.index_information().items()
        if name != "_id_"
    }


def test_indexes_are_built_with_default_names_and_again_is_harmless(
    open_writer: Open, collection: Any
) -> None:
    writer = open_writer(RICH)
    writer.write(slot([{"_id": object_id(i), "p": "a", "s": i, "g": "x"} for i in range(9)]))
    for _ in range(2):
        writer.build_indexes(pytest.fail)
        assert built(collection) == {
            "p_1_s_1": True,
            "p_1": False,
            "p_1_t_1": False,
            "g_1_h_1": False,
            "g_1": False,
        }


def test_of_copies_that_a_crash_left_the_last_runs_stays(
    open_writer: Open, collection: Any
) -> None:
    writer = open_writer(SORTED)
    documents = [{"_id": object_id(i + 100), "p": "a", "s": str(i)} for i in range(20)]
    first = [{**d, "_id": object_id(i + 10)} for i, d in enumerate(documents[:5])]
    second = [{**d, "_id": object_id(i + 50)} for i, d in enumerate(documents[:15])]
    writer.write(slot(second + documents + first))
    notices: list[str] = []
    writer.build_indexes(notices.append, segments=1)
    assert list(collection.find().sort("_id")) == documents
    assert notices == [
        f"{collection.full_name}: removed 20 duplicate documents that an interrupted run left"
    ]
    assert built(collection) == {"p_1_s_1": True, "p_1": False}


@pytest.mark.parametrize("foreign", [ObjectId(b"\xff" * 12), "theirs", {"a": 1}])
def test_a_document_that_somebody_else_stored_is_never_taken_for_a_copy(
    open_writer: Open, collection: Any, foreign: Any
) -> None:
    writer = open_writer(SIMPLE)
    writer.write(slot([{"_id": object_id(1), "p": "a", "v": "ours"}]))
    collection.insert_one({"_id": foreign, "p": "a", "v": "theirs"})
    with pytest.raises(RunError, match="another program") as refused:
        writer.build_indexes(pytest.fail, segments=1)
    assert "table things" in str(refused.value)
    assert sorted(one["v"] for one in collection.find()) == ["ours", "theirs"]


@pytest.mark.parametrize("segments", [0, 1000])
def test_documents_of_one_key_that_an_application_stored_are_not_taken_for_copies(
    open_writer: Open, collection: Any, segments: int
) -> None:
    # Of one process: in the _ids of drivers it has the place where ours have the segment.
    theirs = [{"_id": object_id(i, segment=1000), "p": "a", "v": i} for i in range(3)]
    collection.insert_many(theirs)
    with pytest.raises(RunError, match="another program"):
        open_writer(SIMPLE).build_indexes(pytest.fail, segments)
    assert list(collection.find().sort("_id")) == theirs


def test_one_position_that_two_runs_have_read_is_one_item_under_mchange_too(
    open_writer: Open, collection: Any
) -> None:
    writer = open_writer(Table("things", keys("p", kind="N")), "convert.type=mchange")
    later = ObjectId(
        (int.from_bytes(object_id(1).binary[:4], "big") + 1).to_bytes(4, "big")
        + object_id(1).binary[4:]
    )
    writer.write(slot([{"_id": object_id(1), "p": 5.0}, {"_id": later, "p": 5.0}]))
    writer.build_indexes(lambda notice: None, segments=1)
    assert [one["_id"] for one in collection.find()] == [later]


@pytest.mark.parametrize("value", ["a", 7, b"\x00\x01", 0.1])
def test_copies_are_told_by_any_kind_of_key(open_writer: Open, collection: Any, value: Any) -> None:
    writer = open_writer(SIMPLE)
    writer.write(slot([{"_id": object_id(i), "p": value} for i in range(3)]))
    writer.build_indexes(lambda notice: None, segments=1)
    assert list(collection.find()) == [{"_id": object_id(2), "p": value}]


def test_copies_of_raw_items_are_removed(open_writer: Open, collection: Any) -> None:
    writer = open_writer(SIMPLE, "convert.type=raw")
    writer.write(slot([{"_id": object_id(i), "p": {"S": "a"}} for i in range(3)]))
    writer.build_indexes(lambda notice: None, segments=1)
    assert collection.count_documents({}) == 1


def test_two_keys_that_the_target_takes_for_one_stop(open_writer: Open, collection: Any) -> None:
    writer = open_writer(Table("things", keys("p", kind="N")))
    writer.write(slot([{"_id": object_id(0), "p": 1}, {"_id": object_id(1), "p": 1.0}]))
    with pytest.raises(RunError) as refused:
        writer.build_indexes(pytest.fail, segments=1)
    for words in (collection.full_name, "{p: 1}", "table things", '{"p":{"N":"1"}}', '"1.0"'):
        assert words in str(refused.value)
    assert collection.count_documents({}) == 2


def test_two_numbers_that_became_one_double_stop(open_writer: Open, collection: Any) -> None:
    # A copy would look the same: nothing may be deleted.
    writer = open_writer(Table("things", keys("p", kind="N")), "convert.type=mchange")
    writer.write(slot([{"_id": object_id(i), "p": 0.1} for i in range(2)]))
    with pytest.raises(RunError, match="mchange made one double of them"):
        writer.build_indexes(pytest.fail, segments=1)
    assert collection.count_documents({}) == 2


def test_mchange_removes_copies_of_string_keys(open_writer: Open, collection: Any) -> None:
    writer = open_writer(SIMPLE, "convert.type=mchange")
    writer.write(slot([{"_id": object_id(i), "p": "a"} for i in range(2)]))
    writer.build_indexes(lambda notice: None, segments=1)
    assert collection.count_documents({}) == 1


def test_every_refused_index_is_named_and_the_others_are_built(
    open_writer: Open, collection: Any
) -> None:
    collection.create_index("p", unique=True)
    collection.create_index("x", name="g_1_h_1")
    with pytest.raises(RunError) as refused:
        open_writer(RICH).build_indexes(pytest.fail)
    assert "2 of 5 indexes of table things" in str(refused.value)
    assert "{p: 1} (the table's key): " in str(refused.value)
    assert "{g: 1, h: 1} (secondary index global): " in str(refused.value)
    assert {"p_1_s_1", "p_1_t_1", "g_1"} <= set(built(collection))


@pytest.mark.parametrize("attribute", ["a.b", "$a", "a\0"])
def test_a_name_that_would_build_another_index_is_an_error(
    open_writer: Open, collection: Any, attribute: str
) -> None:
    table = Table("things", keys("p"), (secondary("odd", "g", attribute),))
    with pytest.raises(RunError, match=r"1 of 3 indexes .*secondary index odd\): the name of"):
        open_writer(table).build_indexes(pytest.fail)
    assert built(collection) == {"p_1": True, "g_1": False}


@pytest.mark.parametrize(
    "failure", [{"errorCode": 11602}, {"errorCode": 276}, {"closeConnection": True}], ids=str
)
def test_an_interrupted_build_begins_again(
    open_writer: Open, collection: Any, mongo: Any, failure: dict[str, Any]
) -> None:
    data = {"failCommands": ["createIndexes"], **failure}
    mongo.client.admin.command("configureFailPoint", "failCommand", mode={"times": 3}, data=data)
    address = mongo.uri + ("&" if "?" in mongo.uri else "?") + "heartbeatFrequencyMS=500"
    open_writer(SORTED, address=address).build_indexes(pytest.fail)
    assert built(collection) == {"p_1_s_1": True, "p_1": False}


@pytest.fixture
def hold(mongo: Any) -> Iterator[Callable[[str, str], None]]:
    """Sets a fail point that holds index builds, and ends it with the test."""
    points = set()

    def hold(point: str, mode: str = "alwaysOn") -> None:
        points.add(point)
        mongo.client.admin.command("configureFailPoint", point, mode=mode)

    yield hold
    for point in points:
        hold(point, "off")


def test_an_index_build_tells_how_far_it_is(open_writer: Open, hold: Callable[..., None]) -> None:
    writer = open_writer(SIMPLE)
    writer.write(slot([{"_id": object_id(i), "p": str(i)} for i in range(2000)]))
    assert writer.build_progress() is None
    hold("hangAfterSettingUpIndexBuild")
    hold("hangAfterStartingIndexBuild")
    building = threading.Thread(target=writer.build_indexes, args=(pytest.fail,))
    building.start()
    assert until(writer.build_progress) == ("scanning collection", 0.0)
    hold("hangAfterSettingUpIndexBuild", "off")
    until(lambda: writer.build_progress() == ("scanning collection", 1.0))
    hold("hangAfterStartingIndexBuild", "off")
    building.join()
    assert writer.build_progress() is None


def test_a_cluster_refuses_what_a_cluster_refuses(open_writer: Open, name: str) -> None:
    # The pair of the contract is legal on a hashed shard key; a unique index elsewhere is not.
    with Cluster() as cluster:
        cluster.collections[f"{name}.c"] = collection = Collection({"other": "hashed"})
        writer = open_writer(SORTED, SHARDING, address=cluster.uri)
        with pytest.raises(RunError, match=r"1 of 2 indexes .*cannot create unique index"):
            writer.build_indexes(pytest.fail)
        assert set(collection.indexes) == {"p_hashed"}
