"""A writer process in an outage of the target, or of what grants it the right to write."""

from __future__ import annotations

import threading
from typing import Any, cast

from shake.farm import writer_messages as messages
from shake.schema import Attribute, Keys, Table
from shake.targets.contract import CopyRun, Location
from shake.worker.writer import WriterMain
from tests.test_farm_process import config_of


class Channel:
    """Where the supervisor listens."""

    def send(self, message: Any) -> None:
        pass


def test_what_comes_again_and_again_does_not_pile_up() -> None:
    """Each of these orders waits for the right to write, which has run out."""
    before = set(threading.enumerate())
    opened = messages.OpenCollection(
        table=0,
        description=Table("t", Keys(Attribute("pk", "S"))),
        namespace="d.t",
        copy=CopyRun(1, 1, 1),
        staged=False,
        location=Location("d.t", ""),
        run=1,
        resumed=False,
        kept=False,
    )
    config = config_of("full.document.concurrency=1")
    writer = WriterMain(cast(Any, Channel()), config, messages.WriterSetup(1, 1, 0.0, ()))
    again: list[messages.ToWriter] = [messages.Verify(0), messages.KeepFences(0, ())] * 20
    writer.serve(iter([opened, *again]))
    begun = [one.name for one in set(threading.enumerate()) - before]
    assert sum("_run_order" in one for one in begun) == 2
