"""The rules of the codec, by example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from shake import codec as door
from shake.codec.contract import CorruptPage, Options
from shake.errors import ItemError
from shake.schema import Attribute, Keys
from tests.support.codecs import document, documents, every_codec, page, read
from tests.support.expected import PREFIX
from tests.support.items import PARTITION, PARTITION_AND_SORT

CHANGE = Options(PARTITION)
INT32, INT64, DECIMAL, STRING = 0x10, 0x12, 0x13, 0x02
WIDE = "12345678901234567890123456789012345"  # 35 digits


def value_of(codec: ModuleType, typed: Any, options: Options = CHANGE) -> Any:
    return document(codec, {"pk": {"S": "a"}, "v": typed}, options)["v"]


def refused(codec: ModuleType, item: Any, options: Options = CHANGE, slot: int = 1 << 20) -> str:
    """The reason that the codec gives for refusing an item."""
    scan = codec.scan_page(page([item]), options)
    with pytest.raises(ItemError) as caught:
        scan.fill(memoryview(bytearray(slot)), PREFIX, 0)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    return caught.value.reason


def test_the_door_gives_out_an_implementation_of_the_contract() -> None:
    scan = door.scan_page(page([]), door.Options(PARTITION))
    assert (scan.fill(memoryview(bytearray(8)), PREFIX, 0), scan.done, scan.count) == (
        (0, 0),
        True,
        0,
    )


SAY = "from shake import codec; print(codec.IMPLEMENTATION, codec.NOTICE)"
#: None in sys.modules makes an import fail: what an install without a compiler is like.
SAY_WITHOUT_C = f"import sys; sys.modules['shake.codec._transcoder'] = None; {SAY}"


@pytest.mark.parametrize(
    ("wanted", "program", "said"),
    [
        ("", SAY, "native \n"),
        ("native", SAY, "native \n"),
        ("reference", SAY, "reference \n"),
        ("", SAY_WITHOUT_C, "reference the C codec is not built"),
        ("reference", SAY_WITHOUT_C, "reference \n"),
    ],
)
def test_the_environment_chooses_and_a_missing_c_codec_is_told(
    wanted: str, program: str, said: str
) -> None:
    assert run(program, wanted).stdout.startswith(said)


def test_who_insists_on_the_c_codec_does_not_get_another() -> None:
    ended = run(SAY_WITHOUT_C, "native")
    assert ended.returncode != 0
    assert "ImportError" in ended.stderr or "ModuleNotFoundError" in ended.stderr


def run(program: str, wanted: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SHAKE_CODEC": wanted},
        cwd=Path(door.__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


# -- numbers -------------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0", INT32, 0),
        ("-0", INT32, 0),
        ("0.00", INT32, 0),
        ("0E999999999", INT32, 0),
        ("77.00", INT32, 77),
        ("+7", INT32, 7),
        ("5.", INT32, 5),
        ("007", INT32, 7),
        ("1E+2", INT32, 100),
        ("1e0000000000002", INT32, 100),
        ("2147483647", INT32, 2**31 - 1),
        ("-2147483648", INT32, -(2**31)),
        ("2147483648", INT64, 2**31),
        ("-2147483649", INT64, -(2**31) - 1),
        ("1E+18", INT64, 10**18),
        ("9223372036854775807", INT64, 2**63 - 1),
        ("-9223372036854775808.0", INT64, -(2**63)),
        ("9223372036854775808", DECIMAL, "9223372036854775808"),
        ("-9223372036854775809", DECIMAL, "-9223372036854775809"),
        ("1E19", DECIMAL, "10000000000000000000"),
        ("1E33", DECIMAL, "1" + "0" * 33),
        ("1E34", DECIMAL, "1E+34"),
        ("12E33", DECIMAL, "1.2E+34"),
        ("9" * 34, DECIMAL, "9" * 34),
        (WIDE[:34] + "0" * 80, DECIMAL, "1.234567890123456789012345678901234E+113"),
        (".5", DECIMAL, "0.5"),
        ("-1.50", DECIMAL, "-1.5"),
        ("150E-2", DECIMAL, "1.5"),
        ("1E-130", DECIMAL, "1E-130"),
        ("-9.99E+125", DECIMAL, "-9.99E+125"),
        (WIDE, STRING, WIDE),
        (f"-{WIDE}.0", STRING, f"-{WIDE}"),
        (f"{WIDE}E+3", STRING, f"{WIDE}000"),
        (f"{WIDE}E-2", STRING, f"{WIDE[:33]}.{WIDE[33:]}"),
        (f"{WIDE}00E-40", STRING, f"0.000{WIDE}"),
        ("9" * 38 + "E88", STRING, "9" * 38 + "0" * 88),
    ],
)
def test_change_keeps_every_number_by_value(
    codec: ModuleType, text: str, kind: int, value: int | str
) -> None:
    [encoded] = documents(codec, page([{"pk": {"S": "a"}, "v": {"N": text}}]), CHANGE)
    assert encoded[encoded.index(b"v\0") - 1] == kind
    stored = bson.decode(encoded)["v"]
    assert stored == (Decimal128(str(value)) if kind == DECIMAL else value)


#: Numbers that no mode but ``raw`` takes.
NO_NUMBERS = [
    *("", "abc", "NaN", "-Infinity", "1_000", "0x10", "--1", "+", ".", "1e", "1e+", "1.2.3"),
    *(" 1", "1 ", "1\n", "1\0", "\u0661", "1\u0661", "1.\u0661", "1e\uff11", "1,5"),
    *("1E126", "1E-131", "-1E999999999", "1E-999999999", "1E9999999999", "1E" + "9" * 5000),
    *("1" * 39, "0." + "1" * 39, "1" * 38 + ".1", "1" * 5000),
]


@every_codec
@pytest.mark.parametrize("convert", ["change", "mchange"])
@pytest.mark.parametrize("text", NO_NUMBERS, ids=lambda text: ascii(text)[:20])
def test_what_is_not_a_dynamodb_number_is_refused(
    codec: ModuleType, convert: str, text: str
) -> None:
    item = {"pk": {"S": "a"}, "v": {"N": text}}
    assert "number" in refused(codec, item, Options(PARTITION, convert))


@every_codec
def test_digits_count_by_value_not_by_spelling(codec: ModuleType) -> None:
    assert value_of(codec, {"N": "000" + "1" * 38 + "00000E-5"}) == "1" * 38
    assert value_of(codec, {"N": "0." + "0" * 200 + "1E+201"}) == 1


@every_codec
def test_overflow_error_refuses_a_number_of_35_digits(codec: ModuleType) -> None:
    options = Options(PARTITION, overflow="error")
    item = {"pk": {"S": "a"}, "v": {"N": WIDE}}
    assert "convert.number.overflow" in refused(codec, item, options)
    assert value_of(codec, {"N": WIDE[:34]}, options) == Decimal128(WIDE[:34])


@every_codec
@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("-0", 0.0), ("0.1", 0.1), ("9.99E125", 9.99e125), (WIDE, 1.2345678901234568e34)],
)
def test_mchange_stores_the_nearest_double(codec: ModuleType, text: str, value: float) -> None:
    stored = value_of(codec, {"NS": [text]}, Options(PARTITION, "mchange"))
    assert [repr(number) for number in stored] == [repr(value)]


@every_codec
@pytest.mark.parametrize(
    ("text", "kept"),
    [("0.1", True), ("0.10", True), ("9007199254740993", False), ("0.10000000000000001", False)],
)
def test_mchange_refuses_a_key_that_would_change(codec: ModuleType, text: str, kept: bool) -> None:
    keys = Keys(Attribute("pk", "N"))
    item = {"pk": {"N": text}}
    assert document(codec, item, Options(keys, "mchange"))["pk"] == float(text)
    by_key = Options(keys, "mchange", id_mode="key")
    if kept:
        assert document(codec, item, by_key) == {"_id": 0.1, "pk": 0.1}
    else:
        assert "id.mode = objectid" in refused(codec, item, by_key)


# -- other values --------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize(
    ("typed", "changed", "raw"),
    [
        ({"S": "a\0\U0001f600"}, "a\0\U0001f600", {"S": "a\0\U0001f600"}),
        ({"S": ""}, "", {"S": ""}),
        ({"N": "1.0"}, 1, {"N": "1.0"}),
        ({"B": "AP8="}, b"\0\xff", {"B": b"\0\xff"}),
        ({"B": ""}, b"", {"B": b""}),
        ({"BOOL": False}, False, {"BOOL": False}),
        ({"NULL": True}, None, {"NULL": True}),
        ({"SS": ["b", "a"]}, ["b", "a"], {"SS": ["b", "a"]}),
        ({"NS": ["2", "1.5", "1E0"]}, [2, Decimal128("1.5"), 1], {"NS": ["2", "1.5", "1E0"]}),
        ({"BS": ["/w==", "AA=="]}, [b"\xff", b"\0"], {"BS": [b"\xff", b"\0"]}),
        ({"L": []}, [], {"L": []}),
        ({"M": {}}, {}, {"M": {}}),
        (
            {"L": [{"N": "1"}, {"L": [{"NULL": True}]}]},
            [1, [None]],
            {"L": [{"N": "1"}, {"L": [{"NULL": True}]}]},
        ),
        (
            {"M": {"_id": {"N": "1"}, "": {"S": "x"}, "$a.b": {"M": {}}}},
            {"_id": 1, "": "x", "$a.b": {}},
            {"M": {"_id": {"N": "1"}, "": {"S": "x"}, "$a.b": {"M": {}}}},
        ),
    ],
    ids=lambda typed: ascii(typed)[:20],
)
def test_each_type_has_its_bson(codec: ModuleType, typed: Any, changed: Any, raw: Any) -> None:
    assert value_of(codec, typed) == changed
    assert value_of(codec, typed, Options(PARTITION, "raw")) == raw


@every_codec
@pytest.mark.parametrize("convert", ["change", "mchange", "raw"])
@pytest.mark.parametrize(
    "typed",
    [
        *({}, {"X": "a"}, {"S": "a", "N": "1"}, "a", None, ["a"], {"s": "a"}),
        *({"S": 1}, {"S": None}, {"N": 1}, {"N": None}, {"B": 1}, {"BOOL": "true"}, {"BOOL": 1}),
        *({"NULL": False}, {"NULL": "true"}, {"NULL": 1}, {"L": {}}, {"L": ["a"]}, {"M": []}),
        *({"M": {"a": "b"}}, {"SS": "a"}, {"SS": [1]}, {"NS": [1]}, {"BS": [None]}, {"SS": None}),
        *({"B": "AA"}, {"B": "A==="}, {"B": "AA=A"}, {"B": "="}, {"B": "=="}, {"B": "===="}),
        *({"B": "AA==AA=="}, {"B": "A A="}, {"B": "AA==\n"}, {"B": "_-A="}, {"B": "\xe9AA="}),
    ],
    ids=ascii,
)
def test_a_value_that_is_not_what_its_type_says_is_refused(
    codec: ModuleType, convert: str, typed: Any
) -> None:
    item = {"pk": {"S": "a"}, "v": typed}
    assert "'v'" in refused(codec, item, Options(PARTITION, convert))


@every_codec
def test_raw_keeps_the_text_of_a_number_as_received(codec: ModuleType) -> None:
    raw = Options(PARTITION, "raw")
    assert value_of(codec, {"N": "+01.50E+0"}, raw) == {"N": "+01.50E+0"}


@every_codec
def test_32_levels_are_no_depth(codec: ModuleType) -> None:
    typed: dict[str, Any] = {"S": "deep"}
    for _ in range(16):
        typed = {"M": {"a": {"L": [typed]}}}
    value = value_of(codec, typed)
    for _ in range(16):
        [value] = value["a"]
    assert value == "deep"
    assert value_of(codec, typed, Options(PARTITION, "raw")) == typed


@every_codec
def test_endless_nesting_is_an_error_not_a_crash(codec: ModuleType) -> None:
    nested = b'{"L":[' * 400 + b"]}" * 400
    body = b'{"Items":[{"pk":{"S":"a"},"v":%s}],"Count":1,"ScannedCount":1}'
    scan = codec.scan_page(body % nested, CHANGE)
    with pytest.raises(ItemError):
        scan.fill(memoryview(bytearray(1 << 16)), PREFIX, 0)
    with pytest.raises(CorruptPage):
        read(codec, body % (b"[" * 100_000 + b"]" * 100_000), CHANGE)


# -- names and _id -------------------------------------------------------------------------------


@every_codec
def test_object_ids_are_the_prefix_and_the_place_in_the_segment(codec: ModuleType) -> None:
    body = page({"pk": {"S": text}} for text in "abc")
    encoded = documents(codec, body, CHANGE, number=254)
    assert [bson.decode(one)["_id"] for one in encoded] == [
        ObjectId(PREFIX + b"\0\0\0\0\xfe"),
        ObjectId(PREFIX + b"\0\0\0\0\xff"),
        ObjectId(PREFIX + b"\0\0\0\1\0"),
    ]


@every_codec
@pytest.mark.parametrize(
    ("keys", "convert", "identity"),
    [
        (PARTITION, "change", "a"),
        (PARTITION, "raw", {"S": "a"}),
        (PARTITION_AND_SORT, "change", {"pk": "a", "sk": 1}),
        (PARTITION_AND_SORT, "mchange", {"pk": "a", "sk": 1.0}),
        (PARTITION_AND_SORT, "raw", {"pk": {"S": "a"}, "sk": {"N": "1"}}),
    ],
)
def test_key_mode_makes_the_key_the_id(
    codec: ModuleType, keys: Keys, convert: str, identity: Any
) -> None:
    item = {"sk": {"N": "1"}, "pk": {"S": "a"}}
    stored = document(codec, item, Options(keys, convert, id_mode="key"))
    assert stored["_id"] == identity
    if isinstance(identity, dict):
        assert list(stored["_id"]) == list(identity)
    assert list(stored) == ["_id", "sk", "pk"]


@every_codec
def test_attributes_keep_their_order_and_id_its_place_under_another_name(
    codec: ModuleType,
) -> None:
    item = {name: {"S": name} for name in ("z", "_id", "a.b", "$set", "pk", "")}
    stored = document(codec, item, CHANGE)
    assert list(stored) == ["_id", "z", "pre_id", "a.b", "$set", "pk", ""]
    assert stored["pre_id"] == "_id"
    assert "old_id" in document(codec, item, Options(PARTITION, id_prefix="old"))


@every_codec
def test_a_key_attribute_called_id_keeps_its_name_inside_the_id(codec: ModuleType) -> None:
    keys = Keys(Attribute("_id", "S"), Attribute("sk", "S"))
    item = {"_id": {"S": "a"}, "sk": {"S": "b"}}
    assert document(codec, item, Options(keys, id_mode="key")) == {
        "_id": {"_id": "a", "sk": "b"},
        "pre_id": "a",
        "sk": "b",
    }


@every_codec
def test_an_item_with_both_id_and_the_prefixed_name_is_refused(codec: ModuleType) -> None:
    both = {"pk": {"S": "a"}, "_id": {"S": "x"}, "pre_id": {"S": "y"}}
    assert "convert._id" in refused(codec, both)
    assert document(codec, both, Options(PARTITION, id_prefix="other_"))["pre_id"] == "y"


@every_codec
@pytest.mark.parametrize("convert", ["change", "mchange", "raw"])
@pytest.mark.parametrize("attribute", [{"a\0b": {"S": ""}}, {"a": {"M": {"\0": {"S": ""}}}}])
def test_u0000_in_a_name_is_refused(codec: ModuleType, convert: str, attribute: Any) -> None:
    assert "U+0000" in refused(codec, {"pk": {"S": "a"}, **attribute}, Options(PARTITION, convert))


@every_codec
@pytest.mark.parametrize("convert", ["change", "mchange", "raw", "json"])
@pytest.mark.parametrize(
    "attribute",
    [
        rb'"v":{"S":"\ud800"}',
        rb'"v":{"S":"\ud800\ud800"}',
        rb'"v":{"S":"\udc00\ud800"}',
        rb'"\ud800":{"S":"v"}',
        rb'"v":{"M":{"\udfff":{"SS":[]}}}',
        b'"v":{"SS":["\xed\xa0\x80"]}',
        b'"v":{"S":"\xed\xa0\x80\xed\xb0\x80"}',
    ],
)
def test_a_lone_surrogate_names_its_item(codec: ModuleType, convert: str, attribute: bytes) -> None:
    body = b'{"Items":[{"pk":{"S":"fine"}},{"pk":{"S":"bad"},%s}],"Count":2,"ScannedCount":2}'
    scan = codec.scan_page(body % attribute, Options(PARTITION, convert))
    with pytest.raises(ItemError, match="surrogate") as caught:
        scan.fill(memoryview(bytearray(1 << 16)), PREFIX, 0)
    assert caught.value.key == '{"pk":{"S":"bad"}}'


@every_codec
def test_a_lone_surrogate_in_the_key_is_shown_escaped_and_survives_in_the_last_key(
    codec: ModuleType,
) -> None:
    key = {"pk": {"S": "\udc00"}}
    assert read(codec, page([], LastEvaluatedKey=key), CHANGE).last_key == rb'{"pk":{"S":"\udc00"}}'
    scan = codec.scan_page(page([key]), CHANGE)
    with pytest.raises(ItemError) as caught:
        scan.fill(memoryview(bytearray(64)), PREFIX, 0)
    assert caught.value.key == r'{"pk":{"S":"\udc00"}}'


@every_codec
@pytest.mark.parametrize("convert", ["change", "raw", "json"])
@pytest.mark.parametrize(
    "item",
    [
        {},
        {"pk": {"S": "a"}},
        {"pk": {"S": "a"}, "sk": {"S": "1"}},
        {"pk": None, "sk": {"N": "1"}},
        {"pk": {"S": "a", "N": "1"}, "sk": {"N": "1"}},
    ],
)
def test_an_item_without_its_key_is_refused(codec: ModuleType, convert: str, item: Any) -> None:
    assert "key attribute" in refused(codec, item, Options(PARTITION_AND_SORT, convert))


@every_codec
def test_an_error_shows_the_key_cut_short(codec: ModuleType) -> None:
    scan = codec.scan_page(page([{"pk": {"S": "k" * 2000}, "v": {}}]), CHANGE)
    with pytest.raises(ItemError) as caught:
        scan.fill(memoryview(bytearray(1 << 16)), PREFIX, 0)
    assert caught.value.key.startswith('{"pk":{"S":"kkkk')
    assert 300 <= len(caught.value.key) <= 310


# -- sizes ---------------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize("convert", ["change", "json"])
def test_a_document_larger_than_an_empty_slot_is_refused(codec: ModuleType, convert: str) -> None:
    item = {"pk": {"S": "a"}, "v": {"S": "x" * 100}}
    options = Options(PARTITION, convert)
    [encoded] = documents(codec, page([item]), options)
    assert documents(codec, page([item]), options, slot=len(encoded)) == [encoded]
    assert str(len(encoded)) in refused(codec, item, options, slot=len(encoded) - 1)


@every_codec
def test_a_document_that_does_not_fit_the_rest_waits_for_the_next_slot(codec: ModuleType) -> None:
    body = page({"pk": {"S": text * 50}} for text in "abc")
    size = len(documents(codec, body, CHANGE)[0])
    scan = codec.scan_page(body, CHANGE)
    out = memoryview(bytearray(b"?" * (3 * size)))
    assert scan.fill(out[: 2 * size + 1], PREFIX, 0) == (2 * size, 2)
    assert scan.fill(out, PREFIX, 0) == (size, 1)
    assert bson.decode(out[:size])["_id"] == ObjectId(PREFIX + b"\0\0\0\0\2")
    assert scan.fill(out, PREFIX, 0) == (0, 0)


@every_codec
def test_a_document_above_16_mib_is_refused(codec: ModuleType) -> None:
    item = {"pk": {"S": "a"}, "v": {"S": "x" * (16 << 20)}}
    assert "16 MiB" in refused(codec, item, slot=17 << 20)


@every_codec
def test_json_documents_are_the_items_behind_their_length(codec: ModuleType) -> None:
    items = [{"pk": {"S": "\xe9"}, "_id": {"N": "1.0"}, "a\0": {"B": "AA=="}}, {"pk": {"S": "b"}}]
    encoded = documents(codec, page(items), Options(PARTITION, "json"))
    assert [one[4:] for one in encoded] == [
        json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode() for item in items
    ]


# -- pages ---------------------------------------------------------------------------------------


@every_codec
def test_a_page_tells_its_numbers(codec: ModuleType) -> None:
    key = {"pk": {"S": "\xe9"}, "sk": {"N": "0.10000000000000000000000000000000000001"}}
    scan = read(
        codec,
        page(
            [],
            ScannedCount=7,
            LastEvaluatedKey=key,
            ConsumedCapacity={"TableName": "t", "CapacityUnits": 12.5},
        ),
        Options(PARTITION_AND_SORT),
    )
    assert (scan.count, scan.scanned, scan.capacity) == (0, 7, 12.5)
    assert scan.last_key == json.dumps(key, ensure_ascii=False, separators=(",", ":")).encode()


@every_codec
@pytest.mark.parametrize("last_key", [b"", b',"LastEvaluatedKey":null', b',"LastEvaluatedKey":{}'])
def test_no_last_key_is_the_end_of_the_segment(codec: ModuleType, last_key: bytes) -> None:
    scan = read(codec, b'{"Items":[],"Count":0,"ScannedCount":0%s}' % last_key, CHANGE)
    assert (scan.last_key, scan.capacity) == (None, 0.0)


@every_codec
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"{}", b"\xff", b"<html>", b'"Items"', b"\xef\xbb\xbf{}"),
        page([], Items=None),
        page([], Items={}),
        page([{"pk": {"S": "a"}}], Count=0),
        page([], Count=None),
        page([], Count="0"),
        page([], Count=False),
        page([], ScannedCount=None),
        page([], LastEvaluatedKey=[]),
        page([], LastEvaluatedKey="a"),
        page([], ConsumedCapacity=1),
        page([], ConsumedCapacity={"CapacityUnits": "1"}),
        page(["a"]),
        page([None]),
        page([{"pk": {"S": "a"}}]) + b"x",
        page([{"pk": {"N": float("nan")}}]),
        b'{"Items":[{"pk":{"S":"\xc3"}}],"Count":1,"ScannedCount":1}',
    ],
    ids=lambda body: ascii(body)[:40],
)
def test_what_is_no_scan_response_is_corrupt(codec: ModuleType, body: bytes) -> None:
    with pytest.raises(CorruptPage):
        read(codec, body, CHANGE)


# -- where a page lies, where the next one begins, and batches ------------------------------------


@every_codec
def test_a_page_is_read_where_it_lies_in_a_buffer_that_ends_in_a_zero(codec: ModuleType) -> None:
    body = page([{"pk": {"S": "a"}}])
    buffer = memoryview(bytearray(b"?" + body + b"\0?"))
    assert read(codec, buffer[1:-1], CHANGE).count == 1
    for view in (buffer[1:-2], buffer, buffer[:0]):
        with pytest.raises(ValueError, match="not followed by a 0"):
            read(codec, view, CHANGE)


LAST = {"pk": {"S": 'a\\"]}'}, "sk": {"N": "1.0"}}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (page([], LastEvaluatedKey=LAST), True),
        (page([{"LastEvaluatedKey": LAST}], LastEvaluatedKey=LAST), True),
        (page([], LastEvaluatedKey=LAST).replace(b"}}}", b"}}} \n\t"), True),
        (page([], LastEvaluatedKey=LAST, ConsumedCapacity={"CapacityUnits": 1}), True),
        (page([]), False),
        (page([], LastEvaluatedKey={}), False),
        (page([], LastEvaluatedKey=LAST)[:-1], False),
        (page([{"LastEvaluatedKey": {"M": LAST}}]), False),
        (page([{"pk": {"S": '"LastEvaluatedKey": {"pk": {"S": "x"}}}'}}]), False),
        (page([{'x"LastEvaluatedKey': {"S": "x"}}]), False),
        (b'{"LastEvaluatedKey": {"pk": {"S": "x"}}, "Items": [%b"x"]}' % (b'"x",' * 9999), False),
        (b"", False),
    ],
    ids=lambda value: ascii(value)[:50],
)
@pytest.mark.parametrize("end", [b"", b"\0"])
def test_the_next_start_is_found_early_and_never_wrongly(
    body: bytes, found: bool, end: bytes
) -> None:
    early = door.next_start(memoryview(body + end) if end else body)
    assert early == (json.dumps(LAST, separators=(",", ":")).encode() if found else None)


@every_codec
def test_batches_keep_to_number_and_bytes(codec: ModuleType) -> None:
    filled = memoryview(b"".join(size.to_bytes(4, "little") + bytes(size - 4) for size in SIZES))
    cuts = codec.batches(filled, 3, 30)
    assert [(end - start, count) for start, end, count in cuts] == [
        (30, 3),
        (100, 1),
        (25, 3),
        (9, 1),
    ]
    assert [0, *(end for _, end, _ in cuts)] == [*(start for start, _, _ in cuts), len(filled)]
    assert codec.batches(filled[:0], 3, 30) == []


SIZES = [5, 5, 20, 100, 10, 10, 5, 9]


@every_codec
@pytest.mark.parametrize("cut", [1, 5, 8, 12])
def test_batches_of_what_is_cut_are_refused(codec: ModuleType, cut: int) -> None:
    with pytest.raises(ValueError, match="a document of"):
        codec.batches(
            memoryview((5).to_bytes(4, "little") + b"\0" + (9).to_bytes(4, "little") + bytes(5))[
                : 14 - cut
            ]
            if cut != 5
            else memoryview(bytes(8)),
            9,
            99,
        )
