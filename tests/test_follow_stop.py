"""A signal while changes go into a target that hangs: out in time, and nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient

from shake.checkpoint.file_store import FileStore
from shake.demo.mongo import MongoServer
from shake.demo.servers import free_port
from tests.support.followed import Followed, stopped
from tests.support.migration import Migration
from tests.support.status import slots_used
from tests.support.streams import Clock, Simulator
from tests.support.wait import until


@pytest.fixture
def followed(
    own_mongo: MongoServer, migrate: Callable[..., Migration], name: str
) -> Iterator[Followed]:
    with (
        Simulator(clock=Clock(time.time)) as simulator,
        MongoClient[dict[str, Any]](own_mongo.uri) as client,
    ):
        yield Followed(simulator, SimpleNamespace(uri=own_mongo.uri, client=client), migrate, name)


@pytest.mark.parametrize("checkpoint", ["mongodb", "file"])
def test_a_target_that_hangs_is_status_1_in_time_and_the_next_run_ends_exact(
    followed: Followed, own_mongo: MongoServer, tmp_path: Path, checkpoint: str
) -> None:
    table = followed.simulator.table(followed.name)
    port, folder = free_port(), tmp_path / "positions"
    migration = followed.task(
        target=own_mongo.uri,
        http_profile=port,
        checkpoint__type=checkpoint,
        **({"checkpoint__address": folder} if checkpoint == "file" else {}),
    )
    process = migration.start()
    until(lambda: followed.simulator.journal.of("GetRecords"))
    followed.put("acknowledged")
    followed.arrived("acknowledged")
    until(lambda: not slots_used(port))
    own_mongo.signal(signal.SIGSTOP)
    followed.put("under way")
    until(lambda: slots_used(port))
    followed.put("behind it")
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    result = migration.wait(process)
    assert time.monotonic() - began < 10
    assert result.status == 1
    assert result.line == "stopped, but the target did not answer in time; start again to go on"
    if checkpoint == "file":
        saved = FileStore(folder, f"{followed.name}-checkpoint").read(followed.name)
        [shard] = [one for one in saved if one["_id"].startswith("shard-")]
        assert shard["SequenceNumber"] == str(table.stream.shards[0].records[0][0])

    own_mongo.signal(signal.SIGCONT)
    followed.put("last")
    process = migration.start()
    followed.equal()
    stopped(migration, process)
