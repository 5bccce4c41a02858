"""A writer process that replaces another one gets all that the other one has not done."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.farm import writer_messages as messages
from shake.farm.ledger import Ledger
from shake.farm.writer import LockGuard, WriterHandle, WriterProcess
from shake.plan.plan import Action, TablePlan
from shake.process.loop import Loop
from shake.process.messages import Ready
from shake.schema import Attribute, Keys, Table
from shake.targets.contract import Location
from tests.support.task import Notes, Slots
from tests.test_farm_loop import run
from tests.test_farm_process import config_of


@contextmanager
def writing(mongo: Any, name: str) -> Iterator[tuple[Loop, WriterHandle]]:
    """A writer of the collection ``name.t``, whose process is ready."""
    loop, heard = Loop(), list[Any]()
    record = TableRecord("t", f"{name}.t", 5, 1, run=2, staged=True)
    table = Table("t", Keys(Attribute("pk", "S")))
    plan = TablePlan(table, Action.CREATE, record, (SegmentRecord(0),))
    process = WriterProcess(
        loop, config_of(f"target.address={mongo.uri}"), (), until=lambda: math.inf, task=Notes()
    )
    writer = WriterHandle(
        *(process, 7, plan, Location(record.namespace, ""), 0),
        staged=False,
        guard=LockGuard(lambda: True),
        ledger=Ledger(Slots()),
        report=heard.append,
    )
    try:
        run(loop, lambda: any(isinstance(one, Ready) for one in heard), 30.0)
        yield loop, writer
    finally:
        process.close()
        mongo.client.drop_database(name)


def test_what_a_killed_writer_has_not_heard_its_replacement_hears(mongo: Any, name: str) -> None:
    stray = "t.shake-5-1"
    database = mongo.client[name]
    with writing(mongo, name) as (loop, writer):
        database[stray].insert_one({})
        os.kill(writer.process.pid, signal.SIGSTOP)
        writer.send_aside(messages.Sweep(7))
        os.kill(writer.process.pid, signal.SIGKILL)
        loop.every(0.1, lambda: None)
        run(loop, lambda: stray not in database.list_collection_names(), 30.0)
