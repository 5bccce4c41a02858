"""gap.policy = resync: a table whose stream has lost changes is copied again, the others go on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shake.demo.servers import free_port
from tests.support.faulty import error
from tests.support.migration import Migration
from tests.support.streams import Call
from tests.support.streams_faults import calling, instead
from tests.support.tables import connect
from tests.support.wait import until
from tests.support.wire import Wire
from tests.support.world import World, copies, stopped

RESYNC = {"gap__policy": "resync"}
DROPS = "DROP what was copied, then copy again"


def followed(world: World, **settings: Any) -> Migration:
    """A task that has followed its table for a moment."""
    world.simulator.table(world.name)
    for key in range(100):
        world.put(f"k{key}")
    migration = world.task(**RESYNC, **settings)
    migration.workers = 1
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    return migration


def lose(world: World) -> None:
    """Changes that no stream holds."""
    world.table.disable_stream()
    world.table.delete({"pk": {"S": "k7"}})
    world.put("k8", n={"N": "8"})
    world.put("lost")


def scans(world: World, table: str = "") -> int:
    """How many pages the copies have read."""
    calls = filter(copies, list(world.simulator.journal))
    return sum(call.table == (table or world.name) for call in calls)


def test_a_table_that_loses_changes_is_copied_again_while_others_go_on(world: World) -> None:
    other = f"{world.name}b"
    table, quiet = world.simulator.table(world.name), world.simulator.table(other)
    for key in range(50):
        world.put(f"k{key}")
        quiet.put({"pk": {"S": f"k{key}"}})
    migration = world.task(filter__collection__white=f"{world.name};{other}", **RESYNC)
    migration.workers = 1
    process = migration.start()
    output = migration.folder / f"{world.name}.0.out"
    until(lambda: output.read_text().count(": consistent point reached") == 2)
    beside = world.mongo.client[world.name][other]
    before, pages = sorted(map(str, beside.distinct("_id"))), scans(world, other)

    def of_table(call: Call) -> bool:
        return call.operation == "GetRecords" and call.table == world.name

    world.simulator.faults.rule(1.0, instead(error("ThrottlingException")), where=of_table)
    until(lambda: any(call.status == 400 for call in world.simulator.journal if of_table(call)))
    world.put("lost")
    table.delete({"pk": {"S": "k7"}})
    table.replace_stream()
    world.simulator.trim(time.time() + 1)
    world.simulator.faults.clear()

    until(lambda: "it is copied again" in output.read_text())
    quiet.put({"pk": {"S": "new"}})
    quiet.delete({"pk": {"S": "k9"}})
    world.equal()
    until(lambda: beside.find_one({"pk": "new"}) and not beside.find_one({"pk": "k9"}))
    world.put("later")
    world.arrived("later")
    assert scans(world, other) == pages
    assert len(set(before) & set(map(str, beside.distinct("_id")))) == 49
    stopped(migration, process)
    said = output.read_text()
    assert f"table {world.name}: changes are lost: " in said
    assert f"what {world.name}.{world.name} holds is DROPPED, while other tables go on" in said
    world.compare()


@pytest.mark.parametrize(("mode", "id_mode"), [("all", "key"), ("incr", "objectid")])
def test_a_resync_that_is_killed_goes_on_and_is_announced(
    world: World, mode: str, id_mode: str
) -> None:
    place = f"{world.name}.{world.name}"
    with Wire(*world.mongo.client.address) as wire:
        migration = followed(world, target=wire.uri, sync_mode=mode, id__mode=id_mode)
        lose(world)

        def kill() -> None:
            migration.kill(migration.running[-1])

        marked = wire.stop_at("answer", "update", f"{world.name}-checkpoint.{world.name}", kill)
        assert migration.run().status == -signal.SIGKILL
        assert marked.is_set()
        result = migration.run("--dry-run")
        assert result.status == 0, result
        assert f"table {world.name} -> {place}: {DROPS}" in result.stdout
        assert "existing collections: 1 DROPPED" in result.stdout
        assert "  a gap: its stream arn:" in result.stdout
        assert world.collection.find_one({"pk": "k7"})

        begun = wire.stop_at("answer", "insert", place, kill, skip=2)
        assert migration.run().status == -signal.SIGKILL
        assert begun.is_set()
        result = migration.run("--until-consistent")
        assert result.status == 0, result
        world.compare()
        pages = scans(world)
        process = migration.start()
        world.put("later")
        world.equal()
        stopped(migration, process)
    assert scans(world) == pages > 0


def test_a_resync_is_begun_however_often_source_target_and_checkpoints_fail_meanwhile(
    world: World,
) -> None:
    def fail(command: str) -> None:
        """The next such command runs out of time."""
        data = {"failCommands": [command], "errorCode": 50}
        world.mongo.client.admin.command(
            "configureFailPoint", "failCommand", mode={"times": 1}, data=data
        )

    throttled = [instead(error("ThrottlingException"))] * 7  # of which a plan bears 5
    checkpoint = f"{world.name}-checkpoint.{world.name}"
    with Wire(*world.mongo.client.address) as wire:
        migration = followed(world, target=wire.uri)
        lose(world)
        world.simulator.faults.next("UpdateTable", instead(error("ResourceInUseException")))
        stops = [
            wire.stop_at("request", "update", checkpoint, lambda: fail("update")),
            wire.stop_at("answer", "update", checkpoint, lambda: fail("delete"), skip=1),
            wire.stop_at(
                "request",
                "delete",
                f"{world.name}.{world.name}",
                lambda: world.simulator.faults.next("DescribeTable", *throttled),
                skip=2,
            ),
            wire.stop_at("request", "update", checkpoint, lambda: fail("update"), skip=2),
        ]
        result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert all(stop.is_set() for stop in stops)
    tried = re.findall(r"WARN  shake: (.*); it is tried again until it works", result.stdout)
    assert len(tried) >= 5, result.stdout
    world.compare()


def test_a_signal_is_obeyed_while_a_resync_waits_for_a_source_that_does_not_answer(
    world: World,
) -> None:
    migration = followed(world)
    lose(world)
    throttle = instead(error("ThrottlingException"))

    def described(call: Call) -> bool:
        return call.operation == "DescribeTable"

    def begin() -> None:
        world.simulator.faults.rule(1.0, throttle, where=described)

    world.simulator.faults.next("Scan", None, calling(begin))  # a plan's, then the mark's
    process = migration.start()
    output = migration.folder / f"{world.name}.1.out"
    until(lambda: output.read_text().count("; it is tried again until it works") >= 2)
    stopped(migration, process)
    assert "stopped: what is done is saved, start again to go on" in output.read_text()


def test_a_gap_met_while_the_checkpoints_do_not_answer_waits_for_them(world: World) -> None:
    released, port = threading.Event(), free_port()

    def reason() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
            return str(json.load(answer)["reason"])

    with Wire(*world.mongo.client.address) as wire:
        migration = followed(world, target=wire.uri, http_profile=port)
        migration.first = "from shake.farm import supervisor; supervisor._DRAIN_SECONDS = 0.2"
        process = migration.start()
        world.put("new")
        world.arrived("new")
        checkpoint = f"{world.name}-checkpoint.{world.name}"

        def hold() -> threading.Event:
            return wire.stop_at("request", "update", checkpoint, lambda: hold() and wait())

        wait = partial(released.wait, 60)
        held = hold()
        world.put("newer")
        until(held.is_set)
        world.table.replace_stream()
        world.simulator.trim(time.time() + 1)
        until(lambda: reason().endswith("; it is copied again"))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)  # which is longer than it waits for the target and the saver
        released.set()
        output = migration.folder / f"{world.name}.1.out"
        until(lambda: "it is copied again" in output.read_text())
        world.put("last")
        world.arrived("last")
        stopped(migration, process)
    world.compare()


def test_a_table_that_is_gone_from_the_source_is_left_as_it_is_in_the_target(world: World) -> None:
    migration = followed(world)
    process = migration.start()
    world.put("b")
    world.arrived("b")
    [before] = world.checkpoint.find({"_id": "table"})
    del world.simulator.tables[world.name]
    result = migration.wait(process)
    assert result.status == 4, result
    assert f"table {world.name}: changes are lost" in result.line
    assert "cannot be copied again, so the target is left as it is" in result.line
    assert "ResourceNotFoundException" in result.line
    assert world.collection.count_documents({}) == 101
    [after] = world.checkpoint.find({"_id": "table"})
    assert after == before


def test_a_signal_is_obeyed_while_a_resync_is_decided_and_none_is_begun_for_ever(
    world: World,
) -> None:
    migration = followed(world)
    lose(world)
    world.simulator.faults.next(  # no supervisor is there at that moment to hear of it
        "Scan", None, calling(lambda: migration.running[-1].send_signal(signal.SIGTERM))
    )
    result = migration.run(timeout=10)
    assert result.status == 0, result
    assert "it is copied again" not in result.stdout
    assert world.collection.find_one({"pk": "k7"})

    world.simulator.faults.rule(1.0, calling(world.table.replace_stream), where=copies)
    result = migration.run()
    assert result.status == 4, result
    assert "before it has caught up since it was copied again" in result.line
    assert "incr_sync_parallel = true" in result.line
    assert world.collection.find_one({"pk": "k7"}) is None


def test_a_table_of_a_dynamodb_target_is_deleted_and_copied_again(
    world: World, dynamodb: Any, tmp_path: Path
) -> None:
    file = {"checkpoint__type": "file", "checkpoint__address": tmp_path / "positions"}
    migration = followed(world, target=dynamodb.url, target__type="aliyun_dynamo_proxy", **file)
    lose(world)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    source, target = (
        {item["pk"]["S"]: item for item in client.scan(TableName=world.name)["Items"]}
        for client in (connect(world.simulator.url), dynamodb.client)
    )
    assert target == source
