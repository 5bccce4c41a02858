"""The codec between a real source and a real target: what is put comes out, page by page."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any
from urllib.request import Request, urlopen

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.raw_bson import RawBSONDocument

from shake.codec.contract import ChangeOptions, Options
from shake.errors import ItemError
from shake.schema import Attribute, Keys
from tests.support.changes import answer, decoded, record, runs
from tests.support.codecs import documents, every_codec, read
from tests.support.expected import PREFIX, expected
from tests.support.items import PARTITION, PARTITION_AND_SORT
from tests.support.tables import connect, create_table, put_items

#: Each type, and what a client library of either side might spoil.
ATTRIBUTES: list[dict[str, Any]] = [
    {"s": {"S": "\xe9\0\U0001f600"}, "empty": {"S": ""}, "_id": {"S": "mine"}},
    {"a.b": {"BOOL": True}, "$set": {"NULL": True}, "b": {"B": b"\0\xff"}, "no": {"B": b""}},
    {"ss": {"SS": ["b", "a"]}, "ns": {"NS": ["2", "1.5", "-0.0"]}, "bs": {"BS": [b"\1", b"\0"]}},
    {"l": {"L": [{"M": {"_id": {"L": []}}}, {"N": "1E+2"}]}, "m": {"M": {}}},
    {"n": {"L": [{"N": text} for text in ("9" * 38, "-" + "9" * 34, "1E125", "1E-130", "77.00")]}},
    {"edges": {"L": [{"N": str(2**power)} for power in (31, 63, 64, 110, 120)]}},
]


def call(url: str, operation: str, request: bytes, api: str = "DynamoDB_20120810") -> bytes:
    """The response body of DynamoDB Local, which takes any signature."""
    headers = {
        "X-Amz-Target": f"{api}.{operation}",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/dynamodb/"
        "aws4_request, SignedHeaders=host, Signature=none",
    }
    with urlopen(Request(url, request, headers), timeout=30) as response:
        body: bytes = response.read()
    return body


def scan(url: str, table: str, limit: int = 1000, start: bytes | None = None) -> bytes:
    start_key = b',"ExclusiveStartKey":' + start if start else b""
    return call(
        url, "Scan", b'{"TableName":"%s","Limit":%d%s}' % (table.encode(), limit, start_key)
    )


@every_codec
@pytest.mark.parametrize("convert", ["change", "mchange", "raw"])
@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_items_reach_the_target_as_the_contract_says(
    dynamodb: Any, mongo: Any, name: str, codec: ModuleType, convert: str, id_mode: str
) -> None:
    create_table(dynamodb.client, name, sk=("sk", "N"))
    keys = ({"pk": {"S": "k"}, "sk": {"N": f"{place}.5"}} for place in range(len(ATTRIBUTES)))
    put_items(dynamodb.client, name, [k | rest for k, rest in zip(keys, ATTRIBUTES, strict=True)])
    body = scan(dynamodb.url, name)
    options = Options(PARTITION_AND_SORT, convert, id_mode=id_mode)

    collection = mongo.client[name].get_collection("target")
    collection.insert_many([RawBSONDocument(one) for one in documents(codec, body, options)])

    raw = collection.with_options(bson.CodecOptions(document_class=RawBSONDocument))
    wanted = [expected(i, options, place) for place, i in enumerate(json.loads(body)["Items"])]
    assert sorted(found.raw for found in raw.find()) == sorted(wanted)
    assert len(wanted) == len(ATTRIBUTES)


@every_codec
def test_the_last_key_leads_to_every_item_once(dynamodb: Any, name: str, codec: ModuleType) -> None:
    create_table(dynamodb.client, name, pk=("pk", "N"))
    keys = ["1", "1.5", "9" * 38, "1." + "0" * 36 + "1", "1." + "0" * 36 + "2", str(2**63 + 1)]
    put_items(dynamodb.client, name, [{"pk": {"N": text}} for text in keys])
    options = Options(Keys(Attribute("pk", "N")), "json")

    found: list[bytes] = []
    start: bytes | None = b""
    while start is not None:
        body = scan(dynamodb.url, name, limit=2, start=start)
        found += documents(codec, body, options)
        start = read(codec, body, options).last_key

    assert sorted(json.loads(one[4:])["pk"]["N"] for one in found) == sorted(keys)


@every_codec
def test_an_item_that_the_source_holds_and_the_target_cannot_is_named(
    dynamodb: Any, name: str, codec: ModuleType
) -> None:
    create_table(dynamodb.client, name)
    item = rb'{"pk":{"S":"bad"},"\ud800":{"S":"x"}}'
    call(dynamodb.url, "PutItem", b'{"TableName":"%s","Item":%s}' % (name.encode(), item))
    found = codec.scan_page(scan(dynamodb.url, name), Options(PARTITION))
    with pytest.raises(ItemError, match="surrogate") as caught:
        found.fill(memoryview(bytearray(1000)), PREFIX, 0)
    assert caught.value.key == '{"pk":{"S":"bad"}}'


@every_codec
@pytest.mark.parametrize("convert", ["change", "raw"])
@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_statements_make_the_target_follow(
    mongo: Any, name: str, codec: ModuleType, convert: str, id_mode: str
) -> None:
    options = ChangeOptions(PARTITION_AND_SORT, convert, id_mode=id_mode)
    old: list[Any] = [{"pk": {"S": f"{place}"}, "sk": {"N": "1"}} for place in range(4)]
    new = [{**key, "v": {"S": "new"}, "$v": {"S": "$v"}} for key in old[:2]]
    new += [{**key, "_id": {"NULL": True}} for key in old[2:3]]
    database = mongo.client[name]
    for images, gone in ((old, []), (new, old[3:])):
        body = answer(
            [record("MODIFY", old[place], image) for place, image in enumerate(images)]
            + [record("REMOVE", key) for key in gone]
        )
        found = runs(codec, body, options)
        for command, field, statements in (
            ("update", "updates", found.updates),
            ("delete", "deletes", found.deletes),
        ):
            if statements:
                database.command(command, "t", **{field: [*map(RawBSONDocument, statements)]})
    stored = list(database["t"].find({}, {"_id": 0}).sort("pk", 1))
    assert stored == [
        {
            key: value
            for key, value in bson.decode(expected(item, options, 0)).items()
            if key != "_id"
        }
        for item in new
    ]
    if id_mode == "key":
        assert {bson.encode(one) for one in database["t"].find({}, {"_id": 1})} == {
            bson.encode({"_id": bson.decode(expected(item, options, 0))["_id"]}) for item in new
        }


@every_codec
def test_a_real_stream_becomes_statements(dynamodb: Any, name: str, codec: ModuleType) -> None:
    create_table(dynamodb.client, name, stream="NEW_AND_OLD_IMAGES")
    stream = dynamodb.client.describe_table(TableName=name)["Table"]["LatestStreamArn"]
    put_items(dynamodb.client, name, [{"pk": {"S": text}, "v": {"N": "1"}} for text in "abc"])
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}, "v": {"N": "1.5"}}])
    dynamodb.client.delete_item(TableName=name, Key={"pk": {"S": "b"}})

    streams = connect(dynamodb.url, "dynamodbstreams")
    [shard] = streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    request = json.dumps({"ShardIterator": iterator}).encode()
    body = call(dynamodb.url, "GetRecords", request, api="DynamoDBStreams_20120810")

    page = codec.change_page(body, ChangeOptions(PARTITION))
    last = json.loads(body)["Records"][-1]["dynamodb"]
    assert (page.records, page.sequence) == (5, last["SequenceNumber"])
    assert page.created == last["ApproximateCreationDateTime"] > 1.7e9
    assert page.next_iterator
    assert decoded(codec, body, ChangeOptions(PARTITION, id_mode="key")) == {
        "updates": [
            {"q": {"_id": key}, "u": {"_id": key, "pk": key, "v": value}, "upsert": True}
            for key, value in (("a", Decimal128("1.5")), ("c", 1))
        ],
        "deletes": [{"q": {"_id": "b"}, "limit": 1}],
    }
