"""What a fail-over of the target undoes is done again: nothing is missing, and nothing there twice.

On real replica sets of MongoDB. SHAKE_FAILOVER_ROUNDS is how many rounds a set is in motion.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern
from typing_extensions import Self

from shake.config import load
from shake.demo.mongo import Mongod, why_no_mongod
from shake.demo.servers import free_port
from shake.schema import Attribute, Keys, Table
from shake.targets.contract import Changes, CopyRun, Fence, Staging
from shake.targets.mongodb.target import MongoTarget
from tests.support.followed import Followed, stopped
from tests.support.migration import Migration
from tests.support.replica_set import ARBITER, DATA, Member, ReplicaSet
from tests.support.status import status
from tests.support.streams import Clock, Simulator
from tests.support.wait import until
from tests.support.wire import Wire

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_mongod()), reason=f"no mongod: {why_no_mongod()}"),
]

TABLE = Table("things", Keys(Attribute("pk", "S"), Attribute("sk", "N")))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with ReplicaSet(tmp_path_factory.mktemp("three")) as replica_set:
        yield replica_set


# -- calls that a fail-over undoes before they are durable ---------------------------------------


@dataclass
class Undone:
    """Calls whose effect a primary shows, which no other member confirms, and which is then lost.

    ``retries`` are the reasons of failed attempts.
    """

    replica_set: ReplicaSet
    client: MongoClient[dict[str, Any]]
    target: MongoTarget
    name: str
    retries: list[str]

    def staging(self, place: str, run: int = 0) -> Any:
        return self.target.staging(place, TABLE, CopyRun(7, run, 7), lambda line: None)

    def filled(self, place: str) -> str:
        """The UUID of a staging collection with a document."""
        held = self.staging(place).begin()
        self.collection(held.namespace).insert_one({"_id": 1})
        return str(held.collection_uuid)

    def collection(self, place: str) -> Any:
        database, _, collection = place.partition(".")
        return self.client[database][collection]

    def names(self, place: str) -> list[str]:
        return sorted(self.target.collections(place, place))

    def call(
        self, calls: Mapping[str, tuple[Callable[[], Any], str]], dropped: Collection[str]
    ) -> dict[str, Any]:
        """The answers of the calls; each shows a collection in a place, or that it is ``dropped``.

        Those are dropped before, also by the primary alone.
        """
        self.replica_set.settle()
        primary, others = self.replica_set.primary(), self.replica_set.secondaries()
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="alwaysOn")
        answers: dict[str, Any] = {}
        threads = [
            threading.Thread(target=lambda name=name: answers.update({name: calls[name][0]()}))
            for name in calls
        ]
        uri = f"mongodb://{primary.host}/?directConnection=true"
        with MongoClient[dict[str, Any]](uri, w=1) as client:
            for place in dropped:
                client[self.name].drop_collection(place.partition(".")[2])
            for thread in threads:
                thread.start()
            for place in {place for _, place in calls.values()} - set(dropped):
                collection = place.partition(".")[2]
                until(lambda: collection in client[self.name].list_collection_names())  # noqa: B023
            for name in calls:  # by now each waits for the other members
                until(lambda: sum(name in reason for reason in self.retries) > 2)  # noqa: B023
        primary.kill()
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="off")
        for thread in threads:
            thread.join(60)
        primary.restart()
        self.replica_set.settle()
        return answers


@pytest.fixture(params=["majority", 2])
def undone(request: pytest.FixtureRequest, three: ReplicaSet, name: str) -> Iterator[Undone]:
    address = f"target.address={three.uri}&wtimeoutMS=300&w={request.param}"
    settings = [f"id={name}", address, "increase.executor.insert_on_dup_update=false"]
    retries: list[str] = []
    target = MongoTarget(load(None, {}, settings).config, threading.Event(), retries.append)
    with contextlib.closing(target), MongoClient[dict[str, Any]](three.uri) as client:
        yield Undone(three, client, target, name, retries)


def test_what_a_fail_over_undoes_is_done_again(undone: Undone) -> None:
    """A staging collection is created, taken over, published; a change is applied.

    And a collection that only the lost primary lacks is found, counted and written to.
    """
    begun, resumed, inserts, updates = (
        f"{undone.name}.{one}" for one in ("begun", "resumed", "inserts", "updates")
    )
    found, looked, counted, written = (
        f"{undone.name}.{one}" for one in ("found", "looked", "counted", "written")
    )
    fates = {fate: f"{undone.name}.fate-{fate}" for fate in ("create", "drop", "rename")}
    for fate, place in fates.items():
        if fate != "create":
            undone.collection(place).insert_one({"_id": "old"})
    uuids = {place: undone.filled(place) for place in [resumed, looked, *fates.values()]}
    for place in found, counted, written:
        undone.collection(place).insert_one({"_id": 1})
    fence = Fence(undone.target.collections(written, written)[written], 1, 1)
    document = {"_id": bson.ObjectId(), "pk": "a", "sk": 1, "v": 1}
    update = {"q": {"pk": "a", "sk": 1}, "u": document, "upsert": True}
    empty = {"updates": memoryview(b""), "inserts": memoryview(b""), "deletes": memoryview(b"")}

    def apply(place: str, command: str, statement: Any) -> Callable[[], Any]:
        writer = undone.target.writer(place, TABLE)
        changes = Changes(**{**empty, command: memoryview(bson.encode(statement))})
        return lambda: writer.apply(changes, "shard")

    def publish(fate: str, place: str) -> Callable[[], Any]:
        return lambda: undone.staging(place).publish(uuids[place], fate, f"{place}.backup", [])

    answers = undone.call(
        {
            begun: (undone.staging(begun).begin, f"{begun}.shake-7-0"),
            resumed: (
                lambda: undone.staging(resumed, 1).resume(uuids[resumed]),
                f"{resumed}.shake-7-1",
            ),
            **{place: (publish(fate, place), place) for fate, place in fates.items()},
            inserts: (apply(inserts, "inserts", document), inserts),
            updates: (apply(updates, "updates", update), updates),
            found: (lambda: undone.target.find(found, TABLE), found),
            looked: (
                lambda: undone.staging(looked).look(uuids[looked]),
                f"{looked}.shake-7-0",
            ),
            counted: (lambda: undone.target.writer(counted, TABLE).missing(1), counted),
            written: (
                lambda: undone.target.writer(written, TABLE, fence).write(
                    memoryview(bson.encode(document))
                ),
                written,
            ),
        },
        [found, f"{looked}.shake-7-0", counted, written],
    )
    assert answers[found] is not None
    assert answers[looked] == (f"{looked}.shake-7-0", uuids[looked])
    assert answers[counted] == 0
    assert list(undone.collection(written).find()) == [{"_id": 1}, document]
    assert undone.names(begun) == [answers[begun].namespace] == [f"{begun}.shake-7-0"]
    assert answers[begun].collection_uuid
    assert answers[resumed] == (f"{resumed}.shake-7-1", uuids[resumed])
    assert undone.names(resumed) == [f"{resumed}.shake-7-1"]
    for fate, place in fates.items():
        assert answers[place] == (place, uuids[place])
        assert list(undone.collection(place).find()) == [{"_id": 1}]
        assert undone.names(place) == [place, *[f"{place}.backup"] * (fate == "rename")]
    for place in inserts, updates:
        assert [one["v"] for one in undone.collection(place).find()] == [1]


def test_a_look_with_w_1_waits_for_no_majority(tmp_path: Path, name: str) -> None:
    """Such a task goes on with an arbiter and no secondary."""
    with ReplicaSet(tmp_path, (DATA, DATA, ARBITER)) as replica_set:
        address = f"target.address={replica_set.uri}&wtimeoutMS=300&w=1"
        config = load(None, {}, [f"id={name}", address]).config
        target = MongoTarget(config, threading.Event(), lambda line: None)
        with contextlib.closing(target):
            staging = target.staging(f"{name}.things", TABLE, CopyRun(7, 0, 7), lambda line: None)
            assert staging
            held = staging.begin()
            [secondary] = replica_set.secondaries()
            secondary.kill()
            assert staging.look("00" * 16) is None
            assert staging.look(held.collection_uuid) == held


@contextlib.contextmanager
def staging_behind_a_wire(mongo: Any, name: str, place: str) -> Iterator[tuple[Wire, Staging]]:
    """The staging collection of a copy, and the connection to it."""
    with Wire(*mongo.client.address) as wire:
        settings = [f"id={name}", f"target.address={wire.uri}"]
        target = MongoTarget(load(None, {}, settings).config, threading.Event(), lambda line: None)
        with contextlib.closing(target):
            staging = target.staging(place, TABLE, CopyRun(7, 0, 7), lambda line: None)
            assert staging
            yield wire, staging


def test_a_rename_that_meets_a_collection_looks_again(mongo: Any, name: str) -> None:
    """As where a fail-over undoes the renaming of the existing collection behind its back."""
    place = f"{name}.things"
    database = mongo.client[name]
    database.things.insert_one({"_id": "old"})

    def undo() -> None:
        mongo.client.admin.command("renameCollection", f"{place}.backup", to=place)

    with staging_behind_a_wire(mongo, name, place) as (wire, staging):
        held = staging.begin()
        undone = wire.stop_at("request", "renameCollection", place, undo, skip=1)
        assert (
            staging.publish(held.collection_uuid, "rename", f"{place}.backup", []).namespace
            == place
        )
    assert undone.is_set()
    assert sorted(database.list_collection_names()) == ["things", "things.backup"]
    assert list(database["things.backup"].find()) == [{"_id": "old"}]


def test_a_look_changes_nothing_and_believes_no_former_primary(mongo: Any, name: str) -> None:
    """The first answer lacks the staging collection, as that of a former primary does."""
    place = f"{name}.things"
    database = mongo.client[name]
    with staging_behind_a_wire(mongo, name, place) as (wire, staging):
        held = staging.begin()
        database.create_collection("things", viewOn="others")  # which takes no writes
        staged = held.namespace.partition(".")[2]
        database[staged].rename("elsewhere")
        asked = wire.stop_at("request", "find", place, lambda: database.elsewhere.rename(staged))
        before = len(wire.seen)
        assert staging.look(held.collection_uuid) == held
        assert staging.look("00" * 16) is None
    assert asked.is_set()
    reading = {"listCollections", "find", "hello", "buildInfo", "endSessions"}
    assert {one.name for one in wire.seen[before:]} <= reading


# -- whole runs -----------------------------------------------------------------------------------

ITEMS = 200


class Following(Followed):
    """A task into servers of the test's own, by any connection string; a context manager."""

    def __init__(self, migrate: Any, name: str, uri: str) -> None:
        self._opened = contextlib.ExitStack()
        simulator = self._opened.enter_context(Simulator(clock=Clock(time.time)))
        self.client = self._opened.enter_context(MongoClient[dict[str, Any]](uri))
        super().__init__(simulator, SimpleNamespace(client=self.client, uri=uri), migrate, name)
        simulator.table(name, sk=("sk", "N"))
        self.puts(range(ITEMS), 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def puts(self, numbers: Iterable[int], value: int) -> None:
        for number in numbers:
            self.put(f"k{number}", sk={"N": "0"}, n={"N": str(value)})

    def task(self, **settings: Any) -> Migration:
        return super().task(**{"target": self.mongo.uri, **settings})

    def held_by(self, member: Member, level: str = "local") -> int:
        """How many items a member shows by a read concern."""
        uri = f"mongodb://{member.host}/?directConnection=true"
        with MongoClient[dict[str, Any]](uri) as client:
            database = client[self.name]
            return sum(
                database.get_collection(one, read_concern=ReadConcern(level)).count_documents(
                    {"n": {"$gt": 0}}
                )
                for one in database.list_collection_names()
                if one.startswith(self.name)
            )


Follow = Callable[[str], Following]


@pytest.fixture
def follow(migrate: Any, name: str) -> Follow:
    return partial(Following, migrate, name)


@pytest.mark.parametrize(("phase", "writers"), [("copying", 1), ("copying", 3), ("following", 1)])
def test_what_a_lost_primary_alone_had_is_not_missing(
    follow: Follow, tmp_path: Path, phase: str, writers: int
) -> None:
    """With an arbiter, the server's own default write concern confirms what it can lose."""
    with (
        ReplicaSet(tmp_path, (DATA, DATA, ARBITER)) as replica_set,
        follow(replica_set.plain_uri) as followed,
    ):
        slowly = {"qps__full": 8} if phase == "copying" else {}
        migration = followed.task(full__writers=writers, **slowly)
        process = migration.start()
        primary, [secondary] = replica_set.primary(), replica_set.secondaries()
        if phase == "copying":
            until(lambda: followed.held_by(primary) > 40, 90)
            secondary.kill()
            # The last batch might be stored before the kill, and no other comes.
            until(lambda: followed.held_by(primary) > followed.held_by(primary, "majority"), 90)
        else:
            followed.arrived(f"k{ITEMS - 1}")
            followed.puts([ITEMS], 1)
            # Confirmed too: what is not, the next change waits for.
            confirmed = followed.collection.with_options(read_concern=ReadConcern("majority"))
            until(lambda: confirmed.find_one({"pk": f"k{ITEMS}"}), 90)
            secondary.kill()
            followed.puts(range(1000, 1100), 2)
            until(lambda: followed.held_by(primary) > ITEMS + 1, 90)
        primary.kill()
        secondary.restart()
        until(lambda: replica_set.primary() is secondary, 90)
        primary.restart()
        replica_set.settle()
        followed.equal()
        stopped(migration, process)
        followed.compare()


#: Where a primary stops, by a fail point of mongod.
HALTS: dict[str, tuple[str, dict[str, Any]]] = {
    "createIndexes": ("hangAfterStartingIndexBuild", {}),
    "renameCollection": (
        "failCommand",
        {"failCommands": ["renameCollection"], "blockConnection": True, "blockTimeMS": 3000},
    ),
}


@pytest.mark.parametrize("move", ["step down", "kill"])
@pytest.mark.parametrize("command", list(HALTS))
def test_a_command_that_a_fail_over_interrupts_is_carried_out(
    follow: Follow, three: ReplicaSet, command: str, move: str
) -> None:
    three.settle()
    primary, (point, data) = three.primary(), HALTS[command]
    entered = primary.ask("configureFailPoint", point, mode="alwaysOn", data=data)["count"]
    with follow(three.uri) as followed:
        migration = followed.task()
        process = migration.start()
        halted = {"timesEntered": entered + 1, "maxTimeMS": 60_000}
        assert primary.ask("waitForFailPoint", point, timeout=60, **halted)
        if move == "kill":
            primary.kill()
            until(lambda: three.primary() is not primary)
            primary.restart()
        else:
            primary.ask("replSetStepDown", 20, secondaryCatchUpPeriodSecs=4)
            until(lambda: three.primary() is not primary)
            primary.ask("configureFailPoint", point, mode="off")
        followed.equal()
        stopped(migration, process)
        followed.compare()
        database = followed.client[followed.name]
        assert database.list_collection_names() == [followed.name]
        assert set(followed.collection.index_information()) == {"_id_", "pk_1_sk_1", "pk_1"}


def test_a_task_that_waits_for_a_majority_says_so_goes_on_and_stops_in_time(
    follow: Follow, tmp_path: Path
) -> None:
    with (
        ReplicaSet(tmp_path) as replica_set,
        follow(f"{replica_set.uri}&wtimeoutMS=1000") as followed,
    ):
        port = free_port()
        migration = followed.task(http_profile=port)
        migration.first = "from shake.farm import health; health._SECONDS = 5"
        process = migration.start()
        followed.arrived(f"k{ITEMS - 1}")
        until(lambda: status(port)["state"] == "running")
        others = replica_set.secondaries()
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="alwaysOn")
        followed.puts([1], 2)
        until(lambda: status(port)["state"] == "degraded")
        assert "waiting for replication timed out" in status(port)["reason"]
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="off")
        followed.equal()
        until(lambda: status(port)["state"] == "running", 60)
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="alwaysOn")
        followed.puts([2], 3)
        until(lambda: status(port)["state"] == "degraded")
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert migration.wait(process).status == 1
        assert time.monotonic() - began < 10
        for one in others:
            one.ask("configureFailPoint", "stopReplProducer", mode="off")
        assert migration.run("--until-consistent").status == 0
        followed.compare()


@pytest.mark.parametrize("query", ["w=1", "journal=false"])
def test_a_write_concern_that_a_fail_over_can_undo_is_a_loud_warning(
    follow: Follow, three: ReplicaSet, query: str
) -> None:
    port = free_port()
    with follow(f"{three.uri}&{query}") as followed:
        migration = followed.task(http_profile=port)
        planned = migration.run("--dry-run")
        assert planned.status == 0
        assert f"WEAK WRITE CONCERN: target.address names {query}" in planned.stdout
        process = migration.start()
        followed.arrived(f"k{ITEMS - 1}")
        [notice] = [one for one in status(port)["notices"] if "WEAK WRITE CONCERN" in one]
        assert f"names {query}" in notice
        result = stopped(migration, process)
    assert "WARN" in next(line for line in result.stdout.splitlines() if notice in line)


def test_a_server_without_a_set_that_is_killed_again_and_again_loses_nothing(
    follow: Follow, tmp_path: Path
) -> None:
    with (
        Mongod(replica_set="", folder=tmp_path / "mongo") as server,
        follow(server.uri) as followed,
    ):
        migration = followed.task()
        process = migration.start()
        for round_ in range(5):
            followed.arrived(f"k{ITEMS - 1}")
            followed.puts(range(1000 * round_, 1000 * round_ + 60), round_)
            until(lambda: followed.collection.find_one({"pk": f"k{1000 * round_}"}), 90)  # noqa: B023
            server.kill()
            server.restart()
        followed.equal()
        stopped(migration, process)


class Motion:
    """Moves a set, by chance, until it is left: its primary steps down, is killed, or hangs."""

    def __init__(self, replica_set: ReplicaSet, rng: random.Random) -> None:
        self._set = replica_set
        self._rng = rng
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._move)
        self.moves: list[str] = []

    def _move(self) -> None:
        while not self._over.wait(self._rng.uniform(1, 3)):
            move = self._rng.choice(["step down", "kill", "hang"])
            primary = self._set.primary(60)
            if move == "step down":
                primary.ask("replSetStepDown", 5, secondaryCatchUpPeriodSecs=2)
            elif move == "kill":
                primary.kill()
                self._over.wait(self._rng.uniform(0, 3))
                primary.restart()
            else:
                primary.signal(signal.SIGSTOP)
                self._over.wait(self._rng.uniform(1, 6))
                primary.signal(signal.SIGCONT)
            self.moves.append(move)

    def __enter__(self) -> Motion:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("seed", range(int(os.environ.get("SHAKE_FAILOVER_ROUNDS", "2"))))
def test_a_set_in_motion_ends_equal(follow: Follow, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    settings: dict[str, Any] = {
        "id__mode": rng.choice(["objectid", "key"]),
        "full__writers": 1 + 2 * (seed % 2),
    }
    with ReplicaSet(tmp_path) as replica_set, follow(replica_set.uri) as followed:
        if exist := rng.choice(["", "rename", "drop"]):
            settings["target__db__exist"] = exist
            followed.collection.insert_one({"_id": "old"})
        migration = followed.task(qps__full=12, **settings)
        with Motion(replica_set, rng) as motion:
            process = migration.start()
            written = 0
            while len(motion.moves) < 6 and process.poll() is None:
                numbers = [rng.randrange(2 * ITEMS) for _ in range(20)]
                followed.puts(numbers, written := written + 1)
                followed.table.delete({"pk": {"S": f"k{numbers[0]}"}, "sk": {"N": "0"}})
                time.sleep(0.2)
        replica_set.settle(120)
        followed.equal(180)
        stopped(migration, process)
        with Motion(replica_set, rng):
            result = migration.run("--until-consistent", timeout=240)
            assert result.status == 0, result
        replica_set.settle(120)
        followed.compare()
        names = set(followed.client[followed.name].list_collection_names())
        assert len(names) == (2 if exist == "rename" else 1), names
