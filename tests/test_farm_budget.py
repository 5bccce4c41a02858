"""The budget of a table: tight, fair, and right about capacity before long."""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.limits import Budget
from shake.source.client import BACKOFF


def run(budget: Budget, until: float, cost: float, workers: int = 1) -> list[tuple[float, int]]:
    """Hungry workers, each call answered at once; the grants as (time, calls)."""
    now, granted = 0.0, []
    for worker in range(workers):
        budget.want(worker)
    while now < until:
        for worker, calls in budget.grants(now):
            granted.append((now, calls))
            for _ in range(calls):
                budget.used(cost)
            budget.want(worker)
        now += budget.wait(now)
    return granted


@given(
    rate=st.floats(0.5, 5000),
    pauses=st.lists(st.floats(0, 3), max_size=20),
    workers=st.integers(1, 5),
)
@settings(max_examples=100)
def test_no_window_has_more_calls_than_its_rate_and_a_second_of_burst(
    rate: float, pauses: list[float], workers: int
) -> None:
    budget = Budget(rate, None, 0.0)
    now, granted = 0.0, [(0.0, 0)]
    for pause in pauses:
        for worker in range(workers):
            budget.want(worker)
        granted += [(now, calls) for _, calls in budget.grants(now)]
        now += max(pause, budget.wait(now))
    most = max(calls for _, calls in granted)
    for first, last in itertools.combinations_with_replacement(range(len(granted)), 2):
        calls = sum(calls for _, calls in granted[first : last + 1])
        window = granted[last][0] - granted[first][0]
        assert calls <= rate * window + max(rate, 1) + most


@pytest.mark.parametrize("rate", [1, 30, 1000, 40_000])
def test_the_rate_is_reached_and_not_exceeded_in_the_long_run(rate: int) -> None:
    granted = run(Budget(rate, None, 0.0), until=20.0, cost=0.5)
    calls = sum(calls for _, calls in granted)
    assert 0.9 * rate * 20 <= calls <= rate * 20 + rate


def test_a_high_rate_costs_few_grants_and_a_low_one_is_not_a_burst() -> None:
    assert len(run(Budget(1000, None, 0.0), until=10.0, cost=0.5)) < 220
    assert {calls for _, calls in run(Budget(5, None, 0.0), until=10.0, cost=0.5)} == {1}


@pytest.mark.parametrize("cost", [0.5, 128.0, 256.0])
def test_capacity_stays_within_the_budget_whatever_a_call_costs(cost: float) -> None:
    granted = run(Budget(10_000, 1000.0, 0.0), until=60.0, cost=cost)
    used = cost * len(granted)
    assert used <= 1000 * 60 + 1000 + cost
    assert used >= 0.9 * 1000 * 60


def test_capacity_that_a_call_overdrew_is_paid_back_before_the_next() -> None:
    budget = Budget(1000, 100.0, 0.0)
    budget.want(1)
    budget.want(1)
    assert budget.grants(0.0) == [(1, 1)]
    budget.used(1005.0)
    assert 9.9 < budget.wait(0.0) < 10.1
    assert budget.grants(9.9) == []
    assert budget.grants(10.1) == [(1, 1)]


def test_capacity_that_was_reserved_in_vain_is_there_at_once() -> None:
    budget = Budget(1000, 10.0, 0.0)
    budget.want(1)
    budget.want(2)
    assert budget.grants(0.0) == [(1, 1)]
    assert budget.wait(0.0) > 5
    budget.used(0.5)
    assert budget.wait(0.1) == 0.0


def test_many_calls_under_way_reserve_what_they_will_cost() -> None:
    budget = Budget(10_000, 1000.0, 0.0)
    for worker in range(100):
        budget.want(worker)
    now, out = 0.0, 0
    while now < 1.0:  # no answer comes yet
        out += len(budget.grants(now))
        now += 0.01
    assert out * 128 <= 1000 + 2 * 128


def test_who_asks_first_is_served_first() -> None:
    budget = Budget(10, None, 0.0)
    for worker in (3, 1, 2, 3):
        budget.want(worker)
    served = []
    for tick in range(100):
        served += [worker for worker, _ in budget.grants(tick * 0.05)]
    assert served == [3, 1, 2, 3]
    assert not budget.wanted


def test_a_dead_worker_is_granted_nothing() -> None:
    budget = Budget(1000, None, 0.0)
    for worker in (1, 2, 1):
        budget.want(worker)
    budget.drop(1)
    assert [worker for worker, _ in budget.grants(1.0)] == [2]


def test_after_the_wait_it_names_a_grant_is_possible() -> None:
    for rate in (0.7, 3.0, 999.0):
        budget = Budget(rate, 50.0, 0.0)
        now = 0.0
        for _ in range(50):
            budget.want(1)
            now += budget.wait(now)
            assert budget.grants(now) == [(1, 1)]
            budget.used(20.0)


SCANNERS, COST, LATENCY = 300, 4.0, 0.02


def consumed(share: float, units: float, seconds: float) -> list[tuple[float, float]]:
    """(time, units) of each answer, where a share of all calls is throttled, in ``seconds``.

    Lanes with calls of about COST units, which back off as the client does.
    """
    rng = random.Random(f"{share}")
    budget = Budget(10_000, units, 0.0)
    tries = [0] * SCANNERS
    events = [(0.0, "want", scanner) for scanner in range(SCANNERS)]
    answers: list[tuple[float, float]] = []
    look = inf
    while events:
        now, what, scanner = heapq.heappop(events)
        if now >= look:
            look = inf
        if now > seconds:
            return answers
        if what == "want":
            budget.want(scanner)
        elif what == "answer" and rng.random() < share:
            budget.failed(throttled=True)
            tries[scanner] += 1
            pause = BACKOFF.pause(tries[scanner], rng.random)
            heapq.heappush(events, (now + pause, "want", scanner))
        elif what == "answer":
            cost = rng.uniform(0.5, 1.5) * COST
            budget.used(cost)
            answers.append((now, cost))
            tries[scanner] = 0
            heapq.heappush(events, (now, "want", scanner))
        for granted, _ in budget.grants(now):
            heapq.heappush(events, (now + LATENCY, "answer", granted))
        due = now + budget.wait(now)
        if budget.wanted and due < look:
            look = due
            heapq.heappush(events, (due, "look", -1))
    return answers


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_the_read_budget_is_reached_and_not_exceeded_however_many_calls_are_throttled(
    share: float,
) -> None:
    units, seconds, window = 200.0, 120.0, 2.0
    answers = consumed(share, units, seconds)
    settled = [one for one in answers if one[0] > 10]  # what a call costs is known by then
    assert sum(cost for _, cost in settled) >= 0.95 * units * (seconds - 10)
    # What is there after a pause, a call that overdraws, and calls that were under way before.
    more = 0.05 * units + 1.5 * COST + LATENCY * units / (1 - share)
    times, costs = zip(*settled, strict=True)
    sums = [0.0, *itertools.accumulate(costs)]
    for last, now in enumerate(times):
        first = bisect.bisect(times, now - window)
        assert sums[last + 1] - sums[first] <= units * window + more
