"""What a dead run has sent may reach the target long after: it must not harm the run that goes on.

A server that hangs, and comes back, carries out what it has received, whoever has died meanwhile.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash import Held, MakeCopy, opened
from tests.support.wait import until
from tests.support.wire import Moment


@pytest.fixture
def make_copy(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[MakeCopy]:
    with opened(dynamodb, mongo, name, tmp_path, workers=1) as make:
        yield make


@pytest.mark.parametrize(
    ("id_mode", "moment", "command", "skip"),
    [
        ("objectid", "request", "delete", 1),  # the first is pre-flight's, of nothing
        ("objectid", "answer", "delete", 1),
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
    late = Held(copy, "delete", copy.place, victim, skip=1)
    copy.wire.stop_at("answer", "insert", copy.place, late.release, skip=6)
    copy.run_to_the_end()
    assert late.landed.is_set()
    copy.assert_exact()


@pytest.mark.parametrize("victim", ["everything", "writer"])
@pytest.mark.parametrize("command", ["renameCollection", "create"])
def test_a_late_order_of_the_preparation(make_copy: MakeCopy, command: str, victim: str) -> None:
    copy = make_copy(target__db__exist="rename")
    copy.mongo.client[copy.table][copy.table].insert_one({"_id": "old"})
    late = Held(copy, command, copy.place, victim)
    copy.wire.stop_at("answer", "insert", copy.place, late.release, skip=6)
    copy.run_to_the_end()
    assert late.landed.is_set()
    copy.assert_exact()
    assert len(copy.mongo.client[copy.table].list_collection_names()) == 2


@pytest.mark.parametrize("victim", ["everything", "writer"])
def test_a_late_drop_is_not_taken_for_a_good_end(make_copy: MakeCopy, victim: str) -> None:
    """No server can tell it from one that is meant: then at least the loss is noticed."""
    copy = make_copy(target__db__exist="drop")
    copy.mongo.client[copy.table][copy.table].insert_one({"_id": "old"})
    late = Held(copy, "drop", copy.place, victim)
    copy.wire.stop_at("answer", "insert", copy.place, late.release, skip=6)
    result = copy.migration.run()
    if victim == "everything":
        assert result.status == -signal.SIGKILL
        result = copy.migration.run()
    assert late.landed.is_set()
    assert result.status == 1, result
    assert "documents that were stored" in result.stderr


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
