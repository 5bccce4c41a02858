"""A target that speaks DynamoDB: tables as at the source, every item once, no item lost or hidden.

Source and target are the same server, under different table names.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import orjson
import pytest

from shake import codec
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.file_store import FileStore
from shake.config import Config, load
from shake.errors import ItemError, RefusedError, RunError, Stopped
from shake.plan.plan import Action, TablePlan
from shake.plan.planner import Planner
from shake.schema import Attribute, Keys, SecondaryIndex, Table
from shake.targets.choice import index_names, open_target, problems
from shake.targets.contract import CopyRun
from shake.targets.deadline import Deadline
from shake.targets.dynamodb.target import signing_region
from shake.targets.dynamodb.writing import MAX_BYTES, DynamoWriter, batches
from tests.support import faulty
from tests.support.crash import await_death
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.migration import MANY_PAGES, Migration
from tests.support.tables import ACCESS_KEY, REGION, SECRET_KEY, create_table, put_items
from tests.support.wait import until
from tests.test_codec_servers import ATTRIBUTES, scan

PK, SK, G = Attribute("pk", "S"), Attribute("sk", "N"), Attribute("g", "B")
KEYS = Keys(PK)
TABLE = Table("things", KEYS)
INDEXED = Table(
    "things",
    Keys(PK, SK),
    (
        SecondaryIndex("other", (G,), (SK,)),
        SecondaryIndex("same", (PK,), (Attribute("h", "N"),)),
        SecondaryIndex("near", (PK,), (Attribute("t", "S"),), local=True),
    ),
)


def configure(source: str, address: str, *settings: str) -> Config:
    given = {
        "id": "task",
        "source.endpoint_url": source,
        "source.region": REGION,
        "source.access_key_id": ACCESS_KEY,
        "source.secret_access_key": SECRET_KEY,
        "target.type": "aliyun_dynamo_proxy",
        "target.address": address,
        "checkpoint.type": "file",
    }
    return load(None, {}, [*(f"{key}={value}" for key, value in given.items()), *settings]).config


class Stage:
    """A target, a place in it, and everything that was retried."""

    def __init__(self, source: str, address: str, name: str, *settings: str) -> None:
        self.stop = threading.Event()
        self.retries: list[str] = []
        self.config = configure(source, address, *settings)
        self.deadline = Deadline()
        self.target = open_target(
            self.config, stop=self.stop, on_retry=self.retries.append, deadline=self.deadline
        )
        self.place = f"any.{name}"

    def writer(self, table: Table = TABLE) -> DynamoWriter:
        writer = self.target.writer(self.place, table)
        assert isinstance(writer, DynamoWriter)
        return writer


Open = Callable[..., Stage]


@pytest.fixture
def stage(dynamodb: Any, name: str) -> Iterator[Open]:
    stages: list[Stage] = []

    def stage(*settings: str, address: str = dynamodb.url) -> Stage:
        stages.append(Stage(dynamodb.url, address, name, *settings))
        return stages[-1]

    yield stage
    for one in stages:
        one.target.close()


def slot(items: list[dict[str, Any]]) -> memoryview:
    """The items as the codec lays them out, in memory that may be overwritten later."""
    texts = [orjson.dumps(item) for item in items]
    return memoryview(
        bytearray(b"".join((len(text) + 4).to_bytes(4, "little") + text for text in texts))
    )


def things(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"pk": {"S": f"k{number:04}"}, **more} for number in range(count)]


def writes(server: Faulty) -> list[list[str]]:
    """The keys of each batch that arrived."""
    bodies = [orjson.loads(r.body) for r in server.requests if r.operation == "BatchWriteItem"]
    return [
        [
            put["PutRequest"]["Item"]["pk"]["S"]
            for puts in body["RequestItems"].values()
            for put in puts
        ]
        for body in bodies
    ]


# -- tables --------------------------------------------------------------------------------------


def test_a_table_gets_the_keys_and_indexes_of_the_source(
    stage: Open, dynamodb: Any, name: str
) -> None:
    one = stage()
    one.target.create(one.place, INDEXED)
    one.target.create(one.place, INDEXED)
    made = dynamodb.client.describe_table(TableName=name)["Table"]
    assert made["TableStatus"] == "ACTIVE"
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert _keys(made) == ["pk", "sk"]
    assert {i["IndexName"]: _keys(i) for i in made["GlobalSecondaryIndexes"]} == {
        "other": ["g", "sk"],
        "same": ["pk", "h"],
    }
    assert {i["IndexName"]: _keys(i) for i in made["LocalSecondaryIndexes"]} == {
        "near": ["pk", "t"]
    }
    types = {a["AttributeName"]: a["AttributeType"] for a in made["AttributeDefinitions"]}
    assert types == {"pk": "S", "sk": "N", "g": "B", "h": "N", "t": "S"}
    one.writer(INDEXED).build_indexes(lambda line: None)


def _keys(description: dict[str, Any]) -> list[str]:
    return [part["AttributeName"] for part in description["KeySchema"]]


def test_secondary_indexes_can_be_left_out(stage: Open, dynamodb: Any, name: str) -> None:
    one = stage("full.enable_index.user=false")
    one.target.create(one.place, INDEXED)
    made = dynamodb.client.describe_table(TableName=name)["Table"]
    assert not {"GlobalSecondaryIndexes", "LocalSecondaryIndexes"} & made.keys()
    assert index_names(INDEXED, one.config) == []
    one.writer(INDEXED).build_indexes(lambda line: None)
    with pytest.raises(RunError, match=r"has no global .* other \(g, sk\), .*local .* near"):
        stage().writer(INDEXED).build_indexes(lambda line: None)


def test_the_plan_names_the_indexes(stage: Open) -> None:
    assert index_names(INDEXED, stage().config) == [
        "global secondary index other (g, sk)",
        "global secondary index same (pk, h)",
        "local secondary index near (pk, t)",
    ]


def test_a_dropped_table_is_gone(stage: Open) -> None:
    one = stage()
    one.target.create(one.place, TABLE)
    assert one.target.find(one.place, TABLE)
    one.target.drop(one.place)
    assert one.target.find(one.place, TABLE) is None
    one.target.drop(one.place)


def state(status: str) -> Reply:
    return Reply(orjson.dumps({"Table": {"TableStatus": status}}))


GONE = faulty.error("ResourceNotFoundException")
BUSY = faulty.error("ResourceInUseException")


@pytest.mark.parametrize(
    ("answers", "work"),
    [
        ([Reply()] * 4, lambda one: one.writer().write(slot(things(100)))),
        ([state("ACTIVE"), Reply(), GONE], lambda one: one.target.drop(one.place)),
        ([GONE, Reply(), state("ACTIVE")], lambda one: one.target.create(one.place, TABLE)),
    ],
    ids=["write", "drop", "create"],
)
def test_no_request_is_sent_once_the_deadline_is_over(
    stage: Open, answers: list[Reply], work: Callable[[Stage], object]
) -> None:
    """As of a process that was frozen in a page, or between a look at a table and its deletion."""
    script = iter(answers)

    def answer(request: Request) -> Reply:
        if len(server.requests) == 1:
            one.deadline.extend(0.0)
        return next(script)

    with Faulty(otherwise=answer) as server, ThreadPoolExecutor(1) as pool:
        one = stage(address=server.url)
        working = pool.submit(work, one)
        wait([working], timeout=0.5)
        sent = len(server.requests)
        one.deadline.extend(math.inf)
        working.result(timeout=30)
    assert sent == 1
    assert len(server.requests) == len(answers)


def test_create_waits_until_the_table_can_be_written(stage: Open) -> None:
    script = [state("DELETING"), GONE, BUSY, GONE, Reply(), state("CREATING"), state("ACTIVE")]
    with Faulty(script) as server:
        one = stage(address=server.url)
        one.target.create(one.place, TABLE)
    assert [request.operation for request in server.requests] == [
        *("DescribeTable", "DescribeTable", "CreateTable", "DescribeTable", "CreateTable"),
        *("DescribeTable", "DescribeTable"),
    ]


def test_drop_waits_until_the_table_is_gone(stage: Open) -> None:
    script = [state("CREATING"), BUSY, state("ACTIVE"), Reply(), state("DELETING"), GONE]
    with Faulty(script) as server:
        one = stage(address=server.url)
        one.target.drop(one.place)
    assert [request.operation for request in server.requests] == [
        *("DescribeTable", "DeleteTable", "DescribeTable", "DeleteTable"),
        *("DescribeTable", "DescribeTable"),
    ]


def test_a_stop_ends_the_waiting_for_a_table(stage: Open) -> None:
    with Faulty(otherwise=lambda request: state("CREATING")) as server, ThreadPoolExecutor(1) as p:
        one = stage(address=server.url)
        creating = p.submit(one.target.create, one.place, TABLE)
        until(lambda: server.requests)
        one.stop.set()
        with pytest.raises(Stopped):
            creating.result(timeout=30)


def test_a_refused_table_is_named(stage: Open) -> None:
    protected = faulty.error("ValidationException", "it is protected against deletion")
    with Faulty([state("ACTIVE"), protected]) as server:
        one = stage(address=server.url)
        with pytest.raises(RunError, match=f"{one.place}: the target refused DeleteTable: .*prot"):
            one.target.drop(one.place)


def test_a_table_cannot_be_renamed(stage: Open) -> None:
    one = stage()
    assert one.target.staging(one.place, TABLE, CopyRun(1, 0, 1), lambda line: None) is None


# -- probing -------------------------------------------------------------------------------------


def test_a_probe_leaves_nothing_behind(
    stage: Open, dynamodb: Any, name: str, stored: Callable[[], list[Any]]
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, things(2))
    one = stage(f"filter.collection.black={name}")
    one.target.probe([one.place, f"any.{name}-new"])
    assert stored() == things(2)
    assert one.target.find(f"any.{name}-new", TABLE) is None


def test_a_start_drops_nothing_once_the_policy_is_not_drop_any_more(
    stage: Open, dynamodb: Any, name: str, tmp_path: Path
) -> None:
    """Also where an earlier run was to drop it, and ended before it did."""
    create_table(dynamodb.client, name)
    checkpoints = Checkpoints(FileStore(tmp_path, name))
    where = f"namespace.map=things:any.{name}"

    def plan(*settings: str) -> tuple[TablePlan, list[str]]:
        one = stage(where, *settings)
        planner = Planner(one.config, 1, one.target, checkpoints, 1)
        return planner.plan(TABLE, True, None), planner.refusals

    planned, refusals = plan("target.db.exist=drop")
    assert (planned.action, refusals) == (Action.DROP, [])
    checkpoints.begin_table(planned.record)
    assert plan("target.db.exist=drop")[0].action is Action.DROP
    planned, refusals = plan()
    assert planned.action is Action.REFUSE
    assert f"collection any.{name} exists: set target.db.exist" in refusals[0]
    dynamodb.client.delete_table(TableName=name)
    assert plan()[0].action is Action.CREATE


def test_the_source_is_never_its_own_target(stage: Open, dynamodb: Any, name: str) -> None:
    create_table(dynamodb.client, name)
    with Faulty(otherwise=forward(dynamodb.url)) as detour:
        for one in (stage(), stage(address=detour.url), stage("target.db.exist=drop")):
            with pytest.raises(RefusedError, match=f"table {name} is the source's own"):
                one.target.probe([one.place])


def test_an_equally_named_table_elsewhere_is_no_source(stage: Open, name: str) -> None:
    there = {"TableStatus": "ACTIVE", "TableArn": "arn", "CreationDateTime": 1.5}

    def answer(request: Request) -> Reply:
        if request.operation == "DescribeTable":
            return Reply(orjson.dumps({"Table": there}))
        return faulty.error("ValidationException")

    with Faulty(otherwise=answer) as server:
        one = stage(address=server.url)
        one.target.probe([one.place])


def test_two_tables_of_one_name_are_refused(stage: Open, name: str) -> None:
    with pytest.raises(RefusedError, match=f"2 tables would go to table {name}"):
        stage().target.probe([f"a.{name}", f"b.{name}"])


def test_a_target_that_does_not_answer_is_refused(stage: Open) -> None:
    with pytest.raises(RefusedError, match=r"target\.address: the target does not answer: .*"):
        stage(address="http://127.0.0.1:1").target.probe(["any.thing"])


@pytest.mark.parametrize("refused", ["DescribeTable", "BatchWriteItem"])
def test_a_missing_permission_is_refused(stage: Open, refused: str) -> None:
    def answer(request: Request) -> Reply:
        if request.operation == refused:
            return faulty.error("AccessDeniedException", "User u may not")
        return GONE

    with Faulty(otherwise=answer) as server:
        one = stage(address=server.url)
        with pytest.raises(RefusedError, match=f"{one.place}: .*{refused}: .*User u may not"):
            one.target.probe([one.place])


@pytest.mark.parametrize("place", ["db.ab", "db.a b", "db." + "a" * 256])
def test_a_name_that_dynamodb_refuses_is_found_before_the_run(stage: Open, place: str) -> None:
    config = stage(f"namespace.map=things:{place}").config
    assert "3 to 255" in problems(TABLE, config)[0]
    assert problems(Table("fine-_.9", KEYS), config) == []


@pytest.mark.parametrize(
    ("address", "region"),
    [
        ("https://dynamodb.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
        ("https://vpce-0a1-b2.dynamodb.us-gov-west-1.vpce.amazonaws.com:443", "us-gov-west-1"),
        ("https://dynamodb.ap-southeast-2.api.aws", "ap-southeast-2"),
        ("http://127.0.0.1:8000", None),
        ("http://dds-x.dynamodb.rds.aliyuncs.com:3717", None),
    ],
)
def test_requests_are_signed_for_the_region_of_the_target(address: str, region: str | None) -> None:
    assert signing_region(address) == region


# -- writing -------------------------------------------------------------------------------------


def test_every_type_arrives_as_it_was_read(
    stage: Open, dynamodb: Any, name: str, stored: Callable[[], list[Any]]
) -> None:
    source = f"{name}-source"
    create_table(dynamodb.client, source)
    items = [{"pk": {"S": f"k{i % 6}-{i}"}, **ATTRIBUTES[i % 6]} for i in range(60)]
    put_items(dynamodb.client, source, items)
    one = stage()
    one.target.create(one.place, TABLE)
    body = scan(dynamodb.url, source)
    page = codec.scan_page(body, codec.Options(KEYS, "json"))
    out = memoryview(bytearray(1 << 20))
    length, documents = page.fill(out, bytes(7), 0)
    assert documents == 60
    assert one.writer().write(out[:length]) == 0
    wanted = dynamodb.client.scan(TableName=source)["Items"]
    assert stored() == sorted(wanted, key=lambda item: str(item["pk"]))
    assert not one.retries


def test_batches_keep_to_the_number_and_to_16_megabytes() -> None:
    large = slot(things(10, x={"S": "x" * 4_000_000}))
    assert [len(batch) for batch in batches(large, 25)] == [3, 3, 3, 1]
    assert all(sum(map(len, batch)) <= MAX_BYTES for batch in batches(large, 25))
    found = list(batches(slot(things(60)), 25))
    assert [len(batch) for batch in found] == [25, 25, 10]
    assert [orjson.loads(item) for batch in found for item in batch] == things(60)


def test_writing_again_replaces(stage: Open, stored: Callable[[], list[Any]]) -> None:
    one = stage()
    one.target.create(one.place, TABLE)
    one.writer().write(slot(things(30, x={"N": "1"})))
    one.writer().write(slot(things(30, x={"N": "2"})))
    assert stored() == things(30, x={"N": "2"})
    assert one.writer().delete_ranges([(bytes(12), bytes([255] * 12))]) == 0
    assert len(stored()) == 30


def test_what_is_left_unprocessed_is_sent_again_until_it_is_taken(
    stage: Open, dynamodb: Any, stored: Callable[[], list[Any]]
) -> None:
    take = iter([7, 0, 0, 1])

    def take_some(request: Request) -> Reply:
        if request.operation != "BatchWriteItem":
            return forward(dynamodb.url)(request)
        [(table, puts)] = orjson.loads(request.body)["RequestItems"].items()
        taken = next(take, len(puts))
        for put in puts[:taken]:
            dynamodb.client.put_item(TableName=table, Item=put["PutRequest"]["Item"])
        left = {table: puts[taken:]} if puts[taken:] else {}
        return Reply(orjson.dumps({"UnprocessedItems": left}))

    with Faulty(otherwise=take_some) as server:
        one = stage(address=server.url)
        one.target.create(one.place, TABLE)
        one.writer().write(slot(things(20)))
    assert stored() == things(20)
    assert [len(batch) for batch in writes(server)] == [20, 13, 13, 13, 12]
    assert one.retries == [f"{one.place}: the target is throttled, it left items unprocessed"] * 4


def test_a_stop_ends_the_waiting_for_a_throttled_target(stage: Open) -> None:
    def take_none(request: Request) -> Reply:
        return Reply(orjson.dumps({"UnprocessedItems": orjson.loads(request.body)["RequestItems"]}))

    with Faulty(otherwise=take_none) as server, ThreadPoolExecutor(1) as pool:
        one = stage(address=server.url)
        writing = pool.submit(one.writer().write, slot(things(3)))
        until(lambda: one.retries)
        one.stop.set()
        with pytest.raises(Stopped):
            writing.result(timeout=30)


@pytest.mark.parametrize(
    "trouble",
    [faulty.throttled(), faulty.error("InternalServerError", status=500), faulty.dropped()],
    ids=["throttled", "failed", "dropped"],
)
def test_what_passes_is_ridden_out(
    stage: Open, dynamodb: Any, name: str, stored: Callable[[], list[Any]], trouble: Reply
) -> None:
    create_table(dynamodb.client, name)
    with Faulty([trouble] * 3, forward(dynamodb.url)) as server:
        one = stage(address=server.url)
        one.writer().write(slot(things(30)))
    assert stored() == things(30)
    assert len(one.retries) == 3
    assert all(retry.startswith("BatchWriteItem: ") for retry in one.retries)


def test_what_no_waiting_cures_stops_the_task(stage: Open) -> None:
    one = stage()
    with pytest.raises(RunError, match=f"{one.place}: the target refused BatchWriteItem: Resource"):
        one.writer().write(slot(things(3)))
    assert not one.retries


@pytest.mark.parametrize("replace", ["true", "false"])
def test_an_item_that_the_target_refuses_is_named(
    stage: Open, stored: Callable[[], list[Any]], replace: str
) -> None:
    one = stage(f"full.executor.insert_on_dup_update={replace}")
    one.target.create(one.place, TABLE)
    documents = slot([*things(2), {"pk": {"S": "bad"}, "x": {"NS": []}}])
    with pytest.raises(ItemError, match=f"^table things: item .*: {one.place}: ") as error:
        one.writer().write(documents)
    assert error.value.key == '{"pk":{"S":"bad"}}'
    documents.release()  # would be a BufferError, if the error held on to the slot
    assert stored() == things(2)


def test_a_key_twice_in_a_batch_is_stored_with_the_last_content(
    stage: Open, stored: Callable[[], list[Any]]
) -> None:
    one = stage()
    one.target.create(one.place, TABLE)
    one.writer().write(slot([*things(2), *things(1, x={"N": "1"})]))
    assert stored() == [*things(1, x={"N": "1"}), *things(2)[1:]]
    assert "item by item" in one.retries[0]


def test_a_key_that_others_hold_stops_the_task_where_told_so(
    stage: Open, dynamodb: Any, name: str, stored: Callable[[], list[Any]]
) -> None:
    create_table(dynamodb.client, name)
    theirs = {"pk": {"S": "k0001"}, "x": {"N": "1"}}
    dynamodb.client.put_item(TableName=name, Item=theirs)
    one = stage("full.executor.insert_on_dup_update=false")
    with pytest.raises(ItemError, match=r'item {"pk":{"S":"k0001"}}: .*already holds this key'):
        one.writer().write(slot(things(2, x={"S": "1"})))
    assert stored()[1] == theirs


def test_what_was_stored_before_is_no_stranger(
    stage: Open, dynamodb: Any, name: str, stored: Callable[[], list[Any]]
) -> None:
    create_table(dynamodb.client, name)
    ours = {
        "n": {"N": "1.50"},
        "l": {"L": [{"NS": ["10", "2"]}, {"M": {"b": {"BS": ["YQ==", "Yg=="]}}}, {"NULL": True}]},
        "s": {"SS": ["b", "a"]},
    }
    lost = iter([True, False])

    def lose_the_first_answer(request: Request) -> Reply:
        reply = forward(dynamodb.url)(request)
        put = request.operation == "PutItem"
        return faulty.dropped() if put and next(lost, False) else reply

    with Faulty(otherwise=lose_the_first_answer) as server:
        one = stage("full.executor.insert_on_dup_update=false", address=server.url)
        for _ in range(2):
            one.writer().write(slot(things(2, **ours)))
    assert [request.operation for request in server.requests] == [
        *("PutItem", "PutItem", "GetItem", "PutItem"),
        *("PutItem", "GetItem") * 2,
    ]
    assert len(stored()) == 2


def test_several_slots_are_written_at_once(stage: Open, stored: Callable[[], list[Any]]) -> None:
    one = stage()
    one.target.create(one.place, TABLE)
    writer = one.writer()
    slots = [slot(things(300)[at : at + 60]) for at in range(0, 300, 30)]  # overlapping: a race
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(writer.write, slots))
    assert stored() == things(300)


# -- the whole program ---------------------------------------------------------------------------


def test_a_table_is_copied_to_a_dynamodb_endpoint(
    dynamodb: Any, name: str, tmp_path: Path, stored: Callable[[], list[Any]]
) -> None:
    source = f"{name}-source"
    create_table(dynamodb.client, source, indexes={"by-g": (("g", "S"), None)})
    items = [{**item, "g": {"S": item["pk"]["S"][-1]}, **ATTRIBUTES[2]} for item in things(300)]
    put_items(dynamodb.client, source, items)
    migration = Migration(
        dynamodb.url,
        dynamodb.url,
        source,
        tmp_path,
        target__type="aliyun_dynamo_proxy",
        namespace__map=f"{source}:any.{name}",
        checkpoint__type="file",
        checkpoint__address=tmp_path / "checkpoint",
        qps__full__batch_num=40,
    )
    try:
        result = migration.run()
        assert result.status == 0, result
        assert "full sync done!" in result.stdout.splitlines()
        wanted = dynamodb.client.scan(TableName=source)["Items"]
        assert stored() == sorted(wanted, key=lambda item: str(item["pk"]))
        query = {
            "IndexName": "by-g",
            "KeyConditionExpression": "g = :g",
            "ExpressionAttributeValues": {":g": {"S": "7"}},
        }
        assert dynamodb.client.query(TableName=name, **query)["Count"] == 30
        again = migration.run()
        assert again.status == 0
        assert "complete already" in again.stdout
    finally:
        migration.close()


def test_of_several_writers_to_a_dynamodb_endpoint_one_can_die(
    dynamodb: Any, name: str, tmp_path: Path, stored: Callable[[], list[Any]]
) -> None:
    source = f"{name}-source"
    create_table(dynamodb.client, source)
    put_items(dynamodb.client, source, things(300))
    answer, writes = forward(dynamodb.url), itertools.count()

    def disturbed(request: Request) -> Reply:
        reply = answer(request)
        if request.operation == "BatchWriteItem" and next(writes) == 3:
            writer = migration.child("writer 2 of")
            writer.kill()
            await_death(writer)
        return reply

    with Faulty(otherwise=disturbed) as target:
        migration = Migration(
            dynamodb.url,
            target.url,
            source,
            tmp_path,
            target__type="aliyun_dynamo_proxy",
            namespace__map=f"{source}:any.{name}",
            checkpoint__type="file",
            checkpoint__address=tmp_path / "checkpoint",
            full__writers=3,
            **MANY_PAGES,
        )
        with contextlib.closing(migration):
            result = migration.run()
            assert result.status == 0, result
            assert "writer 2 of any." in result.stdout
            assert "it is replaced" in result.stdout
    assert stored() == things(300)
