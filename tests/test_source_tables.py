"""A real table is found, described, probed and scanned to the last item, position by position."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from shake.backoff import Backoff
from shake.config import ScanFilter
from shake.errors import RefusedError, RunError, SourceError
from shake.schema import Attribute, Keys, SecondaryIndex
from shake.source.client import Retry
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Credentials, Endpoint
from shake.source.scan import ScanPlan
from shake.source.streams import listed
from tests.support import faulty
from tests.support.faulty import Faulty, Reply
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY, create_table, put_items


@contextmanager
def client_of(url: str) -> Iterator[tuple[DynamoSource, list[Retry]]]:
    retries: list[Retry] = []
    client = DynamoSource(
        Endpoint(url, REGION),
        lambda: Credentials(ACCESS_KEY, SECRET_KEY),
        on_retry=retries.append,
        stop=threading.Event(),
        random=random.Random(1),
    )
    yield client, retries
    client.close()


@pytest.fixture
def client(dynamodb: Any) -> Iterator[DynamoSource]:
    with client_of(dynamodb.url) as (client, _):
        yield client


def scan(client: DynamoSource, plan: ScanPlan, segment: int) -> Iterator[dict[str, Any]]:
    """The items of one segment; the position is cut from the answer as the bytes it came in."""
    start = None
    while True:
        body = client.call("Scan", plan.request(segment, start))
        page = orjson.loads(body)
        assert page["ConsumedCapacity"]["CapacityUnits"] >= 0
        assert plan.limit is None or page["ScannedCount"] <= plan.limit
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        start = body[body.index(b'"LastEvaluatedKey":') + len(b'"LastEvaluatedKey":') :]
        start = start[: start.index(b"}}") + 2]


NUMBERS = [f"{n:038d}".replace("0", "9", 1) for n in range(90)]


@pytest.fixture
def wide_keys(dynamodb: Any, name: str) -> str:
    """90 items whose keys differ in the last of 38 digits."""
    create_table(dynamodb.client, name, pk=("pk", "N"), sk=("sk", "N"))
    put_items(
        dynamodb.client,
        name,
        (
            {"pk": {"N": n}, "sk": {"N": f"0.{n}"}, "odd": {"BOOL": int(n) % 2 == 1}}
            for n in NUMBERS
        ),
    )
    return name


@pytest.mark.parametrize("segments", [1, 4])
def test_a_scan_finds_every_item_once_however_long_its_number_keys(
    client: DynamoSource, wide_keys: str, segments: int
) -> None:
    plan = ScanPlan(wide_keys, segments, limit=7, consistent=True)
    items = [item for segment in range(segments) for item in scan(client, plan, segment)]
    assert sorted(item["pk"]["N"] for item in items) == NUMBERS


def test_a_scan_through_a_bad_network_finds_every_item_once(dynamodb: Any, wide_keys: str) -> None:
    def bad(request: faulty.Request) -> Reply:
        number = len(server.requests)
        if number % 2 == 0:
            return honest(request)
        whole = honest(request).body
        faults = [faulty.throttled(), faulty.dropped(), Reply(whole, cut=99), Reply(whole, crc=1)]
        return faults[number // 2 % 4]

    honest = faulty.forward(dynamodb.url)
    with Faulty(otherwise=bad) as server, client_of(server.url) as (client, retries):
        found = [item["pk"]["N"] for item in scan(client, ScanPlan(wide_keys, 1, limit=10), 0)]
    assert sorted(found) == NUMBERS
    assert len(retries) >= 9
    assert {retry.kind for retry in retries} == {"throttle", "fault"}


def test_a_filter_keeps_what_it_matches(client: DynamoSource, wide_keys: str) -> None:
    values = (("low", "N", NUMBERS[80]), ("odd", "BOOL", "true"))
    chosen = ScanPlan(wide_keys, 1, filter=ScanFilter("pk >= :low AND odd = :odd", values))
    assert sorted(i["pk"]["N"] for i in scan(client, chosen, 0)) == NUMBERS[81::2]


@pytest.mark.parametrize(
    "expression",
    [
        "status = :s",
        "begins_with(status, :s) and size(status) = :n",
        "NOT (status <> :s) AND size BETWEEN :n AND :n",
        "value.data[0].hash = :s OR status IN (:s, :n)",
        "attribute_exists(value.data) AND user-id = :s",
        "list[1]=:s and contains (list,:s)",
    ],
)
def test_a_filter_can_name_what_dynamodb_reserves(
    dynamodb: Any, client: DynamoSource, name: str, expression: str
) -> None:
    create_table(dynamodb.client, name)
    text, number = {"S": "on"}, {"N": "2"}
    item = {
        "pk": text,
        "status": text,
        "size": number,
        "user-id": text,
        "value": {"M": {"data": {"L": [{"M": {"hash": text}}]}}},
        "list": {"L": [number, text]},
    }
    put_items(dynamodb.client, name, [item, {"pk": {"S": "other"}}])
    given = (("s", "S", "on"), ("n", "N", "2"))
    values = tuple(value for value in given if f":{value[0]}" in expression)
    chosen = ScanPlan(name, 1, filter=ScanFilter(expression, values))
    assert [one["pk"] for one in scan(client, chosen, 0)] == [text]


def test_a_filter_without_values_sends_none(client: DynamoSource, wide_keys: str) -> None:
    plan = ScanPlan(wide_keys, 1, filter=ScanFilter("attribute_exists(nothing)", ()))
    assert list(scan(client, plan, 0)) == []


def test_a_position_goes_back_byte_for_byte() -> None:
    key = b'{"pk":{"N":"1E+2"},  "b":{"B":"AA=="}}'
    body = ScanPlan("t", 8).request(3, key)
    assert body.endswith(b',"ExclusiveStartKey":' + key + b"}")
    assert orjson.loads(body) == {
        "TableName": "t",
        "Segment": 3,
        "TotalSegments": 8,
        "ConsistentRead": False,
        "ReturnConsumedCapacity": "TOTAL",
        "ExclusiveStartKey": orjson.loads(key),
    }


def test_a_table_is_described_with_all_its_indexes(
    dynamodb: Any, client: DynamoSource, name: str
) -> None:
    def schema(*keys: str) -> list[dict[str, str]]:
        kinds = ("HASH", "RANGE")
        return [{"AttributeName": k, "KeyType": t} for k, t in zip(keys, kinds, strict=False)]

    throughput = {"ReadCapacityUnits": 40, "WriteCapacityUnits": 5}
    everything = {"ProjectionType": "ALL"}
    dynamodb.client.create_table(
        TableName=name,
        KeySchema=schema("a", "b"),
        AttributeDefinitions=[
            {"AttributeName": n, "AttributeType": t} for n, t in zip("abcd", "SNBS", strict=True)
        ],
        ProvisionedThroughput=throughput,
        GlobalSecondaryIndexes=[
            {
                "IndexName": "global",
                "KeySchema": schema("c"),
                "Projection": everything,
                "ProvisionedThroughput": throughput,
            }
        ],
        LocalSecondaryIndexes=[
            {"IndexName": "local", "KeySchema": schema("a", "d"), "Projection": everything}
        ],
    )
    put_items(dynamodb.client, name, [{"a": {"S": "x"}, "b": {"N": "1"}}])
    table = client.describe(name)
    a, b, c, d = Attribute("a", "S"), Attribute("b", "N"), Attribute("c", "B"), Attribute("d", "S")
    assert table.name == name
    assert table.keys == Keys(a, b)
    assert table.indexes == (
        SecondaryIndex("global", (c,)),
        SecondaryIndex("local", (a,), (d,), local=True),
    )
    assert (table.items, table.read_capacity) == (1, 40)
    assert table.bytes > 0
    assert not table.left_out


def test_an_on_demand_table_has_no_read_capacity(
    dynamodb: Any, client: DynamoSource, name: str
) -> None:
    create_table(dynamodb.client, name)
    table = client.describe(name)
    assert (table.keys, table.indexes, table.read_capacity) == (
        Keys(Attribute("pk", "S")),
        (),
        0,
    )


def described(**parts: Any) -> Reply:
    """A DescribeTable answer for a table with the key p, and with these parts."""
    names = {"p": "S", "a": "S", "b": "N", "c": "B", "d": "S"}
    table = {
        "TableName": "t",
        "TableStatus": "ACTIVE",
        "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": type_} for name, type_ in names.items()
        ],
    }
    return Reply(orjson.dumps({"Table": table | parts}))


@pytest.mark.parametrize(
    ("parts", "limits"),
    [
        ({}, (0, 0)),
        ({"ProvisionedThroughput": {"ReadCapacityUnits": 40}}, (40, 0)),
        ({"ProvisionedThroughput": {"ReadCapacityUnits": 0}}, (0, 0)),
        (
            {
                "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
                "ProvisionedThroughput": {"ReadCapacityUnits": 40},  # of another mode
                "OnDemandThroughput": {"MaxReadRequestUnits": 700},
            },
            (0, 700),
        ),
        ({"OnDemandThroughput": {"MaxReadRequestUnits": -1}}, (0, 0)),  # none
        ({"OnDemandThroughput": None}, (0, 0)),
    ],
)
def test_what_limits_the_reading_of_a_table_is_read(
    parts: dict[str, Any], limits: tuple[int, int]
) -> None:
    sse = {"Status": "ENABLED", "KMSMasterKeyArn": "arn:aws:kms:r:1:key/k"}
    answer = described(SSEDescription=sse, **parts)
    with Faulty([answer]) as server, client_of(server.url) as (client, _):
        table = client.describe("t")
    assert (table.read_capacity, table.read_maximum) == limits
    assert (table.key_arn, table.in_aws) == ("arn:aws:kms:r:1:key/k", False)


def index_of(name: str, *keys: tuple[str, str], **parts: Any) -> dict[str, Any]:
    schema = [{"AttributeName": name, "KeyType": kind} for name, kind in keys]
    return {"IndexName": name, "KeySchema": schema, **parts}


MANY = index_of("many", ("a", "HASH"), ("b", "HASH"), ("c", "RANGE"), ("d", "RANGE"))


def test_all_attributes_of_a_secondary_index_are_read() -> None:
    answer = described(GlobalSecondaryIndexes=[MANY])
    with Faulty([answer]) as server, client_of(server.url) as (client, _):
        table = client.describe("t")
    a, b, c, d = (Attribute(n, t) for n, t in zip("abcd", "SNBS", strict=True))
    assert table.indexes == (SecondaryIndex("many", (a, b), (c, d)),)
    assert not table.left_out


def test_what_is_not_known_of_a_table_is_named() -> None:
    odd = index_of("odd", ("a", "HASH"), ("b", "NEAREST"))
    answer = described(
        GlobalSecondaryIndexes=[odd, MANY | {"Condition": "b > 1"}],
        LocalSecondaryIndexes=[index_of("untyped", ("p", "HASH"), ("z", "RANGE")), {}],
        VectorIndexes=[{"IndexName": "near"}],
        Replicas=[],
        NewThing=None,
    )
    with Faulty([answer]) as server, client_of(server.url) as (client, _):
        table = client.describe("t")
    assert [index.name for index in table.indexes] == ["many"]
    assert table.left_out == (
        "VectorIndexes of its description",
        "secondary index odd, whose key is a HASH, b NEAREST",
        "Condition of secondary index many",
        "secondary index untyped, whose key is p HASH, z RANGE",
        "secondary index without a name, whose key is not described",
    )


def test_a_table_with_a_key_that_is_not_known_is_refused() -> None:
    keys = [{"AttributeName": name, "KeyType": "HASH"} for name in "ab"]
    with (
        Faulty([described(KeySchema=keys)]) as server,
        client_of(server.url) as (client, _),
        pytest.raises(
            RefusedError, match=r"table t: .* does not support a key like a HASH, b HASH"
        ),
    ):
        client.describe("t")


def test_an_answer_without_a_count_still_shows_items() -> None:
    answers = [Reply(b'{"Items":[{"p":{"S":"a"}}]}'), Reply(b'{"Items":[]}')]
    with Faulty(answers) as server, client_of(server.url) as (client, _):
        assert client.holds_items("t")
        assert not client.holds_items("t")


@pytest.mark.parametrize(
    "shard",
    [
        {},
        {"ShardId": 5, "SequenceNumberRange": {"StartingSequenceNumber": "1"}},
        {"ShardId": "a"},
        {"ShardId": "a", "SequenceNumberRange": {"StartingSequenceNumber": "one"}},
        {
            "ShardId": "a",
            "SequenceNumberRange": {"StartingSequenceNumber": "1", "EndingSequenceNumber": "-"},
        },
    ],
)
def test_a_shard_that_no_stream_of_dynamodb_has_is_refused(shard: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"check source\.endpoint_url"):
        listed(shard)


def test_a_table_that_is_being_created_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shake.source.dynamodb._LOOKS", Backoff(first=0.01, longest=0.01))
    answers = [described(TableStatus="CREATING")] * 3 + [described()]
    with Faulty(answers) as server, client_of(server.url) as (client, retries):
        assert client.describe("t").keys.partition.name == "p"
    assert [one.reason for one in retries] == ["table t is being created"] * 3


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({"AttributeDefinitions": None}, "check that source.endpoint_url"),
        ({"CreationDateTime": "2026-01-01T00:00:00Z"}, "check that source.endpoint_url"),
        ({"TableStatus": "ARCHIVED"}, "restore it from its backup"),
        ({"TableStatus": "INACCESSIBLE_ENCRYPTION_CREDENTIALS"}, "KMS key again"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused_with_the_way_out(
    differs: dict[str, Any], words: str
) -> None:
    with (
        Faulty([described(**differs)]) as server,
        client_of(server.url) as (client, _),
        pytest.raises(RefusedError, match=words),
    ):
        client.describe("t")


def test_numbers_of_a_description_can_be_missing_or_texts() -> None:
    empty = dict.fromkeys(("CreationDateTime", "TableId", "TableArn", "TableSizeBytes"))
    with (
        Faulty([described(ItemCount="5", **empty)]) as server,
        client_of(server.url) as (client, _),
    ):
        table = client.describe("t")
    assert (table.items, table.bytes, table.origin.created) == (5, 0, 0.0)


def test_a_table_that_is_being_deleted_is_refused() -> None:
    answer = {"Table": {"TableName": "t", "TableStatus": "DELETING"}}
    with (
        Faulty([Reply(orjson.dumps(answer))]) as server,
        client_of(server.url) as (client, _),
        pytest.raises(RefusedError, match=r"table t is DELETING.*filter\.collection\.black"),
    ):
        client.describe("t")


def test_a_table_that_does_not_exist_is_named_by_the_error(client: DynamoSource, name: str) -> None:
    with pytest.raises(SourceError) as failure:
        client.describe(name)
    assert failure.value.code == "ResourceNotFoundException"


def test_the_probe_tells_an_empty_table(dynamodb: Any, client: DynamoSource, name: str) -> None:
    create_table(dynamodb.client, name)
    assert not client.holds_items(name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}])
    assert client.holds_items(name)


def test_the_list_of_tables_is_read_to_its_end() -> None:
    def answer(request: faulty.Request) -> Reply:
        start = orjson.loads(request.body).get("ExclusiveStartTableName", "t0")
        number = int(start[1:]) + 1
        last = {} if number == 5 else {"LastEvaluatedTableName": f"t{number}"}
        return Reply(orjson.dumps({"TableNames": [f"t{number}"], **last}))

    with Faulty(otherwise=answer) as server, client_of(server.url) as (client, _):
        assert client.list_tables() == ["t1", "t2", "t3", "t4", "t5"]


def test_the_list_of_tables_of_a_real_source(
    dynamodb: Any, client: DynamoSource, name: str
) -> None:
    create_table(dynamodb.client, name)
    assert name in client.list_tables()
