"""Pauses between tries: they grow up to the longest, and stay within their bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shake.backoff import Backoff

SECONDS = st.floats(0.001, 100.0)
SHARES = st.floats(0.0, 1.0)


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first=0.05, longest=20.0)
    assert [backoff.most(n) for n in (0, 1, 2, 3, 4)] == [0.0, 0.05, 0.1, 0.2, 0.4]
    assert backoff.most(10) == backoff.most(1_000_000) == 20.0


@given(SECONDS, SECONDS, SHARES, SHARES, st.integers(0, 10**9))
def test_a_pause_is_within_its_bounds(
    first: float, longest: float, least: float, drawn: float, failures: int
) -> None:
    backoff = Backoff(first, longest, least)
    pause = backoff.pause(failures, lambda: drawn)
    assert 0.999 * least * backoff.most(failures) <= pause <= 1.001 * backoff.most(failures)
    assert backoff.most(failures) <= longest
