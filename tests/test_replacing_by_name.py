"""Before MongoDB 6.0 a run is killed at any command of a replacement, which lands at any time.

The process counts as killed when its connection is cut at one command and its target is stopped.
The command is then lost, or lands at once, or lands after the next run has finished.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, get_args

import bson
import pytest
from pymongo import MongoClient

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.records import TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.config import load
from shake.demo.mongo import Mongod
from shake.errors import RunError, Stopped
from shake.plan.plan import Action, Plan, TablePlan
from shake.plan.positions import StreamPosition
from shake.run.target_sessions import replaced_fenced
from shake.schema import Attribute, Keys, Table
from shake.stream.shard import Shard
from shake.targets.contract import Changes, CopyRun, Fence, Location, OnExisting
from shake.targets.mongodb.staging import MongoStaging
from shake.targets.mongodb.target import MongoTarget
from tests.support.mongods import VERSIONS
from tests.support.wait import until
from tests.support.wire import ANY_WRITE, Wire

pytestmark = pytest.mark.matrix

TABLE = Table("things", Keys(Attribute("pk", "S")))
ITEMS = 7
OLD = "old"
#: Pairs of deaths that are tried.
PAIRS = 25
#: More commands than a replacement sends.
MOST = 30
Landing = Literal["never", "at once", "late"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with (
        Mongod(version=VERSIONS[0], folder=tmp_path_factory.mktemp("mongod")) as server,
        MongoClient[Any](server.uri) as client,
    ):
        yield client


@dataclass
class Death:
    """A process dies at its ``number``-th command that writes; ``release`` lets that one land."""

    number: int
    landing: Landing
    met: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def wait_in(self, wire: Wire, task: Task, stop: threading.Event) -> None:
        """Let the process die in this wire."""

        def die() -> None:
            stop.set()
            self.met.set()
            if self.landing != "never":
                self.released.wait(60)

        late = self.landing != "never"
        wire.stop_at(
            "request",
            ANY_WRITE,
            f"{task.name}.",
            die,
            skip=self.number,
            late=late,
            cut=True,
            answered=self.answered,
        )

    def release(self) -> None:
        self.released.set()
        if self.met.is_set() and self.landing != "never":
            until(self.answered.is_set)


@dataclass
class Task:
    """What a checkpoint remembers of a copy, and the runs that go on with it."""

    client: Any
    name: str
    run: int = -1
    location: Location | None = None
    drops: tuple[str, ...] = ()
    backup: str = ""
    notices: list[str] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return f"{self.name}.c"

    @property
    def database(self) -> Any:
        return self.client[self.name]

    def go_on(
        self, policy: OnExisting = "drop", death: Death | None = None, *, same_run: bool = False
    ) -> None:
        """One run, from its plan to its end, or to its death; or another process of the last one.

        That repeats the last order only, as shake.farm.writer does.
        """
        self.run += not same_run
        stop = threading.Event()
        with Wire(*self.client.address) as wire:
            uri = f"{wire.uri}&retryWrites=false"
            settings = [f"id={self.name}", f"target.address={uri}", f"target.db.exist={policy}"]
            config = load(None, {}, settings).config
            target = MongoTarget(config, stop, lambda reason: None)

            def begin_to_die() -> None:
                if death:
                    death.wait_in(wire, self, stop)

            with contextlib.closing(target):
                try:
                    self._replace(target, policy, begin_to_die, resumes=not same_run)
                except Stopped:
                    assert death
                    assert death.met.is_set()
        if death and death.landing == "at once":
            death.release()

    def _replace(
        self,
        target: MongoTarget,
        policy: OnExisting,
        begin_to_die: Callable[[], None],
        *,
        resumes: bool,
    ) -> None:
        staging = target.staging(
            self.namespace, TABLE, CopyRun(1, self.run, 1), self.notices.append
        )
        assert staging
        if self.location is None:
            self.location = staging.begin()
            staged = target.database(self.name)[self.location.namespace.partition(".")[2]]
            staged.insert_many([{"_id": number} for number in range(ITEMS)])
        policy = self._plan(target, staging, policy)
        begin_to_die()
        if resumes:
            staging.resume(self.location.collection_uuid)
        for _ in range(2):  # as shake.copy.phases does it
            renamed = staging.publish(
                self.location.collection_uuid, policy, self.backup, self.drops
            )
            if renamed.collection_uuid == self.location.collection_uuid:
                break
            self.location = renamed

    def _plan(self, target: MongoTarget, staging: MongoStaging, policy: OnExisting) -> OnExisting:
        """As shake.plan.planner does it."""
        assert self.location
        there = staging.look(self.location.collection_uuid)
        assert there, "the copy is gone"
        found = target.find(self.namespace, TABLE)
        if there.namespace == self.namespace or found is None:
            return "create"
        if policy == "drop":
            self.drops = tuple(dict.fromkeys([*self.drops, found.collection_uuid]))
        else:
            self.backup = f"{self.namespace}.backup"
        return policy

    def contents(self) -> dict[str, list[Any]]:
        """The ``_id`` of all documents, by collection."""
        return {
            name: [one["_id"] for one in self.database[name].find().sort("_id")]
            for name in self.database.list_collection_names()
        }

    def assert_exact(self, policy: OnExisting = "drop") -> None:
        """The copy has its name, and beside it are placeholders, and what ``rename`` keeps."""
        contents = self.contents()
        assert contents.pop("c") == list(range(ITEMS)), contents
        names = contents if policy == "rename" else {"c.backup"}
        kept = [name for name in names if contents.get(name) == [OLD]]
        assert len(kept) <= 1, contents
        others = [content for name, content in contents.items() if name not in kept]
        assert all(content == ["shake"] for content in others), contents


@contextlib.contextmanager
def tasks(server: Any, name: str) -> Iterator[Callable[[], Task]]:
    """Makes tasks with a collection that has the name of their copy."""
    made: list[Task] = []

    def make() -> Task:
        made.append(Task(server, f"{name}-{len(made)}"))
        made[-1].database.c.insert_one({"_id": OLD})
        return made[-1]

    yield make
    for one in made:
        server.drop_database(one.name)


@pytest.fixture
def task(server: Any, name: str) -> Iterator[Callable[[], Task]]:
    with tasks(server, name) as make:
        yield make


def finish(task: Task, deaths: list[Death], policy: OnExisting = "drop") -> None:
    """Run until the copy has its name, and let the held commands land after that."""
    task.go_on(policy)
    task.assert_exact(policy)
    for death in deaths:
        death.release()
    task.go_on(policy)  # each start removes what has landed late
    task.assert_exact(policy)


@pytest.mark.parametrize("landing", get_args(Landing))
@pytest.mark.parametrize(
    "fates", [("drop", "drop"), ("rename", "drop"), ("drop", "rename")], ids=str
)
@pytest.mark.timeout(240)
def test_a_run_that_dies_at_any_command_does_no_harm_whenever_it_lands(
    task: Callable[[], Task], landing: Landing, fates: tuple[OnExisting, OnExisting]
) -> None:
    for number in range(MOST):
        death, one = Death(number, landing), task()
        one.go_on(fates[0], death)
        finish(one, [death], fates[1])
        if not death.met.is_set():
            assert number >= 4
            return
    raise AssertionError("it sends more commands than expected")


@pytest.mark.timeout(240)
def test_two_runs_that_die_do_no_harm_whenever_their_commands_land(
    task: Callable[[], Task],
) -> None:
    rng = random.Random(8)
    for _ in range(PAIRS):
        one = task()
        deaths = [Death(rng.randrange(7), rng.choice(get_args(Landing))) for _ in range(2)]
        for death in deaths:
            one.go_on("drop", death)
        if rng.random() < 0.5:
            deaths[0].release()
        finish(one, rng.sample(deaths, 2))


def test_a_late_insert_and_a_late_rename_do_not_replace_the_finished_collection(
    task: Callable[[], Task],
) -> None:
    """Nor does the rename that moves away what it replaces."""
    for number in range(MOST):
        death, one = Death(number, "late"), task()
        one.go_on("drop", death)
        one.go_on()
        one.database["c.shake-1-0"].insert_one({"_id": "stray"})
        one.database["c.shake-1-1"].insert_one({"_id": "stray"})
        death.release()
        one.go_on()
        one.assert_exact()
        if not death.met.is_set():
            return


def test_a_placeholder_is_removed_after_a_day(task: Callable[[], Task]) -> None:
    one = task()
    one.go_on()
    [name] = set(one.database.list_collection_names()) - {"c"}
    [named] = [line for line in one.notices if name in line]
    assert named.endswith("it stays so that late commands fail; a start after a day removes it")
    one.go_on()
    assert name in one.database.list_collection_names()
    since = datetime.now(timezone.utc) - timedelta(days=1, minutes=1)
    one.database[name].update_one({}, {"$set": {"since": since}})
    one.go_on()
    assert one.database.list_collection_names() == ["c"]


def test_a_collection_that_nobody_asked_to_drop_is_kept(task: Callable[[], Task]) -> None:
    """The held rename of a dead run moves away another collection than it was sent for."""
    one, death = task(), Death(1, "late")
    one.go_on("drop", death)  # which is the rename of the existing collection
    one.database.c.drop()
    one.database.c.insert_one({"_id": "another"})
    death.release()
    one.go_on()
    contents = [
        one.database[name].find_one()["_id"] for name in one.database.list_collection_names()
    ]
    assert "another" in contents
    assert "rename or remove it" in one.notices[-1]


@pytest.mark.parametrize("fresh", [None, "another"])
def test_rename_drops_nothing_that_an_earlier_run_has_moved_away_to_drop_it(
    task: Callable[[], Task], fresh: str | None
) -> None:
    """``fresh`` is a collection that was made meanwhile under the name that became free."""
    one = task()
    one.go_on("drop", Death(1, "at once"))  # the rename of the existing collection
    assert "c" not in one.contents()
    if fresh:
        one.database.c.insert_one({"_id": fresh})
    for _ in range(2):
        one.go_on("rename")
        contents = one.contents()
        assert contents.pop("c") == list(range(ITEMS))
        assert [OLD] in contents.values()
        assert contents.get("c.backup") == ([fresh] if fresh else None)
    [moved] = [name for name, content in contents.items() if content == [OLD]]
    [named] = {line for line in one.notices if line.startswith(f"{one.name}.{moved}:")}
    assert "target.db.exist = rename keeps it" in named


def test_a_late_change_of_any_replaced_collection_is_refused(
    server: Any, name: str, tmp_path: Path
) -> None:
    """Not only of the last one."""
    namespace, uuids = f"{name}.{TABLE.name}", tuple(f"{number:032x}" for number in range(3))
    settings = [f"id={name}", f"target.address=mongodb://{server.address[0]}:{server.address[1]}"]
    config = load(None, {}, settings).config
    checkpoints = Checkpoints(FileStore(tmp_path, "checkpoint", sync=lambda handle: None))
    table = TableRecord(TABLE.name, namespace, 1, 1, replaces=uuids[0], replaced=uuids[1:])
    stream = StreamRecord(TABLE.name, "arn", run=5, stamp=1)
    checkpoints.begin_table(table)
    checkpoints.save_stream(stream, [Shard("shard-1", "", "1")])
    plan = Plan((TablePlan(TABLE, Action.RESYNC, table, ()),))
    server[name][TABLE.name].insert_one({"pk": "k"})
    late = memoryview(bson.encode({"q": {"pk": "k"}, "limit": 1}))
    nothing = memoryview(b"")
    target = MongoTarget(config, threading.Event(), print)
    positions = {TABLE.name: StreamPosition(stream, [])}
    with contextlib.closing(target), replaced_fenced(config, checkpoints, plan, positions):
        for uuid in uuids:
            writer = target.writer(namespace, TABLE, Fence(uuid, run=4))
            with pytest.raises(RunError, match="has later changes"):
                writer.apply(Changes(nothing, nothing, late), "shard-1")
    assert server[name][TABLE.name].count_documents({}) == 1
    server.drop_database(name)
