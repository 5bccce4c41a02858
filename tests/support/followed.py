"""A task that follows the changes of a simulated table."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from shake.codec.contract import Options
from tests.support.migration import MANY_PAGES, Migration, Result, compare, keys_of
from tests.support.streams import Call, Simulator, Table
from tests.support.tables import connect
from tests.support.wait import until

#: Run first by a supervisor for which a loss is certain sooner than after a minute. It still takes
#: three answers; test_stream_suspicion and test_follow_absence test the minute itself.
HASTY = (
    "from shake.stream import suspicion as s; "
    "s.LOSS = s.Proof(3, 1.5, 0.5); s.START = s.Proof(3, 0.2, 0.1)"
)


class Followed:
    """A simulated source, a task that follows its one table, and the target."""

    def __init__(
        self, simulator: Simulator, mongo: Any, migrate: Callable[..., Migration], name: str
    ) -> None:
        self.simulator = simulator
        self.mongo = mongo
        self.name = name
        self._migrate = migrate
        self.settings: dict[str, Any] = {}

    def task(self, **settings: Any) -> Migration:
        self.settings = settings
        return self._migrate(
            **{"source": self.simulator.url, "sync_mode": "all", **MANY_PAGES, **settings}
        )

    @property
    def table(self) -> Table:
        return self.simulator.tables[self.name]

    @property
    def collection(self) -> Any:
        return self.mongo.client[self.name][self.name]

    @property
    def checkpoint(self) -> Any:
        return self.mongo.client[f"{self.name}-checkpoint"][self.name]

    def put(self, key: str, **attributes: Any) -> None:
        self.table.put({"pk": {"S": key}, **attributes})

    def arrived(self, key: str) -> Any:
        return until(lambda: self.collection.find_one({"pk": key}))

    def compare(self) -> None:
        """Source and target hold the same, each item once."""
        source = connect(self.simulator.url)
        named = {"convert": "convert__type", "id_mode": "id__mode"}
        options = {
            field: self.settings[key] for field, key in named.items() if key in self.settings
        }
        compare(
            source,
            self.mongo.client,
            self.name,
            f"{self.name}.{self.name}",
            options=Options(keys_of(source, self.name), **options),
        )

    def equal(self, deadline: float = 60) -> None:
        """They come to hold the same."""

        def same() -> bool:
            try:
                self.compare()
            except AssertionError:
                return False
            return True

        try:
            until(same, deadline, every=0.3)
        except AssertionError:
            self.compare()


def stopped(migration: Migration, process: Any) -> Result:
    """It ends well, in time, when it is asked to."""
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    result = migration.wait(process)
    assert result.status == 0, result
    assert time.monotonic() - began < 10
    return result


def copies(call: Call) -> bool:
    """Whether it is a Scan of the copy, and not a look at the table, or the comparison."""
    return call.operation == "Scan" and "Segment" in call.request
