"""What a dead repair saves late does not hide the sessions of a later repair."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.mongodb import MongoStore
from shake.errors import ShakeError
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
        assert answered.wait(10)
        assert later.load_repair("t").sessions == repair.sessions
