"""More kept items than are allowed end the task, whatever the store answers, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from shake.checkpoint.kept import NOTHING_KEPT, Tally
from shake.checkpoint.records import SegmentRecord
from shake.farm.writer_messages import Kept
from shake.run.running_task import RunningTask
from shake.run.shutdown import Shutdown
from tests.test_copy_table import copy_of
from tests.test_farm_process import config_of


class Store:
    """Stands for the checkpointer: a test says when it counts."""

    def __init__(self) -> None:
        self.counts: list[Any] = []

    def count_kept(self, table: str, then: Any) -> None:
        self.counts.append(then)

    def renew_lock_now(self) -> None:
        pass


@pytest.mark.parametrize("spread", [False, True], ids=["here", "nodes"])
def test_what_a_writer_has_kept_counts_before_the_store_has_counted_it(spread: bool) -> None:
    """A task that ends in between says that it was kept, and does not pass the limit."""
    store, copy = Store(), copy_of([SegmentRecord(0)])
    task = object.__new__(RunningTask)
    task._config = config_of("bad.items=keep", "bad.items.max=1")
    task._options = cast(Any, SimpleNamespace(open_sites=print if spread else None))
    task.parts = cast(Any, SimpleNamespace(copies=[copy], checkpointer=store))
    task.shutdown = Shutdown(lambda: 0.0, resyncs=False, drain=lambda seconds: None)
    task._from_writer(0, cast(Any, None), Kept(0, Tally(1), 1.0))
    assert copy.kept == Tally(1)
    task._from_writer(0, cast(Any, None), Kept(0, Tally(2), 2.0))
    task.shutdown.finish("all is consistent")
    assert task.shutdown.ending.status == 1
    for counted in store.counts:  # no machine's clock says which tally is newer: the store does
        counted(NOTHING_KEPT)
    assert copy.kept == (NOTHING_KEPT if spread else Tally(2))
