"""One answer never counts as lost changes, and another table is never taken for a gap."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.identity import Identity
from shake.checkpoint.records import TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.checkpoint.task_lock import TaskLock
from shake.config import load
from shake.demo.servers import free_port
from shake.errors import GapError, RunError
from shake.phase import Phase
from shake.plan.plan import Action, Plan, TablePlan
from shake.run.resync import Resync
from shake.schema import Question
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Credentials, Endpoint
from shake.stream import suspicion
from tests.support.faulty import Reply, error
from tests.support.followed import HASTY, Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.streams import Call, Simulator
from tests.support.streams_faults import calling, instead
from tests.support.wait import until

pytestmark = pytest.mark.slow


def caught_up(followed: Followed, **settings: Any) -> Migration:
    """A task that has followed its table for a moment and was stopped."""
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(**settings)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    return migration


def stale(call: Call, answer: Callable[[], Reply]) -> Reply:
    """The table as it was before its stream was enabled."""
    body = orjson.loads(answer().body)
    for field in ("StreamSpecification", "LatestStreamArn", "LatestStreamLabel"):
        body["Table"].pop(field, None)
    return Reply(orjson.dumps(body))


def replaced(call: Call, answer: Callable[[], Reply]) -> Reply:
    """The table with another stream."""
    reply = answer()
    label = orjson.loads(reply.body)["Table"]["LatestStreamLabel"].encode()
    return Reply(reply.body.replace(label, b"2001-01-01T00:00:00.000"))


def last(call: Call, answer: Callable[[], Reply]) -> Reply:
    """As if the shard were over."""
    body = orjson.loads(answer().body)
    body.pop("NextShardIterator", None)
    return Reply(orjson.dumps(body))


# ---- one answer


@pytest.mark.parametrize(("starts", "changes"), [(True, 3), (False, 0)], ids=["at a start", "live"])
def test_an_answer_that_a_shard_is_over_is_asked_for_again(
    followed: Followed, starts: bool, changes: int
) -> None:
    """The first one comes with as many changes."""
    migration = caught_up(followed)
    process = None if starts else migration.start()
    if process:
        followed.put("b")
        followed.arrived("b")
    ended = threading.Event()

    def end(call: Call, answer: Callable[[], Reply]) -> Reply:
        for number in range(changes):
            followed.put(f"c{number}")
        ended.set()
        return last(call, answer)

    followed.simulator.faults.next("GetRecords", end)
    process = process or migration.start()
    until(ended.is_set)
    followed.put("d")
    followed.equal()
    stopped(migration, process)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


@pytest.mark.parametrize("policy", ["fail", "resync"])
@pytest.mark.parametrize("skip", range(4))
def test_a_stale_description_of_the_table_at_the_start_is_no_gap(
    followed: Followed, policy: str, skip: int
) -> None:
    migration = caught_up(followed, gap__policy=policy)
    followed.put("b")
    scans = len(list(filter(copies, followed.simulator.journal)))
    followed.simulator.faults.next("DescribeTable", *[None] * skip, stale)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()
    assert len(list(filter(copies, followed.simulator.journal))) == scans


def test_a_first_start_believes_no_stale_description_of_the_table(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    followed.simulator.faults.next("DescribeTable", None, stale)
    result = followed.task().run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


def unlisted(call: Call, answer: Callable[[], Reply]) -> Reply:
    """A list that lacks every table whose name begins with ``t``, as those of tests do."""
    body = orjson.loads(answer().body)
    body["TableNames"] = [one for one in body["TableNames"] if not one.startswith("t")]
    return Reply(orjson.dumps(body))


GONE = instead(error("ResourceNotFoundException"))


def of_two_tables(followed: Followed) -> Migration:
    """A task without a list of names, that has followed its tables and was stopped."""
    followed.simulator.table(f"a-{followed.name}").put({"pk": {"S": "a"}})
    return caught_up(followed, filter__collection__white=f"a-*;{followed.name}*")


@pytest.mark.parametrize(
    ("operation", "faults"),
    [
        ("ListTables", [unlisted]),
        ("DescribeTable", [GONE] * 2),
        ("DescribeTable", [None] * 2 + [GONE] * 2),
    ],
    ids=["listing", "description", "stream"],
)
def test_a_table_that_one_answer_lacks_is_not_left_out(
    followed: Followed, operation: str, faults: list[Any]
) -> None:
    migration = of_two_tables(followed)
    followed.put("b")
    followed.simulator.faults.next(operation, *faults)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert "source and target are equal" in result.stdout
    followed.compare()


def test_a_table_that_is_gone_since_the_last_run_is_not_left_out_silently(
    followed: Followed,
) -> None:
    migration = of_two_tables(followed)
    del followed.simulator.tables[followed.name]
    result = migration.run("--until-consistent")
    assert result.status == 3, result
    assert f"table {followed.name}, which this task has begun with, is not in" in result.line
    white = ["--set", "filter.collection.white=a-*"]  # the way out that it names
    assert migration.run("--until-consistent", *white).status == 0


@pytest.mark.parametrize("fault", [stale, replaced, GONE])
def test_while_a_stream_seems_lost_the_task_is_degraded_and_changes_go_on(
    followed: Followed, fault: Any
) -> None:
    port = free_port()
    migration = caught_up(followed, gap__policy="resync", http_profile=port)
    before = followed.collection.find_one({"pk": "a"})

    def described(call: Call) -> bool:
        return call.operation == "DescribeTable"

    begun = threading.Event()
    followed.simulator.faults.next("DescribeTable", None, None, calling(begun.set))
    process = migration.start()
    until(begun.is_set)
    followed.simulator.faults.rule(1.0, fault, where=described)
    table = followed.simulator.tables[followed.name]
    table.stream.roll_over(table.stream.open()[0], listed_after=2)  # so that it is looked at
    reason = until(
        lambda: status(port)["state"] == "degraded" and status(port)["reason"], deadline=60
    )
    assert f"table {followed.name}: its stream arn:" in reason
    assert "asking again for 60 s before it counts as lost changes" in reason
    followed.put("b")
    followed.arrived("b")
    followed.simulator.faults.clear()
    until(lambda: status(port)["state"] == "running", deadline=60)
    assert followed.collection.find_one({"pk": "a"}) == before
    stopped(migration, process)


def test_a_shard_that_one_reader_finds_gone_is_no_gap(followed: Followed) -> None:
    migration = caught_up(followed)
    followed.simulator.faults.next("GetRecords", *[GONE] * 5)  # which a reader bears
    process = migration.start()
    followed.put("b")
    followed.arrived("b")
    assert "is gone; asking again" in stopped(migration, process).stdout


def test_a_position_that_one_answer_calls_trimmed_is_no_gap(followed: Followed) -> None:
    migration = caught_up(followed)
    followed.put("b")
    followed.checkpoint.update_many(
        {"ShardId": {"$exists": True}}, {"$set": {"ApproximateTime": time.time() - 26 * 3600}}
    )
    followed.simulator.faults.next("GetRecords", instead(error("TrimmedDataAccessException")))
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert "is trimmed; asking again" in result.stdout
    followed.compare()


def test_while_a_stream_seems_lost_nothing_is_called_consistent(followed: Followed) -> None:
    migration = caught_up(followed)
    migration.first = HASTY
    followed.table.disable_stream()
    followed.put("lost")
    result = migration.run("--until-consistent")
    assert result.status == 4, result
    assert "consistent point reached" not in result.stdout


def test_a_shard_with_children_does_not_show_that_its_stream_is_there(followed: Followed) -> None:
    """Shards end all the time, and their children are asked for alone."""
    migration = caught_up(followed)
    migration.first = f"{HASTY}; from shake.follow import stream_monitor as m; m.LIST_EVERY = 0.5"
    process = migration.start()
    followed.put("b")
    followed.arrived("b")
    faults, stream = followed.simulator.faults, followed.table.stream
    faults.rule(1.0, replaced, where=lambda call: call.operation == "DescribeTable")

    def ended() -> bool:
        stream.roll_over(stream.open()[0])
        return process.poll() is not None

    until(ended, every=0.3)
    result = migration.wait(process)
    assert result.status == 4, result
    assert "was replaced by" in result.line


# ---- many answers, in real time


def test_a_stream_that_is_replaced_while_it_is_followed_is_a_gap_after_one_minute_and_before_two(
    followed: Followed,
) -> None:
    migration = caught_up(followed)
    process = migration.start()
    followed.put("b")
    followed.arrived("b")
    followed.table.replace_stream()
    began = time.monotonic()
    result = migration.wait(process, timeout=130)
    assert result.status == 4, result
    assert "was replaced by" in result.line
    assert 60 <= time.monotonic() - began < 120


def test_an_unread_shard_that_has_vanished_is_a_gap_after_one_minute_and_before_two(
    followed: Followed,
) -> None:
    migration = caught_up(followed)
    followed.put("lost")
    gone = followed.table.stream.open()[0]
    followed.table.stream.roll_over(gone)
    followed.simulator.trim(time.time() + 1)
    began = time.monotonic()
    result = migration.run(timeout=130)
    assert result.status == 4, result
    assert gone.id in result.line
    assert 60 <= time.monotonic() - began < 120


# ---- before anything is dropped


def test_before_a_table_is_copied_again_the_source_is_asked_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspicion, "LOSS", suspicion.Proof(3, 0.2, 0.1))
    given = ["id=task", "target.address=mongodb://127.0.0.1:1/", "gap.policy=resync"]
    config = load(None, {}, given).config
    store = FileStore(tmp_path, "task-checkpoint", sync=lambda handle: None)
    checkpoints, lease = Checkpoints(store), TaskLock.acquire(store, notice=print)
    with Simulator() as simulator:
        table = simulator.table("orders")
        client = DynamoSource(
            Endpoint(simulator.url, "eu-west-1", 5.0),
            lambda: Credentials("a", "b"),
            on_retry=lambda retry: None,
            stop=threading.Event(),
            random=random.Random(0),
        )
        described = client.describe("orders")
        record = TableRecord("orders", "task.orders", 1, 1, phase=Phase.DONE)
        checkpoints.begin_table(record)
        checkpoints.save_stream(StreamRecord("orders", table.stream.arn, stamp=1), [])
        identity = Identity(origin=described.origin)
        plan = Plan((TablePlan(described, Action.COMPLETE, record, (), identity=identity),))
        resync = Resync(config, 1, checkpoints, lease)
        shard = table.stream.open()[0]
        for question in (Question(), Question(shard.id), Question(shard.id, str(shard.start))):
            resync.mark(GapError("orders", "it is gone", question=question), plan, client)
            assert checkpoints.load("orders")[0] == record
        another = simulator.table("orders", account="111111111111")
        with pytest.raises(RunError, match=another.arn):
            resync.mark(GapError("orders", "it is gone", question=Question()), plan, client)
        assert checkpoints.load("orders")[0] == record
        simulator.tables["orders"] = table
        table.replace_stream()

        def foreign(call: Call, answer: Callable[[], Reply]) -> Reply:
            return Reply(answer().body.replace(table.id.encode(), b"another"))

        no_table = instead(error("ResourceNotFoundException"))
        simulator.faults.next("DescribeTable", None, foreign, no_table)
        resync.mark(GapError("orders", "it is gone", question=Question()), plan, client)
        marked, _ = checkpoints.load("orders")
        assert marked is not None
        assert marked.on_existing == "resync"


# ---- shards whose parents are not listed


@pytest.mark.parametrize("mode", ["all", "incr"])
def test_a_stream_whose_oldest_shards_name_unlisted_parents_is_read_within_five_seconds(
    followed: Followed, mode: str
) -> None:
    table = followed.simulator.table(followed.name, shards=3)
    for shard in table.stream.open():
        table.stream.roll_over(shard)
    followed.simulator.trim(time.time() + 1)
    assert all(shard.parent for shard in table.stream.shards)
    for key in range(20):
        followed.put(f"k{key}")
    migration = followed.task(sync_mode=mode)
    process = migration.start()
    followed.equal()
    journal = followed.simulator.journal
    names = [shard.id for shard in table.stream.shards]
    until(lambda: all(journal.of("GetRecords", shard=name) for name in names))
    [first, *_] = journal.of("DescribeStream")
    for name in names:
        assert journal.of("GetRecords", shard=name)[0].began - first.began < 5
    followed.put("later")
    followed.arrived("later")
    stopped(migration, process)


@pytest.mark.parametrize("mode", ["all", "incr"])
def test_a_parent_that_is_there_but_listed_late_is_read_before_its_child(
    followed: Followed, mode: str
) -> None:
    table = followed.simulator.table(followed.name)
    for number in range(20):
        followed.put("k", n={"N": str(number)})
    [parent] = table.stream.open()
    parent.listed_after = 16
    child = table.stream.roll_over(parent)
    followed.put("k", n={"N": "20"})
    migration = followed.task(sync_mode=mode)
    process = migration.start()
    journal = followed.simulator.journal
    until(lambda: journal.of("GetRecords", shard=child.id))
    followed.equal()
    over = max(call.ended for call in journal.of("GetRecords", shard=parent.id))
    assert over < journal.of("GetRecords", shard=child.id)[0].began
    stopped(migration, process)


# ---- another table, while running


def test_a_table_made_anew_while_it_is_followed_ends_the_task_and_drops_nothing(
    followed: Followed,
) -> None:
    migration = caught_up(followed, gap__policy="resync")
    migration.first = HASTY
    process = migration.start()
    followed.put("b")
    followed.arrived("b")
    followed.simulator.table(followed.name)
    followed.put("other")
    result = migration.wait(process)
    assert result.status == 1, result
    assert f"table {followed.name} is not the table that this task began with" in result.line
    assert sorted(one["pk"] for one in followed.collection.find()) == ["a", "b"]
    assert migration.run().status == 3


@pytest.mark.parametrize(("before", "times"), [(0, 1), (1, 1), (2, 4)])
def test_a_few_descriptions_of_another_table_end_nothing(
    followed: Followed, before: int, times: int
) -> None:
    """Neither a start, which describes a table twice, nor a run that follows."""
    migration = caught_up(followed)
    migration.first = (
        "from shake.stream import suspicion as s; "
        "s.LOSS = s.Proof(3, 60, 0.2); s.START = s.Proof(3, 0.2, 0.1)"
    )

    def another(call: Call, answer: Callable[[], Reply]) -> Reply:
        reply = answer()
        return Reply(reply.body.replace(followed.table.id.encode(), b"another"))

    faults = [None] * before + [another] * times
    followed.simulator.faults.next("DescribeTable", *faults)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert ("seems to be another table than" in result.stdout) == (times > 1)


def test_answers_that_there_is_no_table_between_others_end_nothing(followed: Followed) -> None:
    """Neither a start that enables its stream, nor its scan."""
    followed.simulator.table(followed.name, stream=None)
    for key in range(40):
        followed.put(f"k{key}")
    odd = {"DescribeTable": itertools.cycle([False, True]), "Scan": iter([True])}
    followed.simulator.faults.rule(
        1.0,
        instead(error("ResourceNotFoundException")),
        where=lambda call: (
            (call.operation == "DescribeTable" or copies(call)) and next(odd[call.operation], False)
        ),
    )
    migration = followed.task()
    migration.first = "from shake.stream import suspicion as s; s.START = s.Proof(3, 0.2, 0.1)"
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.simulator.faults.clear()
    followed.compare()


@pytest.mark.parametrize(("mode", "gone"), [("full", False), ("all", False), ("full", True)])
def test_a_table_made_anew_or_deleted_during_its_scan_never_becomes_a_complete_copy(
    followed: Followed, mode: str, gone: bool
) -> None:
    followed.simulator.table(followed.name)
    for key in range(40):
        followed.put(f"k{key}")

    def anew() -> None:
        followed.simulator.table(followed.name)
        for key in range(40):
            followed.put(f"k{key}", other={"BOOL": True})

    first = threading.Event()

    def once() -> None:
        if not first.is_set():
            first.set()
            if not gone:
                anew()

    def describes(call: Call) -> bool:
        return gone and first.is_set() and call.operation == "DescribeTable"

    followed.simulator.faults.rule(1.0, calling(once), where=copies)
    followed.simulator.faults.rule(1.0, GONE, where=describes)
    migration = followed.task(sync_mode=mode)
    migration.first = HASTY
    result = migration.run()
    assert result.status == 1, result
    assert f"table {followed.name} is not the table that this task began with" in result.line
    [table] = followed.checkpoint.find({"_id": "table"})
    assert table["Status"] == "copying"
    assert migration.run().status == 3


@pytest.mark.parametrize("operation", ["GetRecords", "GetShardIterator"])
@pytest.mark.parametrize("journal", ["false", "true"])
@pytest.mark.parametrize("mode", ["key", "objectid"])
def test_one_false_answer_that_a_position_is_trimmed_brings_nothing_back(
    followed: Followed, operation: str, journal: str, mode: str
) -> None:
    """The records before it are still there. Applied again, they would undo what followed."""
    simulator = followed.simulator
    simulator.table(followed.name)
    migration = followed.task(
        incr_sync_parallel=journal, id__mode=mode, qps__incr__batch_num=7, incr__margin=1.0
    )
    assert migration.run("--until-consistent").status == 0
    for value in ("1", "2", "3"):
        for number in range(30):
            followed.put(f"k{number}", n={"N": value})
    for number in range(10):
        followed.table.delete({"pk": {"S": f"k{number}"}})
    assert migration.run("--until-consistent").status == 0
    followed.put("new", n={"N": "1"})
    simulator.faults.next(operation, instead(error("TrimmedDataAccessException")))
    process = migration.start()
    followed.arrived("new")
    migration.kill(process)  # what it has applied by now is not applied anew
    followed.compare()
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


def test_false_answers_that_a_position_is_trimmed_degrade_the_task_as_long_as_they_come(
    followed: Followed,
) -> None:
    simulator = followed.simulator
    simulator.table(followed.name)
    port = free_port()
    migration = followed.task(http_profile=port)
    assert migration.run("--until-consistent").status == 0
    followed.put("a", n={"N": "1"})
    followed.put("a", n={"N": "2"})
    assert migration.run("--until-consistent").status == 0
    false = instead(error("TrimmedDataAccessException"))
    simulator.faults.rule(1.0, false, where=lambda call: call.operation == "GetRecords")
    process = migration.start()
    until(lambda: simulator.journal.of("GetRecords")[-1].error, 60)
    until(lambda: status(port)["state"] == "degraded", 60)
    assert "read from its oldest" in status(port)["reason"]
    before, began = len(simulator.journal.of("GetRecords")), time.monotonic()
    time.sleep(5)
    asked = len(simulator.journal.of("GetRecords")) - before
    assert asked <= time.monotonic() - began + 2
    simulator.faults.clear()
    followed.put("b")
    followed.equal()
    stopped(migration, process)
