"""--until-consistent that was stopped by a signal does not end like one that is consistent."""

from __future__ import annotations

import signal

import pytest

from tests.support.faulty import error
from tests.support.followed import Followed
from tests.support.streams_faults import Call, instead
from tests.support.wait import until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_the_consistent_point_is_not_exit_0(
    followed: Followed, number: signal.Signals
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    assert followed.task().run("--until-consistent").status == 0
    followed.put("b")
    throttled = instead(error("ThrottlingException"))

    def read(call: Call) -> bool:
        return call.operation == "GetRecords" and not call.trial  # which would be waited for

    followed.simulator.faults.rule(1.0, throttled, where=read)
    migration = followed.task()
    process = migration.start("--until-consistent")
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: "following its changes" in output.read_text())
    process.send_signal(number)
    result = migration.wait(process)
    assert not followed.collection.find_one({"pk": "b"})
    assert result.status != 0, result
    assert "before all was consistent" in result.line
