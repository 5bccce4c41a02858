"""A target that fails over while the numbers of commands are kept ends nothing."""

from __future__ import annotations

import pytest

from shake.cli import main
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


@pytest.mark.parametrize("how", ["shake forget", "by hand"])
def test_no_change_is_taken_for_an_earlier_one_after_a_checkpoint_was_removed(
    followed: Followed, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server does not carry out a change whose number it has seen."""
    followed.simulator.table(followed.name)
    followed.put("k", n={"N": "1"})
    migration = followed.task(sync_mode="incr")
    assert migration.run("--until-consistent").status == 0
    if how == "shake forget":
        mistyped = ["forget", "--conf", str(migration.conf), followed.name, followed.name[:-1]]
        assert main.main(mistyped) == 2
        assert f"near it: {followed.name}; nothing is removed" in capsys.readouterr().err
        for _ in range(2):  # the same command goes on
            assert main.main(["forget", "--conf", str(migration.conf), followed.name]) == 0
    else:
        followed.checkpoint.drop()
    followed.put("k", n={"N": "2"})
    result = migration.run("--until-consistent")
    if how == "shake forget":
        assert result.status == 0, result
    else:  # a higher number, or one that is refused
        assert result.status == 0 or "has later changes of this task" in result.line, result
    if result.status == 0:
        followed.compare()
