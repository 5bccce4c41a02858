"""What a full copy makes of values and keys, by the contract's table, through the real program."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shake.codec.contract import Options
from tests.support.migration import Migration, compare, keys_of
from tests.support.tables import Key, create_table, put_items

Item = dict[str, Any]

TEXTS = ["", "a", "é", "日本語", "😀", "a\0b", "line\nbreak", "\u2028", '"\\/', "null", "x" * 3000]
NAMES = [
    "a.b",
    ".",
    "..",
    "$",
    "$set",
    "$$ROOT",
    "__proto__",
    "é",
    "日本",
    "😀",
    " ",
    '"',
    "\\",
    "\n",
]
#: Whole and not, small and large, on both sides of int32, int64, 34 digits and the magnitudes.
NUMBERS = [
    *("0", "1", "-1", "77.00", "1E+2", "0.1", "-0.000001", "3.14159", "1E+30"),
    *("2147483647", "2147483648", "-2147483648", "-2147483649"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808"),
    *("-9223372036854775809", "1" * 34, "1" * 35, "-" + "9" * 38, "0." + "7" * 38),
    *("1E-130", "9.9999999999999999999999999999999999999E+125", "-1E-130"),
]


def nested(depth: int) -> Item:
    """Maps and lists in turn, so many levels deep."""
    value: Item = {"S": "the bottom"}
    for level in range(depth):
        value = {"L": [value]} if level % 2 else {"M": {"in": value}}
    return value


def attributes() -> Iterator[Item]:
    """Items without their keys."""
    for text in TEXTS:
        yield {"text": {"S": text}, "set": {"SS": [text, "z"]}}
    for number in NUMBERS:
        yield {"number": {"N": number}, "list": {"L": [{"N": number}]}}
    for name in NAMES:
        yield {name: {"S": name}, "map": {"M": {name: {"N": "1"}, "_id": {"NULL": True}}}}
    yield {
        "yes": {"BOOL": True},
        "no": {"BOOL": False},
        "null": {"NULL": True},
        "binary": {"B": bytes(range(256))},
        "empty binary": {"B": b""},
        "empty list": {"L": []},
        "empty map": {"M": {}},
        "numbers": {"NS": ["1", "2.5", "3000000000", "4" * 36]},
        "binaries": {"BS": [b"\0", b"\xff\xfe", b"a"]},
        "mixed": {"L": [{"S": ""}, {"N": "1"}, {"M": {}}, {"L": [{"L": []}]}, {"NULL": True}]},
    }
    yield {"_id": {"S": "theirs"}, "Pre_id": {"S": "no clash"}}
    yield {"_id": {"M": {"_id": {"N": "1"}}}}
    yield {"deep": nested(31)}
    # Just under 400 KB as DynamoDB counts; the booleans grow manifold as BSON.
    yield {"long": {"S": "é" * 199_000}}
    yield {"long": {"B": random.Random(1).randbytes(399_000)}}
    yield {"long": {"L": [{"BOOL": True}] * 190_000}}


@pytest.fixture(scope="session")
def everything(dynamodb: Any) -> str:
    """A table that holds every kind of value, made once a session: tests come in any order."""
    table = f"every.kind-of_value{uuid.uuid4().hex[:10]}"
    create_table(dynamodb.client, table, ("pk", "S"), ("sk", "N"))
    items = enumerate(attributes())
    for number, item in items:
        key = {"pk": {"S": f"pk{number % 7}"}, "sk": {"N": f"{number}.5"}}
        dynamodb.client.put_item(TableName=table, Item=key | item)
    return table


@pytest.mark.parametrize("id_mode", ["objectid", "key"])
@pytest.mark.parametrize("convert", ["change", "mchange", "raw"])
def test_every_value_arrives_as_the_contract_says(
    dynamodb: Any,
    mongo: Any,
    name: str,
    everything: str,
    migrate: Callable[..., Migration],
    convert: str,
    id_mode: str,
) -> None:
    migration = migrate(
        filter__collection__white=everything, convert__type=convert, id__mode=id_mode
    )
    result = migration.run()
    assert result.status == 0, result
    assert result.stderr == ""
    options = Options(keys_of(dynamodb.client, everything), convert=convert, id_mode=id_mode)
    compare(dynamodb.client, mongo.client, everything, f"{name}.{everything}", options=options)
    if convert == "mchange":
        assert "convert.type = mchange makes every number a double" in result.stdout


#: Long numbers, of the digits that floats lose: up to the 34 of Decimal128, and 36 as a string.
_LONG = [
    "",
    "000000000000",
    "12345678901234567890123456789012",
    "1234567890123456789012345678901234",
    "0.00000000000000000001",
    "E+40",
    "E-40",
]
KEY_VALUES: dict[str, Callable[[int], Any]] = {
    "S": lambda i: f"é{i}" * (1 + i % 100),
    "N": lambda i: f"{'-' * (i % 2)}{i + 1}{_LONG[i % len(_LONG)]}",
    "B": lambda i: i.to_bytes(4, "little") * (1 + i % 50),
}


@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_keys_of_every_type_are_read_on_from_without_loss(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration], id_mode: str
) -> None:
    """Pages of 7 items: every seventh key is where the scan goes on."""
    schemas: list[tuple[Key, Key | None]] = [
        (("pk", "N"), None),
        (("pk", "B"), None),
        (("pk", "S"), ("sk", "N")),
        (("pk", "N"), ("sk", "B")),
        (("_id", "B"), ("a b", "S")),
    ]
    tables = {f"{name}.{number}": schema for number, schema in enumerate(schemas)}
    for table, (pk, sk) in tables.items():
        create_table(dynamodb.client, table, pk, sk)
        put_items(dynamodb.client, table, (_keyed(i, pk, sk) for i in range(60)))
    migration = migrate(
        filter__collection__white=f"{name}.*", qps__full__batch_num=7, id__mode=id_mode
    )
    result = migration.run()
    assert result.status == 0, result
    for table in tables:
        options = Options(keys_of(dynamodb.client, table), id_mode=id_mode)
        compare(dynamodb.client, mongo.client, table, f"{name}.{table}", options=options)


def _keyed(number: int, pk: Key, sk: Key | None) -> Item:
    item: Item = {"v": {"N": str(number)}}
    item[pk[0]] = {pk[1]: KEY_VALUES[pk[1]](number if sk is None else number // 20)}
    if sk:
        item[sk[0]] = {sk[1]: KEY_VALUES[sk[1]](number)}
    return item


def test_an_item_named_by_its_binary_key_is_found_under_it(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration]
) -> None:
    """The comparison aside: what a user reads in the shell."""
    create_table(dynamodb.client, name, ("pk", "B"))
    put_items(dynamodb.client, name, [{"pk": {"B": b"\0\1"}, "n": {"N": "1E2"}}])
    assert migrate(id__mode="key").run().status == 0
    [found] = mongo.client[name][name].find()
    assert found == {"_id": b"\0\1", "pk": b"\0\1", "n": 100}
