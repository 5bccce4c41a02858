"""The lease while the task is planned, which may take minutes: kept, and nothing written without.

The real program, with a lease that is shorter.
"""

from __future__ import annotations

from typing import Any

from tests.support.followed import Followed
from tests.support.streams_faults import calling
from tests.support.wait import until


def test_the_lease_is_kept_while_streams_are_enabled_and_who_has_lost_it_saves_no_position(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name, stream=None)
    followed.simulator.enabling = 3  # for a second
    migration = followed.task()
    status = followed.mongo.client[f"{followed.name}-checkpoint"].status_table

    def lease() -> Any:
        return status.find_one({"_id": "lease"})

    def steal() -> None:
        """As another machine's supervisor does, once the lease had to be renewed."""
        before = lease()["Renewals"]
        until(lambda: lease()["Renewals"] >= before + 2)
        status.update_one({"_id": "lease"}, {"$set": {"Host": "elsewhere", "Token": "thief"}})

    followed.simulator.faults.next("UpdateTable", calling(steal))
    migration.first = (
        "from shake.checkpoint import task_lock as lease;"
        "lease.INTERVAL, lease.OVERDUE, lease.POLL = 0.2, 0.3, 0.1"
    )
    result = migration.run()
    assert result.status == 1, result
    assert "on host elsewhere took over" in result.line
    assert [one["_id"] for one in followed.checkpoint.find()] == ["identity"]
    assert {one["_id"] for one in status.find()} == {"lease", "run"}
    assert lease()["Token"] == "thief"
