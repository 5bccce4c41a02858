"""Whichever process is killed, and when: in the end the target holds every item once.

Each test stops the world at one exact message between shake and the target, and kills there.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.crash import SLOWLY, Copy, MakeCopy, opened, runs
from tests.support.wait import until
from tests.support.wire import Moment


@pytest.fixture
def make_copy(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[MakeCopy]:
    with opened(dynamodb, mongo, name, tmp_path) as make:
        yield make


#: Before or after the target carries out a command; in which collection; how many commands later.
Point = tuple[Moment, str, str, int]
POINTS: list[Point] = [
    ("answer", "create", "place", 0),
    ("request", "insert", "place", 3),
    ("answer", "insert", "place", 3),  # stored, not acknowledged
    ("request", "update", "checkpoint", 1),
    ("answer", "update", "checkpoint", 1),  # the checkpoint is saved, slots are not yet free
    ("answer", "delete", "place", 0),  # all is copied, the tails are removed
    ("request", "createIndexes", "place", 0),
    ("answer", "createIndexes", "place", 0),
]


def killed_at(make_copy: MakeCopy, point: Point, victim: str) -> tuple[Copy, threading.Event]:
    """A copy whose victim will be killed at this point, and the event of that."""
    copy = make_copy()
    moment, command, where, skip = point
    place = copy.place if where == "place" else copy.checkpoint
    return copy, copy.kill_at(moment, command, place, victim, skip)


@pytest.mark.parametrize(
    ("point", "victim"),
    list(zip(POINTS, ["supervisor", "everything"] * 4, strict=True)),
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[1]}",
)
def test_a_restart_after_a_kill_ends_with_every_item_once(
    make_copy: MakeCopy, point: Point, victim: str
) -> None:
    copy, died = killed_at(make_copy, point, victim)
    assert copy.migration.run().status == -signal.SIGKILL
    assert died.is_set()
    copy.run_to_the_end()
    copy.assert_exact()


@pytest.mark.parametrize(
    ("point", "victim"),
    [(point, "writer") for point in POINTS if point[2] == "place"]
    + [(POINTS[2], "worker 0"), (POINTS[4], "worker 1")],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[1]}",
)
def test_a_worker_or_writer_that_dies_is_replaced_and_the_copy_goes_on(
    make_copy: MakeCopy, point: Point, victim: str
) -> None:
    copy, died = killed_at(make_copy, point, victim)
    result = copy.migration.run()
    assert died.is_set()
    assert result.status == 0, result
    assert "it is replaced" in result.stdout
    copy.assert_exact()


@pytest.mark.parametrize("victim", ["everything", "writer"])
def test_with_the_key_as_id_and_checkpoints_in_files_it_is_the_same(
    make_copy: MakeCopy, tmp_path: Path, victim: str
) -> None:
    copy = make_copy(
        id__mode="key",
        checkpoint__type="file",
        checkpoint__address=tmp_path / "positions",
        full__executor__insert_on_dup_update="false",
    )
    died = copy.kill_at("answer", "insert", copy.place, victim, skip=5)
    copy.run_to_the_end()
    assert died.is_set()
    copy.run_to_the_end()
    copy.assert_exact(id_mode="key")


@pytest.mark.parametrize(
    ("moment", "command", "victim"),
    [
        ("request", "renameCollection", "supervisor"),
        ("answer", "renameCollection", "writer"),
        ("answer", "renameCollection", "supervisor"),
        ("answer", "create", "writer"),
    ],
)
def test_the_old_collection_is_renamed_once_and_kept(
    make_copy: MakeCopy, moment: Moment, command: str, victim: str
) -> None:
    copy = make_copy(target__db__exist="rename")
    database = copy.mongo.client[copy.table]
    database[copy.table].insert_one({"_id": "the old one"})
    died = copy.kill_at(moment, command, copy.place, victim)
    copy.run_to_the_end()
    copy.run_to_the_end()
    assert died.is_set()
    copy.assert_exact()
    [backup] = set(database.list_collection_names()) - {copy.table}
    assert list(database[backup].find()) == [{"_id": "the old one"}]


def test_a_name_that_the_old_collection_is_to_get_and_that_exists_is_refused_at_the_start(
    make_copy: MakeCopy,
) -> None:
    copy = make_copy(target__db__exist="rename")
    database = copy.mongo.client[copy.table]
    database[copy.table].insert_one({"_id": "the old one"})
    copy.kill_at("request", "renameCollection", copy.place, "everything")
    copy.run_killed()
    [saved] = copy.mongo.client[f"{copy.table}-checkpoint"][copy.table].find({"_id": "table"})
    _, _, backup = saved["Backup"].partition(".")
    database[backup].insert_one({"_id": "in the way"})
    refused = copy.migration.run()
    assert refused.status == 3
    assert f"cannot be renamed to {saved['Backup']}, which exists: rename or remove" in refused.line
    database[backup].drop()
    copy.run_to_the_end()
    copy.assert_exact()
    assert list(database[backup].find()) == [{"_id": "the old one"}]


def test_the_same_point_may_kill_three_times(make_copy: MakeCopy) -> None:
    copy = make_copy()
    for skip in (3, 2, 1):
        copy.kill_at("answer", "insert", copy.place, "everything", skip)
        assert copy.migration.run().status == -signal.SIGKILL
    copy.run_to_the_end()
    copy.assert_exact()


def test_nobody_outlives_the_supervisor(make_copy: MakeCopy) -> None:
    copy = make_copy()
    orphans: list[psutil.Process] = []

    def kill() -> None:
        orphans.extend(until(lambda: len(all_of := copy.migration.children()) == 3 and all_of))
        copy.kill("supervisor")

    copy.wire.stop_at("request", "insert", copy.place, kill, skip=2)
    copy.run_killed()
    until(lambda: not any(map(runs, orphans)), deadline=10)


@pytest.mark.parametrize("seed", range(int(os.environ.get("SHAKE_CRASH_ROUNDS", "3"))))
def test_random_kills_end_with_every_item_once(
    make_copy: MakeCopy, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    fate, id_mode = rng.choice(["rename", "drop"]), rng.choice(["objectid", "key"])
    settings: dict[str, object] = {"target__db__exist": fate, "id__mode": id_mode}
    if rng.random() < 0.3:
        settings |= {"checkpoint__type": "file", "checkpoint__address": tmp_path / "positions"}
    if rng.random() < 0.3:
        settings |= SLOWLY
    copy = make_copy(**settings)
    database = copy.mongo.client[copy.table]
    database[copy.table].insert_one({"_id": "old"})
    for _ in range(4):
        victims = rng.sample(["supervisor", "everything", "writer", "worker 0", "worker 1"], 2)
        for victim in victims:
            moment: Moment = rng.choice(["request", "answer"])
            command, place = rng.choice(
                [("insert", copy.place)] * 5
                + [("update", copy.checkpoint)] * 2
                + [("delete", copy.place), ("createIndexes", copy.place)]
            )
            die = partial(copy.kill_if_there, victim)
            copy.wire.stop_at(moment, command, place, die, skip=rng.randrange(10))
        result = copy.migration.run()
        assert result.status in (0, -signal.SIGKILL), result
    copy.run_to_the_end()
    copy.assert_exact(id_mode=id_mode)
    assert len(database.list_collection_names()) == (2 if fate == "rename" else 1)
