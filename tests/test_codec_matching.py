"""The matching of stored documents: the codec in C does what the reference does, and is right."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from decimal import Decimal
from random import Random
from types import ModuleType
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.check.meaning import differing_fields
from shake.codec import native, reference
from shake.codec.contract import Digests, KeyForm, Matcher, Options
from shake.codec.siphash import siphash
from shake.config import Config
from shake.errors import ItemError
from shake.schema import Attribute, Keys
from tests.support.codecs import documents, every_codec, page
from tests.support.items import PARTITION, PARTITION_AND_SORT, Item, items

examples = settings(max_examples=25)

SEED = bytes(range(16))
OTHER_SEED = bytes(range(1, 17))
BY_NUMBERS = Keys(Attribute("pk", "N"), Attribute("sk", "B"))

#: Every way to store a table: its keys, convert.type and id.mode.
WAYS = [
    (keys, convert, id_mode)
    for keys in (PARTITION, PARTITION_AND_SORT, BY_NUMBERS)
    for convert in ("change", "mchange", "raw")
    for id_mode in ("objectid", "key")
]
ways = st.sampled_from(WAYS)


def form_of(keys: Keys, convert: str, id_mode: str) -> KeyForm:
    return KeyForm.of(Options(keys, convert, id_mode=id_mode).id_rule, keys)


def stored_of(found: list[Item], keys: Keys, convert: str, id_mode: str) -> list[bytes]:
    """The documents of items; none of one that cannot be stored."""
    made = []
    for item in found:
        try:
            made += documents(native, page([item]), Options(keys, convert, id_mode=id_mode))
        except ItemError:
            continue
    return made


def both(make: Callable[[ModuleType], Any]) -> Any:
    """What both twins make, which is one."""
    ours, theirs = outcome(make, native), outcome(make, reference)
    assert ours == theirs
    return ours


def outcome(make: Callable[[ModuleType], Any], codec: ModuleType) -> Any:
    try:
        return make(codec)
    except (ValueError, IndexError) as error:
        return type(error), str(error)


# -- digests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "a3817f04ba25a8e66df67214c7550293"),
        (b"\0", "da87c1d86b99af44347659119b22fc45"),
        (bytes(range(15)), "5493e99933b0a8117e08ec0f97cfc3d9"),
    ],
)
def test_siphash_gives_the_published_digests(data: bytes, digest: str) -> None:
    # Source: https://github.com/veorq/SipHash/blob/master/vectors.h
    assert siphash(SEED, 0, data).hex() == digest


values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.text(max_size=9),
        st.binary(max_size=9),
        st.binary(max_size=9).map(lambda data: Binary(data, 5)),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.integers(-(1 << 63), (1 << 63) - 1).map(Int64),
        st.floats(),
        st.decimals().map(lambda one: Decimal128(str(one)[:30] if one.is_finite() else one)),
        st.booleans(),
        st.none(),
        st.just(bson.Regex("a", "i")),
        st.just(bson.Code("x", {"y": 1})),
        st.just(bson.MinKey()),
        st.just(bson.Timestamp(1, 2)),
        st.just(bson.DBRef("a", 1)),
        st.just(bson.ObjectId(b"123456789012")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=12),
        st.dictionaries(st.sampled_from(["S", "N", "B", "pk", "sk", "a"]), inner, max_size=3),
    ),
    max_leaves=8,
)
anything = st.dictionaries(
    st.sampled_from(["_id", "pk", "sk", "a", "b", "S"]), values, max_size=6
).map(bson.encode)


@st.composite
def damaged(draw: st.DrawFn, document: bytes) -> bytes:
    """A document some of whose bytes are others; mostly it still has its length."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(4, len(document) - 1))
        document = document[:at] + draw(st.binary(min_size=1, max_size=1)) + document[at + 1 :]
    return document


@examples
@given(data=st.data(), way=ways, document=anything.flatmap(damaged), marks=st.binary(min_size=8))
def test_twins_agree_on_the_digests_of_anything(
    data: st.DataObject, way: Any, document: bytes, marks: bytes
) -> None:
    form = form_of(*way)

    def make(codec: ModuleType) -> Any:
        digests: Digests = codec.digests(SEED, form)
        sums = array("Q", bytes(64))
        added = digests.add(document * 2, memoryview(sums))
        within = digests.within(document, marks[:8])
        return digests.key(document), digests.fields(document), added, list(sums), within

    both(make)


ONE = bson.encode({"pk": "a"})


@pytest.mark.parametrize(
    "wrong", [ONE[:-1], ONE + b"\0", b"\4\0\0\0", ONE[:-1] + b"\1", b"\xff" * 9], ids=repr
)
def test_twins_refuse_what_are_no_documents(wrong: bytes) -> None:
    def digests(codec: ModuleType) -> Digests:
        made: Digests = codec.digests(SEED, form_of(*WAYS[0]))
        return made

    sums = memoryview(array("Q", [0]))
    refusals = [
        both(lambda codec: digests(codec).add(wrong, sums)),
        both(lambda codec: digests(codec).within(wrong, b"\xff")),
        both(lambda codec: matcher(codec, WAYS[0], [ONE]).match(wrong)),
        both(lambda codec: matcher(codec, WAYS[0], [wrong])),
    ]
    assert [kind for kind, _ in refusals] == [ValueError] * 4


@every_codec
@given(
    coefficient=st.integers(-(10**34) + 1, 10**34 - 1),
    exponent=st.integers(-40, 40),
    zeros=st.integers(0, 5),
)
@examples
def test_equal_numbers_are_one_key_and_others_are_not(
    codec: ModuleType, coefficient: int, exponent: int, zeros: int
) -> None:
    def key(value: Any) -> bytes:
        digests: Digests = codec.digests(SEED, KeyForm(True, False, (b"pk",), (b"N",)))
        return digests.key(bson.encode({"_id": value}))

    text = f"{coefficient}E{exponent}"
    exact = Decimal(text)
    decimal = key(Decimal128(text))
    if abs(coefficient) < 10**29:
        assert key(Decimal128(f"{coefficient}{'0' * zeros}E{exponent - zeros}")) == decimal
    whole = int(exact)
    if -(1 << 63) <= whole < 1 << 63:
        assert (key(Int64(whole)) == decimal) is (whole == exact)
        if abs(whole) < 1 << 31:
            assert key(whole) == key(Int64(whole))
    double = float(text)
    assert (key(double) == decimal) is (Decimal(double) == exact)
    assert key(text) != decimal


@every_codec
@pytest.mark.parametrize("double", [0.0, -0.0, 5e-324, 0.5, 1e308, 2.0**100, -3.0, 1 / 3])
def test_a_double_is_its_exact_value_as_a_key(codec: ModuleType, double: float) -> None:
    digests: Digests = codec.digests(SEED, KeyForm(True, False, (b"pk",), (b"N",)))
    keys = [digests.key(bson.encode({"_id": value})) for value in others_of(double)]
    assert all(key == keys[0] for key in keys)


def others_of(double: float) -> list[Any]:
    found: list[Any] = [double, double + 0.0]
    exact = Decimal(double)
    if len(exact.as_tuple().digits) <= 34:
        found.append(Decimal128(exact))
    if double == math.floor(double) and abs(double) < 1 << 62:
        found.append(Int64(int(double)))
    return found


# -- matching ------------------------------------------------------------------------------------


def matcher(codec: ModuleType, way: Any, ours: list[bytes], seed: bytes = SEED) -> Matcher:
    made: Matcher = codec.matcher(b"".join(ours), seed, form_of(*way_of_ours(way)), form_of(*way))
    return made


def way_of_ours(way: Any) -> Any:
    """How the check makes documents of the items (see StoredKeys.ours)."""
    keys, convert, id_mode = way
    lossy = convert == "mchange" and any(key.type == "N" for key in keys)
    return keys, convert, id_mode if lossy else "key"


def ours_of(found: list[Item], way: Any) -> list[bytes]:
    """The documents of items as the check makes them."""
    return stored_of(found, *way_of_ours(way))


def rearranged(value: Any, random: Random) -> Any:
    """The same with the fields of its maps in another order."""
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: rearranged(value[name], random) for name in names}
    if isinstance(value, list):
        return [rearranged(one, random) for one in value]
    return value


def shuffled(document: bytes, random: Random) -> bytes:
    """The same, its _id as it is."""
    content = bson.decode(document)
    first = {"_id": content.pop("_id")} if "_id" in content else {}
    return bson.encode(first | rearranged(content, random))


tables = st.sampled_from((PARTITION, PARTITION_AND_SORT, BY_NUMBERS)).flatmap(
    lambda keys: st.tuples(
        st.sampled_from([way for way in WAYS if way[0] is keys]),
        st.lists(items(keys), min_size=1, max_size=5, unique_by=lambda item: repr(item["pk"])),
    )
)


@examples
@given(table=tables, random=st.randoms(use_true_random=False), first=st.integers(0, 4))
def test_what_says_the_same_is_matched_in_any_order(table: Any, random: Random, first: int) -> None:
    (keys, convert, id_mode), found = table
    ours, stored = ours_of(found, table[0]), stored_of(found, keys, convert, id_mode)
    if (
        not ours
        or len(ours) != len(stored)
        or len({key_of(one, table[0]) for one in stored}) < len(stored)
    ):
        return  # one that cannot be stored; or two keys that become one double
    random.shuffle(stored)
    theirs = [shuffled(document, random) for document in stored]

    def make(codec: ModuleType) -> Any:
        one = matcher(codec, table[0], ours)
        sums = array("Q", bytes(8 * 16))
        expected = array("Q", bytes(8 * 16))
        one.match(b"".join(theirs[:2]))
        one.match(b"".join(theirs[2:]))
        filters = [one.filter(min(first, len(ours) - 1), len(ours), way) for way in (True, False)]
        added = one.add(memoryview(sums))
        codec.digests(SEED, form_of(*table[0])).add(b"".join(stored), memoryview(expected))
        return one.unmatched(), added, filters, list(sums) == list(expected)

    unmatched, added, filters, one_sum = both(make)
    assert (unmatched, added, one_sum) == ([], len(ours), True)
    for one in filters:
        bson.decode(one)


def key_of(document: bytes, way: Any) -> bytes:
    digests: Digests = native.digests(SEED, form_of(*way))
    return digests.key(document)


@examples
@given(table=tables, data=st.data())
def test_what_is_matched_does_not_differ(table: Any, data: st.DataObject) -> None:
    (keys, convert, id_mode), found = table
    ours, stored = ours_of(found[:1], table[0]), stored_of(found[:1], keys, convert, id_mode)
    if not (ours and stored):
        return
    theirs = data.draw(damaged(shuffled(stored[0], Random(1))))

    def make(codec: ModuleType) -> Any:
        one = matcher(codec, table[0], ours)
        one.match(theirs)
        return one.unmatched()

    if both(make) == []:
        config = Config(id="t", target_address="", convert_type=convert, id_mode=id_mode)
        assert differing_fields(found[0], ours[0], theirs, keys, config) == []


def one_way(item: Item, change: Callable[[bytes], list[bytes]]) -> list[int]:
    """The unmatched ones of a page with one item, stored as objectid, and changed."""
    way = (PARTITION, "change", "objectid")
    [ours], [stored] = ours_of([item], way), stored_of([item], *way)

    def make(codec: ModuleType) -> list[int]:
        one = matcher(codec, way, [ours])
        one.match(b"".join(change(stored)))
        return one.unmatched()

    found: list[int] = both(make)
    return found


ITEM = {
    "pk": {"S": "a"},
    "l": {"L": [{"N": "1"}, {"S": "\xe9"}]},
    "m": {"M": {"x": {"N": "1.5"}, "y": {"BOOL": True}}},
    "s": {"SS": ["x", "y"]},
}


def replaced(old: bytes, new: bytes) -> Callable[[bytes], list[bytes]]:
    def change(document: bytes) -> list[bytes]:
        assert old in document
        return [document.replace(old, new)]

    return change


def changed(**fields: Any) -> Callable[[bytes], list[bytes]]:
    return lambda document: [bson.encode(bson.decode(document) | fields)]


@pytest.mark.parametrize(
    "change",
    [
        lambda document: [document],
        changed(m={"y": True, "x": Decimal128("1.5")}),
        changed(l=[Int64(1), "\xe9"]),
        changed(_id="another"),
        lambda document: [document, bson.encode({"_id": 1, "pk": "b"})],
    ],
)
def test_the_same_is_matched(change: Callable[[bytes], list[bytes]]) -> None:
    assert one_way(ITEM, change) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda document: [],
        lambda document: [document, document],
        changed(l=["\xe9", 1]),
        changed(l=[1.0, "\xe9"]),
        changed(m={"x": Decimal128("1.50"), "y": True}),
        changed(m={"x": Decimal128("1.5")}),
        changed(s=["y", "x"]),
        changed(s={"0": "x", "1": "y"}),
        changed(more=None),
        replaced("\xe9".encode(), b"\xe9\xa9"),
        replaced(b"\x021\0", b"\x022\0"),
        replaced(b"\x04s\0", b"\x04l\0"),
        replaced(b"\x08y\0\1", b"\x08x\0\1"),
        replaced(b"\x08y\0\1", b"\x08y\0\2"),
    ],
)
def test_what_is_not_surely_the_same_is_unmatched(change: Callable[[bytes], list[bytes]]) -> None:
    assert one_way(ITEM, change) == [0]


@every_codec
def test_elements_of_an_array_that_are_out_of_order_are_unmatched(codec: ModuleType) -> None:
    digests: Digests = codec.digests(SEED, form_of(*WAYS[0]))
    right = bson.encode({"l": ["x", "y"]})
    assert right.count(b"\x020\0") == right.count(b"\x021\0") == 1
    assert digests.fields(right) is not None
    swapped = right.replace(b"\x020\0", b"\x02?\0").replace(b"\x021\0", b"\x020\0")
    assert digests.fields(swapped.replace(b"\x02?\0", b"\x021\0")) is None


@every_codec
def test_long_arrays_and_many_names_have_digests(codec: ModuleType) -> None:
    digests: Digests = codec.digests(SEED, form_of(*WAYS[0]))
    names = {f"name {n}": n for n in range(1200)}
    document = bson.encode({"l": list(range(1101)), "m": names})
    turned = bson.encode({"m": dict(reversed(names.items())), "l": list(range(1101))})
    assert digests.fields(document) == digests.fields(turned) is not None
    twice = document.replace(b"name 1199\0", b"name 1198\0")
    assert digests.fields(twice) is None


@every_codec
def test_what_is_nested_too_deeply_has_no_digest(codec: ModuleType) -> None:
    digests: Digests = codec.digests(SEED, form_of(*WAYS[0]))

    def nested(levels: int) -> bytes:
        value: Any = "x"
        for _ in range(levels):
            value = [value]
        return bson.encode({"v": value})

    assert digests.fields(nested(100)) is not None
    document = b"\x05\0\0\0\0"
    for _ in range(5000):
        document = (len(document) + 8).to_bytes(4, "little") + b"\x030\0" + document + b"\0"
    assert digests.fields(document) is None


def test_two_of_one_key_in_a_page_are_unmatched() -> None:
    way = (BY_NUMBERS, "mchange", "objectid")
    item = {"pk": {"N": "1"}, "sk": {"B": "AA=="}}
    ours = stored_of([item, item, item | {"pk": {"N": "2"}}], *way)

    def make(codec: ModuleType) -> Any:
        one = matcher(codec, way, ours)
        one.match(b"".join(ours[1:]))
        return len(one), one.unmatched(), one.add(memoryview(array("Q", [0])))

    assert both(make) == (3, [0, 1], 1)


@every_codec
def test_another_seed_gives_other_digests(codec: ModuleType) -> None:
    document = bson.encode({"_id": 1, "pk": "a"})
    one, other = (codec.digests(seed, form_of(*WAYS[0])) for seed in (SEED, OTHER_SEED))
    assert one.key(document) != other.key(document)
    assert one.fields(document) != other.fields(document)


# -- filters -------------------------------------------------------------------------------------


def filters(way: Any, found: list[Item], *, scanned: bool) -> Any:
    ours = ours_of(found, way)
    return bson.decode(both(lambda codec: matcher(codec, way, ours).filter(0, len(ours), scanned)))


def test_a_key_of_one_attribute_is_selected_by_it() -> None:
    found = [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}]
    for convert, path in (("change", "pk"), ("raw", "pk.S")):
        selected = filters((PARTITION, convert, "objectid"), found, scanned=True)
        assert selected == {path: {"$in": ["a", "b"]}}


def test_with_the_key_as_id_documents_are_selected_by_that() -> None:
    found = [{"pk": {"S": "a"}, "sk": {"N": "1"}}]
    selected = filters((PARTITION_AND_SORT, "change", "key"), found, scanned=True)
    assert selected == {"_id": {"$in": [{"pk": "a", "sk": 1}]}}
    selected = filters((PARTITION, "raw", "key"), found, scanned=False)
    assert selected == {"_id": {"$in": [{"S": "a"}]}}


def test_whole_partitions_are_selected_by_their_key_others_by_both() -> None:
    found = [
        {"pk": {"S": pk}, "sk": {"N": sk}}
        for pk, sk in (("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"), ("c", "1"), ("d", "1"))
    ]
    way = (PARTITION_AND_SORT, "change", "objectid")
    a, b, c, d = (
        {"pk": pk, "sk": {"$in": sorts}}
        for pk, sorts in (("a", [1, 2]), ("b", [1, 2]), ("c", [1]), ("d", [1]))
    )
    assert filters(way, found, scanned=True) == {"$or": [a, {"pk": {"$in": ["b", "c"]}}, d]}
    assert filters(way, found, scanned=False) == {"$or": [a, b, c, d]}
    assert filters(way, found[:2], scanned=True) == a
    assert filters(way, found[:3], scanned=True) == {"$or": [a, b | {"sk": {"$in": [1]}}]}


@pytest.mark.parametrize(("first", "last"), [(0, 2), (1, 1), (-1, 1)])
def test_a_filter_of_documents_that_are_not_there_is_refused(first: int, last: int) -> None:
    ours = ours_of([{"pk": {"S": "a"}}], WAYS[0])
    kind, _ = both(lambda codec: matcher(codec, WAYS[0], ours).filter(first, last, True))
    assert kind is IndexError


def test_forms_are_those_of_the_stored_keys() -> None:
    config = Config(id="t", target_address="", convert_type="raw")
    keys = Keys(Attribute("_id", "B"))
    assert KeyForm.of(config.id_rule, keys) == KeyForm(False, True, (b"pre_id",), (b"B",))


# -- answers -------------------------------------------------------------------------------------

FOUND = [{"_id": 1, "pk": "a"}, {}, {"x": [{"y": 1}]}]


@every_codec
@pytest.mark.parametrize("name", ["firstBatch", "nextBatch"])
@pytest.mark.parametrize("found", [FOUND, []])
def test_an_answer_is_cut_into_its_documents_and_the_rest(
    codec: ModuleType, name: str, found: list[Any]
) -> None:
    cursor = {"id": Int64(7), name: found, "ns": "d.c"}
    whole = {"cursor": cursor, "ok": 1.0, "$clusterTime": {"x": 1}}
    rest, packed = codec.cut_reply(bson.encode(whole))
    assert bson.decode(rest) == whole | {"cursor": cursor | {name: []}}
    assert bson.decode_all(packed) == found


@every_codec
def test_an_answer_without_a_batch_is_all_rest(codec: ModuleType) -> None:
    for answer in ({"ok": 0.0, "code": 5}, {"cursor": {"id": 1}}, {"cursor": [1]}):
        encoded = bson.encode(answer)
        assert codec.cut_reply(memoryview(encoded)) == (encoded, b"")


@pytest.mark.parametrize("wrong", [b"", ONE + ONE, bson.encode({"cursor": {"nextBatch": [1]}})])
def test_twins_refuse_what_is_no_answer(wrong: bytes) -> None:
    kind, _ = both(lambda codec: codec.cut_reply(wrong))
    assert kind is ValueError


@examples
@given(
    answer=st.fixed_dictionaries(
        {"cursor": st.dictionaries(st.sampled_from(["firstBatch", "id"]), values, max_size=2)},
        optional={"ok": values, "a": values},
    )
    .map(bson.encode)
    .flatmap(damaged)
)
def test_twins_agree_on_every_damaged_answer(answer: bytes) -> None:
    both(lambda codec: codec.cut_reply(answer))
