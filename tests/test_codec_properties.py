"""What holds for every item, whatever is in it.

Asked of the codec in C: that the reference gives the same bytes is what the twins' tests say.
"""

from __future__ import annotations

import base64
import itertools
from typing import Any

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.codec import native as codec
from shake.codec.contract import CorruptPage, Options
from shake.codec.number import survives_as_double
from shake.errors import ItemError
from tests.support.codecs import document, documents, page, read
from tests.support.expected import PREFIX, expected, expected_number
from tests.support.items import PARTITION, PARTITION_AND_SORT, items, numbers, spelled, values

examples = settings(max_examples=40)
pages = st.lists(items(), min_size=1, max_size=4)
CONVERTS = ("change", "mchange", "raw")


@examples
@given(found=pages)
def test_documents_are_what_the_contract_says(found: list[Any]) -> None:
    for convert, id_mode in itertools.product(CONVERTS, ("objectid", "key")):
        some = found
        if (convert, id_mode) == ("mchange", "key"):
            some = [item for item in found if survives_as_double(item["sk"]["N"])]
        options = Options(PARTITION_AND_SORT, convert, id_mode=id_mode)
        assert documents(codec, page(some), options) == [
            expected(item, options, place) for place, item in enumerate(some)
        ]


@examples
@given(item=items())
def test_raw_documents_turn_back_into_their_items(item: Any) -> None:
    stored = document(codec, item, Options(PARTITION_AND_SORT, "raw", id_prefix="\U0010ffff"))
    del stored["_id"]
    back = [(name.replace("\U0010ffff_id", "_id"), received(raw)) for name, raw in stored.items()]
    assert back == list(item.items())


def received(raw: dict[str, Any]) -> dict[str, Any]:
    """The typed value that a raw one was made from."""
    [(tag, value)] = raw.items()
    match tag:
        case "B":
            value = base64.b64encode(value).decode()
        case "BS":
            value = [base64.b64encode(element).decode() for element in value]
        case "L":
            value = [received(element) for element in value]
        case "M":
            value = {name: received(element) for name, element in value.items()}
    return {tag: value}


@examples
@given(text=numbers())
def test_a_number_is_stored_exactly_or_as_its_text(text: str) -> None:
    stored = document(codec, {"pk": {"S": "a"}, "v": {"N": text}}, Options(PARTITION))["v"]
    assert stored == expected_number(text)


@examples
@given(texts=values().flatmap(lambda value: st.tuples(spelled(value), spelled(value))))
def test_equal_numbers_have_equal_bytes(texts: tuple[str, str]) -> None:
    for convert in CONVERTS:
        options = Options(PARTITION, convert)
        one, other = (
            documents(codec, page([{"pk": {"S": "a"}, "v": {"N": text}}]), options)
            for text in texts
        )
        assert (one == other) is (convert != "raw" or texts[0] == texts[1])


@examples
@given(found=pages, spare=st.integers(0, 200), number=st.integers(0, 2**40 - 10))
def test_filling_in_pieces_gives_the_same_bytes(found: list[Any], spare: int, number: int) -> None:
    for convert in ("change", "json"):
        options = Options(PARTITION_AND_SORT, convert)
        at_once = documents(codec, page(found), options, number)
        slot = max(map(len, at_once)) + spare
        assert documents(codec, page(found), options, number, slot) == at_once


def test_every_truncation_of_a_page_is_corrupt() -> None:
    key = {"pk": {"S": "\xe9\ud800"}, "sk": {"N": "1"}}
    body = page([{**key, "v": {"L": [{"B": "AA=="}, {"BOOL": True}]}}], LastEvaluatedKey=key)
    options = Options(PARTITION_AND_SORT)
    with pytest.raises(ItemError):  # of its surrogate
        read(codec, body, options)
    for length in range(len(body)):
        with pytest.raises(CorruptPage):
            read(codec, body[:length], options)


@examples
@given(found=pages, data=st.data())
def test_a_damaged_page_is_refused_or_is_still_bson(found: list[Any], data: st.DataObject) -> None:
    body = page(found)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 3)))
    damaged = body[:start] + data.draw(st.binary(max_size=3)) + body[end:]
    try:
        scan = codec.scan_page(damaged, Options(PARTITION_AND_SORT))
        out = bytearray(1 << 16)
        used, count = scan.fill(memoryview(out), PREFIX, 0)
    except (CorruptPage, ItemError):
        return
    assert len(bson.decode_all(bytes(out[:used]))) == count
