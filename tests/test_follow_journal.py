"""With incr_sync_parallel a copy may take longer than the stream keeps its changes."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shake.demo.servers import free_port
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.streams_faults import calling
from tests.support.streams_workload import Workload
from tests.support.wait import until


@pytest.fixture
def copying(followed: Followed) -> Iterator[threading.Event]:
    """Until this is set, no answer comes to a Scan."""
    event = threading.Event()
    followed.simulator.faults.rule(1.0, calling(lambda: event.wait(60)), where=copies)
    yield event
    event.set()


def journaling(followed: Followed, tmp_path: Path, **settings: object) -> Migration:
    return followed.task(
        incr_sync_parallel="true", journal__path=tmp_path / "journal", log__level="info", **settings
    )


def journaled(followed: Followed) -> bool:
    """Whether the checkpoint says that the journal has all that the stream said."""
    saved = {one["ShardId"]: one for one in followed.checkpoint.find({"ShardId": {"$ne": None}})}
    for shard in followed.table.stream.shards:
        document = saved.get(shard.id, {})
        if shard.records and int(document.get("JournalSequenceNumber") or 0) < shard.last:
            return False
        if shard.closed and document.get("JournalStatus") != "ended":
            return False
    return True


def files(tmp_path: Path) -> set[str]:
    return {file.stem for file in (tmp_path / "journal").glob("*/*/*.journal")}


def test_changes_that_the_stream_has_forgotten_come_from_the_journal_in_order(
    followed: Followed, copying: threading.Event, tmp_path: Path
) -> None:
    """Processes crash: a worker, all of them, and all again while the journal is applied."""
    table = followed.simulator.table(followed.name, sk=("sk", "N"), shards=2)
    workload = Workload(table, seed=7, cold=50, untidy=4)
    workload.run(50)
    migration = journaling(followed, tmp_path)
    process = migration.start()
    until(lambda: any(map(copies, list(followed.simulator.journal))))
    workload.run(150)
    migration.child("worker").kill()
    workload.run(150)
    until(lambda: journaled(followed))
    migration.kill(process)
    process = migration.start()
    workload.run(150)
    until(lambda: journaled(followed))
    gone = [shard.id for shard in table.stream.shards if shard.closed]
    assert len(gone) > 2
    followed.simulator.trim(time.time() + 1)
    assert not {shard.id for shard in table.stream.shards} & set(gone)
    migration.kill(process)
    process = migration.start()  # which lists the shards anew
    copying.set()
    until(
        lambda: followed.checkpoint.count_documents({"JournalStatus": "ended", "Status": "applied"})
    )
    migration.kill(process)
    process = migration.start()
    workload.run(50)
    followed.equal()
    until(lambda: not files(tmp_path) & set(gone))
    stopped(migration, process)


def test_a_journal_that_is_full_leaves_changes_to_the_stream(
    followed: Followed, copying: threading.Event, tmp_path: Path
) -> None:
    followed.simulator.table(followed.name)
    rng = random.Random(5)

    def put(*numbers: int) -> None:
        for number in numbers:
            followed.put(f"k{number}", data={"S": f"{rng.getrandbits(400_000):x}"})

    def held() -> int:
        return sum(file.stat().st_size for file in (tmp_path / "journal").glob("*/*/*"))

    migration = journaling(
        followed, tmp_path, journal__max_mb=1, http_profile=(port := free_port())
    )
    process = migration.start()
    until(lambda: any(map(copies, list(followed.simulator.journal))))
    put(*range(30))
    until(lambda: "has reached journal.max_mb" in status(port)["reason"])
    until(lambda: not status(port)["total"]["shards_reading"])
    assert (full := held()) >= 1e6
    stopped(migration, process)

    scans = len(list(filter(copies, followed.simulator.journal)))
    process = migration.start()  # the journal is full from the beginning
    until(lambda: len(list(filter(copies, list(followed.simulator.journal)))) > scans)
    reason = re.compile(
        rf"degraded journal: {tmp_path}/journal/\S+ has \d+ MB and has reached "
        r"journal\.max_mb = 1: changes wait in the stream, which keeps them 24 hours"
    )
    until(lambda: reason.fullmatch("{state} {reason}".format(**status(port))), 60)
    put(*range(20, 40))
    copying.set()
    followed.equal()
    assert held() == full
    until(lambda: status(port)["total"]["journaled"] == 0)
    stopped(migration, process)


def test_a_journal_that_is_elsewhere_is_refused_and_a_damaged_one_is_a_gap(
    followed: Followed, copying: threading.Event, tmp_path: Path
) -> None:
    followed.simulator.table(followed.name)
    migration = journaling(followed, tmp_path)
    process = migration.start()
    until(lambda: any(map(copies, list(followed.simulator.journal))))
    followed.put("a")
    until(lambda: journaled(followed))
    migration.kill(process)
    [file] = (tmp_path / "journal").glob("*/*/*.journal")
    folder = file.parents[1]
    folder.rename(tmp_path / "elsewhere")
    result = migration.run()
    assert result.status == 3, result
    assert f"the journal of 1 of its shards is not in {folder}: start in the folder" in result.line

    (tmp_path / "elsewhere").rename(folder)
    os.truncate(file, file.stat().st_size - 1)
    result = migration.run()
    assert result.status == 4, result
    assert f"the journal {file} ends before record" in result.line
    copying.set()
    result = migration.run("--until-consistent", "--set", "gap.policy=resync")
    assert result.status == 0, result
    followed.compare()


def test_a_table_is_journaled_and_followed_while_another_takes_all_readers_and_hangs(
    followed: Followed, tmp_path: Path
) -> None:
    """One worker reads 16 shards at once, and so many has the table that is followed."""
    other, simulator = f"{followed.name}-o", followed.simulator
    simulator.table(other, shards=16)
    table = simulator.table(followed.name)
    event = threading.Event()
    held = calling(lambda: event.wait(60))
    simulator.faults.rule(1.0, held, where=lambda c: copies(c) and c.table == followed.name)
    names = {"filter__collection__white": f"{followed.name};{other}", "full__read__concurrency": 1}
    small = {"qps__incr__batch_num": 1, "http_profile": (port := free_port())}
    migration = journaling(followed, tmp_path, **names, **small)
    process = migration.start(workers=1)
    until(lambda: any(map(copies, list(simulator.journal))))
    until(lambda: "following" in [table["state"] for table in status(port)["tables"]])
    writer = migration.child(f"writer {followed.name}.{other}")
    writer.suspend()
    for number in range(200):
        simulator.tables[other].put({"pk": {"S": f"k{number}"}})
    until(lambda: status(port)["total"]["pending"] >= 16)
    # It is listed some seconds later, when all places are taken.
    table.stream.roll_over(table.stream.open()[0], listed_after=12)
    followed.put("a")
    until(lambda: journaled(followed))
    event.set()
    followed.equal()
    writer.resume()
    until(lambda: followed.mongo.client[followed.name][other].count_documents({}) == 200)
    stopped(migration, process)


@pytest.mark.parametrize("shard", ["../../x", "/tmp/x", "a\nb", ".."])
def test_a_shard_whose_id_is_a_path_is_refused(
    followed: Followed, tmp_path: Path, shard: str
) -> None:
    table = followed.simulator.table(followed.name)
    table.stream.shards[0].id = shard
    followed.put("a")
    before = set(tmp_path.rglob("*"))
    for arguments in (["--dry-run"], []):
        result = journaling(followed, tmp_path).run(*arguments)
        assert result.status == 3, result
        assert f"the source lists a shard {shard!r}"[:40].replace("\n", "") in result.stderr
    assert not [file for file in set(tmp_path.rglob("*")) - before if "journal" in file.name]
