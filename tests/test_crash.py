"""Whatever dies, wherever it dies: in the end the target holds every item once.

Each test stops the world at one exact message between shake and the target, and kills there.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from shake.codec.contract import Options
from tests.support.migration import Migration, compare, keys_of
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.support.wire import Moment, Wire

ITEMS = 320
#: Small pages and many segments, so that there is much to be interrupted.
MANY_PAGES = {"full.read.concurrency": 4, "qps.full.batch_num": 20}


@dataclass
class World:
    """A table, a proxy in front of the target, and a migration through it."""

    dynamodb: Any
    mongo: Any
    wire: Wire
    migration: Migration
    table: str

    @property
    def place(self) -> str:
        return f"{self.table}.{self.table}"

    @property
    def checkpoint(self) -> str:
        return f"{self.table}-checkpoint.{self.table}"

    def kill_at(
        self, moment: Moment, command: str, place: str, victim: str, skip: int = 0
    ) -> threading.Event:
        """Kill the victim when that message passes: supervisor, a child's role, or everything."""
        return self.wire.stop_at(moment, command, place, lambda: self.kill(victim), skip=skip)

    def kill(self, victim: str) -> None:
        run = self.migration.running[-1]
        if victim == "everything":
            self.migration.kill(run)
        elif victim == "supervisor":
            run.send_signal(signal.SIGKILL)
            run.wait()
        else:
            self.migration.child(victim).send_signal(signal.SIGKILL)

    def run_to_the_end(self) -> None:
        """Start again until a run ends well; no run may end in any way but by our hand."""
        for _ in range(20):
            result = self.migration.run()
            if result.status == 0:
                return
            assert result.status == -signal.SIGKILL, result
        raise AssertionError("killed again and again")

    def assert_exact(self, **options: Any) -> None:
        keys = keys_of(self.dynamodb.client, self.table)
        compare(
            self.dynamodb.client,
            self.mongo.client,
            self.table,
            self.place,
            options=Options(keys, **options),
        )
        indexes = self.mongo.client[self.table][self.table].index_information()
        wanted = {"_id_", "pk_1"} | ({"pk_1_sk_1"} if not options else set())
        assert wanted <= set(indexes), indexes


@pytest.fixture
def make_world(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> Iterator[Callable[..., World]]:
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))
    put_items(
        dynamodb.client,
        name,
        (
            {"pk": {"S": f"k{i % 41}"}, "sk": {"N": str(i)}, "v": {"S": "x" * 50}}
            for i in range(ITEMS)
        ),
    )
    host, port = mongo.client.address
    made: list[Migration] = []
    with Wire(host, port) as wire:

        def make(**settings: object) -> World:
            settings = {**{k.replace(".", "__"): v for k, v in MANY_PAGES.items()}, **settings}
            made.append(Migration(dynamodb.url, wire.uri, name, tmp_path, **settings))
            return World(dynamodb, mongo, wire, made[-1], name)

        yield make
        for migration in made:
            migration.close()


#: Where to die: after or before the target has done what the command says.
POINTS: list[tuple[Moment, str, str, int]] = [
    ("answer", "create", "place", 0),
    ("request", "insert", "place", 3),
    ("answer", "insert", "place", 3),  # stored, not acknowledged
    ("request", "update", "checkpoint", 2),
    ("answer", "update", "checkpoint", 2),  # the checkpoint is saved, slots are not yet free
    # All is copied, the tails are removed. (The first delete is pre-flight's, of nothing.)
    ("answer", "delete", "place", 1),
    ("request", "createIndexes", "place", 0),
    ("answer", "createIndexes", "place", 0),
]
POINT_NAMES = [f"{moment}-{command}" for moment, command, _, _ in POINTS]


@pytest.mark.parametrize("victim", ["supervisor", "everything"])
@pytest.mark.parametrize("point", POINTS, ids=POINT_NAMES)
def test_a_restart_after_a_kill_ends_with_every_item_once(
    make_world: Callable[..., World], point: tuple[Moment, str, str, int], victim: str
) -> None:
    world = make_world()
    moment, command, where, skip = point
    place = world.place if where == "place" else world.checkpoint
    died = world.kill_at(moment, command, place, victim, skip)
    assert world.migration.run().status == -signal.SIGKILL
    assert died.is_set()
    world.run_to_the_end()
    world.assert_exact()


@pytest.mark.parametrize(
    ("point", "victim"),
    [(point, "writer") for point in POINTS if point[2] == "place"]
    + [(POINTS[2], "worker 0"), (POINTS[4], "worker 1")],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[1]}",
)
def test_a_worker_or_writer_that_dies_is_replaced_and_the_copy_goes_on(
    make_world: Callable[..., World], point: tuple[Moment, str, str, int], victim: str
) -> None:
    world = make_world()
    moment, command, where, skip = point
    place = world.place if where == "place" else world.checkpoint
    died = world.kill_at(moment, command, place, victim, skip)
    result = world.migration.run()
    assert died.is_set()
    assert result.status == 0, result
    assert "it is replaced" in result.stdout
    world.assert_exact()


@pytest.mark.parametrize("victim", ["everything", "writer"])
def test_with_the_key_as_id_and_checkpoints_in_files_it_is_the_same(
    make_world: Callable[..., World], tmp_path: Path, victim: str
) -> None:
    world = make_world(
        id__mode="key",
        checkpoint__type="file",
        checkpoint__address=tmp_path / "positions",
        full__executor__insert_on_dup_update="false",
    )
    died = world.kill_at("answer", "insert", world.place, victim, skip=5)
    world.run_to_the_end()
    assert died.is_set()
    world.run_to_the_end()
    world.assert_exact(id_mode="key")


@pytest.mark.parametrize("victim", ["supervisor", "writer"])
@pytest.mark.parametrize(
    ("moment", "command"),
    [("request", "renameCollection"), ("answer", "renameCollection"), ("answer", "create")],
)
def test_the_old_collection_is_renamed_once_and_kept(
    make_world: Callable[..., World], moment: Moment, command: str, victim: str
) -> None:
    world = make_world(target__db__exist="rename")
    database = world.mongo.client[world.table]
    database[world.table].insert_one({"_id": "the old one"})
    died = world.kill_at(moment, command, world.place, victim)
    world.run_to_the_end()
    world.run_to_the_end()
    assert died.is_set()
    world.assert_exact()
    [backup] = set(database.list_collection_names()) - {world.table}
    assert list(database[backup].find()) == [{"_id": "the old one"}]


def test_the_same_point_may_kill_three_times(make_world: Callable[..., World]) -> None:
    world = make_world()
    for skip in (3, 2, 1):
        world.kill_at("answer", "insert", world.place, "everything", skip)
        assert world.migration.run().status == -signal.SIGKILL
    world.run_to_the_end()
    world.assert_exact()


@pytest.mark.parametrize(
    ("moment", "command", "skip"),
    [
        ("answer", "delete", 1),  # behind the delete, before the scan goes on
        ("answer", "insert", 2),  # while the scan goes on
        ("request", "createIndexes", 0),  # when all seemed to be there
        ("answer", "createIndexes", 0),  # when the unique index stands
    ],
)
def test_an_insert_that_arrives_long_after_its_sender_died_makes_no_copies(
    make_world: Callable[..., World], moment: Moment, command: str, skip: int
) -> None:
    world = make_world()
    released, landed = threading.Event(), threading.Event()

    def hold() -> None:
        world.kill("everything")
        released.wait(60)

    def release() -> None:
        before = world.wire.forwarded
        released.set()
        until(lambda: world.wire.forwarded > before)
        landed.set()

    world.wire.stop_at("request", "insert", world.place, hold, skip=4)
    assert world.migration.run().status == -signal.SIGKILL
    world.wire.stop_at(moment, command, world.place, release, skip=skip)
    world.run_to_the_end()
    assert landed.is_set()
    world.assert_exact()


def test_nobody_outlives_the_supervisor(make_world: Callable[..., World]) -> None:
    world = make_world()
    orphans: list[psutil.Process] = []

    def kill() -> None:
        orphans.extend(world.migration.children())
        world.kill("supervisor")

    world.wire.stop_at("request", "insert", world.place, kill, skip=2)
    world.migration.run()
    assert len(orphans) == 3
    assert not psutil.wait_procs(orphans, timeout=10)[1]


@pytest.mark.parametrize("seed", range(int(os.environ.get("SHAKE_CRASH_ROUNDS", "3"))))
def test_random_kills_end_with_every_item_once(make_world: Callable[..., World], seed: int) -> None:
    world = make_world()
    chance = random.Random(seed)
    for _ in range(4):
        victim = chance.choice(["supervisor", "everything", "writer", "worker 0", "worker 1"])
        moment: Moment = chance.choice(["request", "answer"])
        command, place = chance.choice(
            [("insert", world.place)] * 4 + [("update", world.checkpoint), ("delete", world.place)]
        )
        world.kill_at(moment, command, place, victim, skip=chance.randrange(8))
        result = world.migration.run()
        assert result.status in (0, -signal.SIGKILL), result
    world.run_to_the_end()
    world.assert_exact()
