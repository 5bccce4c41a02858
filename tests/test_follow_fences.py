"""A target that fails over while the numbers of commands are kept ends nothing."""

from __future__ import annotations

from tests.support.followed import Followed, stopped
from tests.support.wait import until
from tests.support.wire import Wire


def test_a_connection_that_breaks_while_fences_are_kept_does_not_end_the_task(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    followed.put("before")
    with Wire(*followed.mongo.client.address) as wire:
        migration = followed.task(target=wire.uri)
        cut = wire.stop_at("request", "refreshSessions", "admin", lambda: None, cut=True)
        process = migration.start()
        assert cut.wait(30)
        followed.put("after")
        until(lambda: process.poll() is not None or followed.collection.find_one({"pk": "after"}))
        assert process.poll() is None, migration.wait(process)
        stopped(migration, process)
