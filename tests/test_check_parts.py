"""The parts of shake-check alone: queries, sums of keys, pace."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from shake import codec
from shake.check import fingerprint
from shake.check.findings import Difference, Findings
from shake.check.fingerprint import Fingerprint, Sums, marks
from shake.check.keys import SourceKey, StoredKeys
from shake.check.plan import plan
from shake.check.progress import CheckProgress
from shake.check.sides import Advanced
from shake.check.source import Pace
from shake.codec.contract import KeyForm
from shake.config import Config
from shake.config.kinds import ReadBudget
from shake.config.windows import Window
from shake.errors import Stopped
from shake.schema import Attribute, Keys, Table

CONFIG = Config(id="check", target_address="mongodb://localhost/")
TABLE = Table("t", Keys(Attribute("pk", "S"), Attribute("sk", "N")))
KEYS: list[SourceKey] = [(None, key) for key in [("a", 8), ("a", 9), ("b", 1), ("c", 2), ("d", 0)]]

SEED = bytes(range(16))


def bucket(key: str) -> int:
    """The bucket of a key of one attribute."""
    digests = codec.digests(SEED, KeyForm(True, False, (b"pk",), (b"S",)))
    digest = digests.key(bson.encode({"_id": key}))
    return int.from_bytes(digest[8:], "little") % fingerprint.BUCKETS


def unequal(ours: Fingerprint, theirs: Fingerprint) -> set[int]:
    return ours.sums().unequal(theirs.sums())


def test_single_keys_never_select_their_whole_partition() -> None:
    query = StoredKeys(TABLE, CONFIG).query(KEYS[1:4])
    assert query == {
        "$or": [
            {"pk": "a", "sk": {"$in": [9]}},
            {"pk": "b", "sk": {"$in": [1]}},
            {"pk": "c", "sk": {"$in": [2]}},
        ]
    }


def test_keys_within_one_partition_are_one_query() -> None:
    query = StoredKeys(TABLE, CONFIG).query(KEYS[:2])
    assert query == {"pk": "a", "sk": {"$in": [8, 9]}}


def test_only_the_bucket_of_a_key_that_one_side_lacks_is_unequal() -> None:
    ours, theirs = Fingerprint(SEED), Fingerprint(SEED)
    keys = [(f"k{number}",) for number in range(1000)]
    ours.add(keys)
    theirs.add(reversed(keys))
    assert unequal(ours, theirs) == set()
    theirs.add([("extra",)])
    assert unequal(ours, theirs) == {bucket("extra")}
    ours.add([("extra",), ("extra",)])
    assert unequal(ours, theirs) == {bucket("extra")}


def test_sums_of_another_seed_are_not_added() -> None:
    with pytest.raises(ValueError, match="seed"):
        Fingerprint(SEED).merge(Sums(bytes(16), 0, bytes(8 * fingerprint.BUCKETS)))


@pytest.mark.parametrize("kind", [int, float, Int64, Decimal128])
def test_a_key_is_counted_alike_however_it_is_stored(kind: Any) -> None:
    form = KeyForm(True, True, (b"pk", b"sk"), (b"S", b"N"))
    number = Decimal128("-70") if kind is Decimal128 else kind(-70)
    document = bson.encode({"_id": {"pk": {"S": "a"}, "sk": {"N": number}}})
    ours, theirs = Fingerprint(SEED), Fingerprint(SEED)
    ours.add([("a", -70)])
    assert theirs.add_documents(codec.digests(SEED, form), document) == 1
    assert unequal(ours, theirs) == set()
    assert marks([3, 9])[:2] == b"\x08\x02"


def test_a_document_whose_key_is_an_array_is_named_once_though_an_index_has_it_twice() -> None:
    said: list[str] = []
    findings = Findings(said.append, None)
    odd = Difference("t", "d.t", "extra", {"pk": "['a', 'z']", "_id": "ObjectId('5')"})
    for _ in range(2):
        findings.add(odd)
    for _ in range(2):  # two documents of one key
        findings.add(Difference("t", "d.t", "extra", {"_id": {"S": "a"}}))
    assert (findings.total, len(said)) == (3, 3)


@settings(max_examples=50)
@given(st.lists(st.lists(st.text(max_size=3), max_size=8), max_size=6), st.randoms())
def test_the_fingerprints_of_parts_add_up_to_that_of_the_whole(
    parts: list[list[str]], rng: random.Random
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fingerprint, "BUCKETS", 8)
        whole, merged = Fingerprint(SEED), Fingerprint(SEED)
        keys = [(key,) for part in parts for key in part]
        rng.shuffle(keys)
        whole.add(keys)
        for part in parts:
            one = Fingerprint(SEED)
            one.add((key,) for key in part)
            merged.merge(one.sums())
        assert merged.keys == whole.keys
        assert unequal(merged, whole) == set()
        merged.add([("too much",)])
        assert unequal(merged, whole) == {bucket("too much")}


@pytest.mark.parametrize(
    ("limits", "size", "workers", "processes"),
    [
        ({}, {"items": 1000, "bytes": 10**6}, 64, 1),
        ({}, {"items": 10**6, "bytes": 10**8}, 64, 11),
        ({}, {"items": 10**6, "bytes": 10**8}, 4, 4),
        ({}, {"items": 1000, "bytes": 10**9}, 64, 11),
        ({}, {"items": 2 * 10**10, "bytes": 2 * 10**13}, 64, 64),
        ({}, {}, 64, 64),
        ({"full_read_concurrency": 3}, {"items": 10**9, "bytes": 10**12}, 64, 3),
        ({"qps_full": 5}, {"items": 10**9, "bytes": 10**12}, 64, 5),
        (
            {"source_read_budget": ReadBudget(1280, False)},
            {"items": 10**9, "bytes": 10**12},
            64,
            10,
        ),
    ],
    ids=str,
)
def test_a_table_gets_the_processes_that_it_is_worth_and_the_limits_allow(
    limits: dict[str, Any], size: dict[str, Any], workers: int, processes: int
) -> None:
    config, table = replace(CONFIG, **limits), replace(TABLE, **size)
    assert plan(config, table, workers, holds_items=True).processes == processes


def test_a_table_of_20_tb_is_said_to_cost_what_it_costs() -> None:
    table = replace(TABLE, items=2 * 10**10, bytes=2 * 10**13)
    line = plan(CONFIG, table, 64, holds_items=True).describe(CONFIG)
    assert line == (
        "table t: about 20,000,000,000 items, 20.0 TB, to be read once more by 64 processes: "
        "2,441,406,250 read capacity units, and 16h 57m at least (40,000 units a second: the "
        "default quota of AWS for a table)"
    )


def test_the_limit_that_is_said_is_not_that_of_windows_which_a_check_does_not_keep() -> None:
    table = replace(TABLE, items=10**6, bytes=10**9)
    plain = replace(CONFIG, source_read_budget=ReadBudget(1000, False))
    windows = replace(plain, source_windows=(Window(0, 1439, ReadBudget(1, False)),))
    said = plan(plain, table, 1, holds_items=True).describe(plain)
    assert plan(windows, table, 1, holds_items=True).describe(windows) == said


class Clock(threading.Event):
    """A stop that never comes; waits for it take no time, and add up in ``now``."""

    now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return False


def test_capacity_that_was_used_delays_the_next_call() -> None:
    pace = Pace(1000, 10, clock := Clock(), lambda: clock.now)
    pace.take()
    pace.used(30)
    pace.take()
    assert clock.now == pytest.approx(3, abs=0.1)


def test_calls_whose_answers_are_not_there_yet_count_as_much_as_those_before() -> None:
    pace = Pace(1000, 128, clock := Clock(), lambda: clock.now)
    for _ in range(8):
        pace.take()
    assert clock.now == pytest.approx(7, abs=0.2)


def test_calls_that_fail_leave_no_reservation_that_later_calls_could_use_up() -> None:
    pace = Pace(1000, 128, clock := Clock(), lambda: clock.now)
    for _ in range(10):
        pace.take()
        pace.failed()
    for _ in range(100):  # by then, a small answer is expected
        pace.take()
        pace.used(1)
    began = clock.now
    for _ in range(100):
        pace.take()
        pace.used(64)
    assert clock.now - began == pytest.approx(100 * 64 / 128, abs=2)


def test_a_wait_for_the_pace_ends_with_the_check() -> None:
    stop = threading.Event()
    pace = Pace(1000, 1, stop)
    pace.used(1e9)
    stop.set()
    with pytest.raises(Stopped):
        pace.take()


def test_a_repair_shows_how_many_are_left_and_no_time_left() -> None:
    progress = CheckProgress("check", Findings(lambda line: None, None), filtered=False)

    def shown() -> tuple[str, float | None]:
        [table] = progress.snapshot().tables
        return table.state, table.seconds_left

    with progress.table(replace(TABLE, items=1000), "check.t"):
        progress.advanced(Advanced(compared=500, scanned=500))
        state, left = shown()
        assert state == "checking"
        assert left
        progress.advanced(Advanced(to_repair=1200))
        assert shown() == ("repairing 1 of 1,200", None)
        progress.advanced(Advanced(repaired=2))
        assert shown() == ("repairing 3 of 1,200", None)
        progress.advanced(Advanced(repaired=1198))
        assert shown()[0] == "checking"
    assert shown() == ("done", 0.0)
