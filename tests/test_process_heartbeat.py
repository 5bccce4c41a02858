"""A child that does not answer is reported, then killed; pauses of the supervisor do not count."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from shake.process.heartbeat import EVERY, KILL_AFTER, REPORT_AFTER, Heartbeat, Liveness


def checked(heartbeat: Heartbeat, times: Iterable[float]) -> list[Liveness]:
    return [heartbeat.check(now) for now in times]


def regular(start: float, seconds: float) -> list[float]:
    return [start + EVERY * n for n in range(int(seconds / EVERY) + 1)]


def test_a_child_that_answers_is_pinged_again_and_never_reported() -> None:
    heartbeat = Heartbeat(0.0)
    for now in regular(0.0, 1000.0):
        assert heartbeat.check(now) is Liveness.ALIVE
        heartbeat.answered()


def test_silence_is_reported_after_half_a_minute_and_ends_in_a_kill_after_two() -> None:
    times = regular(0.0, 200.0)
    found = dict(zip(times, checked(Heartbeat(0.0), times), strict=True))
    assert found[0.0] is Liveness.ALIVE
    for now in times[1:]:
        silent, dead = now >= REPORT_AFTER, now >= KILL_AFTER
        assert found[now] is (
            Liveness.EXPIRED if dead else Liveness.SILENT if silent else Liveness.AWAITED
        )


def test_a_late_answer_ends_the_silence() -> None:
    heartbeat = Heartbeat(0.0)
    assert checked(heartbeat, regular(0.0, 115.0))[-1] is Liveness.SILENT
    heartbeat.answered()
    assert checked(heartbeat, regular(120.0, 20.0)) == [Liveness.ALIVE] + [Liveness.AWAITED] * 4


def test_a_supervisor_that_was_frozen_does_not_blame_its_children() -> None:
    heartbeat = Heartbeat(0.0)
    assert heartbeat.check(0.0) is Liveness.ALIVE
    assert heartbeat.check(86_400.0) is Liveness.AWAITED
    heartbeat.answered()
    assert heartbeat.check(86_405.0) is Liveness.ALIVE


@given(st.lists(st.one_of(st.floats(0.0, EVERY), st.floats(0.0, 10_000.0)), max_size=60))
def test_however_late_the_checks_come_a_child_has_so_many_checks_to_answer(
    pauses: list[float],
) -> None:
    heartbeat, now = Heartbeat(0.0), 0.0
    assert heartbeat.check(now) is Liveness.ALIVE
    for number, pause in enumerate(pauses, 1):
        now += pause
        health = heartbeat.check(now)
        ran = number * EVERY
        assert health is not Liveness.EXPIRED or ran >= KILL_AFTER <= now
        assert health is not Liveness.SILENT or ran >= REPORT_AFTER <= now
