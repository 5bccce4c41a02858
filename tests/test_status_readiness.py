"""The words fit what was done, and readiness to switch is never claimed too early."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from typing import Any

import pytest

from shake.status.progress import Lines
from shake.status.readiness import applied_sentence, consistency, readiness
from shake.status.snapshot import Snapshot, TableStatus
from shake.status.summary import summary
from tests.support.page import shown, texts
from tests.support.snapshots import table, task

#: 2019-07-01 16:53:20 UTC, the source's clock.
NOW = 1_562_000_000.0
#: A table that is followed, and consistent.
GOOD = table(
    "orders",
    "following",
    consistent=True,
    lag=12.0,
    unread=12.0,
    applied_through=NOW - 12,
    newest_change=NOW - 60,
    quiet_seconds=60.0,
)
EQUAL = "source and target are equal"


def at_now(*tables: TableStatus, **more: Any) -> Snapshot:
    return task(*tables, **{"source_time": NOW, "margin": 10.0, "whole": True} | more)


def test_ready_is_said_with_the_time_and_what_holds() -> None:
    later = replace(GOOD, name="later", applied_through=NOW - 11)
    assert tuple(readiness(at_now(GOOD, later))) == (
        True,
        "every change made before 2019-07-01T16:53:08Z (source's clock) is applied; source and "
        "target are equal as of that time",
        NOW - 12,
        0,
    )


def test_kept_items_are_named_wherever_equal_or_consistent_is_said() -> None:
    moment = at_now(replace(GOOD, kept=3, kept_older=1))
    found = readiness(moment)
    assert (found.ready, found.kept) == (True, 3)
    assert found.reason.endswith("equal as of that time but for 3 kept items")
    assert consistency(moment, moment.tables[0]) == "consistent but for 3 kept items"
    assert applied_sentence(moment) == found.reason
    text = " ".join(summary(moment))
    assert "KEPT, NOT STORED: table" in text
    assert "3 items, of 1 the target has an older document: shake bad --conf FILE" in text


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (at_now(GOOD, state="degraded", reason="throttled"), "the task is degraded: throttled"),
        (at_now(GOOD, state="stopping"), "the task is stopping"),
        (at_now(GOOD, state="finished"), "the task is finished"),
        (at_now(), "no table is followed"),
        (at_now(GOOD, table("b", "copying")), "table b: it is not followed yet (copying)"),
        (at_now(GOOD, table("b", "done")), "table b: it is not followed yet (done)"),
        (at_now(GOOD, table("b", "broken", error="no index")), "table b: no index"),
        (at_now(replace(GOOD, error="no index")), "table orders: no index"),
        (at_now(replace(GOOD, consistent=False)), "table orders: it is not consistent yet"),
        (at_now(replace(GOOD, pending=3)), "3 changes read and not applied yet"),
        (at_now(replace(GOOD, applied_through=None)), "not known yet"),
        (at_now(replace(GOOD, newest_change=NOW - 12)), "changes are still arriving: stop the"),
        (at_now(replace(GOOD, quiet_seconds=9.0)), "changes are still arriving: stop the writes"),
        (at_now(GOOD, source_time=NOW + 60), "2019-07-01T16:53:08Z only, 1m 12s ago"),
    ],
)
def test_what_is_missing_is_named(snapshot: Snapshot, reason: str) -> None:
    ready = readiness(snapshot)
    assert not ready.ready
    assert reason in ready.reason


def test_ready_after_a_time_is_only_said_once_it_is_applied_through_a_later_one() -> None:
    assert readiness(at_now(GOOD), NOW - 13).ready
    late = readiness(at_now(GOOD), NOW - 12)
    assert not late.ready
    assert "is not after 2019-07-01T16:53:08Z" in late.reason


@pytest.mark.parametrize(
    "snapshot",
    [
        at_now(GOOD, whole=False),  # a scan filter, no copy, or the schema only
        at_now(replace(GOOD, filtered=True)),
        at_now(replace(GOOD, skipped=1)),
        at_now(replace(GOOD, error="an index was refused")),
        at_now(GOOD, table("left out", "broken", error="no index on the key")),
        at_now(GOOD, table("copying")),
        at_now(replace(GOOD, consistent=False)),
    ],
)
def test_equal_is_never_said_of_less_than_all(snapshot: Snapshot) -> None:
    assert applied_sentence(at_now(GOOD)).endswith(f"{EQUAL} as of that time")
    assert EQUAL not in applied_sentence(snapshot)
    assert applied_sentence(snapshot).startswith("every change made before ")


@pytest.mark.parametrize(
    "snapshot", [at_now(GOOD, whole=False), at_now(replace(GOOD, skipped=1))], ids=["part", "skip"]
)
def test_consistent_is_never_said_of_less_than_all(
    snapshot: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lines = Lines(io.StringIO(), interval=0.0)
    for moment in (
        snapshot,
        replace(snapshot, tables=(replace(GOOD, consistent=False, skipped=1),)),
    ):
        lines.tick(moment, 1.0)
        page = shown(moment)
        said = [*summary(moment), *caplog.messages, readiness(moment).reason]
        said += texts(page)
        assert not [line for line in said if re.search("consistent|equal", line, re.IGNORECASE)]
        assert any("caught up" in line for line in said)
    assert consistency(at_now(GOOD), GOOD) == "consistent"
