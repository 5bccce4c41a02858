"""The parts of shake-check alone: queries, sums of keys, pace."""

from __future__ import annotations

import threading

import pytest

from shake.check.fingerprint import Fingerprint, bucket
from shake.check.keys import StoredKeys
from shake.check.pace import Pace
from shake.config import Config
from shake.errors import Stopped
from shake.schema import Attribute, Keys, Table

CONFIG = Config(id="check", target_address="mongodb://localhost/")
TABLE = Table("t", Keys(Attribute("pk", "S"), Attribute("sk", "N")))
KEYS = [{"_id": {"pk": pk, "sk": sk}} for pk, sk in [("a", 8), ("a", 9), ("b", 1), ("c", 2), ("d", 0)]]


def test_partitions_at_the_edge_of_a_page_are_never_read_whole() -> None:
    assert list(StoredKeys(TABLE, CONFIG).queries(KEYS, scanned=True)) == [
        {"pk": {"$in": ["b", "c"]}},
        {"pk": "a", "sk": {"$in": [8, 9]}},
        {"pk": "d", "sk": {"$in": [0]}},
    ]


def test_single_keys_never_select_their_whole_partition() -> None:
    [query] = StoredKeys(TABLE, CONFIG).queries(KEYS[1:4], scanned=False)
    assert query == {
        "$or": [
            {"pk": "a", "sk": {"$in": [9]}},
            {"pk": "b", "sk": {"$in": [1]}},
            {"pk": "c", "sk": {"$in": [2]}},
        ]
    }


def test_one_page_within_one_partition_is_one_query() -> None:
    [query] = StoredKeys(TABLE, CONFIG).queries(KEYS[:2], scanned=True)
    assert query == {"pk": "a", "sk": {"$in": [8, 9]}}


def test_only_the_bucket_of_a_key_that_one_side_lacks_is_unequal() -> None:
    ours, theirs = Fingerprint(), Fingerprint()
    keys = [(f"k{number}",) for number in range(1000)]
    ours.add(keys)
    theirs.add(reversed(keys))
    assert ours.unequal(theirs) == set()
    theirs.add([("extra",)])
    assert ours.unequal(theirs) == {bucket(("extra",))}
    ours.add([("extra",), ("extra",)])
    assert ours.unequal(theirs) == {bucket(("extra",))}


def test_capacity_that_was_used_delays_the_next_call() -> None:
    now = 0.0
    waits: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal now
            waits.append(timeout or 0.0)
            now += timeout or 0.0
            return len(waits) > 10

    pace = Pace(1000, 10, Clock(), lambda: now)
    pace.take()
    pace.used(30)
    pace.take()
    assert sum(waits) == pytest.approx(3, abs=0.1)


def test_a_wait_for_the_pace_ends_with_the_check() -> None:
    stop = threading.Event()
    pace = Pace(1000, 1, stop)
    pace.used(1e9)
    stop.set()
    with pytest.raises(Stopped):
        pace.take()
