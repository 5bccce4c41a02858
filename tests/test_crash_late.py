"""What a dead run has sent can reach the target much later: it must not harm the next run.

A server that hangs and comes back carries out what it has received, also where its sender crashed.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.store import open_store
from shake.config import load
from tests.support.crash import Held, MakeCopy
from tests.support.wait import until
from tests.support.wire import Moment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("id_mode", "moment", "command", "skip"),
    [
        ("objectid", "request", "delete", 0),
        ("objectid", "answer", "delete", 0),
        ("objectid", "answer", "insert", 2),
        ("objectid", "request", "createIndexes", 0),
        ("objectid", "answer", "createIndexes", 0),
        ("key", "answer", "insert", 2),
        ("key", "answer", "createIndexes", 0),
    ],
)
def test_a_late_insert(
    make_copy: MakeCopy, id_mode: str, moment: Moment, command: str, skip: int
) -> None:
    copy = make_copy(id__mode=id_mode)
    late = Held(copy, "insert", copy.place, "everything", skip=4)
    copy.run_killed()
    copy.wire.stop_at(moment, command, copy.place, late.release, skip=skip)
    copy.run_to_the_end()
    assert late.landed.is_set()
    copy.assert_exact(id_mode=id_mode)


def test_an_insert_of_a_replaced_writer_that_arrives_when_all_is_done(make_copy: MakeCopy) -> None:
    copy = make_copy()
    late = Held(copy, "insert", copy.place, "writer", skip=4)
    copy.run_to_the_end()
    late.release()
    copy.assert_exact()


@pytest.mark.parametrize("victim", ["everything", "writer"])
def test_a_late_removal_of_the_tail(make_copy: MakeCopy, victim: str) -> None:
    copy = make_copy()
    copy.kill_at("answer", "insert", copy.place, "everything", skip=4)
    copy.run_killed()
    late = Held(copy, "delete", copy.place, victim)
    copy.wire.stop_at("answer", "insert", copy.place, late.release, skip=6)
    copy.run_to_the_end()
    assert late.landed.is_set()
    copy.assert_exact()


#: When a held command is let through: while the next run copies, and after its end.
RELEASES = ["while copying", "after the end"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("victim", ["everything", "writer"])
@pytest.mark.parametrize("exist", ["rename", "drop"])
@pytest.mark.parametrize(
    ("command", "skip"),
    [
        ("create", 0),
        ("renameCollection", 0),  # of the existing collection, or of the complete copy
        ("createIndexes", 0),
    ],
)
def test_a_late_command_of_a_dead_process_changes_nothing(
    make_copy: MakeCopy, command: str, skip: int, exist: str, victim: str, release: str
) -> None:
    copy = make_copy(target__db__exist=exist)
    database = copy.mongo.client[copy.table]
    database[copy.table].insert_one({"_id": "old"})
    late = Held(copy, command, copy.place, victim, skip=skip)
    if victim == "everything":
        copy.run_killed()
    if release == "while copying":
        replaced = command == "renameCollection" and victim == "writer"
        when = "renameCollection" if replaced else "createIndexes"  # of the replacement
        copy.wire.stop_at("answer", when, copy.place, late.release)
    copy.run_to_the_end()
    if release == "after the end":
        late.release()
    assert late.landed.is_set()
    copy.assert_exact()
    copy.run_to_the_end()  # each start removes what has landed late
    copy.assert_exact()
    others = set(database.list_collection_names()) - {copy.table}
    assert [list(database[one].find()) for one in others] == [[{"_id": "old"}]] * (
        exist == "rename"
    )


def test_a_late_rename_does_not_replace_the_finished_collection(make_copy: MakeCopy) -> None:
    """The last rename of a run is held, and its late insert makes a collection of that name."""
    copy = make_copy(target__db__exist="drop")
    copy.mongo.client[copy.table][copy.table].insert_one({"_id": "old"})
    insert = Held(copy, "insert", copy.place, "writer", skip=4)
    rename = Held(copy, "renameCollection", copy.place, "everything")
    copy.run_killed()
    copy.run_to_the_end()
    insert.release()
    rename.release()
    copy.assert_exact()


def test_a_late_index_build(make_copy: MakeCopy) -> None:
    copy = make_copy()
    late = Held(copy, "createIndexes", copy.place, "everything")
    copy.run_killed()
    copy.run_to_the_end()
    late.release()
    copy.assert_exact()


def test_a_late_position_is_not_believed(make_copy: MakeCopy) -> None:
    """The first run saves a position, the second begins behind it, the third must not."""
    copy = make_copy(qps__full=6)
    late = Held(copy, "update", copy.checkpoint, "everything", skip=2)
    copy.run_killed()
    copy.kill_at("answer", "insert", copy.place, "everything", skip=1)
    copy.run_killed()
    late.release()
    copy.run_to_the_end()
    copy.assert_exact()


def test_a_late_identity_does_not_end_the_next_run(make_copy: MakeCopy) -> None:
    """It names the staging collection of the first run, when the second has begun its own."""
    copy = make_copy()
    late = Held(copy, "update", copy.checkpoint, "everything")
    copy.run_killed()
    copy.wire.stop_at("answer", "create", copy.place, late.release)
    copy.run_to_the_end()
    assert late.landed.is_set()
    copy.run_to_the_end()
    copy.assert_exact()


def test_a_late_first_state_does_not_begin_the_copy_again(make_copy: MakeCopy) -> None:
    copy = make_copy(target__db__exist="rename")
    database = copy.mongo.client[copy.table]
    database[copy.table].insert_one({"_id": "old"})
    late = Held(copy, "insert", copy.checkpoint, "everything")
    copy.run_killed()
    begun = int(time.time())
    until(lambda: int(time.time()) > begun)  # which a backup's name tells
    copy.kill_at("answer", "insert", copy.place, "everything", skip=4)
    copy.run_killed()
    late.release()
    copy.run_to_the_end()
    copy.assert_exact()
    assert len(database.list_collection_names()) == 2


def test_a_late_insert_is_refused_where_the_connection_string_limits_time(
    make_copy: MakeCopy,
) -> None:
    copy = make_copy("timeoutMS=20000")
    late = Held(copy, "insert", copy.place, "everything", skip=4)
    copy.run_killed()
    copy.run_to_the_end()
    late.release()
    assert copy.mongo.client[copy.table].list_collection_names() == [copy.table]
    copy.assert_exact()


def test_the_late_rename_of_a_copy_that_is_begun_again_does_not_stop_the_run(
    make_copy: MakeCopy,
) -> None:
    """It lands when the run has been planned, just before the unfinished copy is removed."""
    copy = make_copy()
    late = Held(copy, "renameCollection", copy.place, "everything")
    copy.run_killed()
    config = load(str(copy.migration.conf), {}, []).config
    with contextlib.closing(open_store(config)) as store:
        checkpoints = Checkpoints(store)
        record, _ = checkpoints.load(copy.table)
        assert record
        checkpoints.begin_anew(record, segments=2, gap="changes are lost")
    copy.wire.stop_at("request", "drop", copy.place, late.release)
    copy.run_to_the_end()
    assert late.landed.is_set()
    copy.assert_exact()
    assert copy.mongo.client[copy.table].list_collection_names() == [copy.table]
