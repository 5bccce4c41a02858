"""The rate that a person sees: right early, steady later, and zero when nothing moves."""

from __future__ import annotations

import pytest

from shake.status.rate import STEADY, Rate, seconds_left


def test_an_even_flow_shows_its_rate_from_the_first_seconds_on() -> None:
    rate = Rate(100.0)
    for second in range(1, 120):
        rate.add(50, 100.0 + second)
        assert rate.value(100.0 + second) == pytest.approx(50, rel=0.06)


def test_jumps_are_evened_out() -> None:
    rate = Rate(0.0)
    shown = []
    for second in range(1, 200):
        rate.add(1000 if second % 4 == 0 else 0, second)
        shown.append(rate.value(second))
    assert 200 < min(shown[60:]) < 250 < max(shown[60:]) < 310


def test_what_has_stopped_goes_to_zero_and_what_has_changed_shows_soon() -> None:
    rate = Rate(0.0)
    for second in range(60):
        rate.add(100, second)
    for second in range(60, 90):
        rate.add(1000, second)
    assert rate.value(90.0) == pytest.approx(1000, rel=0.15)
    assert rate.value(180.0) < 1


def test_looking_changes_nothing() -> None:
    looked, unlooked = Rate(0.0), Rate(0.0)
    for second in range(1, 30):
        for rate in (looked, unlooked):
            rate.add(second, second)
        looked.value(second + 0.5)
    assert looked.value(30.0) == pytest.approx(unlooked.value(30.0))


def test_a_count_at_the_very_start_is_no_infinite_rate() -> None:
    rate = Rate(5.0)
    assert rate.value(5.0) == 0.0
    rate.add(10, 5.0)
    assert rate.value(5.0) <= 101


def test_no_time_is_estimated_while_next_to_nothing_moves() -> None:
    """Such as while a check repairs: the rate decays, and an estimate would grow without end."""
    rate = Rate(0.0)
    for second in range(30):
        rate.add(10_000, second)
    assert seconds_left(100_000, rate.value(30.0)) == pytest.approx(10, rel=0.2)
    for now in range(30, 1000):
        left = seconds_left(100_000, rate.value(float(now)))
        assert left is None or left <= 1_000_000
    assert seconds_left(100_000, rate.value(1000.0)) is None
    assert seconds_left(10.0**12, 1.0) is None


def test_an_estimate_is_steady_while_the_flow_is_not() -> None:
    """The source gives 100 a second, then pauses, again and again."""
    pace = Rate(0.0, STEADY)
    shown = []
    for second in range(1, 600):
        pace.add(100 if second % 20 < 10 else 0, second)
        if second > 120:
            shown.append(seconds_left(1_000_000, pace.value(second)) or 0.0)
    assert max(shown) < 1.2 * min(shown)
