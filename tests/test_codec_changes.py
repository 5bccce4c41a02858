"""The rules for changes, by example: what GetRecords answers become."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128

from shake import codec as door
from shake.codec.contract import ChangeOptions, CorruptPage, Statements
from shake.errors import ItemError
from shake.schema import Attribute, Keys
from tests.support.changes import answer, decoded, record, runs
from tests.support.codecs import every_codec
from tests.support.items import PARTITION, PARTITION_AND_SORT

KEY = {"pk": {"S": "a"}}
ITEM = {"v": {"N": "1"}, **KEY}
BOTH = {"sk": {"N": "1.5"}, "pk": {"S": "a"}}
OPTIONS = ChangeOptions(PARTITION)


def refused(codec: ModuleType, body: bytes, options: ChangeOptions = OPTIONS) -> ItemError:
    """The error of a response that holds what no statement makes."""
    with pytest.raises(ItemError) as caught:
        runs(codec, body, options)
    assert "\n" not in str(caught.value)
    return caught.value


@every_codec
def test_each_event_has_its_statement(codec: ModuleType) -> None:
    body = answer(
        [
            record("REMOVE", {"pk": {"S": "gone"}}),
            record("INSERT", KEY, ITEM),
            record("MODIFY", {"pk": {"S": "b"}}, {"pk": {"S": "b"}, "v": {"NULL": True}}),
        ]
    )
    assert decoded(codec, body, OPTIONS) == {
        "updates": [
            {"q": {"pk": "a"}, "u": {"v": 1, "pk": "a"}, "upsert": True},
            {"q": {"pk": "b"}, "u": {"pk": "b", "v": None}, "upsert": True},
        ],
        "deletes": [{"q": {"pk": "gone"}, "limit": 1}],
    }


@every_codec
@pytest.mark.parametrize(
    ("convert", "keys", "query", "identity"),
    [
        ("change", PARTITION, {"pk": "a"}, "a"),
        ("raw", PARTITION, {"pk.S": "a"}, {"S": "a"}),
        ("mchange", PARTITION_AND_SORT, {"pk": "a", "sk": 1.5}, {"pk": "a", "sk": 1.5}),
        (
            "change",
            PARTITION_AND_SORT,
            {"pk": "a", "sk": Decimal128("1.5")},
            {"pk": "a", "sk": Decimal128("1.5")},
        ),
        (
            "raw",
            PARTITION_AND_SORT,
            {"pk.S": "a", "sk.N": "1.5"},
            {"pk": {"S": "a"}, "sk": {"N": "1.5"}},
        ),
    ],
)
def test_queries_name_the_key_as_it_is_stored(
    codec: ModuleType, convert: str, keys: Keys, query: dict[str, Any], identity: Any
) -> None:
    body = answer([record("REMOVE", BOTH)])
    partition = dict(list(query.items())[:1])
    for id_mode, sharded, expected in [
        ("objectid", False, query),
        ("objectid", True, query),
        ("key", False, {"_id": identity}),
        ("key", True, {"_id": identity} | partition),
    ]:
        options = ChangeOptions(keys, convert, id_mode=id_mode, sharded=sharded)
        [statement] = runs(codec, body, options).deletes
        assert statement == bson.encode({"q": expected, "limit": 1})


@every_codec
@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_a_new_image_is_stored_as_a_scan_would_store_it(codec: ModuleType, id_mode: str) -> None:
    options = ChangeOptions(PARTITION_AND_SORT, id_mode=id_mode)
    item = {"_id": {"B": "AA=="}, **BOTH, "l": {"L": [{"M": {"$x": {"SS": ["y"]}}}]}}
    [update] = runs(codec, answer([record("INSERT", BOTH, item)]), options).updates
    key = {"_id": {"pk": "a", "sk": Decimal128("1.5")}}
    document = {"pre_id": b"\0", "sk": Decimal128("1.5"), "pk": "a", "l": [{"$x": ["y"]}]}
    if id_mode == "key":
        assert update == bson.encode({"q": key, "u": key | document, "upsert": True})
    else:
        assert update == bson.encode({"q": key["_id"], "u": document, "upsert": True})


@every_codec
def test_a_key_attribute_called_id_is_found_under_its_other_name(codec: ModuleType) -> None:
    keys = Keys(Attribute("_id", "N"))
    body = answer([record("REMOVE", {"_id": {"N": "7"}})])
    for convert, id_mode, query in [
        ("change", "objectid", {"pre_id": 7}),
        ("raw", "objectid", {"pre_id.N": "7"}),
        ("change", "key", {"_id": 7, "pre_id": 7}),
    ]:
        options = ChangeOptions(keys, convert, id_mode=id_mode, sharded=id_mode == "key")
        assert decoded(codec, body, options)["deletes"] == [{"q": query, "limit": 1}]


@every_codec
@pytest.mark.parametrize("id_mode", ["objectid", "key"])
@pytest.mark.parametrize("name", ["$", "$set", "_id"])
def test_a_document_that_looks_like_operators_is_a_literal(
    codec: ModuleType, id_mode: str, name: str
) -> None:
    options = ChangeOptions(PARTITION, id_mode=id_mode, id_prefix="$", insert_only=True)
    item = {"pk": {"S": "a"}, name: {"M": {"$inc": {"S": "b"}}}, "z": {"S": "$pk"}}
    stored = {"pk": "a", "$_id" if name == "_id" else name: {"$inc": "b"}, "z": "$pk"}
    query = {"pk": "a"}
    if id_mode == "key":
        query = {"_id": "a"}
        stored = query | stored
    body = answer([record("MODIFY", KEY, item)])
    [update] = runs(codec, body, options).updates
    assert update == bson.encode(
        {"q": query, "u": [{"$replaceWith": {"$literal": stored}}], "upsert": True}
    )
    body = answer([record("INSERT", KEY, item)])
    assert runs(codec, body, options).inserts == [bson.encode(stored)]


# -- the last change of a key ----------------------------------------------------------------------

REMOVED = {"deletes": [{"q": {"pk": "a"}, "limit": 1}]}


def put(upsert: bool) -> dict[str, Any]:
    update = {"q": {"pk": "a"}, "u": {"v": 1, "pk": "a"}, "upsert": upsert}
    return {"updates": [update]}


@every_codec
@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("INSERT", put(True)),
        ("MODIFY", put(False)),
        ("MODIFY MODIFY", put(False)),
        ("INSERT MODIFY", put(True)),
        ("REMOVE INSERT", put(True)),
        ("MODIFY REMOVE INSERT", put(True)),
        ("MODIFY REMOVE INSERT MODIFY", put(True)),
        ("REMOVE", REMOVED),
        ("INSERT REMOVE", REMOVED),
        ("MODIFY REMOVE", REMOVED),
    ],
)
def test_only_the_last_change_of_a_key_counts(
    codec: ModuleType, events: str, expected: dict[str, Any]
) -> None:
    changes = [(event, {} if event == "REMOVE" else {"v": {"N": "0"}}) for event in events.split()]
    records = [record(event, KEY, KEY | values or None) for event, values in changes]
    if not events.endswith("REMOVE"):
        records[-1] = record(events.split()[-1], KEY, ITEM)
    assert decoded(codec, answer(records), ChangeOptions(PARTITION, upsert=False)) == expected


@every_codec
@pytest.mark.parametrize(
    ("events", "inserts"),
    [("INSERT", 1), ("INSERT MODIFY", 1), ("MODIFY", 0), ("REMOVE INSERT", 0)],
)
def test_an_insert_only_inserts_what_the_answer_begins_with(
    codec: ModuleType, events: str, inserts: int
) -> None:
    body = answer(record(event, KEY, ITEM) for event in events.split())
    found = runs(codec, body, ChangeOptions(PARTITION, insert_only=True))
    assert (len(found.inserts), len(found.updates)) == (inserts, 1 - inserts)
    assert [bson.decode(one) for one in found.inserts] == [{"v": 1, "pk": "a"}] * inserts


@every_codec
def test_keys_are_one_by_value(codec: ModuleType) -> None:
    keys = Keys(Attribute("pk", "N"))
    body = answer(record("REMOVE", {"pk": {"N": text}}) for text in ("1", "1.0", "-1", "10E-1"))
    assert len(runs(codec, body, ChangeOptions(keys)).deletes) == 2


# -- json ------------------------------------------------------------------------------------------


@every_codec
def test_json_statements_are_items_and_keys_behind_their_length(codec: ModuleType) -> None:
    other = {"pk": {"S": "b"}, "$x": {"S": "\xe9"}}
    body = answer(
        [
            record("REMOVE", {"more": {"S": ""}, **KEY}),
            record("INSERT", {"pk": {"S": "b"}}, other),
            record("MODIFY", {"pk": {"S": "c"}}, {"pk": {"S": "c"}}),
        ]
    )
    found = runs(codec, body, ChangeOptions(PARTITION, "json", insert_only=True))
    assert [[json.loads(one[4:]) for one in run] for run in found] == [
        [{"pk": {"S": "c"}}],
        [other],
        [KEY],
    ]


# -- what the answer says --------------------------------------------------------------------------


@every_codec
def test_an_answer_tells_where_it_ends(codec: ModuleType) -> None:
    body = answer(
        [
            record("REMOVE", KEY, number=5),
            record("REMOVE", KEY, number=10**30, ApproximateCreationDateTime=1479499740),
        ]
    )
    page = codec.change_page(body, OPTIONS)
    assert (page.records, page.sequence) == (2, "1" + "0" * 30)
    assert (page.created, page.next_iterator, page.done) == (1479499740.0, "next", False)


@every_codec
@pytest.mark.parametrize("following", [b"", b',"NextShardIterator":null'])
def test_an_answer_without_records_and_iterator_is_the_end_of_the_shard(
    codec: ModuleType, following: bytes
) -> None:
    page = codec.change_page(b'{"Records":[]%s}' % following, OPTIONS)
    assert (page.records, page.sequence, page.created) == (0, "", 0.0)
    assert (page.next_iterator, page.done) == (None, True)
    assert page.fill(memoryview(bytearray(8))) == Statements()


@every_codec
def test_a_time_to_live_delete_is_a_delete(codec: ModuleType) -> None:
    by_service = record("REMOVE", KEY) | {
        "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    }
    assert decoded(codec, answer([by_service]), OPTIONS) == REMOVED


@every_codec
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"{}", b"\xff", b'{"NextShardIterator":"x"}'),
        answer([], Records={}),
        answer([], Records=None),
        answer([], NextShardIterator=7),
        answer([])[:-1],
        answer([]) + b"x",
        answer(["a"]),
        answer([{**record("REMOVE", KEY), "eventName": None}]),
        answer([{**record("REMOVE", KEY), "dynamodb": []}]),
        answer([record("REMOVE", KEY, Keys=None)]),
        answer([record("REMOVE", KEY, SequenceNumber=None)]),
        answer([record("REMOVE", KEY, SequenceNumber=7)]),
        answer([record("REMOVE", KEY, SequenceNumber="")]),
        answer([record("REMOVE", KEY, SequenceNumber="7e1")]),
        answer([record("REMOVE", KEY, SequenceNumber="\u0667")]),
        answer([record("REMOVE", KEY, ApproximateCreationDateTime="now")]),
        answer([record("INSERT", KEY, []), record("REMOVE", KEY)]),
    ],
    ids=lambda body: ascii(body)[-60:],
)
def test_what_is_no_getrecords_response_is_corrupt(codec: ModuleType, body: bytes) -> None:
    with pytest.raises(CorruptPage):
        runs(codec, body, OPTIONS)


@every_codec
@pytest.mark.parametrize("event", ["INSERT", "MODIFY"])
def test_a_change_without_its_new_image_names_the_view_type(codec: ModuleType, event: str) -> None:
    error = refused(codec, answer([record(event, KEY)]))
    assert "NEW_AND_OLD_IMAGES" in error.reason
    assert error.key == '{"pk":{"S":"a"}}'
    assert decoded(codec, answer([record(event, KEY), record("REMOVE", KEY)]), OPTIONS) == REMOVED


@every_codec
def test_an_event_that_nobody_knows_is_never_skipped(codec: ModuleType) -> None:
    error = refused(codec, answer([record("ARCHIVE", KEY, ITEM), record("REMOVE", KEY)]))
    assert "'ARCHIVE'" in error.reason


@every_codec
@pytest.mark.parametrize("convert", ["change", "raw", "json"])
@pytest.mark.parametrize(
    ("key", "item", "reason"),
    [
        ({}, None, "key attribute 'pk' is missing"),
        ({"pk": {"N": "1"}}, None, "key attribute 'pk' is missing or not of type S"),
        (KEY, {"pk": {"S": "b"}}, "another key"),
        (KEY, {"v": {"S": "b"}}, "key attribute 'pk' is missing"),
    ],
)
def test_a_record_without_its_key_is_refused(
    codec: ModuleType, convert: str, key: Any, item: Any, reason: str
) -> None:
    body = answer([record("INSERT" if item else "REMOVE", key, item)])
    assert reason in refused(codec, body, ChangeOptions(PARTITION, convert)).reason


@every_codec
@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_mchange_refuses_a_key_that_may_be_another_ones(codec: ModuleType, id_mode: str) -> None:
    options = ChangeOptions(Keys(Attribute("pk", "N")), "mchange", id_mode=id_mode)
    error = refused(codec, answer([record("REMOVE", {"pk": {"N": "9007199254740993"}})]), options)
    assert error.reason.endswith("use convert.type = change")


@every_codec
@pytest.mark.parametrize("value", [{"S": "\ud800"}, {"N": "1e999"}, {"M": {"\0": {"S": ""}}}])
def test_an_item_that_cannot_be_stored_is_named(codec: ModuleType, value: Any) -> None:
    body = answer([record("INSERT", KEY, KEY | {"v": value}), record("MODIFY", KEY, ITEM)])
    assert decoded(codec, body, OPTIONS) == put(True)  # replaced before it mattered
    assert refused(codec, answer([record("INSERT", KEY, KEY | {"v": value})])).key


@every_codec
@pytest.mark.parametrize("convert", ["change", "json"])
def test_a_statement_larger_than_an_empty_slot_is_refused(codec: ModuleType, convert: str) -> None:
    options = ChangeOptions(PARTITION, convert)
    body = answer([record("INSERT", KEY, ITEM | {"w": {"S": "x" * 100}})])
    [statement] = runs(codec, body, options).updates
    assert runs(codec, body, options, slot=len(statement)).updates == [statement]
    with pytest.raises(ItemError, match=f"its document of {len(statement)} bytes"):
        runs(codec, body, options, slot=len(statement) - 1)


def test_the_door_gives_out_change_pages() -> None:
    page = door.change_page(answer([record("REMOVE", KEY)]), door.ChangeOptions(PARTITION))
    assert page.fill(memoryview(bytearray(99))).deletes[1] == 1
