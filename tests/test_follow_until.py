"""--until-consistent ends with status 0 only where this run has made all consistent."""

from __future__ import annotations

import signal

import pytest

from shake.checkpoint.records import STATUS_TABLE
from shake.checkpoint.task_lock import TASK
from tests.support.faulty import error
from tests.support.followed import Followed
from tests.support.migration import Migration, Process
from tests.support.streams_faults import Call, instead
from tests.support.wait import until


def start_with_a_change_held_back(followed: Followed) -> tuple[Migration, Process]:
    """A task that follows its table, whose one change it cannot read before the faults end."""
    followed.simulator.table(followed.name)
    followed.put("a")
    assert followed.task().run("--until-consistent").status == 0
    followed.put("b")
    throttled = instead(error("ThrottlingException"))

    def read(call: Call) -> bool:
        return call.operation == "GetRecords" and not call.trial  # which would be waited for

    followed.simulator.faults.rule(1.0, throttled, where=read)
    migration = followed.task()
    migration.first = "import shake.farm.checkpointer as checkpointer; checkpointer.INTERVAL = 600"
    process = migration.start("--until-consistent")
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: "following its changes" in output.read_text())
    return migration, process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_the_consistent_point_is_not_exit_0(
    followed: Followed, number: signal.Signals
) -> None:
    migration, process = start_with_a_change_held_back(followed)
    process.send_signal(number)
    result = migration.wait(process)
    assert not followed.collection.find_one({"pk": "b"})
    assert result.status != 0, result
    assert "before all was consistent" in result.line


def test_a_task_that_another_run_has_taken_over_is_not_exit_0(followed: Followed) -> None:
    """As after a pause of the machine: this run looks at the lock every ten seconds only."""
    migration, process = start_with_a_change_held_back(followed)
    locks = followed.checkpoint.database[STATUS_TABLE]
    assert locks.update_one({"_id": TASK}, {"$set": {"Token": "another"}}).modified_count == 1
    followed.simulator.faults.clear()
    result = migration.wait(process)
    assert result.status == 1, result
    assert "the lock of this task is lost" in result.line
