"""When a copy ends, what limits it, and a past that takes a bounded space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shake.status.charts import charts
from shake.status.estimates import bottleneck, finish
from shake.status.history import History, Point
from shake.status.monitor import Monitor
from shake.status.snapshot import CheckStatus, ProcessStatus
from tests.support.snapshots import table, task

#: Two seconds in which 80 requests were answered, and none was throttled.
POINT = Point(1_562_000_000.0, 2.0, units=200.0, answers=80.0)
KB = 1000


def copying(part: float, **figures: Any) -> Any:
    return task(table(items=int(1000 * part), expected_bytes=1000 * KB, **figures))


def past(*rates: float) -> list[Point]:
    """A past of ten seconds for each rate, in kB/s."""
    return [replace(POINT, seconds=10.0, work=10 * rate * KB) for rate in rates]


# ---- the end of a copy


def test_a_steady_copy_ends_as_its_rate_says_within_five_percent() -> None:
    assert finish(copying(0.4), past(*[6] * 16)) == (100.0, 95.0, 105.0)


def test_the_range_is_that_of_the_rates_of_the_past_without_their_extremes() -> None:
    rates = [1, 4, 4, 6, 6, 9, 9, 40]
    end = finish(copying(0.4), past(*rates))
    assert end
    assert end.seconds == pytest.approx(600 * 8 / sum(rates))
    assert (end.soonest, end.latest) == pytest.approx((end.seconds * 0.95, 600 / 4))


def test_a_pause_of_seconds_moves_the_estimate_by_percents_only() -> None:
    """It jumped between 22 s and 1m 36s within a minute."""
    steady = [6.0] * 57
    before = finish(copying(0.4), past(*steady))
    after = finish(copying(0.4), past(*steady, 0.0, 0.0, 0.0))
    assert before
    assert after
    assert 1.0 < after.seconds / before.seconds < 1.06


def test_a_table_that_needs_longer_than_all_together_counts() -> None:
    end = finish(copying(0.9, seconds_left=400.0), past(*[6] * 16))
    assert end
    assert end.seconds == 400.0


@pytest.mark.parametrize("expected", [0, 300, 400])
def test_no_end_is_told_once_dynamodb_s_count_is_read(expected: int) -> None:
    grown = copying(0.4, expected_items=expected, segments_done=3)
    assert finish(grown, past(*[6] * 16)) is None


@pytest.mark.parametrize("known", [[], past(6), past(0, 0, 0)], ids=["none", "short", "still"])
def test_no_end_is_told_before_it_can_be(known: list[Point]) -> None:
    assert finish(copying(0.4), known) is None


# ---- what limits


@pytest.mark.parametrize(
    ("point", "figures", "what"),
    [
        (replace(POINT, throttles=20.0), {}, "source"),
        (replace(POINT, budget=105.0), {}, "budget"),
        (POINT, {"processes": (ProcessStatus("worker 0", 1, slots=8, slots_used=7),)}, "target"),
        (POINT, {"processes": (ProcessStatus("worker 0", 1, cpu=1.9),)}, "CPU"),
        (POINT, {}, "source"),
        (POINT, {"state": "degraded"}, "a failure"),
        (replace(POINT, throttles=20.0), {"state": "degraded"}, "source"),
    ],
)
def test_what_limits_a_copy_is_named(point: Point, figures: dict[str, Any], what: str) -> None:
    found = bottleneck(task(table(), **figures), point, cpus=2)
    assert found
    assert found.what == what


def test_nothing_limits_a_task_that_keeps_up() -> None:
    following = task(table(state="following", lag=11.0), margin=10.0)
    found = bottleneck(following, replace(POINT, throttles=20.0), cpus=2)
    assert found
    assert found.what == "nothing"


def test_while_only_indexes_are_built_the_target_limits() -> None:
    found = bottleneck(task(table(state="indexing"), table(state="waiting")), POINT, cpus=2)
    assert found == ("target", "it builds indexes")


# ---- the past


def test_a_short_run_is_shown_in_seconds_and_a_long_one_in_half_minutes() -> None:
    history = History()
    snapshot = task(table(items=1))
    lengths = []
    for second in range(4 * 3600):
        history.add(replace(snapshot, time=float(second)), float(second))
        if second in (60, 4 * 3600 - 1):
            lengths.append((len(history.points), history.step))
    (few, short), (many, long) = lengths
    assert (few, short) == (30, 2.0)
    assert long == 32.0
    assert 220 <= many <= 225
    assert sum(point.seconds for point in history.points) == pytest.approx(7200, abs=64)


def test_nothing_is_lost_when_two_points_become_one() -> None:
    history = History()
    for second in range(2000):
        history.add(task(table(items=10 * second, bytes=second)), float(second))
    assert sum(point.writes for point in history.points) == pytest.approx(20_000, rel=0.02)
    assert sum(point.bytes for point in history.points) == pytest.approx(2000, rel=0.02)


def test_what_earlier_runs_have_copied_is_no_rate_of_this_run() -> None:
    history = History()
    history.add(replace(task(table(state="waiting")), seconds=0.0), 0.0)
    history.add(task(table(items=900)), 1.0)
    history.add(task(table(items=910)), 3.0)
    assert [point.writes for point in history.points] == [10.0]


def test_counts_that_begin_again_after_a_new_copy_are_no_negative_rate() -> None:
    history = History()
    history.add(task(table(items=1000)), 0.0)
    history.add(task(table(items=0)), 2.0)
    assert [point.writes for point in history.points] == [0.0]


def test_a_budget_is_drawn_beside_the_read_units() -> None:
    history = History()
    for second in range(20):
        units = 90.0 * second
        history.add(task(table(capacity=units, budget=100.0)), float(second))
    [units] = [one for one in charts(history)["charts"] if one["title"] == "Read units"]
    assert units["now"] == "90/s of 100/s budget"
    assert (units["top"], units["line"][-1], units["limit"][-1]) == ("100/s", 0.9, 1.0)


def test_the_words_of_a_scale_are_those_of_its_lines() -> None:
    history = History()
    for second in range(20):
        history.add(task(table(items=second // 4)), float(second))
    [writes] = [one for one in charts(history)["charts"] if one["title"] == "Writes"]
    assert (writes["top"], writes["middle"]) == ("10/s", "5/s")


# ---- a check beside the task


def test_a_check_that_tells_nothing_more_counts_as_stopped() -> None:
    now = 0.0
    told: list[CheckStatus | None] = [None]
    monitor = Monitor(lambda: task(table()), lambda: told[0], clock=lambda: now)

    def state() -> str:
        monitor.ask_check()
        check = monitor.watched().snapshot.check
        return check.state if check else ""

    assert state() == ""
    told[0] = CheckStatus("running", "orders", items=1)
    assert state() == "running"
    now = 25.0
    told[0] = CheckStatus("running", "orders", items=2)
    assert state() == "running"
    now = 56.0
    assert state() == "stopped"
    told[0] = CheckStatus("finished", "orders", items=9)
    assert state() == "finished"
    now = 1000.0
    assert state() == "finished"
