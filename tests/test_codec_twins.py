"""The codec in C does what the reference does, byte for byte and word for word."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.codec import native, reference
from shake.codec.contract import CorruptPage, Options
from shake.errors import ItemError
from shake.schema import Attribute, Keys
from tests.support.codecs import page, read
from tests.support.expected import PREFIX
from tests.support.items import PARTITION, PARTITION_AND_SORT, items
from tests.support.spelling import Writer, damaged

examples = settings(max_examples=40)

#: Every way to convert, for a table with keys ``pk`` and ``sk``.
OPTIONS = [
    Options(keys, convert, overflow=overflow, id_mode=id_mode)
    for convert in ("change", "mchange", "raw", "json")
    for overflow in ("string", "error")
    for id_mode in ("objectid", "key")
    for keys in (PARTITION, PARTITION_AND_SORT)
]


def outcome(codec: ModuleType, body: bytes, options: Options, slot: int = 1 << 16) -> Any:
    """All that a codec makes of a page: what it gives out, and the words it stops with."""
    made: list[Any] = []
    out = memoryview(bytearray(slot))
    try:
        scan = codec.scan_page(body, options)
        while not scan.done:
            used, count = scan.fill(out, PREFIX, 7)
            made += [(used, count), bytes(out[:used])] * bool(count)
        made.append((scan.count, scan.scanned, scan.capacity, scan.last_key))
    except CorruptPage as error:
        return str(error)  # whatever was given out before is given up
    except ItemError as error:
        made.append((error.key, error.reason))
    return made


def assert_equal(body: bytes, options: Options, slot: int = 1 << 16) -> None:
    assert outcome(native, body, options, slot) == outcome(reference, body, options, slot)


def scan_response(random: Random, found: list[Any]) -> dict[str, Any]:
    """A response with some of its members, in any order."""
    fields = {
        "Items": found,
        "Count": len(found),
        "ScannedCount": len(found) + random.randrange(2),
        "LastEvaluatedKey": {"pk": {"S": 'a"]}'}, "sk": {"N": "1.0"}},
        "ConsumedCapacity": {"Items": [], "CapacityUnits": random.choice([1, 0.5])},
        "[{": ["}", {"]": -1.5e3}, None],
    }
    chosen = list(fields)[:3] + [name for name in list(fields)[3:] if random.random() < 0.5]
    random.shuffle(chosen)
    return {name: fields[name] for name in chosen}


def pages(min_size: int = 0) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda found, random: Writer(random).text(scan_response(random, found)).encode(),
        st.lists(items(), min_size=min_size, max_size=4),
        st.builds(Random, st.integers(0, 1 << 32)),
    )


@examples
@given(body=pages(), options=st.sampled_from(OPTIONS), slot=st.integers(0, 600))
def test_twins_agree_on_every_page(body: bytes, options: Options, slot: int) -> None:
    assert_equal(body, options)
    assert_equal(body, options, slot)


@examples
@given(body=pages(min_size=1), options=st.sampled_from(OPTIONS), data=st.data())
def test_twins_agree_on_every_damaged_page(
    body: bytes, options: Options, data: st.DataObject
) -> None:
    for _ in range(4):
        assert_equal(damaged(body, data), options)


#: A page with each type, each kind of number, and each thing that a string may hold.
REAL = page(
    [
        {
            "pk": {"S": 'a"\\\n\u20ac\U0001f600\xe9'},
            "sk": {"N": "-12.50"},
            "_id": {"B": "AP8="},
            "n": {"NS": ["7", "1E+2", "9" * 36, "0.1"]},
            "l": {"L": [{"BOOL": False}, {"NULL": True}, {"M": {"x": {"SS": ["y"]}}}, {"BS": []}]},
        },
        {"pk": {"S": "b"}, "sk": {"N": "0"}},
    ],
    LastEvaluatedKey={"pk": {"S": "b"}, "sk": {"N": "0"}},
    ConsumedCapacity={"CapacityUnits": 0.5},
)


@pytest.mark.parametrize("convert", ["change", "mchange", "raw"])
def test_twins_agree_on_every_truncation(convert: str) -> None:
    for id_mode, length in itertools.product(("objectid", "key"), range(len(REAL) + 1)):
        assert_equal(REAL[:length], Options(PARTITION_AND_SORT, convert, id_mode=id_mode))


@pytest.mark.parametrize("convert", ["change", "raw"])
def test_twins_agree_on_every_changed_byte(convert: str) -> None:
    options = Options(PARTITION_AND_SORT, convert)
    for place in range(len(REAL)):
        for byte in b'"\\{]},: \x00\x1f\x80\xc3\xff0.AMn=':
            assert_equal(REAL[:place] + bytes([byte]) + REAL[place + 1 :], options)


@pytest.mark.parametrize(
    "item",
    [
        b'"v":{"S":"1"},"v":{"S":"2"}',
        b'"v":{"S":1},"v":{"S":"2"}',
        b'"v":{"S":"1","S":"2"}',
        b'"pk":{"S":"b"}',
        b'"v":{"M":{"b":{"S":"1"},"a":{"S":"1"},"b":{"N":"2"}}}',
        b'"v":{"M":{%s,"0":{"N":"2"}}}' % b",".join(b'"%d":{"S":""}' % n for n in range(3000)),
        rb'"v":{"\u0053":"a"}',
        rb'"v":{"N":"\u0031e\u0031"}',
        rb'"v":{"B":"\/\/\/\/"}',
        b'"v":{"L":%s}' % (b'[{"L":' * 70 + b"[]" + b"}]" * 70),
        b'"v":{"N":"1E126"}',
        b'"v":{"S":"%s"}' % (b"\xe6\x9d\xb1" * 40),
    ],
    ids=lambda item: ascii(item)[:40],
)
@pytest.mark.parametrize("options", OPTIONS[::2], ids=str)
def test_twins_agree_on_what_is_rare(item: bytes, options: Options) -> None:
    body = b'{"Items":[{"pk":{"S":"a"},"sk":{"N":"1"},%s}],"Count":1,"ScannedCount":1}' % item
    assert_equal(body, options)


@pytest.mark.parametrize(
    "body",
    [
        b'{"Items":[],"Items":[{}],"Count":1,"ScannedCount":1}',
        b'{"Items":[{"pk":{"S":"a"}}],"Items":[],"Count":1,"ScannedCount":1}',
        rb'{"Items":[],"\u0049tems":[{}],"Count":0,"ScannedCount":0}',
        b'{"Count":7,"Items":[],"Count":0,"ScannedCount":0}',
        b'{"Items":[],"Count":0,"ScannedCount":0}}',
        b'{"Items":[],"Count":0,"ScannedCount":0,}',
        b'{"Items":[],"Count":0,"ScannedCount":0,"x":[}]}',
        b'{"Items":[],"Count":0,"ScannedCount":0,"LastEvaluatedKey":{"pk":{"S":"\\ud800"}}}',
        b' \n{"Count":0 ,"ScannedCount": 0,"Items" : [ ] } \t',
    ],
)
def test_twins_agree_on_every_response(body: bytes) -> None:
    assert_equal(body, Options(PARTITION))


@pytest.mark.parametrize("prefix", ["", "\0", "\ud800", "\xe9" * 400])
def test_twins_agree_on_every_prefix_of_id(prefix: str) -> None:
    body = page([{"pk": {"S": "a"}}, {"pk": {"S": "b"}, "_id": {"S": "c"}}])
    assert_equal(body, Options(PARTITION, id_prefix=prefix))


@pytest.mark.parametrize(
    "attribute", [Attribute("pk", "?" * 5), Attribute("\ud800", "S")], ids=ascii
)
def test_twins_agree_on_keys_that_no_table_has(attribute: Attribute) -> None:
    assert_equal(page([{"pk": {"S": "a"}}]), Options(Keys(attribute)))


class Records(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record)


@pytest.fixture(scope="module")
def refusals() -> Iterator[Records]:
    """What the C codec says that it left to the reference."""
    log, records = logging.getLogger("shake.codec"), Records()
    before = log.level
    log.addHandler(records)
    log.setLevel(logging.DEBUG)
    yield records
    log.setLevel(before)
    log.removeHandler(records)


@examples
@given(found=st.lists(items(), min_size=1, max_size=4), options=st.sampled_from(OPTIONS))
def test_ordinary_pages_are_not_left_to_the_reference(
    refusals: Records, found: list[Any], options: Options
) -> None:
    body = page(found)
    *_, last = outcome(reference, body, options)
    refusals.found.clear()
    outcome(native, body, options)
    assert bool(refusals.found) is (len(last) != 4 and options.convert != "json")


def test_however_many_names_there_are_no_page_is_left_to_the_reference(refusals: Records) -> None:
    inner = {"M": {"pk": {"BOOL": True}, "sk": {"S": ""}}}
    found = [
        {
            "pk": {"S": ""},
            "sk": {"N": "0"},
            "by user": {"M": {f"{n}/{m}": inner for m in range(50)}},
        }
        for n in range(60)
    ]
    refusals.found.clear()
    assert_equal(page(found), Options(PARTITION_AND_SORT), 1 << 20)
    assert not refusals.found


def test_why_a_page_is_left_to_the_reference_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "shake.codec")
    body = page([{"pk": {"S": "a"}, "v": {"B": "?"}}])
    with pytest.raises(ItemError):
        read(native, body, Options(PARTITION))
    assert f"'not base64', {body.index(b'?') - 1}" in caplog.text


@pytest.mark.parametrize("number", [-1, 2**40 - 1, 2**63])
def test_a_number_beyond_5_bytes_is_refused(number: int) -> None:
    for codec in (native, reference):
        scan = codec.scan_page(page([{"pk": {"S": "a"}}] * 2), Options(PARTITION))
        with pytest.raises(OverflowError):
            scan.fill(memoryview(bytearray(1000)), PREFIX, number)


class Alike:
    """Items of one application: names mostly in one order, some left out, some new each time."""

    NAMES = (
        "a",
        "name",
        "_id",
        "$set",
        "\u00e9t\u00e9",
        "pk",
        "sk",
        *("x" * n for n in (26, 27, 28, 40)),
    )
    NUMBERS = ("0", "-0.00", "7", "12.50", "1.0", "-9999999", "99999999", "2147483648", "9" * 15)
    LONG = ("9" * 16, "-" + "9" * 17, "1" * 19, "9" * 34, "1" * 21 + "." + "2" * 13, "1E+2", "0.10")

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def page(self) -> bytes:
        found = ",".join(self.item() for _ in range(self.random.randrange(1, 40)))
        return b'{"Items":[%s],"Count":1,"ScannedCount":1}' % found.encode()

    def item(self) -> str:
        keys = [f'"pk":{{"S":"{self.text()}"}}', f'"sk":{{"N":"{self.number()}"}}']
        return self.members(keys, 0)

    def members(self, members: list[str], depth: int) -> str:
        names = [each for each in self.NAMES if self.random.random() < 0.8]
        if members:
            names = [each for each in names if each not in ("pk", "sk")]
        names += [
            f"{self.random.random()}" for _ in range(self.random.choice((0, 0, 0, 0, 0, 0, 1, 12)))
        ]
        members = members + [f'"{self.spelled(name)}":{self.value(depth)}' for name in names]
        if self.random.random() < 0.1:
            self.random.shuffle(members)
        if self.random.random() < 0.002:
            members.append(self.random.choice(members))
        return "{" + ",".join(members) + "}"

    def spelled(self, name: str) -> str:
        return f"\\u{ord(name[0]):04x}{name[1:]}" if self.random.random() < 0.002 else name

    def value(self, depth: int) -> str:
        match self.random.randrange(8 if depth < 3 else 5):
            case 0:
                return f'{{"S":"{self.text()}"}}'
            case 1:
                return f'{{"N":"{self.number()}"}}'
            case 2:
                return self.random.choice(('{"BOOL":true}', '{"BOOL":false}', '{"BOOL": true }'))
            case 3:
                return self.random.choice(('{"NULL":true}', '{"NULL":true }'))
            case 4:
                return f'{{"NS":["{self.number()}"]}}'
            case 5:
                inner = ",".join(self.value(depth + 1) for _ in range(self.random.randrange(4)))
                return f'{{"L":[{inner}]}}'
            case _:
                return f'{{"M":{self.members([], depth + 1)}}}'

    def text(self) -> str:
        return self.random.choice(("", "a", "\u6771\u4eac", "\\n\\u20ac", "plain" * 9)) * 3

    def number(self) -> str:
        return self.random.choice(self.NUMBERS + self.LONG)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_twins_agree_on_items_that_are_more_or_less_alike(options: Options) -> None:
    for seed in range(3):
        body = Alike(seed).page()
        assert_equal(body, options, 1 << 20)
        assert_equal(body, options, len(body) // 3)
        assert_equal(body[: Random(seed).randrange(len(body))], options, 1 << 20)
