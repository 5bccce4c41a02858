"""shake-check between real servers: what is equal is found equal, and each difference by name."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64

from shake.cli import check
from tests.support.copied import Copied, make_table

#: Each type, and what a comparison might stumble over.
ITEMS: list[dict[str, Any]] = [
    {"pk": {"S": "a"}, "_id": {"S": "mine"}, "s": {"S": "\xe9\0"}, "no": {"S": ""}},
    {"pk": {"S": "b"}, "n": {"N": "1"}, "big": {"N": "9" * 38}, "d": {"N": "1.5"}},
    {"pk": {"S": "c"}, "ns": {"NS": ["1", "2.5"]}, "ss": {"SS": ["x", "y"]}, "b": {"B": b"\0\1"}},
    {"pk": {"S": "d"}, "l": {"L": [{"N": "1"}, {"NULL": True}]}, "m": {"M": {"x": {"BOOL": True}}}},
]

#: Each way to store a table.
WAYS = [
    {"convert__type": convert, "id__mode": mode}
    for convert in ("change", "mchange", "raw")
    for mode in ("objectid", "key")
]
every_way = pytest.mark.parametrize("way", WAYS, ids=[" ".join(way.values()) for way in WAYS])

SORT = ("sk", "N")

#: Makes the target equal, extra documents included.
REPAIR = ("--repair", "--yes", "--delete-extra")


def with_sort_keys(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items, in two partitions."""
    return [
        item | {"pk": {"S": f"p{place % 2}"}, "sk": {"N": f"{place}.5"}}
        for place, item in enumerate(items)
    ]


def run(copied: Copied, *arguments: str) -> int:
    return check.main([*copied.arguments, *arguments])


def kinds(copied: Copied, folder: Path, *arguments: str) -> list[str]:
    """The kinds in the report, one for each difference, sorted."""
    return sorted(line["kind"] for line in report(copied, folder, *arguments))


def report(copied: Copied, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    path = folder / "report.jsonl"
    # A repair leaves what is in the file.
    earlier = len(path.read_bytes()) if "--repair" in arguments and path.exists() else 0
    run(copied, "--report", str(path), *arguments)
    lines = map(json.loads, path.read_bytes()[earlier:].splitlines())
    return [line for line in lines if "kind" in line]


@every_way
def test_a_true_copy_is_equal_and_every_kind_of_difference_is_found_and_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, way: dict[str, Any], capsys: Any
) -> None:
    items = with_sort_keys(ITEMS)
    copied = make_table(dynamodb, mongo, name, tmp_path, items, sk=SORT, **way)
    copied.put({"pk": {"S": "gone"}, "sk": {"N": "7"}})
    copied.copy()
    assert run(copied) == 0
    assert f"table {name}: 5 items equal" in capsys.readouterr().out

    copied.delete(pk={"S": "gone"}, sk={"N": "7"})
    copied.put({"pk": {"S": "new"}, "sk": {"N": "1"}})
    copied.put(items[1] | {"changed": {"S": "yes"}})
    ids = [one["_id"] for one in copied.collection.find()]

    assert run(copied) == 1
    found = report(copied, tmp_path)
    assert sorted((line["kind"], line["key"]["pk"]["S"], line["fields"]) for line in found) == [
        ("different", "p1", ["changed"]),
        ("extra", "gone", []),
        ("missing", "new", []),
    ]
    assert not any(line["repaired"] for line in found)

    repaired = report(copied, tmp_path, "--repair", "--yes")
    assert {line["kind"] for line in repaired if not line["repaired"]} == {"extra"}
    [left] = report(copied, tmp_path, *REPAIR)
    assert (left["kind"], left["repaired"]) == ("extra", True)
    assert run(copied) == 0
    kept = [one["_id"] for one in copied.collection.find() if one["_id"] in ids]
    assert len(kept) == len(ids) - 1


def test_repair_ends_with_0_and_leaves_nothing_to_repair(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, ITEMS)
    copied.copy()
    copied.collection.delete_many({})
    assert run(copied, "--repair", "--yes") == 0
    out = capsys.readouterr().out
    assert f"table {name}: 4 items compared: 4 missing, 0 different, 0 extra, 0 duplicate" in out
    assert "differences, all repaired" in out
    assert run(copied, "--repair", "--yes") == 0
    assert f"table {name}: 4 items equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("item", "change", "fields"),
    [
        (1, {"n": Int64(1)}, []),
        (1, {"n": 1.0}, ["n"]),
        (1, {"n": Decimal128("1")}, ["n"]),
        (1, {"n": True}, ["n"]),
        (1, {"d": Decimal128("1.50")}, []),
        (1, {"d": Decimal128("1.5000000000000000000000001")}, ["d"]),
        (1, {"big": "9" * 37}, ["big"]),
        (2, {"ss": ["y", "x"], "ns": [Decimal128("2.5"), 1]}, []),
        (2, {"ss": ["x", "x"]}, ["ss"]),
        (2, {"ss": ["x", "y", "y"]}, ["ss"]),
        (2, {"ss": "x"}, ["ss"]),
        (2, {"b": bson.Binary(b"\0\1", 5)}, ["b"]),
        (3, {"l": [None, 1]}, ["l"]),
        (3, {"m": {"x": True, "y": 1}}, ["m"]),
        (3, {"another": 1}, ["another"]),
        (0, {"preid": "mine", "pre_id": "yours", "no": None}, ["pre_id", "no", "preid"]),
    ],
    ids=str,
)
def test_exact_values_count_and_order_only_in_lists(
    dynamodb: Any,
    mongo: Any,
    name: str,
    tmp_path: Path,
    item: int,
    change: dict[str, Any],
    fields: list[str],
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [ITEMS[item]])
    copied.copy()
    copied.collection.update_one({}, {"$set": change})
    assert sorted(name for line in report(copied, tmp_path) for name in line["fields"]) == sorted(
        fields
    )
    assert run(copied) == (1 if fields else 0)


def test_the_order_of_fields_does_not_count(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, ITEMS)
    copied.copy()
    for document in list(copied.collection.find()):
        identity = document.pop("_id")
        backwards = dict(reversed(list(document.items())))
        copied.collection.replace_one({"_id": identity}, backwards)
    assert run(copied) == 0


def test_one_key_twice_is_a_duplicate_and_is_not_repaired_without_the_unique_index(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, ITEMS)
    copied.copy(indexes=False)
    copied.collection.insert_one({"pk": "b", "n": 2})

    found = report(copied, tmp_path)
    assert [line["kind"] for line in found] == ["duplicate", "index"]
    assert found[0]["key"] == {"pk": {"S": "b"}}

    assert run(copied, "--repair", "--yes") == 3
    assert "lacks the unique index on the key" in capsys.readouterr().err
    assert copied.collection.count_documents({"pk": "b"}) == 2


def test_missing_indexes_are_named_and_built(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    indexes = {"by_s": (("s", "S"), None)}
    copied = make_table(dynamodb, mongo, name, tmp_path, ITEMS[:1], indexes=indexes)
    copied.copy()
    assert run(copied) == 0
    copied.collection.drop_index("s_1")
    assert run(copied) == 1
    out = capsys.readouterr().out
    assert "index ({s: 1} (secondary index by_s))" in out
    assert "0 duplicate, 1 index" in out
    assert run(copied, "--repair", "--yes") == 0
    assert "s_1" in copied.collection.index_information()


@pytest.mark.parametrize(
    "document",
    [
        {"other": 1},
        {"pk": None},
        {"pk": 5},
        {"pk": ""},
        {"pk": "x" * 3000},
        {"pk": {"S": "a"}},
        {"_id": "b", "pk": "b2"},
    ],
    ids=str,
)
def test_a_document_that_can_be_no_item_is_extra(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, document: dict[str, Any], capsys: Any
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, ITEMS)
    copied.copy()
    copied.collection.insert_one(document)
    assert kinds(copied, tmp_path) == ["extra"]
    assert "NOT equal: 1 difference\n" in capsys.readouterr().out
    assert run(copied, *REPAIR) == 0
    assert copied.collection.count_documents({}) == len(ITEMS)


def test_what_looks_like_a_typed_key_and_is_none_is_extra(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, ITEMS, convert__type="raw")
    copied.copy(indexes=False)
    copied.collection.create_index("pk.S")
    copied.collection.insert_one({"pk": {"S": "b", "more": 1}})
    assert kinds(copied, tmp_path) == ["extra", "index"]


@pytest.mark.parametrize("convert", ["change", "raw"])
def test_extra_number_and_binary_keys_are_asked_for_by_value(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, convert: str
) -> None:
    numbers = ["1", "1.5", "-0.001", "9" * 38, "1E+100", "1.2345678901234567890123456789012345"]
    keys = [{"pk": {"N": text}, "sk": {"B": text.encode()}} for text in numbers]
    settings = {"convert__type": convert}
    copied = make_table(
        dynamodb, mongo, name, tmp_path, keys, pk=("pk", "N"), sk=("sk", "B"), **settings
    )
    copied.copy()
    assert run(copied) == 0
    for key in keys:
        copied.delete(**key)
    found = report(copied, tmp_path)
    assert [line["kind"] for line in found] == ["extra"] * len(keys)
    asked = {base64.b64decode(line["key"]["sk"]["B"]).decode() for line in found}
    assert asked == set(numbers)
    assert run(copied, *REPAIR) == 0
    assert copied.collection.count_documents({}) == 0


@pytest.mark.parametrize("sk", [None, SORT], ids=["one attribute", "two attributes"])
def test_one_changed_byte_one_missing_extra_and_doubled_document_among_many_are_named(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, sk: Any
) -> None:
    items = [
        {"pk": {"S": f"p{n // 7 if sk else n}"}, "sk": {"N": str(n)}, "v": {"S": "x" * 50}}
        for n in range(400)
    ]
    copied = make_table(dynamodb, mongo, name, tmp_path, items, sk=sk)
    copied.copy(indexes=False)
    stored = copied.collection
    stored.update_one({"sk": 7}, {"$set": {"v": "x" * 49 + "y"}})
    stored.delete_one({"sk": 200})
    stored.insert_one(stored.find_one({"sk": 399}, {"_id": 0}))
    stored.insert_one({"pk": "p3", "sk": 1000} if sk else {"pk": "p1000"})
    found = report(copied, tmp_path)
    place = "sk" if sk else "pk"
    named = {line["kind"]: line["key"] and line["key"][place] for line in found}
    if sk:
        wanted = {kind: {"N": n} for kind, n in NAMED.items()}
    else:
        wanted = {kind: {"S": f"p{n}"} for kind, n in NAMED.items()}
    assert named == wanted | {"index": None}
    assert len([line for line in found if line["kind"] != "index"]) == len(NAMED)


NAMED = {"different": "7", "missing": "200", "duplicate": "399", "extra": "1000"}
