"""How a run has ended stays so, whatever comes while it closes its connections."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.followed import Followed
from tests.support.wait import until
from tests.support.wire import Wire


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
    migration.first = (
        "import os, signal; from shake.run.resync import Resync; look = Resync.look; "
        "Resync.look = lambda *those: (os.kill(os.getpid(), signal.SIGTERM), look(*those))"
    )
    process = migration.start()
    until(lambda: followed.collection.find_one({"pk": "a"}), 60)
    followed.collection.drop()
    followed.put("b")
    result = migration.wait(process)
    assert result.status == 1, result
    assert "before the copy began" not in result.stderr
