"""source.windows: times of day with another read budget."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shake.config.kinds import BUDGET, ReadBudget
from shake.config.windows import WINDOWS, Window, overlap, seconds_until_change, window_at
from shake.demo.servers import free_port
from shake.errors import UsageError
from shake.plan.estimate import read_units, slowest
from tests.support.followed import Followed, stopped
from tests.support.status import status
from tests.support.steering import control
from tests.support.wait import until
from tests.test_plan import config_of, plan_of

MINUTES = 24 * 60


def test_windows_are_read_as_they_are_written() -> None:
    windows = WINDOWS.parse(" 22:00-06:00=100% ; 06:00-22:00=20%")
    assert windows == (
        Window(22 * 60, 6 * 60, ReadBudget(100.0, share=True)),
        Window(6 * 60, 22 * 60, ReadBudget(20.0, share=True)),
    )
    assert WINDOWS.write(windows) == "22:00-06:00=100%;06:00-22:00=20%"


@pytest.mark.parametrize(
    "text",
    [
        *("22:00=5", "22-06=5", "24:30-06:00=5", "12:60-13:00=5", "01:00-02:00=", ";"),
        *("22:00-22:00=5", "00:00-00:00=5", "24:00-24:00=5", "24:00-00:00=5"),
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"source\.windows = .*: allowed is times of day"):
        config_of(f"source.windows={text}")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("22:00-06:00=5;05:00-07:00=6", "overlap"),
        ("00:00-24:00=5;05:00-07:00=6", "overlap"),
        ("23:00-01:00=5;00:30-00:40=none", "overlap"),
        ("22:00-06:00=150%", "allowed is"),
    ],
)
def test_windows_that_cannot_be_are_exit_2(followed: Followed, value: str, reason: str) -> None:
    result = followed.task(source__windows=value).run()
    assert (result.status, reason in result.line) == (2, True), result


@given(
    edges=st.lists(st.integers(0, MINUTES - 1), min_size=2, max_size=8, unique=True),
    minute=st.integers(0, 3 * MINUTES),
    turn=st.integers(0, 7),
)
def test_each_minute_has_at_most_one_window(edges: list[int], minute: int, turn: int) -> None:
    edges.sort()
    edges = edges[turn % len(edges) :] + edges[: turn % len(edges)]
    budget = BUDGET.parse("5")
    windows = [Window(start, end, budget) for start, end in itertools.pairwise(edges)][::2]
    assert overlap(windows) is None
    assert overlap([*windows, windows[0]]) is not None
    holding = [one for one in windows if one.holds(minute % MINUTES)]
    assert len(holding) <= 1
    moment = minute * 60 + 30.5
    assert window_at(windows, moment) == (holding[0] if holding else None)
    change = moment + seconds_until_change(windows, moment)
    assert {int(change // 60) % MINUTES} <= {edge for w in windows for edge in (w.start, w.end)}
    assert window_at(windows, change - 60.1) == window_at(windows, moment) or change - moment < 61


@pytest.mark.parametrize(
    ("moment", "held"),
    [
        *((0.0, "00:00-06:00"), (21599.999, "00:00-06:00"), (21600.0, None), (79199.9, None)),
        *((79200.0, "22:00-24:00"), (86399.999, "22:00-24:00"), (86400.0, "00:00-06:00")),
    ],
)
def test_a_window_holds_from_its_first_second_on_and_ends_before_its_last(
    moment: float, held: str | None
) -> None:
    """Days have 24 hours in UTC, also where the clock is set back behind an edge."""
    windows = WINDOWS.parse("22:00-24:00=5;00:00-06:00=6")
    for days in (20_000, 19_999):
        found = window_at(windows, days * 86400 + moment)
        assert (found and found.times) == held


def test_the_estimate_knows_the_windows() -> None:
    # 12,800 units, as test_plan has it: 6 hours of 0.5 units a second, then 2 units.
    plan = plan_of("t", 1, 100 * 1024 * 1024)
    config = config_of("source.windows=06:00-12:00=0.5;12:00-06:00=2")
    found = slowest(config, plan, 6 * 3600.0)
    assert found.seconds == pytest.approx(6 * 3600 + (12_800 - 6 * 3600 * 0.5) / 2)
    assert "source.windows" in found.reason
    slow = config_of("source.windows=06:00-12:00=0.001;12:00-06:00=0.002")
    rate = (6 * 0.001 + 18 * 0.002) / 24
    assert slowest(slow, plan, 6 * 3600.0).seconds == pytest.approx(12_800 / rate, rel=0.01)
    free = config_of("source.windows=06:00-12:00=0.5;12:00-06:00=none")
    assert slowest(free, plan, 6 * 3600.0).seconds == pytest.approx(6 * 3600, abs=1)


def test_a_window_above_the_default_quota_says_that_it_was_raised() -> None:
    plan = plan_of("t", 1, 80 * 2**40)
    units = read_units(config_of(), plan)
    raised = config_of("source.windows=00:00-12:00=60000;12:00-00:00=80000", "qps.full=99999")
    found = slowest(raised, plan)
    assert found.seconds == pytest.approx(units / 70_000, rel=0.03)
    assert "above the default quota of 40,000" in found.reason
    # Of times without a budget the highest budget tells the quota.
    partly = config_of("source.windows=00:00-12:00=80000", "source.read_budget=none")
    found = slowest(replace(partly, qps_full=99999), plan)
    assert found.seconds == pytest.approx(units / 80_000, rel=0.01)
    plain = slowest(config_of("source.windows=00:00-12:00=30000", "qps.full=99999"), plan)
    assert plain.seconds > units / 40_000
    assert "above" not in plain.reason


@pytest.mark.slow
def test_the_next_window_begins_by_itself_and_a_command_outlives_it(followed: Followed) -> None:
    names = [f"{followed.name}-{number}" for number in range(2)]
    for name in names:
        followed.simulator.table(name)
        for number in range(400):
            followed.simulator.tables[name].put(
                {"pk": {"S": str(number)}, "text": {"S": "x" * 4000}}
            )
    port = free_port()
    migration = followed.task(
        http_profile=port,
        filter__collection__white=";".join(names),
        source__windows="00:00-12:00=1;12:00-00:00=777",
        source__read_budget="none",
        qps__full__batch_num=1,
    )
    # For this run it is twelve o'clock in 30 seconds.
    shift = 12 * 3600 - 30 - time.time() % (24 * 3600)
    migration.first = f"import time; now = time.time; time.time = lambda: now() + {shift}"
    process = migration.start()

    def budgets() -> list[float | None]:
        try:
            return [one["budget"] for one in status(port)["tables"]]
        except OSError:
            return []

    until(lambda: budgets() == [1.0, 1.0])
    control(migration, "budget", f"{names[0]}=2")
    assert budgets() == [2.0, 1.0]
    until(lambda: budgets() == [2.0, 777.0], 60)
    control(migration, "budget", f"{names[0]}=default")
    assert budgets() == [777.0, 777.0]
    stopped(migration, process)
