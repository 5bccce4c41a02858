"""With many tables the work of each second grows with their number, not with its square."""

from __future__ import annotations

import random
import sys
import threading
from typing import Any, cast

from shake.checkpoint.records import TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.clock import boot_clock
from shake.copy.table import CopiedTable
from shake.farm.farm import Farm
from shake.farm.pool import WorkerPool
from shake.follow.journaling import Journaling
from shake.follow.phases import FollowPhases
from shake.follow.scheduler import FollowScheduler
from shake.follow.stream_monitor import StreamMonitor
from shake.follow.table import FollowedTable
from shake.limits import Budget
from shake.plan.plan import Action, TablePlan
from shake.process.loop import Loop
from shake.process.site import HERE
from shake.schema import Attribute, Keys, Table
from shake.source.clock import Bounds
from shake.source.dynamodb import DynamoSource
from shake.source.endpoint import Credentials, Endpoint
from shake.stream.shard import Shard, ShardState
from tests.support.task import Notes
from tests.test_farm_process import config_of

NOW = 1_000_000.0


class Task:
    """Idle tables that are followed, and no worker that could read their shards."""

    def __init__(self, tables: int) -> None:
        config, loop, self.task = config_of(), Loop(), Notes()
        endpoint, credentials = Endpoint("http://127.0.0.1:9", "us-east-1"), Credentials("a", "b")
        client = DynamoSource(
            endpoint,
            lambda: credentials,
            on_retry=self.task.heard.append,
            stop=threading.Event(),
            random=random.Random(0),
        )
        offset = NOW - boot_clock()
        client.clock.learn(Bounds(offset - 0.1, offset + 0.1), boot_clock())
        self.pool = WorkerPool(
            *(loop, config, endpoint, credentials, [HERE], 16),
            self.task,
        )
        self.copies, followed_tables = [], []
        for number in range(tables):
            name = f"t{number}"
            table = Table(name, Keys(Attribute("pk", "S")))
            plan = TablePlan(table, Action.FOLLOW, TableRecord(name, f"a.{name}", 0, 0), ())
            shard = Shard("s1", "", "1", "7", NOW, ShardState.READY)
            followed = FollowedTable(
                number, plan, StreamRecord(name, "arn", int(NOW) - 60), [shard], 0.0
            )
            followed.active = followed.consistent = followed.listed = True
            followed_tables.append(followed)
            self.copies.append(CopiedTable(number, plan, Budget(1000, None, 0.0), 0.0))
        none, by_number = cast(Any, None), {one.number: one for one in followed_tables}
        farm = Farm(config, loop, self.pool, none, self.task, client)
        monitor = StreamMonitor(farm, by_number)
        journaling = Journaling(farm, by_number, monitor)
        scheduler = FollowScheduler(farm, by_number, {}, monitor, journaling)
        self.follow = FollowPhases(farm, by_number, {}, {}, scheduler, monitor, journaling)

    def second(self) -> None:
        """What is done each second."""
        self.follow.each_second()
        for copy in self.copies:
            self.follow.status(copy.number, copy.status(1.0, filtered=False))

    def close(self) -> None:
        for worker in self.pool.workers:
            HERE.close_arena(worker.arena)
        assert not self.task.told + self.task.heard


def calls(tables: int) -> int:
    """How many functions are called in a second."""
    task, count = Task(tables), 0
    task.second()

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        task.second()
    finally:
        sys.setprofile(None)
    task.close()
    return count


def test_four_times_the_tables_cost_four_times_the_work() -> None:
    assert calls(400) < 4.5 * calls(100)
