"""A seeded random load: a table's items change while its stream's shards split and end."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.streams_table import Item, Table

#: How often what happens in a step; ``again`` puts what is there already.
_WEIGHTS = {"put": 700, "again": 30, "delete": 180, "expire": 30, "roll_over": 30, "split": 30}
#: The attribute that rises with each put of a key, also over its deletion.
COUNTER = "n"


class Workload:
    """Changes to a table, the same ones for the same seed. What it leaves is ``table.contents()``.

    Half of the changes go to ``hot`` keys, where order matters, the others to ``cold`` ones.
    ``shards``: so many are open at most. ``untidy``: DescribeStream shows a split or roll-over up
    to so many answers late, children and ends each for themselves.
    """

    def __init__(
        self,
        table: Table,
        seed: int = 0,
        *,
        hot: int = 5,
        cold: int = 1000,
        shards: int = 8,
        untidy: int = 0,
    ) -> None:
        self.table = table
        self.steps = 0
        #: The counter of the last put of each key, by the key's number.
        self.counters: dict[int, int] = defaultdict(int)
        self._random = random.Random(f"{seed} workload")
        self._hot, self._cold, self._shards, self._untidy = hot, cold, shards, untidy

    def run(self, steps: int) -> None:
        """Do so many steps."""
        for _ in range(steps):
            self.step()

    @contextmanager
    def running(self, rate: float) -> Iterator[None]:
        """Do so many steps per second in another thread, while the context lasts."""
        stop, failures = threading.Event(), list[BaseException]()

        def work() -> None:
            began, done = time.monotonic(), 0
            try:
                while not stop.wait(max(0.001, (done + 1) / rate - (time.monotonic() - began))):
                    due = int((time.monotonic() - began) * rate) - done
                    self.run(due)
                    done += due
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        for failure in failures:
            raise failure

    def step(self) -> None:
        """Do one thing."""
        self.steps += 1
        rng = self._random
        [action] = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        number = rng.randrange(self._hot)
        if rng.random() < 0.5:
            number = self._hot + rng.randrange(self._cold)
        if action in ("split", "roll_over"):
            self._reshape(action)
        elif action == "put":
            self.counters[number] += 1
            more = {COUNTER: {"N": str(self.counters[number])}, "data": self._data()}
            self.table.put({**self.key(number), **more})
        elif action == "again":
            if item := self.table.get(self.key(number)):
                self.table.put(item)
        else:
            self.table.delete(self.key(number), expired=action == "expire")

    def key(self, number: int) -> Item:
        """A key of the table; one partition holds several, where the table has a sort key."""
        (pk, pk_type), *sort = self.table.keys
        shared = number - number % 3 if sort else number
        parts = {pk: {pk_type: str(shared) if pk_type == "N" else f"k{shared:05}"}}
        for name, kind in sort:
            parts[name] = {kind: str(number) if kind == "N" else f"s{number:05}"}
        return parts

    def _data(self) -> Item:
        return {"S": "x" * self._random.randrange(200)}

    def _reshape(self, action: str) -> None:
        shards = self.table.stream.open() if self.table.streams else []
        late = [self._random.randint(0, self._untidy) for _ in range(2)]
        if not shards:
            return
        shard = self._random.choice(shards)
        if action == "split" and len(shards) < self._shards:
            self.table.stream.split(shard, listed_after=late[0], closed_after=late[1])
        else:
            self.table.stream.roll_over(shard, listed_after=late[0], closed_after=late[1])
