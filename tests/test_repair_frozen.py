"""A repair that was frozen before its number is saved changes nothing beside a later run."""

from __future__ import annotations

import threading
from typing import get_args

import pytest

from shake.demo.mongo import why_no_mongod
from tests.support.followed import Followed, stopped
from tests.support.migration import Process
from tests.support.wait import until
from tests.support.wire import Wire
from tests.test_repair_late import Command, copied, make_right, repair, spoil


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("command", get_args(Command))
def test_a_repair_whose_lock_expired_before_its_number_was_saved_changes_nothing(
    followed: Followed, command: Command
) -> None:
    migration = copied(followed, "objectid")
    spoil(followed, "objectid", command)
    place = f"{followed.name}.{followed.name}"
    status = followed.mongo.client[f"{followed.name}-checkpoint"]["status_table"]
    started: list[Process] = []

    def frozen() -> None:
        """For longer than the lock lasts: a run on another machine takes the task over."""
        if status.delete_one({"_id": "lease"}).deleted_count == 0:  # not begun yet
            wire.stop_at("request", "confirm", place, frozen)
            return
        started.append(migration.start())
        followed.put("running", n={"N": "1"})
        followed.arrived("running")

    with Wire(*followed.mongo.client.address, sessions=bool(why_no_mongod())) as wire:
        wire.stop_at("request", "confirm", place, frozen)  # in Repairs.begin, after lock.check()
        answered = threading.Event()

        def hold() -> None:
            until(make_right(followed, command))
            checker.kill()
            checker.wait()

        late = wire.stop_at("request", command, place, hold, late=True, answered=answered)
        checker = repair(migration, wire)
        until(lambda: late.is_set() or checker.poll() is not None, 90)  # two processes start
        if late.is_set():
            until(lambda: answered.is_set() or wire.refused)
        else:  # the repair has noticed, and sent nothing
            until(make_right(followed, command))
        followed.compare()
        stopped(migration, started[0])
