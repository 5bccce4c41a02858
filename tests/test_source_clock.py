"""Bounds of the source's time hold, whatever the network and the clocks do."""

from __future__ import annotations

import random
from email.utils import formatdate
from math import floor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shake.source.clock import EPOCH, STEP, UNDATED, Bounds, SourceClock


def date_of(moment: float) -> str:
    return formatdate(floor(moment), usegmt=True)


@settings(max_examples=100)
@given(
    st.integers(0, 2**32),
    st.floats(1e8, 2e9),
    st.floats(-100e-6, 100e-6),
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 30), st.floats(0, 30)), min_size=1),
)
@example(0, 1e8, 1e-4, [(30.0, 0.0, 30.0)])  # the clocks drift apart while an answer is awaited
@example(0, 1e8, 1e-4, [(0.0, 30.0, 0.0)])
def test_the_source_s_time_is_within_its_bounds(
    seed: int, offset: float, drift: float, answers: list[tuple[float, float, float]]
) -> None:
    """``answers``: the pause before each, and how long its request and itself take."""
    clock, now = SourceClock(), random.Random(seed).uniform(0, 1e5)

    def source(local: float) -> float:
        return local + offset + drift * local

    for pause, there, back in answers:
        sent = now + pause
        made = sent + there
        now = made + back
        clock.answered(date_of(source(made)), sent, now, lambda: 0.0)
        assert clock.earliest(now) <= source(now) <= clock.latest(now)
        assert clock.earliest(sent) <= source(sent) <= clock.latest(sent)


def test_many_quick_answers_narrow_the_bounds_below_the_grain_of_the_header() -> None:
    clock = SourceClock()
    for number in range(40):
        now = number * 0.15
        clock.answered(date_of(1e9 + now + 0.001), now, now + 0.002, lambda: 0.0)
    assert clock.latest(now) - clock.earliest(now) < 0.2


@pytest.mark.parametrize("step", [-3600.0, -5.0, 5.0, 3600.0])
def test_both_times_are_within_the_bounds_until_the_older_is_forgotten(step: float) -> None:
    set_back: list[Bounds] = []
    clock, offset = SourceClock(on_set_back=lambda new, _: set_back.append(new)), 1e9

    def answer(now: float) -> None:
        made = now + offset
        clock.learn(Bounds(floor(made) - now, floor(made) + 1.0 - now), now)

    for number in range(50):
        answer(number * 0.3)
    assert not set_back
    offset += step
    answer(15.0)
    assert len(set_back) == (step < 0)
    assert clock.earliest(15.0) <= 15.0 + 1e9 + min(0, step)
    assert clock.latest(15.0) >= 15.0 + 1e9 + max(0, step)
    for number in range(int(2 * EPOCH) + 2):
        answer(16.0 + number)
    now = 16.0 + number
    assert clock.earliest(now) == pytest.approx(now + 1e9 + step, abs=1.5)
    assert clock.latest(now) == pytest.approx(now + 1e9 + step, abs=1.5)


def test_servers_whose_clocks_differ_a_little_are_all_believed() -> None:
    set_back: list[Bounds] = []
    clock = SourceClock(on_set_back=lambda new, _: set_back.append(new))
    for number, skew in enumerate([0.0, 0.4, -0.4, 0.4, -0.4] * 20):
        now = number / 10
        clock.learn(Bounds(1e9 + skew - 0.01, 1e9 + skew + 0.01), now)
    assert not set_back
    assert clock.earliest(now) <= now + 1e9 - 0.4
    assert clock.latest(now) >= now + 1e9 + 0.4
    assert STEP > 0.8


@pytest.mark.parametrize("header", [None, "", "yesterday", "Thu, 99 Nov 2026 99:00:00 GMT"])
def test_without_a_date_this_machine_s_clock_stands_in_with_a_wide_margin(
    header: str | None,
) -> None:
    """It does so for this machine alone: the clock of another one can be wrong."""
    told: list[Bounds] = []
    clock = SourceClock(told.append)
    clock.answered(header, 10.0, 11.0, lambda: 1e9)
    assert clock.dated is False
    assert told == []
    assert clock.earliest(11.0) == pytest.approx(1e9 - UNDATED)
    assert clock.latest(11.0) == pytest.approx(1e9 + UNDATED)
    clock.answered(date_of(1e9 + 10), 12.0, 12.1, lambda: 0.0)
    clock.answered(header, 13.0, 13.1, lambda: 0.0)  # which says nothing any more
    assert clock.dated is True
    assert clock.latest(13.1) - clock.earliest(13.1) < 1.2


def test_news_are_told_and_nothing_else() -> None:
    told: list[Bounds] = []
    clock = SourceClock(told.append)
    assert (clock.earliest(0.0), clock.latest(0.0)) == (0.0, float("inf"))
    clock.learn(Bounds(5.0, 6.0), 0.0)
    clock.learn(Bounds(4.0, 7.0), 0.0)
    assert told == [Bounds(5.0, 6.0)]
    clock.learn(Bounds(5.5, 7.0), 0.0)
    clock.learn(Bounds(100.0, 101.0), 0.0)
    assert told == [Bounds(5.0, 6.0), Bounds(5.5, 7.0), Bounds(100.0, 101.0)]


def test_an_answer_of_an_earlier_time_tells_that_the_clock_was_set_back() -> None:
    """The answers to all threads of a process go to one clock."""
    told: list[Bounds] = []
    clock = SourceClock(on_set_back=lambda *bounds: told.extend(bounds))
    for now, made in ((0.0, 1e9), (1.0, 1e9 + 1), (2.0, 1e9 - 238), (3.0, 1e9 - 237)):
        clock.answered(date_of(made), now, now, lambda: 0.0)
    assert [bounds.high for bounds in told] == pytest.approx([1e9 - 239, 1e9 + 1], abs=0.01)
