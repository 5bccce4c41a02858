"""The simulator of DynamoDB Streams does what AWS documents, and what DynamoDB Local shows."""

from __future__ import annotations

import http.client
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from tests.support.faulty import Request, dropped, error, forward
from tests.support.streams import Clock, Simulator, Stream, Table
from tests.support.streams_faults import calling, corrupt, cut, instead, shortened, slow
from tests.support.streams_workload import COUNTER, Workload
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY, create_table
from tests.support.wait import until

KEY = {"pk": {"S": "a"}, "sk": {"N": "1"}}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def client(url: str, service: str = "dynamodbstreams") -> Any:
    """A client that tries once."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=10),
    )


@pytest.fixture
def streams(simulator: Simulator) -> Any:
    return client(simulator.url)


def put(table: Table, number: int, **more: Any) -> None:
    table.put({"pk": {"S": f"k{number}"}, **more})


def described(streams: Any, arn: str, **more: Any) -> dict[str, Any]:
    """All shards by name, over as many pages as it takes."""
    found: dict[str, Any] = {}
    while True:
        page = streams.describe_stream(StreamArn=arn, **more)["StreamDescription"]
        found |= {shard["ShardId"]: shard for shard in page["Shards"]}
        if "LastEvaluatedShardId" not in page:
            return found
        more["ExclusiveStartShardId"] = page["LastEvaluatedShardId"]


def iterator(
    streams: Any, arn: str, shard: str, kind: str = "TRIM_HORIZON", number: int | str | None = None
) -> str:
    more = {} if number is None else {"SequenceNumber": str(number)}
    answer = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard, ShardIteratorType=kind, **more
    )
    return str(answer["ShardIterator"])


def records(streams: Any, position: str | None) -> tuple[list[Any], bool]:
    """What a shard holds from an iterator on, and whether that was all for ever."""
    found: list[Any] = []
    while position:
        answer = streams.get_records(ShardIterator=position)
        found += answer["Records"]
        position = answer.get("NextShardIterator")
        if not answer["Records"] and position:
            return found, False
    return found, True


def numbers(found: list[Any]) -> list[int]:
    return [int(record["dynamodb"]["SequenceNumber"]) for record in found]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as refused:
        call()
    return str(refused.value.response["Error"]["Code"])


def follow(streams: Any, stream: Stream) -> dict[bytes, list[Any]]:
    """Read a stream that no longer changes as AWS wants it: parents first. Records by key."""
    by_key: dict[bytes, list[Any]] = defaultdict(list)
    left = described(streams, stream.arn)
    while left:
        ready = [s for s in left.values() if s.get("ParentShardId") not in left]
        for shard in ready:
            del left[shard["ShardId"]]
            start = shard["SequenceNumberRange"]["StartingSequenceNumber"]
            position = iterator(streams, stream.arn, shard["ShardId"], "AT_SEQUENCE_NUMBER", start)
            for record in records(streams, position)[0]:
                by_key[orjson.dumps(record["dynamodb"]["Keys"])].append(record)
    return by_key


# -- the same as DynamoDB Local ------------------------------------------------------------------

ITEM = {
    **KEY,
    "n": {"N": "-12.5"},
    "long": {"N": "12345678901234567890"},
    "b": {"B": "YWJj"},
    "l": {"L": [{"S": "xyz"}, {"BOOL": True}, {"NULL": True}]},
    "m": {"M": {"q": {"S": "é"}}},
    "ss": {"SS": ["a", "bc"]},
}


def raw(url: str, operation: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """An answer as it travels."""
    streams = {"ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"}
    service = "DynamoDBStreams" if operation in streams else "DynamoDB"
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": f"{service}_20120810.{operation}",
        "x-amz-date": "20260101T000000Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/"
        "aws4_request, SignedHeaders=host, Signature=abc",
    }
    reply = forward(url)(Request(operation, orjson.dumps(body), headers, 0))
    return reply.status, orjson.loads(reply.body)


def outline(answer: Any) -> Any:
    """An answer without what may differ: numbers, names, times; members are in no order."""
    if isinstance(answer, dict):
        if "__type" in answer:
            return answer["__type"].rpartition("#")[2]
        return {
            key: value if key in TOLD else outline(value)
            for key, value in sorted(answer.items())
            if key not in UNTOLD
        }
    if isinstance(answer, list):
        return [outline(element) for element in answer]
    return type(answer).__name__


#: Compared to the letter.
TOLD = {
    "AttributeDefinitions", "BillingMode", "Count", "CapacityUnits", "Items", "KeySchema", "Keys",
    "LastEvaluatedKey", "NewImage", "OldImage", "Responses", "ScannedCount", "SizeBytes",
    "StreamSpecification", "StreamStatus", "StreamViewType", "TableName", "TableNames",
    "TableStatus", "UnprocessedKeys", "eventName", "eventSource", "eventVersion",
}  # fmt: skip
#: What only one of them says, and is not needed.
UNTOLD = {
    "DeletionProtectionEnabled", "LastDecreaseDateTime", "LastIncreaseDateTime",
    "LastUpdateToPayPerRequestDateTime",
}  # fmt: skip


def script(url: str, name: str, change: dict[str, Callable[..., object]]) -> Iterator[Any]:
    """The same life of a table, on each server: each answer's status and outline."""

    def ask(operation: str, **body: Any) -> Any:
        status, answer = raw(url, operation, body)
        log.append((operation, status, outline(answer)))
        return answer

    log: list[Any] = []
    view = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    ask("DescribeTable", TableName=name)
    ask("DescribeTable", TableName="nobody")
    ask("ListStreams", TableName=name)
    ask("UpdateTable", TableName=name, StreamSpecification={"StreamEnabled": False})
    ask("UpdateTable", TableName=name, StreamSpecification={"StreamEnabled": True})
    ask("UpdateTable", TableName=name, StreamSpecification=view)
    ask("UpdateTable", TableName=name, StreamSpecification=view)
    arn = ask("DescribeTable", TableName=name)["Table"]["LatestStreamArn"]
    ask("ListStreams", TableName=name)
    [shard] = ask("DescribeStream", StreamArn=arn)["StreamDescription"]["Shards"]
    place = {"StreamArn": arn, "ShardId": shard["ShardId"]}
    other = "shardId-00000001414576573621-f55eea83"
    start = ask("GetShardIterator", **place, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    latest = ask("GetShardIterator", **place, ShardIteratorType="LATEST")["ShardIterator"]
    ask("GetRecords", ShardIterator=start)
    change["put"](ITEM)
    change["put"](ITEM)
    change["put"]({**KEY, "n": {"N": "12"}})
    change["delete"](KEY)
    change["delete"](KEY)
    change["put"]({**KEY, "sk": {"N": "-123.45"}, "e": {"M": {}}, "f": {"L": []}})
    ask("GetRecords", ShardIterator=latest, Limit=2)
    found = ask("GetRecords", ShardIterator=start)["Records"]
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        seen = {**place, "ShardIteratorType": kind}
        ask("GetShardIterator", **seen)
        ask("GetShardIterator", **seen, SequenceNumber="1")
        low = int(shard["SequenceNumberRange"]["StartingSequenceNumber"]) - 1
        ask("GetShardIterator", **seen, SequenceNumber=f"{low:021}")
        for record in found:
            number = record["dynamodb"]["SequenceNumber"]
            token = ask("GetShardIterator", **seen, SequenceNumber=number)["ShardIterator"]
            ask("GetRecords", ShardIterator=token)
    ask("GetShardIterator", **place, ShardIteratorType="LATEST", SequenceNumber="0" * 21)
    ask("GetShardIterator", **place, ShardIteratorType="BEST")
    ask("GetShardIterator", StreamArn=arn, ShardId=other, ShardIteratorType="LATEST")
    ask("GetShardIterator", **{**place, "StreamArn": arn + "9"}, ShardIteratorType="LATEST")
    ask("GetRecords", ShardIterator="nonsense")
    for limit in (0, 1001):
        ask("GetRecords", ShardIterator=start, Limit=limit)
    for limit in (0, 101):
        ask("DescribeStream", StreamArn=arn, Limit=limit)
    ask("DescribeStream", StreamArn=arn + "9")
    ask("DescribeStream", StreamArn=arn, ExclusiveStartShardId=shard["ShardId"])
    ask("DescribeStream", StreamArn=arn, ExclusiveStartShardId=other)
    ask("DescribeStream", StreamArn=arn, ShardFilter={"Type": "CHILD_SHARDS", "ShardId": other})
    change["put"]({**KEY, "sk": {"N": "7"}})
    for consistent in (False, True):
        more = {"ReturnConsumedCapacity": "TOTAL", "ConsistentRead": consistent}
        ask("Scan", TableName=name, Limit=3, **more)
    ask("Scan", TableName=name, Segment=1)
    ask("Scan", TableName="nobody")
    ask("BatchGetItem", RequestItems={name: {"Keys": [KEY, {**KEY, "sk": {"N": "7"}}]}})
    ask("NoSuchOperation")
    ask("UpdateTable", TableName=name, StreamSpecification={"StreamEnabled": False})
    ask("DescribeTable", TableName=name)
    ask("DescribeStream", StreamArn=arn)
    token = ask("GetRecords", ShardIterator=start, Limit=1)["NextShardIterator"]
    while token:
        _, answer = raw(url, "GetRecords", {"ShardIterator": token})
        token = answer.get("NextShardIterator")
    ask("GetShardIterator", **place, ShardIteratorType="LATEST")
    return iter(log)


def test_it_answers_as_dynamodb_local_does(dynamodb: Any, simulator: Simulator, name: str) -> None:
    simulator.child_filter, simulator.table_ids = "ignored", False
    table = simulator.table(name, ("pk", "S"), ("sk", "N"), stream=None)
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))
    simulated = script(simulator.url, name, {"put": table.put, "delete": table.delete})
    embedded = script(
        dynamodb.url,
        name,
        {
            "put": lambda item: raw(dynamodb.url, "PutItem", {"TableName": name, "Item": item}),
            "delete": lambda key: raw(dynamodb.url, "DeleteItem", {"TableName": name, "Key": key}),
        },
    )
    for ours, theirs in zip(simulated, embedded, strict=True):
        assert ours == theirs


@pytest.mark.parametrize("view", ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"])
def test_records_hold_the_images_of_the_view_type(simulator: Simulator, view: str) -> None:
    table = simulator.table("table", stream=view)
    for number in (1, 2):
        put(table, 0, v={"N": str(number)})
    table.delete({"pk": {"S": "k0"}})
    [shard] = table.stream.shards
    held = [set(record["dynamodb"]) & {"NewImage", "OldImage"} for _, _, record in shard.records]
    new, old = {"NewImage"}, {"OldImage"}
    wanted = {
        "KEYS_ONLY": [set(), set(), set()],
        "NEW_IMAGE": [new, new, set()],
        "OLD_IMAGE": [set(), old, old],
        "NEW_AND_OLD_IMAGES": [new, new | old, old],
    }
    assert held == wanted[view]


def test_only_a_deletion_by_time_to_live_names_the_service(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table")
    for expired in (False, True):
        put(table, 0)
        table.delete({"pk": {"S": "k0"}}, expired=expired)
    [shard] = table.stream.shards
    found, _ = records(streams, iterator(streams, table.stream.arn, shard.id))
    service = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    assert [record.get("userIdentity") for record in found] == [None, None, None, service]


# -- shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_who_reads_parents_first_sees_each_keys_changes_in_order_and_ends_with_the_table(
    seed: int,
) -> None:
    with Simulator(seed) as simulator:
        table = simulator.table("table", shards=3)
        simulator.empty_pages = 0.0
        Workload(table, seed, cold=50).run(1500)
        by_key = follow(client(simulator.url), table.stream)
    assert len(table.stream.shards) > 20
    held = {}
    for key, changes in by_key.items():
        told = [int(c["dynamodb"]["NewImage"][COUNTER]["N"]) for c in changes
                if "NewImage" in c["dynamodb"]]  # fmt: skip
        assert told == sorted(set(told))
        image = None
        for change in changes:
            assert change["dynamodb"].get("OldImage") == image
            image = change["dynamodb"].get("NewImage")
            kind = ("REMOVE", "INSERT" if "OldImage" not in change["dynamodb"] else "MODIFY")
            assert change["eventName"] == kind[image is not None]
        if image:
            held[key] = image
    assert held == {orjson.dumps(table.key_of(item)): item for item in table.contents()}


def test_sequence_numbers_rise_along_the_lineage_and_grow_longer(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table")
    Workload(table, shards=3).run(1000)
    shards = described(streams, table.stream.arn)
    texts: list[str] = []
    for shard in shards.values():
        ends = shard["SequenceNumberRange"]
        position = iterator(streams, table.stream.arn, shard["ShardId"])
        found = numbers(records(streams, position)[0])
        last = int(ends.get("EndingSequenceNumber", "9" * 40))
        assert found == sorted(set(found))
        assert all(int(ends["StartingSequenceNumber"]) <= number <= last for number in found)
        if parent := shards.get(shard.get("ParentShardId", "")):
            end = parent["SequenceNumberRange"]["EndingSequenceNumber"]
            assert int(end) < int(ends["StartingSequenceNumber"])
        texts += map(str, found)
    assert {21, 22} < {len(text) for text in texts} <= set(range(21, 41))


def test_an_open_shard_is_never_at_its_end_and_a_closed_one_is_behind_its_last_record(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table")
    parent, ends = table.stream.shards[0], set()
    position = iterator(streams, table.stream.arn, parent.id)
    assert records(streams, position) == ([], False)
    for number in range(20):
        put(table, number)
    assert len(records(streams, position)[0]) == 20
    assert not records(streams, position)[1]
    child = table.stream.roll_over(parent)
    assert records(streams, iterator(streams, table.stream.arn, child.id)) == ([], False)
    for _ in range(20):
        answer = streams.get_records(ShardIterator=position)
        assert len(answer["Records"]) == 20
        ends.add("NextShardIterator" in answer)
        assert len(records(streams, position)[0]) == 20
        assert records(streams, position)[1]
    assert ends == {True, False}  # both are the protocol's
    assert len(streams.get_records(ShardIterator=position, Limit=3)["Records"]) == 3


def test_an_empty_page_is_not_the_end(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table")
    shard = table.stream.shards[0]
    for number in range(5):
        put(table, number)
    table.stream.roll_over(shard)
    simulator.empty_pages = 0.8
    found, empty = 0, 0
    position: str | None = iterator(streams, table.stream.arn, shard.id)
    while position:
        answer = streams.get_records(ShardIterator=position, Limit=1)
        position = answer.get("NextShardIterator")
        found += len(answer["Records"])
        empty += not answer["Records"]
    assert found == 5
    assert empty > 3


def test_records_may_come_after_many_empty_pages_of_a_new_iterator(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table")
    put(table, 0)
    simulator.cold_pages = 3
    position = iterator(streams, table.stream.arn, table.stream.shards[0].id)
    found = []
    for _ in range(5):
        answer = streams.get_records(ShardIterator=position)
        position = answer["NextShardIterator"]
        found.append(len(answer["Records"]))
    assert found == [0, 0, 0, 1, 0]


def test_latest_is_behind_all_that_was_written(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table")
    put(table, 0)
    latest = iterator(streams, table.stream.arn, table.stream.shards[0].id, "LATEST")
    put(table, 1)
    [record] = records(streams, latest)[0]
    assert record["dynamodb"]["Keys"] == {"pk": {"S": "k1"}}
    assert simulator.trials.iterators() == {"LATEST"}


def test_a_page_ends_at_1_mb(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table")
    for number in range(12):
        put(table, number, data={"S": "x" * 200_000})
    position = iterator(streams, table.stream.arn, table.stream.shards[0].id)
    assert len(streams.get_records(ShardIterator=position)["Records"]) == 5
    assert len(records(streams, position)[0]) == 12


def test_children_share_their_parents_keys(simulator: Simulator) -> None:
    table = simulator.table("table", shards=2)
    before = {number: table.shard_of({"pk": {"S": f"k{number}"}}) for number in range(100)}
    [first, second] = table.stream.open()
    left, right = table.stream.split(first)
    child = table.stream.roll_over(second)
    heirs = {first: {left, right}, second: {child}}
    for number, shard in before.items():
        assert table.shard_of({"pk": {"S": f"k{number}"}}) in heirs[shard]
    merged = table.stream.merge(right, child)
    assert merged.parent == right.id
    assert table.stream.open() == [left, merged]
    assert {table.shard_of({"pk": {"S": f"k{number}"}}) for number in before} == {left, merged}


def test_thousands_of_shards_are_listed_over_pages(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table", shards=1234)
    assert len(described(streams, table.stream.arn)) == 1234
    assert 13 <= len(simulator.journal.of("DescribeStream")) <= 14
    simulator.most_shards = 500  # never above the API's own
    page = streams.describe_stream(StreamArn=table.stream.arn)["StreamDescription"]
    assert len(page["Shards"]) == 100


def test_children_are_listed_late_and_ends_shown_late(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table")
    arn, parent = table.stream.arn, table.stream.shards[0]
    child = table.stream.roll_over(parent, listed_after=2, closed_after=1)
    other = table.stream.roll_over(child, listed_after=0, closed_after=2)
    seen = []
    for _ in range(4):
        shards = described(streams, arn)
        closed = {s for s, one in shards.items() if len(one["SequenceNumberRange"]) == 2}
        seen.append((set(shards), closed))
    everything = {parent.id, child.id, other.id}
    assert seen[0] == ({parent.id, other.id}, set())
    assert seen[1] == ({parent.id, other.id}, {parent.id})
    assert seen[2] == seen[3] or seen[2] == (everything, {parent.id})
    assert described(streams, arn).keys() == everything
    assert iterator(streams, arn, child.id)  # what is not listed can be read


def test_shards_may_come_while_pages_are_read(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table", shards=6)
    simulator.most_shards = 2
    split = calling(lambda: table.stream.split(table.stream.open()[0]))
    simulator.faults.next("DescribeStream", None, split, split)
    first = described(streams, table.stream.arn)
    later = described(streams, table.stream.arn)
    assert len(first) < len(later) == 10
    assert any(first[shard] != later[shard] for shard in first)  # closed behind the reader's back


def test_child_shards_are_found_by_filter_unless_the_endpoint_does_not_know_it(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table", shards=3)
    arn, parent = table.stream.arn, table.stream.shards[0]
    children = {shard.id for shard in table.stream.split(parent)}
    wanted = {"Type": "CHILD_SHARDS", "ShardId": parent.id}
    simulator.most_shards = 1
    assert described(streams, arn, ShardFilter=wanted).keys() == children
    simulator.child_filter = "ignored"
    assert len(described(streams, arn, ShardFilter=wanted)) == 5
    simulator.child_filter = "refused"
    assert refusal(lambda: described(streams, arn, ShardFilter=wanted)) == "ValidationException"
    assert len(described(streams, arn)) == 5


# -- time ----------------------------------------------------------------------------------------


def test_an_iterator_expires(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table")
    position = iterator(streams, table.stream.arn, table.stream.shards[0].id)
    simulator.advance(15 * 60)
    assert records(streams, position) == ([], False)
    following = streams.get_records(ShardIterator=position)["NextShardIterator"]
    simulator.advance(1)
    expired = refusal(lambda: streams.get_records(ShardIterator=position))
    assert expired == "ExpiredIteratorException"
    assert records(streams, following) == ([], False)


def test_what_is_older_than_a_day_is_gone_and_asking_for_it_is_an_error(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table")
    arn, shard = table.stream.arn, table.stream.shards[0]
    simulator.iterator_age = 1e6
    old = iterator(streams, arn, shard.id)
    put(table, 0)
    put(table, 1)
    first = numbers(records(streams, old)[0])
    simulator.advance(23 * 3600)
    put(table, 2)
    simulator.advance(2 * 3600)

    def at(number: int, kind: str = "AT_SEQUENCE_NUMBER") -> str:
        return iterator(streams, arn, shard.id, kind, number)

    trimmed = "TrimmedDataAccessException"
    assert refusal(lambda: streams.get_records(ShardIterator=old)) == trimmed
    assert refusal(lambda: at(shard.start)) == trimmed
    assert refusal(lambda: at(first[1], "AFTER_SEQUENCE_NUMBER")) == trimmed
    [left] = records(streams, iterator(streams, arn, shard.id))[0]
    assert left["dynamodb"]["Keys"] == {"pk": {"S": "k2"}}
    [last] = numbers([left])
    assert records(streams, at(last)) == ([left], False)


def test_a_closed_shard_is_forgotten_after_a_day_and_an_idle_open_one_loses_nothing(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table", shards=2)
    arn = table.stream.arn
    closed, idle = table.stream.open()
    child = table.stream.roll_over(closed)
    simulator.advance(25 * 3600)
    assert described(streams, arn).keys() == {idle.id, child.id}
    assert described(streams, arn)[child.id]["ParentShardId"] == closed.id
    gone = refusal(lambda: iterator(streams, arn, closed.id))
    assert gone == "ResourceNotFoundException"
    assert iterator(streams, arn, idle.id, "AT_SEQUENCE_NUMBER", idle.start)


def test_a_disabled_stream_can_be_read_for_a_day_beside_its_successor(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table")
    put(table, 0)
    old = table.stream
    new = table.replace_stream()
    put(table, 1)
    assert old.arn != new.arn
    listed = streams.list_streams(TableName="table")["Streams"]
    assert {stream["StreamArn"] for stream in listed} == {old.arn, new.arn}
    status = streams.describe_stream(StreamArn=old.arn)["StreamDescription"]["StreamStatus"]
    assert status == "DISABLED"
    assert [len(one) for one in follow(streams, old).values()] == [1]
    assert orjson.dumps({"pk": {"S": "k1"}}) in follow(streams, new)
    simulator.advance(25 * 3600)
    gone = refusal(lambda: streams.describe_stream(StreamArn=old.arn))
    assert gone == "ResourceNotFoundException"
    table.disable_stream()
    put(table, 2)
    description = client(simulator.url, "dynamodb").describe_table(TableName="table")["Table"]
    assert "StreamSpecification" not in description
    assert description["LatestStreamArn"] == new.arn


def test_a_stream_that_was_just_enabled_is_not_ready_at_once(
    simulator: Simulator, streams: Any
) -> None:
    simulator.table("table", stream=None)
    simulator.enabling = 2
    tables = client(simulator.url, "dynamodb")
    kind = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    answer = tables.update_table(TableName="table", StreamSpecification=kind)
    assert answer["TableDescription"]["TableStatus"] == "UPDATING"
    arn = answer["TableDescription"]["LatestStreamArn"]
    told = [streams.describe_stream(StreamArn=arn)["StreamDescription"] for _ in range(2)]
    assert [one["StreamStatus"] for one in told] == ["ENABLING", "ENABLED"]
    assert [len(one["Shards"]) for one in told] == [0, 1]


# -- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [1, 3, 7])
@pytest.mark.parametrize("limit", [None, 10])
def test_segments_hold_every_item_once(
    simulator: Simulator, segments: int, limit: int | None
) -> None:
    table = simulator.table("table", ("pk", "S"), ("sk", "N"))
    Workload(table, cold=300).run(2000)
    pages = client(simulator.url, "dynamodb").get_paginator("scan")
    more = {} if limit is None else {"Limit": limit}
    found = []
    for segment in range(segments):
        for page in pages.paginate(
            TableName="table", Segment=segment, TotalSegments=segments, **more
        ):
            assert len(page["Items"]) == page["Count"] <= (limit or 10_000)
            found += page["Items"]
    assert sorted(found, key=str) == sorted(table.contents(), key=str)


def test_a_scan_page_ends_at_1_mb(simulator: Simulator) -> None:
    table = simulator.table("table")
    for number in range(8):
        put(table, number, data={"S": "x" * 300_000})
    page = client(simulator.url, "dynamodb").scan(TableName="table")
    assert len(page["Items"]) == 4
    assert "LastEvaluatedKey" in page


def test_a_scan_that_is_not_consistent_may_miss_the_last_changes_and_only_those(
    simulator: Simulator,
) -> None:
    table = simulator.table("table")
    past = []
    for number in range(20):
        put(table, number % 7, v={"N": str(number)})
        past.append(table.contents())
    table.delete({"pk": {"S": "k3"}})
    past.append(table.contents())
    table.stale = 3
    tables, seen = client(simulator.url, "dynamodb"), set()
    for _ in range(60):
        seen.add(past.index(tables.scan(TableName="table")["Items"]))
        assert tables.scan(TableName="table", ConsistentRead=True)["Items"] == past[-1]
    assert seen == {17, 18, 19, 20}


# -- what goes wrong -----------------------------------------------------------------------------


def test_faults_happen_as_scheduled_and_then_no_more(simulator: Simulator, streams: Any) -> None:
    table = simulator.table("table")
    put(table, 0)
    put(table, 1)
    position = iterator(streams, table.stream.arn, table.stream.shards[0].id)
    good = streams.get_records(ShardIterator=position)["Records"]
    throttled = instead(error("LimitExceededException"))
    broken = instead(error("InternalServerError", status=500))
    simulator.faults.next("GetRecords", throttled, None, broken, instead(dropped()), cut)
    simulator.faults.next("GetRecords", shortened)

    def read() -> Any:
        return streams.get_records(ShardIterator=position)

    assert refusal(read) == "LimitExceededException"
    assert read()["Records"] == good
    assert refusal(read) == "InternalServerError"
    with pytest.raises(HTTPClientError):
        read()
    for _ in range(2):  # the SDK takes both for the end of the shard
        assert "NextShardIterator" not in read()
    assert read()["Records"] == good
    told = [(call.status, call.error) for call in simulator.journal.of("GetRecords")]
    assert told[1:4] == [(400, "LimitExceededException"), (200, ""), (500, "InternalServerError")]


@pytest.mark.parametrize(("fault", "fits"), [(None, True), (corrupt, False), (shortened, False)])
def test_the_checksum_tells_damage(simulator: Simulator, fault: Any, fits: bool) -> None:
    table = simulator.table("table")
    put(table, 0)
    simulator.faults.next("Scan", fault)
    connection = http.client.HTTPConnection(urlsplit(simulator.url).netloc, timeout=10)
    connection.request("POST", "/", b'{"TableName":"table"}', {"X-Amz-Target": "D.Scan"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.headers["Content-Length"] == str(len(body))
    assert answer.headers["Content-Type"] == "application/x-amz-json-1.0"
    assert (answer.headers["x-amz-crc32"] == str(zlib.crc32(body))) is fits
    connection.close()


def test_chance_is_the_same_for_the_same_seed() -> None:
    def life(seed: int) -> list[str]:
        with Simulator(seed) as simulator:
            simulator.table("one")
            simulator.table("two")
            bad = instead(error("ThrottlingException")), instead(error("InternalServerError"))
            simulator.faults.rule(0.4, *bad, where=lambda call: call.table == "one")
            tables = client(simulator.url, "dynamodb")
            for name in ("one", "two") * 20:
                try:
                    tables.scan(TableName=name)
                except ClientError:
                    continue
            assert {call.status for call in simulator.journal.of(table="two")} == {200}
            return [call.error for call in simulator.journal.of("Scan", table="one")]

    assert life(1) == life(1) != life(2)
    assert set(life(1)) == {"", "ThrottlingException", "InternalServerError"}


def test_the_journal_tells_who_read_what_and_how_many_at_once(
    simulator: Simulator, streams: Any
) -> None:
    table = simulator.table("table", shards=2)
    one, two = (shard.id for shard in table.stream.open())
    positions = {shard: iterator(streams, table.stream.arn, shard) for shard in (one, two)}
    assert simulator.journal.iterators() == {"TRIM_HORIZON"}
    simulator.faults.rule(1.0, slow(0.3), where=lambda call: call.operation == "GetRecords")

    def read(shard: str) -> None:
        client(simulator.url).get_records(ShardIterator=positions[shard])

    read(one)
    threads = [threading.Thread(target=read, args=(shard,)) for shard in (one, one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert simulator.journal.readers(one) == 2
    assert simulator.journal.readers(two) == 1
    names = [call.operation for call in simulator.journal.of(table="table")]
    assert names == ["GetShardIterator"] * 2 + ["GetRecords"] * 4
    calls = simulator.journal.of("GetRecords")
    assert all(0.3 <= call.ended - call.began < 5 for call in calls)
    assert calls[0].ended <= calls[1].began <= time.monotonic()


def test_a_call_can_wait_for_the_test(simulator: Simulator) -> None:
    table = simulator.table("table")
    simulator.faults.next("Scan", calling(lambda: put(table, 1)))
    assert client(simulator.url, "dynamodb").scan(TableName="table")["Count"] == 1


# -- the workload --------------------------------------------------------------------------------


def test_a_workload_is_the_same_for_the_same_seed_and_holds_every_kind_of_change() -> None:
    def life(seed: int) -> tuple[list[Any], list[Any]]:
        table = Simulator(seed).table("table", ("pk", "N"), ("sk", "S"))
        workload = Workload(table, seed, cold=50)
        workload.run(1000)
        changes = [record for shard in table.stream.shards for _, _, record in shard.records]
        kinds = {record["eventName"] for record in changes}
        assert kinds == {"INSERT", "MODIFY", "REMOVE"}
        assert any("userIdentity" in record for record in changes)
        children: dict[str | None, int] = defaultdict(int)
        for shard in table.stream.shards:
            children[shard.parent] += 1
        assert {1, 2} <= set(children.values())
        return changes, table.contents()

    assert life(3) == life(3) != life(4)


def test_a_workload_runs_beside_its_reader() -> None:
    with Simulator(clock=Clock(time.time)) as simulator:
        table = simulator.table("table")
        workload = Workload(table, untidy=3)
        began = time.monotonic()
        with workload.running(500):
            until(lambda: workload.steps >= 200)
        assert time.monotonic() - began >= 200 / 500
        done = workload.steps
        for _ in range(10):  # until all is listed
            described(client(simulator.url), table.stream.arn)
        by_key = follow(client(simulator.url), table.stream)
        assert workload.steps == done
    last = [changes[-1]["dynamodb"].get("NewImage") for changes in by_key.values()]
    held = [image for image in last if image]
    assert sorted(held, key=str) == sorted(table.contents(), key=str)
    when = by_key.popitem()[1][0]["dynamodb"]["ApproximateCreationDateTime"].timestamp()
    assert abs(time.time() - when) < 60
