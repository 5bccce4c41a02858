"""shake-check names what no item can look like in the target, and never opened by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.raw_bson import RawBSONDocument

from shake.cli import check
from tests.support.copied import Copied, make_table

pytestmark = pytest.mark.slow

ITEM = {
    "pk": {"S": "a"},
    "s": {"S": "\ufffd"},
    "no": {"NULL": True},
    "m": {"M": {"$ref": {"S": "x"}, "$id": {"N": "1"}}},
    "n": {"N": "1.5"},
}

SNAN = Decimal128("sNaN")


def element(kind: int, name: str | bytes, value: bytes) -> bytes:
    """One field of BSON. Source: https://bsonspec.org/spec.html"""
    return bytes([kind]) + (name.encode() if isinstance(name, str) else name) + b"\0" + value


def text(value: bytes) -> bytes:
    return (len(value) + 1).to_bytes(4, "little") + value + b"\0"


def document(*fields: bytes) -> bytes:
    inner = b"".join(fields)
    return (len(inner) + 5).to_bytes(4, "little") + inner + b"\0"


#: What a field is replaced by: the name of the field that differs, and the bytes.
ODD = {
    "text that is not UTF-8": ("s", element(2, "s", text(b"\xff"))),
    "a name that is not UTF-8": ("\ufffd", element(2, "s", text(b"x")) + element(10, b"\xff", b"")),
    "doubled": ("n", element(16, "n", bytes(4)) + element(19, "n", Decimal128("1.5").bid)),
    "doubled in a map": (
        "m",
        element(
            3,
            "m",
            document(
                element(2, "$ref", text(b"y")),
                element(2, "$ref", text(b"x")),
                element(16, "$id", b"\1\0\0\0"),
            ),
        ),
    ),
    "signalling NaN": ("n", element(19, "n", SNAN.bid)),
    "symbol": ("s", element(14, "s", text("\ufffd".encode()))),
    "undefined": ("no", element(6, "no", b"")),
    "reference": ("n", element(3, "n", bson.encode({"$ref": "x", "$id": 1}))),
    "odd reference": ("n", element(3, "n", bson.encode({"$ref": 1, "$id": 1, "$db": 2}))),
    "regular expression": ("s", element(11, "s", b"(\0i\0")),
    "code": ("s", element(15, "s", (4 + 6 + 5).to_bytes(4, "little") + text(b"x") + document())),
    "pointer": ("s", element(12, "s", text(b"x") + bytes(12))),
    "list with a gap": ("m", element(4, "m", document(element(16, "7", bytes(4))))),
}


def insert(copied: Copied, content: bytes) -> None:
    command = {"insert": copied.name, "documents": [RawBSONDocument(content)]}
    copied.target.client[copied.name].command(command)


def checked(copied: Copied, folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    path = folder / "report.jsonl"
    status = check.main([*copied.arguments, "--report", str(path), *arguments])
    lines = map(json.loads, path.read_text().splitlines())
    return status, [line for line in lines if "kind" in line]


@pytest.mark.parametrize("mode", ["objectid", "key"])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_value_is_named_and_repaired(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, odd: str, mode: str
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [ITEM], id__mode=mode)
    copied.copy()
    [stored] = copied.collection.with_options(bson.CodecOptions(RawBSONDocument)).find()
    changed, replaced = ODD[odd]
    gone = "s" if changed == "\ufffd" else changed
    kept = [bson.encode({key: stored[key]})[4:-1] for key in stored if key != gone]
    copied.collection.delete_many({})
    insert(copied, document(*kept, replaced))
    status, lines = checked(copied, tmp_path)
    assert (status, [line["kind"] for line in lines]) == (1, ["different"])
    assert set(lines[0]["fields"]) == {changed} | ({"s"} if gone != changed else set())
    assert checked(copied, tmp_path, "--repair", "--yes")[0] == 0
    assert checked(copied, tmp_path) == (0, [])


@pytest.mark.parametrize("mode", ["objectid", "key"])
def test_a_map_that_looks_like_a_reference_is_equal_in_any_order(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [ITEM], id__mode=mode)
    copied.copy()
    [stored] = copied.collection.with_options(bson.CodecOptions(RawBSONDocument)).find()
    kept = {key: stored[key] for key in stored if key != "m"}
    copied.collection.delete_many({})
    insert(copied, bson.encode({**kept, "m": {"$id": 1, "$ref": "x"}}))
    assert checked(copied, tmp_path) == (0, [])


def test_a_map_that_holds_an_id_is_equal_beside_a_set_in_another_order(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    item = {"pk": {"S": "a"}, "m": {"M": {"x": {"S": ""}, "_id": {"S": ""}}}}
    item["ss"] = {"SS": ["x", "y"]}
    copied = make_table(dynamodb, mongo, name, tmp_path, [item])
    copied.copy()
    copied.collection.update_one({}, {"$set": {"ss": ["y", "x"]}})
    assert checked(copied, tmp_path) == (0, [])


KEYS = {
    "signalling NaN": element(19, "%s", SNAN.bid),
    "reference": element(3, "%s", bson.encode({"$ref": "x", "$id": 1})),
    "symbol": element(14, "%s", text(b"a")),
    "text that is not UTF-8": element(2, "%s", text(b"1\xff")),
    "a map of text that is not UTF-8": element(
        3, "%s", document(element(2, b"\xff", text(b"\xff")))
    ),
}


@pytest.mark.parametrize("type_", ["S", "N"])
@pytest.mark.parametrize("mode", ["objectid", "key"])
@pytest.mark.parametrize("odd", KEYS)
def test_a_document_with_an_odd_key_is_extra(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, odd: str, mode: str, type_: str
) -> None:
    item = {"pk": {type_: "1"}}
    pk = ("pk", type_)
    copied = make_table(dynamodb, mongo, name, tmp_path, [item], pk=pk, id__mode=mode)
    copied.copy()
    key = KEYS[odd]
    head = [key.replace(b"%s", b"_id")] if mode == "key" else []
    insert(copied, document(*head, key.replace(b"%s", b"pk")))
    status, lines = checked(copied, tmp_path)
    assert (status, [line["kind"] for line in lines]) == (1, ["extra"])
    assert checked(copied, tmp_path, "--repair", "--yes", "--delete-extra")[0] == 0
    assert checked(copied, tmp_path) == (0, [])


@pytest.mark.parametrize("sort", [False, True], ids=["partition", "sort"])
@pytest.mark.parametrize("mode", ["objectid", "key"])
def test_a_key_that_only_decodes_to_an_items_key_is_extra(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, mode: str, sort: bool
) -> None:
    key = {"pk": {"S": "\ufffd"}, **({"sk": {"S": "\ufffd"}} if sort else {})}
    sk = ("sk", "S") if sort else None
    copied = make_table(dynamodb, mongo, name, tmp_path, [key], sk=sk, id__mode=mode)
    copied.copy()
    good, odd = text("\ufffd".encode()), text(b"\xff")
    fields = [element(2, "pk", good if sort else odd), *([element(2, "sk", odd)] if sort else [])]
    head = [element(3, "_id", document(*fields)) if sort else element(2, "_id", odd)]
    insert(copied, document(*(head if mode == "key" else []), *fields))
    status, lines = checked(copied, tmp_path)
    assert (status, [line["kind"] for line in lines]) == (1, ["extra"])
    assert checked(copied, tmp_path, "--repair", "--yes", "--delete-extra")[0] == 0
    assert checked(copied, tmp_path) == (0, [])


def test_an_id_whose_fields_are_in_another_order_is_extra(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    key = {"pk": {"S": "a"}, "sk": {"S": "b"}}
    sk = ("sk", "S")
    copied = make_table(dynamodb, mongo, name, tmp_path, [key], sk=sk, id__mode="key")
    copied.copy()
    other = {"_id": {"sk": "b", "pk": "a"}, "pk": "a", "sk": "b"}
    insert(copied, bson.encode(other))
    status, lines = checked(copied, tmp_path)
    assert (status, [line["kind"] for line in lines]) == (1, ["extra"])
    assert checked(copied, tmp_path, "--repair", "--yes", "--delete-extra")[0] == 0
    assert checked(copied, tmp_path) == (0, [])
