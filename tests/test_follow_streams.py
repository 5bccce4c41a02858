"""Changes are followed exactly, though streams split, trim, fail and give false answers."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shake.cli import main
from shake.demo.servers import free_port
from shake.stream.tip import COLD, TIP_AFTER
from tests.support.crash import await_death
from tests.support.faulty import Reply, error
from tests.support.followed import HASTY, Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.streams_faults import Call, calling, corrupt, cut, instead, shortened, slow
from tests.support.streams_workload import Workload
from tests.support.wait import until
from tests.support.wire import Moment, Wire

# ---- what the stream holds arrives


def test_a_question_of_the_supervisor_that_keeps_failing_degrades_the_task(
    followed: Followed,
) -> None:
    """First before the copy counts as one, then while shards that are not listed hold changes."""
    simulator = followed.simulator
    table = simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(http_profile=(port := free_port()), source__session__max_retries=3)
    throttled = instead(error("ThrottlingException"))

    def degraded_by(operation: str) -> bool:
        task = status(port)
        return task["state"] == "degraded" and operation in task["reason"]

    simulator.faults.rule(
        1.0,
        throttled,
        where=lambda call: (
            call.operation == "DescribeTable" and any(map(copies, list(simulator.journal)))
        ),
    )
    process = migration.start()
    until(lambda: any(map(copies, list(simulator.journal))))
    until(lambda: degraded_by("DescribeTable"))
    assert status(port)["tables"][0]["state"] == "copying"
    simulator.faults.clear()
    followed.put("b")
    followed.arrived("b")
    simulator.faults.rule(1.0, throttled, where=lambda call: call.operation == "DescribeStream")
    table.stream.roll_over(table.stream.open()[0])
    followed.put("c")
    until(lambda: degraded_by("DescribeStream"))
    assert followed.collection.find_one({"pk": "c"}) is None
    simulator.faults.clear()
    followed.arrived("c")
    result = stopped(migration, process)
    assert "DescribeStream: ThrottlingException" in result.stderr + result.stdout


def test_positions_are_durable_before_the_first_scan_and_never_latest(followed: Followed) -> None:
    table = followed.simulator.table(followed.name, shards=2)
    table.stream.roll_over(table.stream.open()[0])
    followed.put("a")
    saved: list[set[str]] = []
    look = calling(
        lambda: saved.append({one.get("ShardId", one["_id"]) for one in followed.checkpoint.find()})
    )
    followed.simulator.faults.rule(1.0, look, where=copies)
    result = followed.task().run("--until-consistent")
    assert result.status == 0, result
    assert saved[0] >= {"stream", *(shard.id for shard in table.stream.shards)}
    assert followed.simulator.journal.iterators() == {"AT_SEQUENCE_NUMBER"}
    followed.compare()


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        (1, {}),
        (2, {"id__mode": "key", "convert__type": "raw"}),
        (3, {"convert__type": "mchange", "checkpoint__type": "file", "incr_sync_parallel": "true"}),
        (4, {"id__mode": "key", "increase__concurrency": 2}),
    ],
    ids=["plain", "raw-key", "mchange-file-journal", "turns-key"],
)
def test_a_busy_table_arrives_through_faults_and_deaths(
    followed: Followed, seed: int, settings: dict[str, Any], tmp_path: Any
) -> None:
    if settings.get("checkpoint__type") == "file":
        settings = settings | {"checkpoint__address": tmp_path / "checkpoints"}
    rng = random.Random(seed)
    simulator = followed.simulator
    table = simulator.table(followed.name, sk=("sk", "N"), shards=2)
    table.stale = 20
    workload = Workload(table, seed, cold=200, untidy=3)
    workload.run(300)
    simulator.empty_pages = 0.2
    simulator.child_filter = rng.choice(["served", "refused", "ignored"])
    throttled = instead(error("ThrottlingException"))
    simulator.faults.rule(0.05, cut, corrupt, shortened, throttled)
    migration = followed.task(**settings)
    process = migration.start()
    with workload.running(150):
        until(lambda: followed.collection.count_documents({}) > 0)
        for role in ("worker", "writer", "worker"):
            time.sleep(0.7)
            victim = migration.child(role)
            victim.kill()
            await_death(victim)
        time.sleep(0.5)
        migration.kill(process)
        process = migration.start()
        time.sleep(2)
    simulator.faults.clear()
    followed.equal()
    for shard in table.stream.shards:
        assert simulator.journal.readers(shard.id) <= 2
    stopped(migration, process)


def test_children_are_read_after_their_parents_and_within_a_second(followed: Followed) -> None:
    """With room for a slow machine; what is not at once is at the next listing, half a minute on"""
    table = followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    process = migration.start()
    followed.arrived("a")
    until(lambda: followed.simulator.journal.of("GetRecords"))
    parent = table.stream.open()[0]
    followed.put("b")
    children = table.stream.split(parent)
    for number in range(20):
        followed.put(f"c{number}")
    followed.equal()
    journal = followed.simulator.journal
    over = max(call.ended for call in journal.of("GetRecords", shard=parent.id))
    begun = [journal.of("GetRecords", shard=child.id)[0].began for child in children]
    assert all(0 < one - over < 3 for one in begun), [one - over for one in begun]
    stopped(migration, process)


def test_a_child_that_is_listed_late_is_found(followed: Followed) -> None:
    table = followed.simulator.table(followed.name)
    migration = followed.task()
    process = migration.start()
    until(lambda: followed.simulator.journal.of("GetRecords"))
    table.stream.roll_over(table.stream.open()[0], listed_after=6, closed_after=2)
    followed.put("late")
    followed.arrived("late")
    stopped(migration, process)


def test_a_stream_that_does_not_answer_delays_no_other_table_s_shards(
    followed: Followed,
) -> None:
    slow, table = f"{followed.name}slow", followed.simulator.table(followed.name)
    followed.simulator.table(slow)
    migration = followed.task(filter__collection__white=f"{followed.name};{slow}")
    process = migration.start()
    journal, answering = followed.simulator.journal, threading.Event()
    until(lambda: journal.of("GetRecords", table=slow))
    until(lambda: journal.of("GetRecords", table=followed.name))
    followed.simulator.faults.rule(
        1.0,
        calling(lambda: answering.wait(100)),
        where=lambda call: (call.operation, call.table) == ("DescribeStream", slow),
    )
    try:
        followed.simulator.tables[slow].stream.roll_over(
            followed.simulator.tables[slow].stream.open()[0]
        )
        until(lambda: [c for c in journal.of("DescribeStream", table=slow) if not c.status], 60)
        table.stream.roll_over(table.stream.open()[0])
        followed.put("behind the child")
        followed.arrived("behind the child")
    finally:
        answering.set()
    stopped(migration, process)


def test_more_shards_than_readers_take_turns(followed: Followed) -> None:
    followed.simulator.table(followed.name, shards=12)
    migration = followed.task(increase__concurrency=4)
    process = migration.start(workers=1)
    until(lambda: followed.simulator.journal.of("GetRecords"))
    for number in range(60):
        followed.put(f"k{number}")
    followed.equal()
    stopped(migration, process)


@pytest.mark.slow
def test_a_shard_ends_though_each_answer_takes_longer_than_its_turn(followed: Followed) -> None:
    """Its end takes two answers within one turn."""
    table = followed.simulator.table(followed.name, shards=3)
    migration = followed.task(increase__concurrency=1)
    migration.first = "from shake.follow import turns; turns.TURN = turns.TIP_TURN = 0.1"
    process = migration.start(workers=1)
    followed.put("a")
    followed.arrived("a")
    parent = table.stream.open()[0]
    followed.simulator.faults.rule(
        1.0, slow(2.5), where=lambda call: (call.operation, call.shard) == ("GetRecords", parent.id)
    )
    table.stream.roll_over(parent)
    for number in range(20):
        followed.put(f"k{number}")
    followed.equal()
    stopped(migration, process)


@pytest.mark.slow
def test_quiet_shards_take_turns_by_the_iterators_that_they_have(followed: Followed) -> None:
    followed.simulator.table(followed.name, shards=12)
    migration = followed.task(increase__concurrency=4)
    process = migration.start(workers=1)
    journal = followed.simulator.journal
    shards = [shard.id for shard in followed.table.stream.open()]

    def asked(least: int) -> bool:
        return all(len(journal.of("GetRecords", shard=one)) >= least for one in shards)

    until(lambda: asked(COLD + TIP_AFTER), 120)  # each has come to its tip
    iterators = len(journal.of("GetShardIterator"))
    until(lambda: asked(COLD + 5 * TIP_AFTER), 120)
    assert len(journal.of("GetShardIterator")) == iterators
    for number in range(20):
        followed.put(f"k{number}")
    followed.equal()
    stopped(migration, process)


def test_an_iterator_that_expired_is_renewed_where_reading_stopped(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.simulator.iterator_age = 0.1  # less than the pause of an idle reader
    migration = followed.task(qps__incr__batch_num=5)
    process = migration.start()
    for number in range(40):
        followed.put(f"k{number}")
        time.sleep(0.02)
    followed.equal()
    until(
        lambda: any(call.error == "ExpiredIteratorException" for call in followed.simulator.journal)
    )
    stopped(migration, process)


def test_a_missing_stream_is_enabled_before_the_copy(followed: Followed) -> None:
    followed.simulator.table(followed.name, stream=None)
    followed.simulator.enabling = 2
    followed.put("a")
    migration = followed.task()
    process = migration.start()
    followed.arrived("a")
    assert followed.table.stream.view == "NEW_AND_OLD_IMAGES"
    followed.put("b")
    followed.arrived("b")
    stopped(migration, process)


def test_a_stream_without_new_images_is_refused(followed: Followed) -> None:
    followed.simulator.table(followed.name, stream="KEYS_ONLY")
    result = followed.task().run()
    assert result.status == 3
    assert "KEYS_ONLY" in result.line
    assert not any(map(copies, followed.simulator.journal))


# ---- stops


def test_a_stop_in_full_flow_applies_what_was_read_and_the_next_start_goes_on(
    followed: Followed,
) -> None:
    table = followed.simulator.table(followed.name, shards=3)
    workload = Workload(table, 5, cold=100)
    migration = followed.task()
    with workload.running(200):
        process = migration.start()
        until(lambda: followed.collection.count_documents({}) > 10)
        stopped(migration, process)
        first = followed.collection.count_documents({})
        process = migration.start()
        until(lambda: followed.collection.count_documents({}) > first)
    followed.equal()
    scans = len(list(filter(copies, followed.simulator.journal)))
    stopped(migration, process)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()
    assert len(list(filter(copies, followed.simulator.journal))) == scans


def test_until_consistent_ends_when_all_that_was_written_before_is_there(
    followed: Followed,
) -> None:
    table = followed.simulator.table(followed.name, shards=2)
    workload = Workload(table, 6, cold=100)
    workload.run(200)
    result = followed.task().run("--until-consistent")
    assert result.status == 0, result
    assert "consistent point reached" in result.stdout
    followed.compare()


def test_a_signal_at_the_consistent_point_leaves_the_time_to_save_and_the_end_is_good(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    released, port = threading.Event(), free_port()
    with Wire(*followed.mongo.client.address) as wire:
        migration = followed.task(target=wire.uri, http_profile=port)
        assert migration.run("--until-consistent").status == 0
        followed.put("b")
        place = f"{followed.name}-checkpoint.{followed.name}"
        # After the run's number, the positions, shards and stream.
        held = wire.stop_at("request", "update", place, lambda: released.wait(20), skip=3)
        process = migration.start("--until-consistent")
        until(lambda: held.is_set() and status(port)["state"] == "stopping")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        released.set()
        result = migration.wait(process)
    assert result.status == 0, result
    assert "consistent point reached" in result.stdout
    followed.compare()


def test_a_stream_that_lists_no_shard_yet_is_not_at_its_consistent_point(
    followed: Followed,
) -> None:
    table = followed.simulator.table(followed.name)
    followed.put("a")
    table.stream.open()[0].listed_after = 4

    def change(call: Call, answer: Callable[[], Reply]) -> Reply:
        reply = answer()
        followed.put("meanwhile")
        return reply

    followed.simulator.faults.rule(1.0, change, where=copies)
    result = followed.task(full__read__concurrency=1).run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


#: Who dies where: before and after the target, or the checkpoint, has what an update says.
DEATHS: list[tuple[str, Moment, str, int]] = [
    ("supervisor", "request", "place", 2),
    ("supervisor", "answer", "place", 3),
    ("supervisor", "answer", "checkpoint", 5),
    ("writer", "request", "place", 2),
    ("writer", "answer", "place", 3),
    ("worker", "answer", "place", 3),
    ("worker", "request", "checkpoint", 4),
]


@pytest.mark.parametrize("death", DEATHS, ids=lambda one: "-".join(one[:3]))
def test_whoever_dies_while_changes_are_applied_the_end_is_exact(
    followed: Followed, death: tuple[str, Moment, str, int]
) -> None:
    table = followed.simulator.table(followed.name, shards=2)
    workload = Workload(table, 7, hot=3, cold=20)
    workload.run(50)
    victim, moment, where, skip = death
    place = f"{followed.name}.{followed.name}"
    with Wire(*followed.mongo.client.address) as wire:
        migration = followed.task(target=wire.uri, qps__incr__batch_num=10)
        process = migration.start()
        until(lambda: any("_id" in one for one in followed.checkpoint.find({"Status": "ready"})))
        until(lambda: followed.simulator.journal.of("GetRecords"))

        done = threading.Event()

        def kill() -> None:
            if victim == "supervisor":
                process.kill()
                process.wait()
            else:
                for child in migration.children(victim):
                    child.kill()
                    await_death(child)
            done.set()

        collection = place if where == "place" else f"{followed.name}-checkpoint.{followed.name}"
        wire.stop_at(moment, "update", collection, kill, skip=skip)
        with workload.running(100):
            until(done.is_set)
        workload.run(50)
        if process.poll() is not None:
            process = migration.start()
        followed.equal()
        stopped(migration, process)


# ---- options


def test_a_modify_of_an_absent_key_is_skipped_and_counted_where_it_is_not_to_insert(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(increase__executor__upsert="false")
    process = migration.start()
    followed.arrived("a")
    until(lambda: followed.simulator.journal.of("GetRecords"))
    until(
        lambda: (
            "consistent point reached" in (migration.folder / f"{followed.name}.0.out").read_text()
        )
    )
    followed.collection.delete_one({"pk": "a"})
    followed.put("a", n={"N": "1"})
    followed.put("b")
    followed.arrived("b")
    assert followed.collection.find_one({"pk": "a"}) is None
    stopped(migration, process)


def test_an_insert_of_a_key_that_is_there_stops_the_task_where_it_is_to(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(increase__executor__insert_on_dup_update="false")
    process = migration.start()
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: "consistent point reached" in output.read_text())
    followed.put("b")
    followed.arrived("b")
    followed.collection.insert_one({"pk": "foreign", "n": 7})
    followed.put("foreign", n={"N": "1"})
    result = migration.wait(process)
    assert result.status == 1, result
    assert f"table {followed.name}" in result.line
    assert '{"pk":{"S":"foreign"}}' in result.line


@pytest.mark.parametrize("start", ["trim_horizon", "latest"])
def test_changes_alone_are_followed_from_where_it_is_said(followed: Followed, start: str) -> None:
    """No change is lost whose time is earlier, because the clock was set back between two runs."""
    followed.simulator.table(followed.name)
    followed.put("gone")
    followed.simulator.trim(time.time() + 1)
    followed.simulator.clock.advance(-600)
    followed.put("early")
    followed.simulator.clock.advance(600)
    migration = followed.task(sync_mode="incr", incr__start=start)
    process = migration.start()
    until(lambda: followed.simulator.journal.of("GetRecords"))
    followed.put("now")
    followed.arrived("now")
    assert (followed.collection.find_one({"pk": "early"}) is None) == (start == "latest")
    stopped(migration, process)
    followed.simulator.clock.advance(-300)
    followed.put("later")
    followed.simulator.clock.advance(300)
    process = migration.start()
    followed.arrived("later")
    assert not any(map(copies, followed.simulator.journal))
    stopped(migration, process)


@pytest.mark.parametrize("start", ["trim_horizon", "latest"])
def test_a_forgotten_table_is_followed_anew_from_where_it_is_said(
    followed: Followed, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    followed.simulator.table(followed.name)
    migration = followed.task(sync_mode="incr", incr__start=start)
    assert migration.run("--until-consistent").status == 0
    followed.simulator.clock.advance(-600)
    followed.put("between")
    followed.simulator.clock.advance(600)
    says = f"from incr.start = {start}: nothing is copied"
    says += ", and changes made before that start are left out" * (start == "latest")
    for command, what in (("forget", "it anew"), ("status", "anew what is not begun")):
        table = [followed.name] * (command == "forget")
        assert main.main([command, "--conf", str(migration.conf), *table]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"follows {what}, {says}" in said
        assert "target.db.exist" not in said
    followed.collection.insert_one({"pk": "of before"})  # is no reason to refuse the start
    calls = len(followed.simulator.journal.of("GetRecords"))
    process = migration.start()
    until(lambda: any(one.status for one in followed.simulator.journal.of("GetRecords")[calls:]))
    followed.put("now")
    followed.arrived("now")
    assert (followed.collection.find_one({"pk": "between"}) is None) == (start == "latest")
    assert not any(map(copies, followed.simulator.journal))
    stopped(migration, process)


# ---- gaps


def caught_up(followed: Followed) -> Migration:
    """A task that has followed the table for a moment and was stopped."""
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    migration.first = HASTY
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    return migration


def test_trimmed_records_that_were_not_applied_are_a_gap(followed: Followed) -> None:
    migration = caught_up(followed)
    followed.put("lost")
    followed.simulator.trim(time.time() + 1)
    followed.checkpoint.update_many(
        {"ShardId": {"$exists": True}}, {"$set": {"ApproximateTime": time.time() - 25 * 3600}}
    )
    result = migration.run()
    assert result.status == 4, result
    assert f"table {followed.name}" in result.line
    assert followed.table.stream.shards[0].id in result.line


def test_a_dry_run_finds_a_gap_and_changes_nothing(followed: Followed) -> None:
    migration = caught_up(followed)
    assert "GAP" not in migration.run("--dry-run").stdout
    before = list(followed.checkpoint.find())
    followed.put("lost")
    followed.simulator.trim(time.time() + 1)
    result = migration.run("--dry-run")
    [shard] = followed.simulator.tables[followed.name].stream.open()
    words = f"table {followed.name}: GAP: what is not applied yet of shard {shard.id} is trimmed"
    assert words in result.stdout
    assert list(followed.checkpoint.find()) == before


def test_what_is_trimmed_while_a_slow_reader_follows_from_the_oldest_change_is_a_gap(
    followed: Followed,
) -> None:
    """What was trimmed before it began is none."""
    simulator = followed.simulator
    shard = simulator.table(followed.name).stream.open()[0]
    followed.put("gone")
    simulator.trim(time.time() + 1)
    simulator.clock.advance(-23.5 * 3600)
    for number in range(3):
        followed.put(f"k{number}")
    simulator.clock.advance(23.5 * 3600)
    lose = calling(lambda: simulator.trim(time.time() + 1))
    simulator.faults.next("GetRecords", None, lose)
    result = followed.task(sync_mode="incr", qps__incr__batch_num=1).run("--until-consistent")
    assert result.status == 4, result
    assert f"shard {shard.id}: TrimmedDataAccessException" in result.line
    assert [one["pk"] for one in followed.collection.find()] == ["k0"]


@pytest.mark.parametrize("lost", [True, False])
def test_what_is_trimmed_of_a_shard_that_waits_for_the_copy_is_noticed_at_once(
    followed: Followed, lost: bool
) -> None:
    """While the table is copied the shard is not read. It is open and stays listed."""
    shard = followed.simulator.table(followed.name).stream.open()[0]
    throttled = instead(error("ThrottlingException"))
    followed.simulator.faults.rule(1.0, throttled, where=copies)
    migration = followed.task()
    process = migration.start()
    until(lambda: any(map(copies, list(followed.simulator.journal))))
    migration.kill(process)
    followed.checkpoint.update_many(
        {"ShardId": {"$exists": True}}, {"$set": {"ApproximateTime": time.time() - 23.5 * 3600}}
    )
    followed.put("a")
    if lost:
        followed.simulator.trim(time.time() + 1)
        result = migration.run()
        assert result.status == 4, result
        assert f"shard {shard.id}: TrimmedDataAccessException" in result.line
        return
    process = migration.start()
    until(lambda: followed.simulator.journal.of("GetShardIterator"))
    followed.simulator.faults.clear()
    followed.arrived("a")
    stopped(migration, process)


def test_a_head_that_was_trimmed_after_all_was_applied_is_no_gap(followed: Followed) -> None:
    migration = caught_up(followed)
    followed.simulator.trim(time.time() + 1)
    process = migration.start()
    followed.put("b")
    followed.arrived("b")
    stopped(migration, process)


def test_a_quiet_shard_is_not_up_to_date_before_its_records_are_reached(followed: Followed) -> None:
    migration = caught_up(followed)
    followed.put("late")
    followed.checkpoint.update_many(
        {"ShardId": {"$exists": True}}, {"$set": {"ApproximateTime": time.time() - 600}}
    )
    followed.simulator.cold_pages = 40
    port, seen = free_port(), list[dict[str, Any]]()

    def look() -> bool:
        seen.extend(status(port)["tables"])
        return bool(seen[-1]["state"] == "following")

    followed.simulator.faults.next("GetRecords", *[None] * 40, calling(lambda: until(look)))
    result = migration.run("--until-consistent", "--set", f"http_profile={port}")
    assert result.status == 0, result
    followed.compare()
    assert not seen[-1]["consistent"]
    assert seen[-1]["lag"] > 590


def test_an_unread_shard_that_has_vanished_is_a_gap(followed: Followed) -> None:
    migration = caught_up(followed)
    followed.put("lost")
    gone = followed.table.stream.open()[0]
    followed.table.stream.roll_over(gone)
    followed.simulator.trim(time.time() + 1)
    result = migration.run()
    assert result.status == 4, result
    assert gone.id in result.line


@pytest.mark.parametrize("what", ["disable_stream", "replace_stream"])
@pytest.mark.parametrize("running", [False, True], ids=["at-start", "running"])
def test_a_stream_that_was_ended_is_a_gap(followed: Followed, what: str, running: bool) -> None:
    migration = caught_up(followed)
    if running:
        process = migration.start()
        followed.put("b")
        followed.arrived("b")
    getattr(followed.table, what)()
    result = migration.wait(process) if running else migration.run()
    assert result.status == 4, result
    assert followed.name in result.line
    assert "stream" in result.line
