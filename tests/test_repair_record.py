"""What a repair saves: its number, and its sessions, which no late record hides."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from shake.check.repairing import repairing
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.mongodb import MongoStore
from shake.config import load
from shake.errors import ShakeError
from shake.schema import Attribute, Keys, Table
from shake.targets.choice import open_target
from tests.support.wire import Wire


def test_a_late_record_of_a_repair_hides_no_session_of_a_later_one(mongo: Any, name: str) -> None:
    released, answered = threading.Event(), threading.Event()
    host, port = mongo.client.address
    with Wire(host, port) as wire:
        Checkpoints(MongoStore(mongo.uri, name), run=1).begin_repair("t", 1)
        direct = f"mongodb://{host}:{port}/?directConnection=true"
        dead = Checkpoints(MongoStore(f"{wire.uri}&retryWrites=false", name, timeout=1), run=2)
        later = Checkpoints(MongoStore(direct, name), run=3)
        held = wire.stop_at(
            "request", "update", f"{name}.t", lambda: released.wait(30),
            late=True, cut=True, answered=answered,
        )  # fmt: skip
        with contextlib.suppress(ShakeError):
            dead.begin_repair("t", 1)
        assert held.is_set()
        repair = later.begin_repair("t", 9)
        released.set()
        assert answered.wait(30)
        assert later.load_repair("t").sessions == repair.sessions


def test_a_repair_of_several_tables_takes_one_number(mongo: Any, name: str) -> None:
    """The target has a limited count of them."""
    config = load(None, {}, [f"id={name}", f"target.address={mongo.uri}"]).config
    tables = [Table(f"{name}-{one}", Keys(Attribute("pk", "S"))) for one in "ab"]
    for table in tables:
        mongo.client[name].create_collection(table.name)
    with (
        contextlib.closing(open_target(config, stop=threading.Event(), on_retry=print)) as target,
        repairing(config, target, tables, after_cutover=False) as repairs,
    ):
        assert [repairs.begin(table, 1).run for table in tables] == [1, 1]
