"""What holds for every GetRecords response, and for both implementations alike."""

from __future__ import annotations

import itertools
import logging
from decimal import Decimal
from random import Random
from types import ModuleType
from typing import Any

import bson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shake.codec import native, reference
from shake.codec.contract import ChangeOptions, CorruptPage
from shake.errors import ItemError
from shake.schema import Attribute, Keys
from tests.support.changes import answer, record, runs
from tests.support.codecs import every_codec
from tests.support.items import PARTITION, PARTITION_AND_SORT, items
from tests.support.spelling import Writer, damaged

examples = settings(max_examples=25)

OPTIONS = [
    ChangeOptions(
        keys, convert, id_mode=id_mode, sharded=sharded, upsert=upsert, insert_only=not upsert
    )
    for convert in ("change", "mchange", "raw", "json")
    for id_mode in ("objectid", "key")
    for keys in (PARTITION, PARTITION_AND_SORT)
    for sharded, upsert in ((False, True), (True, False))
]


def key_of(item: dict[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("sk", "pk") if name in item}


def records(min_size: int = 0) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Records of a few items, each of which may come several times, and under another's key."""
    changes = st.tuples(st.sampled_from(EVENTS), st.integers(0, 2), st.integers(0, 2))
    return st.builds(
        lambda known, found: [
            change(event, known[key % len(known)], known[image % len(known)], number)
            for number, (event, key, image) in enumerate(found)
        ],
        st.lists(items(), min_size=1, max_size=3),
        st.lists(changes, min_size=min_size, max_size=5),
    )


EVENTS = ("INSERT", "MODIFY", "REMOVE")


def change(event: str, key: dict[str, Any], image: dict[str, Any], number: int) -> dict[str, Any]:
    """A record by which the item of this key gets another's attributes, or is removed."""
    key = key_of(key)
    return record(event, key, None if event == "REMOVE" else image | key, number)


def outcome(codec: ModuleType, body: bytes, options: ChangeOptions, slot: int = 1 << 16) -> Any:
    """All that a codec makes of a response: what it gives out, and the words it stops with."""
    made: list[Any] = []
    out = memoryview(bytearray(slot))
    try:
        page = codec.change_page(body, options)
        made.append((page.records, page.sequence, page.created, page.next_iterator))
        while not page.done:
            filled = page.fill(out)
            made += [filled, bytes(out[: sum(size for size, _ in filled)])]
    except CorruptPage as error:
        return str(error)
    except ItemError as error:
        # C reads the whole answer first: what it gives out before it stops may be less.
        return (error.key, error.reason)
    return made


def assert_equal(body: bytes, options: ChangeOptions, slot: int = 1 << 16) -> None:
    assert outcome(native, body, options, slot) == outcome(reference, body, options, slot)


def spelled(random: Random, found: list[Any]) -> bytes:
    """A response as no library would write it, with members in any order."""
    response: dict[str, Any] = {"Records": [shuffled(random, one) for one in found]}
    for one in response["Records"]:
        one["dynamodb"] = shuffled(random, one["dynamodb"])
    response |= random.choice([{}, {"NextShardIterator": "a\n"}, {"NextShardIterator": None}])
    return Writer(random).text(shuffled(random, response)).encode()


def shuffled(random: Random, members: dict[str, Any]) -> dict[str, Any]:
    return dict(random.sample(list(members.items()), len(members)))


class Notes(logging.Handler):
    """Keeps the lines of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def has_long_key(found: list[Any]) -> bool:
    """Whether a numeric key has more than the 15 digits that a double surely keeps."""
    keys = [value for one in found for value in one["dynamodb"]["Keys"].values() if "N" in value]
    return any(len(Decimal(key["N"]).as_tuple().digits) > 15 for key in keys)


def bodies(min_size: int = 0) -> st.SearchStrategy[bytes]:
    return st.builds(spelled, st.builds(Random, st.integers(0, 1 << 32)), records(min_size))


@examples
@given(body=bodies(), options=st.sampled_from(OPTIONS), slot=st.integers(0, 900))
def test_twins_agree_on_every_response(body: bytes, options: ChangeOptions, slot: int) -> None:
    assert_equal(body, options)
    assert_equal(body, options, slot)


@examples
@given(body=bodies(min_size=1), options=st.sampled_from(OPTIONS), data=st.data())
def test_twins_agree_on_every_damaged_response(
    body: bytes, options: ChangeOptions, data: st.DataObject
) -> None:
    for _ in range(4):
        assert_equal(damaged(body, data), options)


@every_codec
@pytest.mark.parametrize("upsert", [True, False])
@examples
@given(found=st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from("abc")), max_size=12))
def test_statements_in_any_order_leave_what_the_records_leave_in_theirs(
    codec: ModuleType, upsert: bool, found: list[tuple[str, str]]
) -> None:
    options = ChangeOptions(PARTITION, upsert=upsert)
    wanted, made = {"a": -1}, {"a": -1}  # value by key: the target holds one of them already
    last: dict[str, str] = {}
    for value, (event, key) in enumerate(found):
        if event == "MODIFY" and last.get(key) == "REMOVE":
            event = "INSERT"  # which is how an item comes back
        found[value], last[key] = (event, key), event
        if event == "REMOVE":
            wanted.pop(key, None)
        elif upsert or event == "INSERT" or key in wanted:
            wanted[key] = value
    body = answer(
        change(event, {"pk": {"S": key}}, {"v": {"N": str(value)}}, value)
        for value, (event, key) in enumerate(found)
    )
    statements = runs(codec, body, options)
    for update in map(bson.decode, reversed(statements.updates)):
        if update["upsert"] or update["q"]["pk"] in made:
            made[update["u"]["pk"]] = update["u"]["v"]
    for delete in map(bson.decode, statements.deletes):
        made.pop(delete["q"]["pk"], None)
    assert made == wanted


#: A response with each event, a key that comes twice, and a name that looks like an operator.
REAL = answer(
    [
        record("INSERT", {"pk": {"S": "a"}, "sk": {"N": "-12.50"}}, number=99),
        record("REMOVE", {"pk": {"S": 'b"\u20ac'}, "sk": {"N": "1"}}, number=100),
        record(
            "MODIFY",
            {"pk": {"S": "a"}, "sk": {"N": "-12.5"}},
            {
                "sk": {"N": "-12.5"},
                "pk": {"S": "a"},
                "$x": {"M": {"_id": {"S": "\n"}}},
                "_id": {"B": "AP8="},
                "l": {"L": [{"NS": ["7", "0.1"]}, {"BOOL": True}]},
            },
            number=101,
        ),
    ]
)


@pytest.mark.parametrize("options", OPTIONS[:24:7], ids=str)
def test_twins_agree_on_every_truncation_and_slot(options: ChangeOptions) -> None:
    for length in range(len(REAL) + 1):
        assert_equal(REAL[:length], options)
    for slot in range(0, 500, 3):
        assert_equal(REAL, options, slot)


@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_twins_agree_on_every_changed_byte(id_mode: str) -> None:
    options = ChangeOptions(PARTITION_AND_SORT, id_mode=id_mode, sharded=True)
    for place in range(len(REAL)):
        for byte in b'"\\{},: \x000n':
            assert_equal(REAL[:place] + bytes([byte]) + REAL[place + 1 :], options)


KEY = b'"Keys":{"pk":{"S":"a"}}'
NUMBER = b'"SequenceNumber":"1"'


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (b'"eventName":"INSERT","eventName":"REMOVE"', KEY + b"," + NUMBER),
        (rb'"eventName":"REMOV\u0045"', KEY + b"," + NUMBER),
        (rb'"event\u004eame":"REMOVE"', KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', KEY + b"," + KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', KEY + b"," + NUMBER + b"," + NUMBER),
        (b'"eventName":"REMOVE"', rb'"Keys":{"pk":{"S":"\ud800"}},' + NUMBER),
        (b'"eventName":"REMOVE"', rb'"OldImage":{"x":"\ud800"},' + KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', b'"OldImage":[01],' + KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', b'"OldImage":[1e999,-0.5E-3],' + KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', b'"SizeBytes":12345678901234567890,' + KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', b'"Old":%s,' % (b"[" * 200 + b"]" * 200) + KEY + b"," + NUMBER),
        (b'"eventName":"INSERT"', b'"NewImage":null,' + KEY + b"," + NUMBER),
        (b'"eventName":"INSERT"', b'"NewImage":null,"NewImage":{"pk":{"S":"a"}},' + KEY + NUMBER),
        (b'"eventName":"REMOVE"', b'"ApproximateCreationDateTime":null,' + KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', b'"ApproximateCreationDateTime":1e9,' + KEY + b"," + NUMBER),
        (b'"eventName":"REMOVE"', b'"ApproximateCreationDateTime":true,' + KEY + b"," + NUMBER),
    ],
)
def test_twins_agree_on_what_is_rare(event: bytes, change: bytes) -> None:
    body = b'{"Records":[{%s,"dynamodb":{%s}}]}'
    assert_equal(body % (event, change), ChangeOptions(PARTITION))
    assert_equal(body % (event, change + b'},"dynamodb":{' + KEY), ChangeOptions(PARTITION))


@pytest.mark.parametrize("names", [("_id", "sk"), ("_id", "pre_id"), ("a.b", "$c"), ("", "\0")])
@pytest.mark.parametrize("prefix", ["pre", "", "$", "\0"])
@pytest.mark.parametrize("convert", ["change", "raw"])
def test_twins_agree_on_every_name_of_a_key(
    names: tuple[str, str], prefix: str, convert: str
) -> None:
    keys = Keys(*(Attribute(name, "B") for name in names))
    key = {name: {"B": "AA=="} for name in names}
    body = answer([record("REMOVE", key), record("INSERT", key, {"v": {"S": ""}, **key})])
    for id_mode, sharded in itertools.product(("objectid", "key"), (False, True)):
        for part in (body, answer([record("REMOVE", key)])):
            options = ChangeOptions(keys, convert, prefix, id_mode=id_mode, sharded=sharded)
            assert_equal(part, options)


@pytest.mark.parametrize("count", [1, 700])
def test_twins_agree_on_many_records(count: int) -> None:
    random = Random(count)
    found = []
    for number in range(count):
        key = {"pk": {"S": str(random.randrange(count))}}
        event = random.choice(("INSERT", "MODIFY", "REMOVE"))
        found.append(record(event, key, None if event == "REMOVE" else key, number + 1))
    assert_equal(answer(found), ChangeOptions(PARTITION, insert_only=True), 1 << 14)


@examples
@given(found=records(), options=st.sampled_from(OPTIONS))
def test_ordinary_responses_are_not_left_to_the_reference(
    found: list[Any], options: ChangeOptions
) -> None:
    # C leaves these to the reference, which looks whether the double is exact.
    assume(options.convert != "mchange" or not has_long_key(found))
    refused = isinstance(outcome(reference, answer(found), options), tuple)
    handler = Notes()
    log = logging.getLogger("shake.codec")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        outcome(native, answer(found), options)
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert bool(handler.lines) is (refused and options.convert != "json")
