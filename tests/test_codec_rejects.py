"""What cannot be stored is left out and reported, by both codecs alike, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.codec import bad_items, native, reference
from shake.codec.contract import ChangeOptions, CorruptPage, Options
from shake.errors import ItemError
from tests.support.changes import answer, record
from tests.support.codecs import every_codec, page
from tests.support.expected import PREFIX
from tests.support.items import PARTITION, PARTITION_AND_SORT, items
from tests.support.spelling import Writer, damaged

examples = settings(
    max_examples=25,
)

#: Attributes for the sake of which an item cannot be stored, under some options at least.
SPOILS: list[dict[str, Any]] = [
    {"a\0": {"S": "x"}},
    {"m": {"M": {"\0": {"N": "1"}}}},
    {"s": {"S": "\ud800"}},
    {"\udfff": {"S": "x"}},
    {"n": {"N": "1" * 36}},
    {"l": {"L": [{"NS": ["9" * 38]}]}},
    {"_id": {"S": "a"}, "pre_id": {"S": "b"}},
    {"sk": {"N": "1" * 30 + "3"}},
    {"pk": {"S": "\udc00"}},
    {"sk": {"N": "3" * 37}},
    {"v": {"XX": "1"}},
    {"b": {"B": "%"}},
]

OPTIONS = [
    Options(keys, convert, overflow="error", id_mode=id_mode, rejects=True)
    for convert in ("change", "mchange", "raw", "json")
    for id_mode in ("objectid", "key")
    for keys in (PARTITION, PARTITION_AND_SORT)
]
CHANGE_OPTIONS = [
    ChangeOptions(
        *(one.keys, one.convert, one.id_prefix, one.overflow, one.id_mode, True),
        insert_only=insert_only,
    )
    for one in OPTIONS
    for insert_only in (False, True)
]


def spoiled() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Items, some of which cannot be stored."""
    one = st.tuples(items(), st.sampled_from([{}, {}, *SPOILS]))
    return st.lists(one.map(lambda pair: pair[0] | pair[1]), max_size=6)


def written(random: Random, response: Any) -> bytes:
    """A response as no library would write it, unless it holds what has no such text."""
    try:
        return Writer(random).text(response).encode()
    except UnicodeEncodeError:
        return json.dumps(response).encode()


randoms = st.builds(Random, st.integers(0, 1 << 32))


def scanned(codec: ModuleType, body: bytes, options: Options, slot: int = 1 << 16) -> Any:
    """All that a codec makes of a Scan response."""
    made: list[Any] = []
    out = memoryview(bytearray(slot))
    try:
        scan = codec.scan_page(body, options)
        while not scan.done:
            used, count = scan.fill(out, PREFIX, 7)
            rejects = scan.take_rejects()
            made += [(count, bytes(out[:used]), rejects)] * bool(count or rejects)
        made.append((scan.count, scan.scanned, scan.last_key, scan.take_rejects()))
    except CorruptPage as error:
        return str(error)
    except ItemError as error:
        return (error.key, error.reason)
    return made


def changed(codec: ModuleType, body: bytes, options: ChangeOptions, slot: int = 1 << 16) -> Any:
    """All that a codec makes of a GetRecords response."""
    made: list[Any] = []
    out = memoryview(bytearray(slot))
    try:
        changes = codec.change_page(body, options)
        while not changes.done:
            filled = changes.fill(out)
            used = sum(size for size, _ in filled)
            made.append((filled, bytes(out[:used]), changes.take_rejects()))
        made.append((changes.records, changes.sequence, changes.take_rejects()))
    except CorruptPage as error:
        return str(error)
    except ItemError as error:
        return (error.key, error.reason)
    return made


@examples
@given(found=spoiled(), options=st.sampled_from(OPTIONS), random=randoms, slot=st.integers(0, 400))
def test_twins_leave_out_the_same_items_for_the_same_reasons(
    found: list[Any], options: Options, random: Random, slot: int
) -> None:
    count = {"Count": len(found), "ScannedCount": len(found)}
    body = written(random, {"Items": found} | count)
    for size in (1 << 16, slot):
        assert scanned(native, body, options, size) == scanned(reference, body, options, size)


@examples
@given(found=spoiled(), options=st.sampled_from(CHANGE_OPTIONS), random=randoms, data=st.data())
def test_twins_leave_out_the_same_changes_for_the_same_reasons(
    found: list[Any], options: ChangeOptions, random: Random, data: st.DataObject
) -> None:
    events = [data.draw(st.sampled_from(("INSERT", "MODIFY", "REMOVE"))) for _ in found]
    records = [
        record(event, {k: item[k] for k in ("pk", "sk")}, None if event == "REMOVE" else item, n)
        for n, (event, item) in enumerate(zip(events, found, strict=True))
    ]
    body = written(random, {"Records": records, "NextShardIterator": "x"})
    slot = data.draw(st.integers(0, 600))
    for size in (1 << 16, slot):
        assert changed(native, body, options, size) == changed(reference, body, options, size)


@examples
@given(found=spoiled(), options=st.sampled_from(OPTIONS), data=st.data())
def test_twins_agree_on_damaged_pages_with_rejects(
    found: list[Any], options: Options, data: st.DataObject
) -> None:
    body = damaged(page(found), data)
    assert scanned(native, body, options) == scanned(reference, body, options)


@every_codec
@examples
@given(found=spoiled(), options=st.sampled_from(OPTIONS))
def test_what_is_left_out_is_what_cannot_be_stored_alone(
    codec: ModuleType, found: list[Any], options: Options
) -> None:
    [*slots, (count, *_)] = scanned(codec, page(found), options)
    rejects = [reject for _, _, some in slots for reject in some]
    numbers = {reject.number for reject in rejects}
    good = [item for number, item in enumerate(found) if number not in numbers]
    assert count == len(good)
    # Without the others the good ones have the same documents, of numbers without a hole.
    assert b"".join(made for _, made, _ in slots) == b"".join(
        made for _, made, _ in scanned(codec, page(good), options)[:-1]
    )
    for reject in rejects:
        key, reason = _refusal(codec, page([found[reject.number]]), options)
        assert reason == reject.reason
        assert key


def _refusal(codec: ModuleType, body: bytes, options: Options) -> tuple[str, str]:
    """How the item of a page is refused where nothing is left out."""
    exact = options.convert == "mchange" and not options.id_rule.by_key
    strict = replace(options, rejects=False, id_mode="key" if exact else options.id_mode)
    with pytest.raises(ItemError) as caught:
        codec.scan_page(body, strict).fill(memoryview(bytearray(1 << 16)), PREFIX, 0)
    return caught.value.key, caught.value.reason.removesuffix(" or id.mode = objectid")


@every_codec
def test_the_removal_of_what_cannot_be_stored_is_reported(codec: ModuleType) -> None:
    options = ChangeOptions(PARTITION, rejects=True)
    bad, good = {"pk": {"S": "\ud800"}}, {"pk": {"S": "a"}}
    body = answer(
        [
            record("INSERT", bad, bad, 1),
            record("INSERT", good, good | {"x": {"S": "\udfff"}}, 2),
            record("REMOVE", bad, None, 3),
        ]
    )
    changes = codec.change_page(body, options)
    changes.fill(memoryview(bytearray(1 << 16)))
    rejects = changes.take_rejects()
    assert [reject.number for reject in rejects] == [0, 2, 1]
    first, gone, second = bad_items.changes(body, options, rejects)
    assert (first.sequence, second.sequence, gone.sequence) == ("1", "2", "3")
    assert gone.item is None
    assert json.loads(first.key) == bad
    assert json.loads(second.item or "") == good | {"x": {"S": "\udfff"}}


def _by_value(keys: Any) -> Any:
    """Keys in which equal numbers are written in one way: ``1.`` and ``0.1e1`` are one key."""

    def plain(one: dict[str, Any]) -> dict[str, Any]:
        return {"N": str(Decimal(one["N"]).normalize())} if one.keys() == {"N"} else one

    return json.loads(json.dumps(keys), object_hook=plain)


@examples
@given(found=st.lists(items(), min_size=1, max_size=5), options=st.sampled_from(OPTIONS))
def test_an_item_is_found_again_by_its_document(found: list[Any], options: Options) -> None:
    keys = [json.dumps(_by_value({k.name: item[k.name] for k in options.keys})) for item in found]
    body = page([item for n, item in enumerate(found) if keys[n] not in keys[:n]])
    scan = native.scan_page(body, options)
    out = memoryview(bytearray(1 << 16))
    used, _ = scan.fill(out, PREFIX, 3)
    cuts = native.batches(out[:used], 1, 1 << 20)
    documents = [(bytes(out[start:end]), f"no {n}") for n, (start, end, _) in enumerate(cuts)]
    again = bad_items.refused_items(body, options, documents)
    assert sorted(one.reason for one in again) == sorted(reason for _, reason in documents)
    whole = {one["pk"]["S"] + str(one.get("sk")): one for one in reference.parsed(body)["Items"]}
    for one in again:
        item = json.loads(one.item or "")
        assert whole[item["pk"]["S"] + str(item.get("sk"))] == item


@every_codec
def test_an_item_without_its_key_is_an_error_all_the_same(codec: ModuleType) -> None:
    scan = codec.scan_page(page([{"v": {"S": "x"}}]), Options(PARTITION, rejects=True))
    with pytest.raises(ItemError, match="missing or not of type S"):
        scan.fill(memoryview(bytearray(1 << 16)), PREFIX, 0)
    body = answer([record("INSERT", {"pk": {"S": "a"}})])
    changes = codec.change_page(body, ChangeOptions(PARTITION, rejects=True))
    with pytest.raises(ItemError, match="came without a new image"):
        changes.fill(memoryview(bytearray(1 << 16)))
