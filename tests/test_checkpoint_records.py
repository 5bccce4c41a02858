"""Records come back from the store as they went in, or are refused by name."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.checks import Checks
from shake.checkpoint.contract import Superseded
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.identity import Identity
from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.stream_records import StreamRecord, shard_document
from shake.config import load
from shake.errors import RefusedError
from shake.phase import SAVED, Phase
from shake.plan.plan import Action, Plan, StreamPlan, TablePlan
from shake.plan.positions import choose_positions
from shake.schema import Attribute, Keys, Table
from shake.source.contract import Stream
from shake.stream.shard import Shard, ShardState
from shake.targets.contract import OnExisting
from tests.support.dying import Dying, Killed

TABLE = TableRecord("orders", "shop.orders", stamp=1700000000, segments=3)
COUNT = st.integers(0, 2**63 - 1)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path, "task-checkpoint", sync=lambda handle: None)


@pytest.fixture
def checkpoints(store: FileStore) -> Checkpoints:
    return Checkpoints(store, now=lambda: 0.0)


@given(
    record=st.builds(
        TableRecord,
        table=st.just("orders"),
        namespace=st.text(),
        stamp=COUNT,
        segments=COUNT,
        on_existing=st.sampled_from(["create", "rename", "drop", "resync"]),
        gap=st.text(),
        backup=st.text(),
        settings=st.dictionaries(st.from_regex(r"[a-z_.]+", fullmatch=True), st.text("ab=\né ")),
        phase=st.sampled_from(sorted(SAVED.values(), key=str)),
        staged=st.booleans(),
        replaces=st.text(),
        replaced=st.lists(st.text()).map(tuple),
        first_stamp=COUNT,
    )
)
def test_a_table_record_survives_bson(record: TableRecord) -> None:
    stored = bson.decode(bson.encode(record.document()))
    assert TableRecord.of("orders", stored) == record


@given(
    record=st.builds(
        SegmentRecord,
        segment=st.integers(0, 999_999),
        last_key=st.none() | st.text(min_size=1).map(str.encode),
        documents=COUNT,
        bytes=COUNT,
        scanned=COUNT,
        capacity=st.floats(0, 1e15),
        done=st.booleans(),
        run=COUNT,
    )
)
def test_a_segment_record_survives_json_and_bson(record: SegmentRecord) -> None:
    assert SegmentRecord.of("t", bson.decode(bson.encode(record.document()))) == record
    with tempfile.TemporaryDirectory() as folder:
        store = FileStore(folder, "db", sync=lambda handle: None)
        store.write("t", [record.document()])
        assert SegmentRecord.of("t", store.read("t")[0]) == record


def test_a_task_goes_on_from_what_was_saved_last(checkpoints: Checkpoints) -> None:
    assert checkpoints.load("orders") == (None, [])
    checkpoints.save_table(TABLE)
    checkpoints.save_segments(TABLE, [SegmentRecord(2), SegmentRecord(0, b'{"k":{"N":"1.0"}}', 5)])
    copying = TABLE.moved(Phase.COPYING)
    checkpoints.save_table(copying)
    checkpoints.save_segments(copying, [SegmentRecord(0, None, 9, done=True)])
    assert checkpoints.load("orders") == (
        copying,
        [SegmentRecord(0, None, 9, done=True), SegmentRecord(2)],
    )


def test_a_segment_reads_as_its_columns_are_called(
    store: FileStore, checkpoints: Checkpoints
) -> None:
    last_key = b'{"k": {"N": "1.00"}}'
    checkpoints.save_table(TABLE)
    checkpoints.save_segments(replace(TABLE, run=3), [SegmentRecord(1, last_key, 5, 400, 7, 2.5)])
    found = store.read("orders")[1]
    assert found.pop("Serial") == found["Write"]
    assert found.pop("Write") > store.read("orders")[0]["Write"]
    assert found == {
        "_id": "segment-000001",
        "Format": 1,
        "Segment": 1,
        "LastEvaluatedKey": '{"k": {"N": "1.00"}}',
        "Documents": 5,
        "StoredInRun": 0,
        "Run": 3,
        "Stamp": 1700000000,
        "Bytes": 400,
        "Scanned": 7,
        "Capacity": 2.5,
        "Status": "running",
        "UpdateDate": "1970-01-01T00:00:00Z",
    }


def test_documents_of_other_kinds_are_left_alone(
    store: FileStore, checkpoints: Checkpoints
) -> None:
    shard = {"_id": "shard-1", "ShardId": "shard-1", "SequenceNumber": "1"}
    store.write("orders", [shard])
    checkpoints.save_table(TABLE)
    assert checkpoints.load("orders") == (TABLE, [])
    assert shard in store.read("orders")


def test_a_table_goes_through_its_states_to_the_end_and_never_back() -> None:
    copying = TABLE.moved(Phase.COPYING)
    done = copying.moved(Phase.INDEXING).moved(Phase.DONE)
    assert TABLE.moved(Phase.INDEXING).phase is Phase.INDEXING  # the schema alone
    for record, state in [
        (copying, Phase.PREPARING),
        (copying, Phase.DONE),
        *((done, state) for state in SAVED.values()),
    ]:
        with pytest.raises(ValueError, match="orders cannot go"):
            record.moved(state)


@pytest.mark.parametrize(
    "change",
    [
        {"Status": "flying"},
        {"Fate": "burn"},
        {"Table": "other"},
        {"Segments": "3"},
        {"Segments": -1},
        {"Stamp": True},
        {"Settings": [1]},
        {"Place": None},
        {"Format": None},
    ],
)
def test_a_damaged_table_record_is_refused_by_collection_document_and_field(
    store: FileStore, checkpoints: Checkpoints, change: dict[str, Any]
) -> None:
    store.write("orders", [TABLE.document() | change])
    with pytest.raises(RefusedError, match=f"orders, document table: field {next(iter(change))}"):
        checkpoints.load("orders")


@pytest.mark.parametrize(
    "change", [{"Status": "?"}, {"Segment": 1}, {"LastEvaluatedKey": 7}, {"Capacity": "1"}]
)
def test_a_damaged_segment_record_is_refused_by_collection_document_and_field(
    store: FileStore, checkpoints: Checkpoints, change: dict[str, Any]
) -> None:
    checkpoints.save_table(TABLE)
    store.write("orders", [SegmentRecord(0).document() | change])
    field = next(iter(change))
    with pytest.raises(RefusedError, match=f"orders, document segment-000000: field {field}"):
        checkpoints.load("orders")


def test_a_whole_number_of_capacity_units_is_a_number_too(
    store: FileStore, checkpoints: Checkpoints
) -> None:
    checkpoints.save_table(TABLE)
    store.write("orders", [SegmentRecord(0).document() | {"Capacity": 2}])
    assert checkpoints.load("orders")[1][0].capacity == 2.0


def test_what_a_newer_shake_wrote_is_refused(store: FileStore, checkpoints: Checkpoints) -> None:
    store.write("orders", [TABLE.document() | {"Format": 2, "Status": "flying"}])
    with pytest.raises(RefusedError, match="orders, document table was written by a newer shake"):
        checkpoints.load("orders")


def test_segments_that_no_table_record_accounts_for_are_refused(checkpoints: Checkpoints) -> None:
    checkpoints.save_segments(TABLE, [SegmentRecord(0)])
    with pytest.raises(RefusedError, match="segment 0 of a copy in 0 segments"):
        checkpoints.load("orders")
    checkpoints.save_table(TABLE)
    checkpoints.save_segments(TABLE, [SegmentRecord(3)])
    with pytest.raises(RefusedError, match="segment 3 of a copy in 3 segments"):
        checkpoints.load("orders")


SHARDS = [Shard("s1", "", "100", state=ShardState.READY)]


def test_a_copy_begun_anew_makes_void_all_that_was_saved_of_the_last_one(
    store: FileStore, checkpoints: Checkpoints
) -> None:
    done = replace(TABLE, phase=Phase.DONE, run=4)
    checkpoints.save_table(done)
    checkpoints.save_segments(done, [SegmentRecord(one, done=True, run=4) for one in range(3)])
    followed = StreamRecord("orders", "arn:1", run=7, stamp=TABLE.stamp)
    checkpoints.save_stream(followed, SHARDS)
    assert checkpoints.load_stream("orders") == (followed, SHARDS)

    later = Checkpoints(store, run=1, now=lambda: 0.0)
    fresh = later.begin_anew(done, 2, "its stream was disabled")
    assert checkpoints.load("orders") == (fresh, [])
    assert checkpoints.load_stream("orders") == (None, [])
    assert (fresh.on_existing, fresh.phase, fresh.segments) == ("resync", Phase.PREPARING, 2)
    assert fresh.stamp + fresh.run > done.stamp + done.run  # though the clock stands at 0
    checkpoints.save_segments(done, [SegmentRecord(0, done=True)])  # late
    with pytest.raises(Superseded):
        checkpoints.save_table(done)
    assert checkpoints.load("orders") == (fresh, [])

    later.take_number(["orders"], lambda: None)
    later.save_segments(fresh, [SegmentRecord(0, b"{}", 5)])
    stream = StreamRecord("orders", "arn:2", run=later.run, stamp=fresh.stamp)
    later.save_stream(stream, [])
    assert stream.run > followed.run
    assert checkpoints.load("orders") == (fresh, [SegmentRecord(0, b"{}", 5)])
    assert checkpoints.load_stream("orders") == (stream, [])


def test_a_copy_begun_anew_twice_replaces_what_the_last_complete_one_filled(
    checkpoints: Checkpoints,
) -> None:
    done = replace(TABLE, phase=Phase.DONE, staged=True)
    checkpoints.save_table(done)
    checkpoints.save_identity("orders", None, Identity(collection_uuid="complete"))
    first = checkpoints.begin_anew(done, 2, "its stream was disabled")
    checkpoints.save_table(copying := first.moved(Phase.COPYING))
    checkpoints.save_identity(
        "orders", Identity(collection_uuid="complete"), Identity(collection_uuid="staging")
    )
    second = checkpoints.begin_anew(copying, 2, "its stream was disabled again")
    assert (first.replaces, second.replaces) == ("complete", "complete")
    assert second.on_existing == "resync"


def test_commands_for_all_collections_that_copies_have_replaced_are_refused(
    checkpoints: Checkpoints,
) -> None:
    """For so many of them that none of the last day is missing."""
    record = replace(TABLE, phase=Phase.DONE, staged=True)
    for number in range(30):
        record = replace(record.anew(0, 2, "a gap", str(number)), phase=Phase.DONE)
        assert record.fenced == tuple(map(str, range(number, max(number - 17, -1), -1)))
    assert record.replacing("20").fenced.count("20") == 1
    assert replace(record, phase=Phase.COPYING).anew(0, 2, "a gap", "x").fenced == record.fenced


@pytest.mark.parametrize("last", [0, 1])
def test_what_a_run_that_died_when_it_began_saves_late_alters_nothing(
    tmp_path: Path, store: FileStore, checkpoints: Checkpoints, last: int
) -> None:
    """It planned what the next run plans, which goes on, and ends the copy."""
    copying, position = replace(TABLE, phase=Phase.COPYING), SegmentRecord(0, b"{}", 5)
    checkpoints.begin_table(copying)
    checkpoints.save_segments(copying, [position])
    dying = Dying(tmp_path, last)
    with pytest.raises(Killed):
        Checkpoints(dying, run=1).begin_run(replace(copying, run=1), [position])
    found, _ = checkpoints.load("orders")
    assert found
    record, end = replace(found, run=found.run + 1), SegmentRecord(0, None, 9, done=True)
    alive = Checkpoints(store, run=2)
    alive.begin_run(record, [position])
    alive.begin_run(record, [position])  # it was not confirmed
    alive.save_segments(record, [end])
    alive.save_table(record.moved(Phase.INDEXING))
    with contextlib.suppress(Superseded):
        dying.arrive()
    assert checkpoints.load("orders") == (record.moved(Phase.INDEXING), [end])
    with pytest.raises(Superseded):
        Checkpoints(store, run=1).begin_run(record, [position])


@pytest.mark.parametrize("last", [0, 1])
def test_a_run_that_dies_when_it_begins_leaves_what_the_next_one_cleans_up_behind(
    tmp_path: Path, checkpoints: Checkpoints, last: int
) -> None:
    """Its number counts once all segments are saved: what run 0 has stored is known until then."""
    copying = replace(TABLE, phase=Phase.COPYING)
    checkpoints.begin_table(copying)
    with pytest.raises(Killed):
        Checkpoints(Dying(tmp_path, last), run=1).begin_run(
            replace(copying, run=1), [SegmentRecord(0, run=0)]
        )
    found, segments = checkpoints.load("orders")
    assert found
    first = {one.segment: one for one in segments}.get(0) or SegmentRecord(0, run=found.run)
    assert first.run == 0


DONE = replace(TABLE, phase=Phase.DONE)
Follow: TypeAlias = Callable[..., StreamRecord]


@pytest.fixture
def follow() -> Follow:
    """Begins a run that follows a complete table."""
    config = load(None, {}, ["id=task", "target.address=mongodb://127.0.0.1:1/"]).config
    table = Table("orders", Keys(Attribute("pk", "S")))

    def follow(by: Checkpoints, action: Action = Action.COMPLETE) -> StreamRecord:
        numbers(by)
        record, _ = by.load("orders")
        assert record
        last, shards = by.load_stream("orders")
        saved = StreamPlan(Stream("arn", True, "NEW_IMAGE"), last, tuple(shards))
        planned = replace(record, segments=0) if action is Action.FOLLOW else record
        plan = Plan((TablePlan(table, action, planned, (), stream=saved),))
        source: Any = SimpleNamespace(await_active=None)  # nothing is asked
        found = choose_positions(config, source, by, plan, lambda: None, lambda: 0.0)
        return found["orders"].record

    return follow


def numbers(*begun: Any) -> list[int]:
    """The numbers of runs, or of checks, that begin one after the other."""
    for one in begun:
        one.take_number(["orders"], lambda: None)
    return [one.run for one in begun]


@pytest.mark.parametrize("kind", [Checkpoints, Checks])
def test_no_two_processes_have_the_same_number(
    tmp_path: Path, store: FileStore, kind: Callable[[FileStore], Any]
) -> None:
    first, second, third = numbers(kind(store), kind(store), kind(store))
    dying = Dying(tmp_path, 0)
    with pytest.raises(Killed):
        numbers(kind(dying))
    found = [first, second, third, *numbers(kind(store))]
    dying.arrive()
    found += numbers(kind(store), kind(store))
    assert found == sorted(set(found))


def test_a_run_that_has_lost_the_task_lock_has_no_number(store: FileStore) -> None:
    """The lock is renewed after the exchange: so a run that takes over later sees the number."""
    late, later = Checkpoints(store), Checkpoints(store)

    def lost() -> None:
        numbers(later)
        raise Superseded("another run has the task")

    with pytest.raises(Superseded):
        late.take_number([], lost)
    assert (late.run, later.run) == (0, 2)


#: What older versions saved, literally: such documents must stay readable.
OLD_TABLE = {
    "_id": "table",
    "Format": 1,
    "Table": "orders",
    "Place": "shop.orders",
    "Status": "copying",
    "Stamp": 1700000000,
    "Run": 3,
    "Segments": 3,
    "Fate": "create",
    "Backup": "",
    "Gap": "",
    "Staged": False,
    "Replaces": "",
    "FirstStamp": 0,
    "Drops": [],
    "Settings": [],
    "UpdateDate": "2026-11-29T20:00:00Z",
}
OLD_SEGMENT = {
    "_id": "segment-000000",
    "Format": 1,
    "Segment": 0,
    "LastEvaluatedKey": "{}",
    "Documents": 5,
    "StoredInRun": 3,
    "Bytes": 0,
    "Scanned": 0,
    "Capacity": 0.0,
    "Status": "running",
    "Run": 3,
    "Stamp": 1700000000,
    "UpdateDate": "2026-11-29T20:00:00Z",
}
OLD_STREAM = {
    "_id": "stream",
    "Format": 1,
    "StreamArn": "arn",
    "Run": 7,
    "Since": 0.0,
    "Stamp": 1700000000,
    "Began": 0.0,
    "Skipped": 0,
    "UpdateDate": "2026-11-29T20:00:00Z",
}
OLD_SHARD = {
    "_id": "shard-s1",
    "Format": 1,
    "ShardId": "s1",
    "FatherId": "",
    "Start": "100",
    "SequenceNumber": "",
    "Status": "ready",
    "ApproximateTime": 0.0,
    "Run": 8,
    "UpdateDate": "2026-11-29T20:00:00Z",
}
VERSION_0_9 = (OLD_TABLE, OLD_SEGMENT, OLD_STREAM, OLD_SHARD)
_LATER = {"Serial": 9}
_LIFE = {"Life": "a" * 16}
#: A version between 0.9 and this one: with generations, and a number for each write of a run.
VERSION_BETWEEN = (
    OLD_TABLE | _LATER | _LIFE | {"RunToken": "t"},
    OLD_SEGMENT | _LATER | {"_id": f"segment-000000@{'a' * 16}"},
    OLD_STREAM | _LATER | _LIFE | {"Table": "orders", "Repairs": 0},
    OLD_SHARD | _LATER | {"_id": f"shard-s1@{'a' * 16}"},
)


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize(
    ("saved", "generation"), [(VERSION_0_9, ""), (VERSION_BETWEEN, "a" * 16)], ids=["0.9", "later"]
)
def test_a_task_of_an_older_version_goes_on_with_a_number_above_all_that_it_has_saved(
    store: FileStore,
    checkpoints: Checkpoints,
    saved: tuple[dict[str, Any], ...],
    generation: str,
    removed: bool,
) -> None:
    """That version counted the runs of each table. A user can remove the number of this one."""
    table = replace(TABLE, run=3, phase=Phase.COPYING, generation=generation)
    stream = StreamRecord("orders", "arn", run=7, stamp=TABLE.stamp, generation=generation)
    segment = SegmentRecord(0, b"{}", 5, run=3)
    if removed:
        numbers(checkpoints)
        store.swap("status_table", {"_id": "run"}, None)
    for one in saved:
        assert store.swap("orders", None, one)
    assert checkpoints.load("orders") == (table, [segment])
    assert checkpoints.load_stream("orders") == (stream, SHARDS)
    assert numbers(checkpoints) == [9]
    table, stream = replace(table, run=4), replace(stream, run=9)
    checkpoints.begin_run(table, [segment])
    checkpoints.save_stream(stream, SHARDS)
    assert checkpoints.load("orders") == (table, [segment])
    assert checkpoints.load_stream("orders") == (stream, SHARDS)
    assert numbers(Checkpoints(store)) == [10]


@pytest.mark.parametrize("action", [Action.COMPLETE, Action.FOLLOW])
def test_what_a_run_that_died_when_it_lost_changes_saves_late_begins_no_other_copy(
    tmp_path: Path, checkpoints: Checkpoints, follow: Follow, action: Action
) -> None:
    """The run that follows it has sync_mode = all, or incr."""
    checkpoints.begin_table(DONE)
    checkpoints.save_stream(StreamRecord("orders", "arn", stamp=TABLE.stamp), SHARDS)
    dying = Dying(tmp_path, 0)
    with pytest.raises(Killed):
        Checkpoints(dying).begin_anew(DONE, 3, "changes are lost")
    follow(checkpoints, action)
    dying.arrive()
    assert checkpoints.load("orders") == (DONE, [])


@pytest.mark.parametrize("last", [0, 1, 2, 3])
def test_what_a_run_that_died_when_it_followed_saves_late_alters_nothing(
    tmp_path: Path, checkpoints: Checkpoints, follow: Follow, last: int
) -> None:
    shard = Shard("s1", "", "1", "5")
    checkpoints.begin_table(DONE)
    checkpoints.save_stream(StreamRecord("orders", "arn", stamp=TABLE.stamp), [shard])
    dying = Dying(tmp_path, last)
    with pytest.raises(Killed):
        follow(Checkpoints(dying))
    stream = follow(checkpoints)
    further = replace(shard, sequence="7")
    checkpoints.save_shards(stream, [shard_document(further)])
    with contextlib.suppress(Superseded):
        dying.arrive()
    assert checkpoints.load_stream("orders") == (stream, [further])


def test_what_an_older_version_saved_without_a_stamp_counts_until_the_copy_begins_anew(
    store: FileStore, checkpoints: Checkpoints
) -> None:
    for one in (
        OLD_TABLE | {"Status": "done"},
        OLD_SEGMENT | {"LastEvaluatedKey": "", "Status": "done"},
        OLD_STREAM,
        OLD_SHARD,
    ):
        unstamped = {name for name in ("Gap", "Stamp") if name == "Gap" or one["_id"] != "table"}
        store.swap("orders", None, {name: one[name] for name in one.keys() - unstamped})
    done = replace(TABLE, run=3, phase=Phase.DONE)
    assert checkpoints.load("orders") == (done, [SegmentRecord(0, None, 5, done=True, run=3)])
    stream = StreamRecord("orders", "arn", run=7)
    assert checkpoints.load_stream("orders") == (stream, SHARDS)
    fresh = checkpoints.begin_anew(done, 3, "a gap")
    assert checkpoints.load("orders") == (fresh, [])
    assert checkpoints.load_stream("orders") == (None, [])


@pytest.mark.parametrize("on_existing", ["create", "rename", "drop"])
def test_what_is_to_happen_to_an_existing_collection_stays_so_in_a_new_copy(
    checkpoints: Checkpoints, on_existing: OnExisting
) -> None:
    waiting = replace(TABLE, on_existing=on_existing, backup="shop.orders.old")
    checkpoints.begin_table(waiting)
    fresh = checkpoints.begin_anew(waiting, 3, "its stream was disabled")
    assert (fresh.on_existing, fresh.backup) == (on_existing, "shop.orders.old")
    assert checkpoints.load_stream("orders") == (None, [])


def test_a_copy_is_begun_anew_by_one_run_alone(store: FileStore, checkpoints: Checkpoints) -> None:
    class Overtaken(FileStore):
        """Another run saves the table in the very moment."""

        def swap(self, collection: str, old: Any, new: Any) -> bool:
            Checkpoints(store).save_table(replace(TABLE, run=1))
            return super().swap(collection, old, new)

    checkpoints.save_table(TABLE)
    slow = Overtaken(store._folder.parent, store._folder.name, sync=lambda handle: None)
    with pytest.raises(Superseded, match="begun by another run"):
        Checkpoints(slow).begin_anew(TABLE, 3, "a gap")
    assert checkpoints.load("orders") == (replace(TABLE, run=1), [])


def test_a_table_of_which_nothing_was_copied_begins_its_first_copy(
    checkpoints: Checkpoints,
) -> None:
    followed = replace(TABLE, segments=0, phase=Phase.DONE)  # sync_mode = incr saves none
    checkpoints.save_stream(StreamRecord("orders", "arn:1", stamp=TABLE.stamp), SHARDS)
    fresh = checkpoints.begin_anew(followed, 3, "its stream was disabled")
    assert fresh.on_existing == "resync"
    assert checkpoints.load("orders") == (fresh, [])
    assert checkpoints.load_stream("orders") == (None, [])


def test_the_status_of_the_task_is_kept_where_its_users_look(
    store: FileStore, checkpoints: Checkpoints
) -> None:
    assert checkpoints.status() is None
    checkpoints.set_status("full_sync")
    assert checkpoints.status() == "full_sync"
    Checkpoints(store, run=1).set_status("incr_sync")
    with pytest.raises(Superseded):  # of an earlier run: it was sent when nothing was saved
        checkpoints.set_status("full_sync")
    assert checkpoints.status() == "incr_sync"
    document = store.read("status_table")[0]
    assert (document["_id"], document["Key"]) == ("status_key", "status_key")
    store.write("status_table", [document | {"StatusValue": "lunch"}])
    with pytest.raises(RefusedError, match="status_key: field StatusValue"):
        checkpoints.status()
