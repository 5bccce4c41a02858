"""How a run has ended stays so, whatever comes while it closes its connections."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.followed import Followed
from tests.support.wait import until
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

#: Sends the supervisor a signal when the farm has ended, before it reports how.
SIGNALLED = (
    "import os, signal; from shake.run.resync import Resync; look = Resync.look; "
    "Resync.look = lambda *those: (os.kill(os.getpid(), signal.{}), look(*those))"
)


@pytest.mark.parametrize("bad", [False, True], ids=["consistent", "failed"])
def test_a_signal_while_the_lock_is_released_changes_no_status(
    followed: Followed, bad: bool
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    status = f"{followed.name}-checkpoint.status_table"
    locks = followed.mongo.client[f"{followed.name}-checkpoint"].status_table
    with Wire(*followed.mongo.client.address) as wire:
        migration = followed.task(checkpoint__address=wire.uri)
        assert migration.run("--until-consistent").status == 0
        if bad:
            followed.put("b")

        def release() -> None:
            if not locks.find_one({"_id": "lease"}):
                wire.stop_at("request", "delete", status, release)  # the probe of the store
                return
            process.send_signal(signal.SIGTERM)
            time.sleep(2)

        wire.stop_at("request", "delete", status, release)
        process = migration.start(*([] if bad else ["--until-consistent"]))
        if bad:
            until(lambda: followed.collection.find_one({"pk": "b"}))
            followed.collection.drop()
            followed.put("c")
        result = migration.wait(process)
        assert (result.status == 0) is not bad, result
        assert "before the copy began" not in result.stderr


def test_a_signal_right_behind_a_bad_end_does_not_make_it_a_good_one(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    migration.first = SIGNALLED.format("SIGTERM")
    process = migration.start()
    until(lambda: followed.collection.find_one({"pk": "a"}), 60)
    followed.collection.drop()
    followed.put("b")
    result = migration.wait(process)
    assert result.status == 1, result
    assert "before the copy began" not in result.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_right_behind_a_good_end_does_not_make_it_a_bad_one(
    followed: Followed, name: str
) -> None:
    """What was asked for is done: a script must not take it for undone."""
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    migration.first = SIGNALLED.format(name)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert "finished after" in result.stdout
    assert result.stderr == ""


def test_a_signal_right_behind_a_full_copy_hides_no_last_line(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(sync_mode="full")
    migration.first = SIGNALLED.format("SIGTERM")
    result = migration.run()
    assert result.status == 0, result
    assert "full sync done!" in result.stdout.splitlines()
    assert result.stderr == ""
