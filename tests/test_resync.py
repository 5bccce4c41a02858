"""gap.policy = resync: a table whose stream has lost changes is copied again, the others go on."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shake.demo.servers import free_port
from tests.support.faulty import error
from tests.support.followed import HASTY, Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.streams import Call
from tests.support.streams_faults import calling, instead
from tests.support.tables import connect
from tests.support.wait import until
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

RESYNC = {"gap__policy": "resync"}
DROPS = "copy again, then DROP what was copied before and take its name"


def caught_up(followed: Followed, **settings: Any) -> Migration:
    """A task that has followed its table for a moment."""
    followed.simulator.table(followed.name)
    for key in range(100):
        followed.put(f"k{key}")
    migration = followed.task(**RESYNC, **settings)
    migration.workers, migration.first = 1, HASTY
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    return migration


def lose(followed: Followed) -> None:
    """Changes that no stream holds."""
    followed.table.disable_stream()
    followed.table.delete({"pk": {"S": "k7"}})
    followed.put("k8", n={"N": "8"})
    followed.put("lost")


def scans(followed: Followed, table: str = "") -> int:
    """How many pages the copies have read."""
    calls = filter(copies, list(followed.simulator.journal))
    return sum(call.table == (table or followed.name) for call in calls)


def test_a_table_that_loses_changes_is_copied_again_while_others_go_on(followed: Followed) -> None:
    other = f"{followed.name}b"
    table, quiet = followed.simulator.table(followed.name), followed.simulator.table(other)
    for key in range(50):
        followed.put(f"k{key}")
        quiet.put({"pk": {"S": f"k{key}"}})
    migration = followed.task(filter__collection__white=f"{followed.name};{other}", **RESYNC)
    migration.workers, migration.first = 1, HASTY
    process = migration.start()
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: output.read_text().count(": consistent point reached") == 2)
    beside = followed.mongo.client[followed.name][other]
    before, pages = sorted(map(str, beside.distinct("_id"))), scans(followed, other)

    def of_table(call: Call) -> bool:
        return call.operation == "GetRecords" and call.table == followed.name

    followed.simulator.faults.rule(1.0, instead(error("ThrottlingException")), where=of_table)
    until(lambda: any(call.status == 400 for call in followed.simulator.journal if of_table(call)))
    followed.put("lost")
    table.delete({"pk": {"S": "k7"}})
    table.replace_stream()
    followed.simulator.trim(time.time() + 1)
    followed.simulator.faults.clear()

    until(lambda: "it is copied again" in output.read_text())
    quiet.put({"pk": {"S": "new"}})
    quiet.delete({"pk": {"S": "k9"}})
    followed.equal()
    until(lambda: beside.find_one({"pk": "new"}) and not beside.find_one({"pk": "k9"}))
    followed.put("later")
    followed.arrived("later")
    assert scans(followed, other) == pages
    assert len(set(before) & set(map(str, beside.distinct("_id")))) == 49
    stopped(migration, process)
    said = output.read_text()
    assert f"table {followed.name}: changes are lost: " in said
    assert (
        f"what {followed.name}.{followed.name} holds is DROPPED when the copy is complete, while "
        "other tables go on" in said
    )
    followed.compare()


@pytest.mark.parametrize(("mode", "id_mode"), [("all", "key"), ("incr", "objectid")])
def test_a_resync_that_is_killed_goes_on_and_is_announced(
    followed: Followed, mode: str, id_mode: str
) -> None:
    place = f"{followed.name}.{followed.name}"
    with Wire(*followed.mongo.client.address) as wire:
        migration = caught_up(followed, target=wire.uri, sync_mode=mode, id__mode=id_mode)
        lose(followed)

        def kill() -> None:
            migration.kill(migration.running[-1])

        checkpoint, marked = f"{followed.name}-checkpoint.{followed.name}", []

        def look() -> None:  # before the mark is written, the table is scanned once more
            marked.append(wire.stop_at("answer", "update", checkpoint, kill))

        followed.simulator.faults.next("Scan", None, calling(look))
        assert migration.run().status == -signal.SIGKILL
        assert marked[0].is_set()
        result = migration.run("--dry-run")
        assert result.status == 0, result
        assert f"table {followed.name} -> {place}: {DROPS}" in result.stdout
        assert "existing collections: 1 DROPPED" in result.stdout
        assert "  a gap: its stream arn:" in result.stdout
        assert followed.collection.find_one({"pk": "k7"})

        begun = wire.stop_at("answer", "insert", place, kill, skip=2)
        assert migration.run().status == -signal.SIGKILL
        assert begun.is_set()
        result = migration.run("--until-consistent")
        assert result.status == 0, result
        followed.compare()
        pages = scans(followed)
        process = migration.start()
        followed.put("later")
        followed.equal()
        stopped(migration, process)
    assert scans(followed) == pages > 0


@pytest.mark.parametrize("staged", [True, False], ids=["", "of an older version"])
def test_a_second_gap_before_the_new_copy_is_complete_is_resynced_too(
    followed: Followed, staged: bool
) -> None:
    """What the first copy filled stays until the last one is complete."""
    place = f"{followed.name}.{followed.name}"
    with Wire(*followed.mongo.client.address) as wire:
        migration = caught_up(followed, target=wire.uri)
        if not staged:
            followed.checkpoint.update_one({"_id": "table"}, {"$unset": {"Staged": 1}})
        begun = wire.stop_at(
            "answer", "insert", place, lambda: migration.kill(migration.running[-1]), skip=2
        )
        lose(followed)
        assert migration.run().status == -signal.SIGKILL
        assert begun.is_set()
        assert followed.collection.find_one({"pk": "k7"})
        followed.table.replace_stream()
        followed.put("lost too")
        followed.table.delete({"pk": {"S": "k9"}})
        result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()
    assert followed.mongo.client[followed.name].list_collection_names() == [followed.name]


def test_a_resync_is_begun_however_often_source_target_and_checkpoints_fail_meanwhile(
    followed: Followed,
) -> None:
    def fail(command: str) -> None:
        """The next such command runs out of time."""
        data = {"failCommands": [command], "errorCode": 50}
        followed.mongo.client.admin.command(
            "configureFailPoint", "failCommand", mode={"times": 1}, data=data
        )

    failing = [instead(error("InternalServerError", status=500))] * 7  # of which a plan bears 5
    checkpoint = f"{followed.name}-checkpoint.{followed.name}"
    with Wire(*followed.mongo.client.address) as wire:
        migration = caught_up(followed, target=wire.uri)
        lose(followed)
        followed.simulator.faults.next("UpdateTable", instead(error("ResourceInUseException")))
        stops = []

        def begin() -> None:  # with the mark, before which the table is scanned once more
            stops.extend(
                [
                    wire.stop_at("request", "update", checkpoint, lambda: fail("update")),
                    wire.stop_at("answer", "update", checkpoint, lambda: fail("delete"), skip=1),
                    wire.stop_at(
                        "request",
                        "confirm",
                        f"{followed.name}.{followed.name}",
                        lambda: followed.simulator.faults.next("DescribeTable", *failing),
                        skip=2,
                    ),
                    wire.stop_at("request", "update", checkpoint, lambda: fail("update"), skip=2),
                ]
            )

        followed.simulator.faults.next("Scan", None, calling(begin))
        result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert [stop.is_set() for stop in stops] == [True] * 4
    tried = re.findall(r"WARN  shake: (.*); retrying", result.stdout)
    # Within one try, a busy table and an election of the target are waited for.
    assert len(tried) >= 3, result.stdout
    assert len(followed.simulator.journal.of("UpdateTable")) >= 2
    followed.compare()


def test_a_signal_is_obeyed_while_a_resync_waits_for_a_source_that_does_not_answer(
    followed: Followed,
) -> None:
    migration = caught_up(followed)
    lose(followed)
    throttle = instead(error("ThrottlingException"))

    def described(call: Call) -> bool:
        return call.operation == "DescribeTable"

    def begin() -> None:
        followed.simulator.faults.rule(1.0, throttle, where=described)

    followed.simulator.faults.next("Scan", None, calling(begin))  # a plan's, then the mark's
    process = migration.start()
    output = migration.folder / f"{followed.name}.1.out"
    until(lambda: output.read_text().count("; retrying") >= 2)
    stopped(migration, process)
    assert "stopped: what is done is saved, start again to go on" in output.read_text()


def test_a_gap_met_while_the_checkpoints_do_not_answer_waits_for_them(followed: Followed) -> None:
    released, port = threading.Event(), free_port()

    with Wire(*followed.mongo.client.address) as wire:
        migration = caught_up(followed, target=wire.uri, http_profile=port)
        migration.first += "; from shake.run import shutdown; shutdown.DRAIN_SECONDS = 0.2"
        process = migration.start()
        followed.put("new")
        followed.arrived("new")
        checkpoint = f"{followed.name}-checkpoint.{followed.name}"

        def hold() -> threading.Event:
            return wire.stop_at("request", "update", checkpoint, lambda: hold() and wait())

        wait = partial(released.wait, 60)
        held = hold()
        followed.put("newer")
        until(held.is_set)
        followed.table.replace_stream()
        followed.simulator.trim(time.time() + 1)
        until(lambda: status(port)["reason"].endswith("; it is copied again"))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)  # which is longer than it waits for the target and the checkpointer
        released.set()
        output = migration.folder / f"{followed.name}.1.out"
        until(lambda: "it is copied again" in output.read_text())
        followed.put("last")
        followed.equal()
        migration.kill(process)  # a stop within 0.2 s would be luck on a busy machine
        result = migration.run("--until-consistent")
        assert result.status == 0, result
    followed.compare()


def test_a_table_that_is_gone_from_the_source_is_left_as_it_is_in_the_target(
    followed: Followed,
) -> None:
    migration = caught_up(followed)
    process = migration.start()
    followed.put("b")
    followed.arrived("b")
    [before] = followed.checkpoint.find({"_id": "table"})
    del followed.simulator.tables[followed.name]
    result = migration.wait(process)
    assert result.status == 4, result
    assert f"table {followed.name}: changes are lost" in result.line
    assert "cannot be copied again, so the target is left as it is" in result.line
    assert "ResourceNotFoundException" in result.line
    assert followed.collection.count_documents({}) == 101
    [after] = followed.checkpoint.find({"_id": "table"})
    assert after == before


def test_a_signal_is_obeyed_while_a_resync_is_decided_and_none_is_begun_for_ever(
    followed: Followed,
) -> None:
    migration = caught_up(followed)
    lose(followed)
    followed.simulator.faults.next(  # no supervisor is there at that moment to hear of it
        "Scan", None, calling(lambda: migration.running[-1].send_signal(signal.SIGTERM))
    )
    result = migration.run()
    assert result.status == 0, result
    assert "it is copied again" not in result.stdout
    assert followed.collection.find_one({"pk": "k7"})

    followed.simulator.faults.rule(1.0, calling(followed.table.replace_stream), where=copies)
    result = migration.run()
    assert result.status == 4, result
    assert "before it has caught up since it was copied again" in result.line
    assert "incr_sync_parallel = true" in result.line
    assert followed.collection.find_one({"pk": "k7"}) is None


def test_a_table_of_a_dynamodb_target_is_deleted_and_copied_again(
    followed: Followed, dynamodb: Any, tmp_path: Path
) -> None:
    file = {"checkpoint__type": "file", "checkpoint__address": tmp_path / "positions"}
    migration = caught_up(followed, target=dynamodb.url, target__type="aliyun_dynamo_proxy", **file)
    lose(followed)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    source, target = (
        {item["pk"]["S"]: item for item in client.scan(TableName=followed.name)["Items"]}
        for client in (connect(followed.simulator.url), dynamodb.client)
    )
    assert target == source
