"""Both checkpoint stores keep the same promises."""

from __future__ import annotations

import errno
import fcntl
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shake import private_files
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.contract import Document, Store, StoreUnavailable, Superseded
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.identity import Identity
from shake.checkpoint.mongodb import MongoStore
from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.store import open_store
from shake.checkpoint.stream_records import StreamRecord, shard_document
from shake.cli import main
from shake.config import Config, load
from shake.config.names import stored_name
from shake.errors import RefusedError, RunError
from shake.phase import Phase
from shake.stream.shard import Shard, ShardState

Settings = list[str]


@pytest.fixture(params=["file", "mongodb"])
def where(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[Settings]:
    """The configuration of a store of each kind."""
    given = [f"id={name}", f"checkpoint.type={request.param}"]
    if request.param == "file":
        yield [*given, "target.address=mongodb://nowhere", f"checkpoint.address={tmp_path}"]
        return
    mongo = request.getfixturevalue("mongo")
    yield [*given, f"target.address={mongo.uri}"]
    mongo.client.drop_database(f"{name}-checkpoint")


@pytest.fixture
def store(where: Settings) -> Iterator[Store]:
    with closing(open_store(load(None, {}, where).config)) as opened:
        yield opened


def documents(store: Store, collection: str) -> dict[str, Any]:
    return {one["_id"]: one for one in store.read(collection)}


def test_a_collection_that_does_not_exist_is_empty(store: Store) -> None:
    assert store.read("never") == []


def test_a_collection_that_holds_one_document_only_is_discarded_with_that(
    store: Store, where: Settings
) -> None:
    lock = {"_id": "lock", "Token": "a"}
    assert store.swap("tasks", None, lock)
    store.discard("tasks", {"_id": "lock", "Token": "b"})
    assert store.collections() == ["tasks"]
    store.discard("tasks", lock)
    assert store.collections() == []
    for new in (None, lock):
        assert not store.swap("tasks", lock, new)
    store.discard("tasks", lock)
    assert store.collections() == []
    config = load(None, {}, where).config
    if config.checkpoint_type == "file":
        assert list(Path(config.checkpoint_location).iterdir()) == []
    store.write("tasks", [lock, {"_id": "other"}])
    store.discard("tasks", lock)
    assert documents(store, "tasks").keys() == {"lock", "other"}


def test_the_collections_are_those_that_hold_something(store: Store) -> None:
    assert store.collections() == []
    store.write("some.table", [{"_id": "a"}])
    store.write("b", [{"_id": "a"}])
    assert sorted(store.collections()) == ["b", "some.table"]


def test_what_is_written_is_read_by_the_next_who_opens_the_store(
    store: Store, where: Settings
) -> None:
    first = {"_id": "a", "text": 'é "\n', "big": 2**63 - 1, "real": 0.5, "on": True, "list": ["x"]}
    store.write("some.table", [first, {"_id": "b", "none": None}])
    with closing(open_store(load(None, {}, where).config)) as again:
        assert documents(again, "some.table") == {"a": first, "b": {"_id": "b", "none": None}}


def test_a_write_replaces_whole_documents_and_leaves_the_others(store: Store) -> None:
    store.write("t", [{"_id": "a", "old": 1}, {"_id": "b", "old": 1}])
    store.write("t", [{"_id": "b", "new": 2}, {"_id": "c", "new": 2}])
    store.write("t", [])
    assert documents(store, "t") == {
        "a": {"_id": "a", "old": 1},
        "b": {"_id": "b", "new": 2},
        "c": {"_id": "c", "new": 2},
    }


_values = st.one_of(st.integers(0, 2), st.sampled_from(["x", "y"]), st.none())
_document = st.builds(
    lambda key, fields: {"_id": key, **fields},
    st.sampled_from("ab"),
    st.dictionaries(st.sampled_from("mn"), _values, max_size=2),
)


def test_very_many_documents_are_written_at_once(store: Store) -> None:
    many = {f"shard-{number}": {"_id": f"shard-{number}", "n": number} for number in range(450)}
    store.write("t", list(many.values()))
    assert documents(store, "t") == many


def test_a_write_that_ends_midway_has_saved_the_first_documents_only(mongo: Any, name: str) -> None:
    with closing(MongoStore(mongo.uri, f"{name}-checkpoint")) as store:
        mongo.client[f"{name}-checkpoint"].create_collection("t", validator={"bad": {"$ne": True}})
        with pytest.raises((RunError, StoreUnavailable)):
            store.write("t", [{"_id": "1"}, {"_id": "2", "bad": True}, {"_id": "3"}])
        assert documents(store, "t").keys() == {"1"}
    mongo.client.drop_database(f"{name}-checkpoint")


def test_what_an_earlier_run_wrote_and_arrives_late_changes_nothing(store: Store) -> None:
    store.write("orders", [{"_id": "a", "Write": 2, "at": 20}, {"_id": "c", "at": 1}])
    with pytest.raises(Superseded):
        store.write("orders", [{"_id": "a", "Write": 1, "at": 10}])
    store.write("orders", [{"_id": "b", "Write": 1, "at": 5}, {"_id": "c", "Write": 1, "at": 6}])
    store.write("orders", [{"_id": "a", "Write": 2, "at": 21}])
    assert {one["_id"]: one["at"] for one in store.read("orders")} == {"a": 21, "b": 5, "c": 6}
    store.write("orders", [{"_id": "b", "Write": 3, "at": 7}])
    assert {one["_id"]: one["at"] for one in store.read("orders")}["b"] == 7


def test_what_arrives_late_changes_nothing_where_two_versions_run_in_turn(store: Store) -> None:
    """The older one orders what is saved by Run, and then by Serial, and knows no Write."""
    table = TableRecord("orders", "shop.orders", 1700000000, 2, run=3, generation="a" * 16)
    newer = Checkpoints(store, run=9)
    newer.begin_table(table)
    stored = documents(store, "orders")["table"]
    assert stored["Run"] == 3
    assert stored["Serial"] > 1 << 40  # so what the older version has sent as this run is refused
    segment = {"_id": f"segment-000000@{'a' * 16}", "Run": 4, "Serial": 1, "Documents": 20}
    older = [table.document() | {"Run": 4, "Serial": 1, "Status": "done"}, segment]
    for one in older:
        store.swap("orders", documents(store, "orders").get(one["_id"]), one)
    for late in (newer.save_table, lambda record: newer.save_segments(record, [SegmentRecord(0)])):
        with pytest.raises(Superseded):
            late(table)
    assert list(documents(store, "orders").values()) == older


class OneGeneration:
    """What a task saves of a table from its first run on, until its checkpoint is removed."""

    def __init__(self, checkpoints: Checkpoints, generation: str, runs: int) -> None:
        self.checkpoints = checkpoints
        self.first = TableRecord("orders", "shop.orders", 1700000000, 2, generation=generation)
        self.table = replace(self.first, run=runs)
        self.stream = StreamRecord(
            "orders", f"arn:{generation}", runs, generation=generation, stamp=1700000000
        )
        self.segment = SegmentRecord(0, b'{"k": 1}', 10 + runs, run=runs)
        self.identity = Identity(server=generation)
        self.shard = Shard("s1", "", "100", str(200 + runs), state=ShardState.READY)

    def begin(self) -> None:
        self.checkpoints.save_identity("orders", None, self.identity, self.table.generation)
        self.checkpoints.begin_stream(self.stream, lambda: None)
        self.checkpoints.save_stream(self.stream, [self.shard])
        self.checkpoints.begin_table(self.first)

    def writes(self) -> list[Callable[[], None]]:
        """All that a run saves, each of which can be held up on its way."""
        saves = self.checkpoints
        generation = self.table.generation
        filled = replace(self.identity, collection_uuid=generation)
        return [
            lambda: saves.save_segments(self.table, [self.segment]),
            lambda: saves.save_table(self.table),
            lambda: saves.save_shards(self.stream, [shard_document(self.shard)]),
            lambda: saves.save_stream(self.stream, []),
            lambda: saves.save_identity("orders", self.identity, filled, generation),
        ]

    def land(self) -> None:
        for write in self.writes():
            with suppress(Superseded):
                write()

    def assert_saved(self) -> None:
        assert self.checkpoints.load("orders") == (self.table, [self.segment])
        assert self.checkpoints.load_stream("orders") == (self.stream, [self.shard])
        saved = self.checkpoints.load_identity("orders")
        assert saved
        assert saved.collection_uuid == self.table.generation


@pytest.mark.parametrize("how", ["shake forget", "by hand"])
def test_what_a_dead_run_saves_late_is_void_once_its_checkpoint_was_removed(
    store: Store, how: str
) -> None:
    checkpoints = Checkpoints(store)
    dead, fresh = (
        OneGeneration(Checkpoints(store, run=run), generation * 16, run)
        for generation, run in [("a", 5), ("b", 0)]
    )
    dead.begin()
    dead.land()
    dead.assert_saved()
    if how == "shake forget":
        checkpoints.take_number(["orders"], lambda: None)
        checkpoints.forget("orders")
    else:
        for key in documents(store, "orders"):
            store.swap("orders", {"_id": key}, None)
    dead.land()
    assert checkpoints.load_identity("orders") is None
    assert checkpoints.load("orders") == (None, [])
    assert checkpoints.load_stream("orders") == (None, [])
    fresh.begin()
    for write in fresh.writes():
        dead.land()
        write()
    dead.land()
    fresh.assert_saved()


def test_tables_that_are_forgotten_together_take_one_number(store: Store, where: Settings) -> None:
    """The target has a limited count of them."""
    for name in ("orders", "users", "events"):
        Checkpoints(store).begin_table(TableRecord(name, f"shop.{name}", 1700000000, 1))
    given = [part for one in where for part in ("--set", one)]
    assert main.main(["forget", *given, "orders", "users", "events"]) == 0
    assert documents(store, "status_table")["run"]["Number"] == 1
    assert [Checkpoints(store).load(one)[0] for one in ("orders", "users", "events")] == [None] * 3


def test_what_a_run_sent_anew_and_lands_late_takes_nothing_back(store: Store) -> None:
    """A driver's timeout ends the try of a write. The next try and later writes come before it."""
    held: list[tuple[str, Sequence[Document]]] = []

    class Recording:
        """The store, which notes what it writes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def write(self, collection: str, documents: Sequence[Document]) -> None:
            held.append((collection, documents))
            store.write(collection, documents)

    recording: Any = Recording()
    saved = OneGeneration(Checkpoints(recording), "a" * 16, 3)
    saved.begin()
    checkpoints, earlier, shard = saved.checkpoints, saved.segment, saved.shard
    checkpoints.save_table(replace(saved.table, phase=Phase.INDEXING))
    checkpoints.save_segments(saved.table, [earlier])
    checkpoints.save_shards(saved.stream, [shard_document(shard)])
    checkpoints.save_stream(saved.stream, [])
    saved.table = replace(saved.table, phase=Phase.DONE)
    saved.segment = earlier._replace(documents=99, done=True)
    saved.shard = replace(shard, sequence="900", state=ShardState.APPLIED)
    saved.stream = replace(saved.stream, skipped=5)
    later = len(held)
    saved.land()
    for write in held[:later]:
        with suppress(Superseded):
            store.write(*write)
    saved.assert_saved()


def test_a_removal_that_lands_late_removes_nothing_of_the_next_copy(store: Store) -> None:
    removed: list[tuple[str, Document | None, Document | None]] = []

    class Recording:
        """The store, which notes what it exchanges."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def swap(self, *exchange: Any) -> bool:
            removed.append(exchange)
            return store.swap(*exchange)

    old, fresh = (OneGeneration(Checkpoints(store), generation * 16, 0) for generation in "ab")
    old.begin()
    old.land()
    Checkpoints(cast(Store, Recording())).forget("orders")
    fresh.begin()
    fresh.land()
    for exchange in removed:
        store.swap(*exchange)
    fresh.assert_saved()


def test_a_stream_counts_only_once_all_of_its_shards_are_saved(store: Store) -> None:
    checkpoints = Checkpoints(store)
    dead, fresh = (OneGeneration(checkpoints, generation * 16, 0) for generation in "ab")
    checkpoints.begin_stream(dead.stream, lambda: None)
    assert checkpoints.load_stream("orders") == (None, [])

    def overtaken() -> None:
        checkpoints.begin_stream(fresh.stream, lambda: None)
        checkpoints.save_stream(fresh.stream, [fresh.shard])

    with pytest.raises(Superseded):
        checkpoints.begin_stream(dead.stream, overtaken)
    with pytest.raises(Superseded):
        checkpoints.save_stream(dead.stream, [dead.shard])
    assert checkpoints.load_stream("orders") == (fresh.stream, [fresh.shard])


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(st.tuples(st.none() | _document, st.none() | _document), min_size=1, max_size=12)
)
def test_any_sequence_of_swaps_and_writes_ends_as_in_a_dictionary(
    store: Store, steps: list[tuple[Any, Any]]
) -> None:
    for key in "ab":
        store.write("model", [{"_id": key}])
        assert store.swap("model", {"_id": key}, None)
    model: dict[str, Any] = {}
    for old, new in steps:
        if old is None and new is not None:
            assert store.swap("model", None, new) == (new["_id"] not in model)
            model.setdefault(new["_id"], new)
        elif old is not None:
            key, replacement = old["_id"], new and {**new, "_id": old["_id"]}
            matches = key in model and old.items() <= model[key].items()
            assert store.swap("model", old, replacement) == matches
            if matches and replacement is None:
                del model[key]
            elif matches:
                model[key] = replacement
        else:
            store.write("model", [{"_id": "a", "m": 0}])
            model["a"] = {"_id": "a", "m": 0}
        assert documents(store, "model") == model


COUNT = """
import sys
from shake.checkpoint.store import open_store
from shake.config import load

store = open_store(load(None, {}, sys.argv[1:]).config)
print("ready", flush=True)
sys.stdin.readline()
print(store.swap("status_table", None, {"_id": "first"}), flush=True)
for _ in range(20):
    while True:
        old = next(one for one in store.read("status_table") if one["_id"] == "counter")
        if store.swap("status_table", old, {"_id": "counter", "n": old["n"] + 1}):
            break
"""


def test_of_several_processes_that_swap_exactly_one_wins_each_time(
    store: Store, where: Settings
) -> None:
    store.write("status_table", [{"_id": "counter", "n": 0}])
    children = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, *where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        answers = [child.communicate(timeout=60)[0] for child in _started(children)]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert sorted(answers) == ["False\n", "False\n", "True\n"]
    assert documents(store, "status_table")["counter"]["n"] == 60


def _started(children: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return children


def test_opening_a_store_changes_nothing(where: Settings, tmp_path: Path, name: str) -> None:
    open_store(load(None, {}, where).config).close()
    assert list(tmp_path.iterdir()) == []


# In files


def test_other_files_in_the_folder_stay_as_they_are(tmp_path: Path) -> None:
    others = [tmp_path / "notes.txt", tmp_path / "db" / "other.json", tmp_path / "db" / "t.json~"]
    (tmp_path / "db").mkdir()
    for other in others:
        other.write_text("mine")
    store = FileStore(tmp_path, "db")
    store.write("t", [{"_id": "a"}])
    assert store.swap("t", {"_id": "a"}, None)
    assert [other.read_text() for other in others] == ["mine"] * 3


@pytest.mark.parametrize(
    "content",
    [b'[\n{"_id": "a"}', b"", b"{}", b'[{"_id": 5}]', b'["a"]', b"\xff\xfe", b"[" * 100_000],
)
def test_a_damaged_file_is_refused_by_name_and_not_touched(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "db" / "t.json"
    file.parent.mkdir()
    file.write_bytes(content)
    store = FileStore(tmp_path, "db")
    attempts: list[Callable[[], object]] = [
        lambda: store.read("t"),
        lambda: store.write("t", [{"_id": "b"}]),
        lambda: store.swap("t", None, {"_id": "b"}),
    ]
    for attempt in attempts:
        with pytest.raises(RefusedError, match=str(file)):
            attempt()
    assert file.read_bytes() == content


DIE = """
import os, signal, sys
from shake.checkpoint.file_store import FileStore

def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def rename_and_die(old, new): os.replace(old, new); die()

faults = {"sync": {"sync": die}, "rename": {"rename": die}, "renamed": {"rename": rename_and_die}}
FileStore(sys.argv[1], "db", **faults[sys.argv[2]]).write("t", [{"_id": "a", "n": 2}])
"""


@pytest.mark.parametrize(("moment", "left"), [("sync", 1), ("rename", 1), ("renamed", 2)])
def test_a_writer_killed_while_it_replaces_a_file_leaves_the_old_or_the_new_one(
    tmp_path: Path, moment: str, left: int
) -> None:
    store = FileStore(tmp_path, "db")
    store.write("t", [{"_id": "a", "n": 1}, {"_id": "b"}])
    killed = subprocess.run([sys.executable, "-c", DIE, str(tmp_path), moment], check=False)
    assert killed.returncode == -9
    assert documents(store, "t") == {"a": {"_id": "a", "n": left}, "b": {"_id": "b"}}
    store.write("t", [{"_id": "a", "n": 3}])
    assert documents(store, "t")["a"]["n"] == 3


@pytest.mark.parametrize(("number", "passes"), [(errno.ENOSPC, True), (errno.EROFS, False)])
def test_a_full_disk_may_pass_and_a_read_only_one_does_not(
    tmp_path: Path, number: int, passes: bool
) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, "as injected")

    FileStore(tmp_path, "db").write("t", [{"_id": "a"}])
    with pytest.raises(RunError, match=r"t\.json: as injected") as caught:
        FileStore(tmp_path, "db", sync=fail).write("t", [{"_id": "b"}])
    assert isinstance(caught.value, StoreUnavailable) == passes
    assert FileStore(tmp_path, "db").read("t") == [{"_id": "a"}]


def test_a_folder_that_cannot_be_made_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match=r"file is not a folder.*checkpoint\.address"):
        FileStore.open(tmp_path / "file" / "checkpoint", "db")


def test_no_other_user_can_read_or_lock_the_files(tmp_path: Path) -> None:
    database = tmp_path / "new" / "db"
    FileStore(tmp_path / "new", "db").write("t", [{"_id": "a"}])
    assert mode(database) == mode(tmp_path / "new") == 0o700
    assert {mode(file) for file in database.iterdir()} == {0o600}


def test_files_of_an_earlier_version_are_taken_away_from_other_users(tmp_path: Path) -> None:
    FileStore(tmp_path, "db").write("t", [{"_id": "a"}])
    FileStore(tmp_path, "db").write("other", [{"_id": "a"}])
    for path in (tmp_path / "db").iterdir():
        path.chmod(0o644)
    (tmp_path / "db").chmod(0o755)
    FileStore(tmp_path, "db").write("t", [{"_id": "b"}])
    assert mode(tmp_path / "db") == 0o700
    assert {mode(file) for file in (tmp_path / "db").iterdir()} == {0o600}


def test_a_lock_that_another_process_keeps_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_files, "LOCK_SECONDS", 0.3)
    store = FileStore(tmp_path, "db")
    store.write("t", [{"_id": "a"}])
    with (tmp_path / "db" / ".lock").open() as stranger:
        fcntl.flock(stranger, fcntl.LOCK_SH)
        with pytest.raises(StoreUnavailable, match=r"\.lock: another process has held its lock"):
            store.write("t", [{"_id": "b"}])
        FileStore.open(tmp_path, "db", writable=False)
        with pytest.raises(RefusedError, match=r"\.lock: another process has held its lock"):
            FileStore.open(tmp_path, "db")  # as a plan does
    store.write("t", [{"_id": "b"}])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# In MongoDB


NOBODY = "127.0.0.1:1"  # tcpmux: nothing listens there


def test_a_server_out_of_reach_is_refused_at_the_start_without_its_password() -> None:
    with pytest.raises(RefusedError, match=rf"{NOBODY}.*checkpoint\.address") as caught:
        MongoStore.open(f"mongodb://user:secret@{NOBODY}/?tls=false", "db", timeout=0.3)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({}, "target.address (which holds the checkpoints, too)"),
        ({"checkpoint.address": "mongodb:"}, "checkpoint.address"),
    ],
)
def test_the_address_to_check_is_the_one_that_was_given(keys: dict[str, str], named: str) -> None:
    config = Config.from_settings({"id": "a", "target.address": "mongodb:", **keys})
    with pytest.raises(RefusedError, match=re.escape(f"; check {named}")):
        open_store(config)


@pytest.mark.parametrize("address", ["mongodb://u:sec/ret@h/", "mongodb://u:sec@ret@h", "mongodb:"])
def test_an_unusable_address_is_refused_without_quoting_it(address: str) -> None:
    with pytest.raises(RefusedError, match="not a connection string") as caught:
        MongoStore.open(address, "db", timeout=0.3)
    assert not {"sec", "ret"} & set(str(caught.value).replace("@", " ").split())


def test_a_server_out_of_reach_later_is_something_that_may_pass() -> None:
    with (
        closing(MongoStore(f"mongodb://{NOBODY}", "db", timeout=0.3)) as store,
        pytest.raises(StoreUnavailable, match=f"checkpoint database db at {NOBODY}"),
    ):
        store.write("t", [{"_id": "a"}])


def test_the_addresses_own_write_concern_does_not_weaken_a_checkpoint(
    mongo: Any, name: str
) -> None:
    with closing(
        MongoStore.open(f"{mongo.uri.rstrip('/')}/?w=0&readPreference=secondary", name)
    ) as store:
        assert store.swap("t", None, {"_id": "a"})
        assert not store.swap("t", None, {"_id": "a"})
        assert store.swap("t", {"_id": "a"}, None)
    mongo.client.drop_database(name)


@pytest.mark.parametrize(("code", "passes"), [(13, False), (11602, True), (189, True)])
def test_missing_rights_stop_the_task_and_a_stepping_down_primary_does_not(
    mongo: Any, name: str, code: int, passes: bool
) -> None:
    fault = {"failCommands": ["update"], "errorCode": code}
    with closing(MongoStore.open(mongo.uri, name, timeout=1)) as store:
        mongo.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fault)
        try:
            with pytest.raises(RunError, match=name) as caught:
                store.write("t", [{"_id": "a"}])
        finally:
            mongo.client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert isinstance(caught.value, StoreUnavailable) == passes


def test_a_refused_write_keeps_the_servers_reason(mongo: Any, name: str) -> None:
    store = MongoStore.open(mongo.uri, name)
    database = mongo.client[name]
    database.create_collection("c", validator={"x": {"$exists": True}})
    try:
        with pytest.raises(RunError, match=f"checkpoint database {name} .*failed validation"):
            store.write("c", [{"_id": "a"}])
    finally:
        mongo.client.drop_database(name)
        store.close()


ODD_TABLES = ["x" * 255, "system.users", "...", ".lock", "a..b", "end.", "a/../../b", "café"]


@pytest.mark.parametrize("table", ODD_TABLES, ids=lambda table: table[:12])
def test_a_checkpoint_can_be_kept_whatever_the_table_is_called(
    where: Settings, store: Store, table: str
) -> None:
    checkpoints = Checkpoints(store)
    record = TableRecord(table, "d.c", 1, 1)
    checkpoints.begin_table(record)
    stream = StreamRecord(f"{table}2", "arn")
    checkpoints.save_stream(stream, [])
    store.close()
    with closing(open_store(load(None, {}, where).config)) as again:
        checkpoints = Checkpoints(again)
        assert checkpoints.load(table) == (record, [])
        assert checkpoints.load_stream(stream.table) == (stream, [])
        assert sorted(checkpoints.begun(lambda name: True)) == sorted([table, stream.table])
        assert list(checkpoints.begun(lambda name: name == table)) == [table]


def test_checkpoints_of_like_names_are_kept_apart() -> None:
    names = ["a..b", "a._b", "a.b", ".a.b", "system.a.b", "x" * 255, "x" * 254, "x" * 170]
    assert len(set(map(stored_name, names))) == len(names)
    assert stored_name("Orders-1_a.b") == "Orders-1_a.b"
    assert max(len(stored_name(name)) for name in names) <= 170


def test_documents_that_others_put_into_the_database_are_left_alone(mongo: Any, name: str) -> None:
    foreign = mongo.client[name]["t"].insert_one({"Key": "status_key"}).inserted_id
    with closing(MongoStore.open(mongo.uri, name)) as store:
        store.write("t", [{"_id": "a"}])
        assert store.read("t") == [{"_id": "a"}]
    assert mongo.client[name]["t"].find_one({"_id": foreign}) is not None
    mongo.client.drop_database(name)
