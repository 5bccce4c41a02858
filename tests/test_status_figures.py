"""The figures that every view shows."""

from __future__ import annotations

import pytest

from shake.phase import Phase
from shake.status.figures import count, duration, fraction, percent, short, size, total
from shake.status.metrics import _TABLE_STATES
from tests.support.snapshots import table, task


def test_unfinished_work_never_shows_as_all() -> None:
    assert percent(fraction(table(items=5000))) == "99.9%"
    assert percent(fraction(table("t", "indexing", segments_done=4))) == "99.9%"
    assert percent(fraction(table(state="done", items=7))) == "100.0%"
    assert percent(0.99999) == "99.9%"


def test_progress_counts_what_was_scanned_not_what_a_filter_kept() -> None:
    assert fraction(table(items=3, scanned=250)) == 0.25


def test_progress_follows_the_segments_where_dynamodb_gives_no_estimate() -> None:
    assert fraction(table(expected_items=0, items=10, segments_done=1)) == 0.25
    assert fraction(table(expected_items=0, segments=0)) is None


def test_a_table_copied_but_for_its_indexes_is_not_done() -> None:
    assert fraction(table(state="broken", items=1000, segments_done=4)) == 0.999


def test_all_is_copied_once_every_table_is_followed() -> None:
    followed = table("followed", "following", items=10, expected_items=10, lag=1.0)
    assert fraction(total(task(followed))) == 1.0
    part = fraction(total(task(followed, table("copied", items=250))))
    assert part is not None
    assert part < 1.0


def test_the_total_corrects_estimates_that_proved_wrong() -> None:
    done = table("done", "done", items=10, expected_items=1000)
    grown = table("grown", items=300, expected_items=100)
    everything = total(task(done, grown, table("new", "waiting", expected_items=90)))
    assert everything.expected_items == 10 + 300 + 90
    assert everything.items == 310


def test_the_time_left_covers_tables_that_still_wait() -> None:
    snapshot = task(table(items=500, rate=50.0, seconds_left=10.0), table("next", "waiting"))
    assert total(snapshot).seconds_left == (500 + 1000) / 50


def test_the_time_left_is_at_least_that_of_the_slowest_table() -> None:
    slow = table("slow", items=900, rate=1.0, seconds_left=100.0)
    fast = table("fast", items=500, rate=999.0, seconds_left=0.5)
    assert total(task(slow, fast)).seconds_left == 100.0


def test_the_time_left_counts_what_the_filter_will_keep() -> None:
    filtered = table(items=10, scanned=500, rate=1.0, filtered=True)
    assert total(task(filtered)).seconds_left == 10.0


def test_the_time_left_is_unknown_while_nothing_moves() -> None:
    assert total(task(table(items=10))).seconds_left is None
    assert total(task(table(state="done"))).seconds_left == 0.0


@pytest.mark.parametrize("expected", [0, 400, 500])
def test_no_time_left_is_made_up_once_dynamodb_s_count_is_read(expected: int) -> None:
    """The count can be six hours old."""
    grown = table("grown", items=500, rate=50.0, expected_items=expected, segments_done=3)
    ahead = table("ahead", items=500, rate=50.0, seconds_left=10.0)
    for other in (ahead, table(state="indexing")):
        assert total(task(grown, other)).seconds_left is None
    empty = table("empty", "waiting", expected_items=0)
    assert total(task(empty, ahead)).seconds_left == 10.0
    assert total(task(empty, table("built", "indexing", items=900, rate=9.0))).seconds_left is None


@pytest.mark.parametrize("state", ["trimming", "indexing", "broken"])
def test_no_time_left_is_made_up_for_what_is_copied_and_not_ready(state: str) -> None:
    copied = table("copied", state, items=900, rate=9.0, segments_done=4)
    assert total(task(copied, table(state="following"))).seconds_left is None
    # DynamoDB's estimate of it was too high: nothing of it is ahead.
    copying = table(items=500, rate=41.0, seconds_left=10.0)
    assert total(task(copied, copying)).seconds_left == 500 / 50


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (count(1234567), "1,234,567"),
        (short(999), "999"),
        (short(1000), "1.00k"),
        (short(12_345), "12.3k"),
        (short(999_499), "999k"),
        (short(999_999), "1.00M"),
        (size(0), "0 B"),
        (size(20.4e12), "20.4 TB"),
        (size(3.2e18), "3200 PB"),
        (percent(None), "-"),
        (percent(0.29), "29.0%"),
        (duration(None), "-"),
        (duration(59.6), "1m 00s"),
        (duration(3723), "1h 02m"),
        (duration(90000), "1d 01h"),
    ],
)
def test_figures_are_written_short_and_stable(written: str, text: str) -> None:
    assert written == text


def test_every_phase_of_a_copy_is_a_state_that_the_metrics_know() -> None:
    assert {phase.value for phase in Phase} == set(_TABLE_STATES)
