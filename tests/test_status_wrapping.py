"""What is printed fits the terminal, and says all that it says without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shake.status.wrapping import wrapped

LINES = st.lists(st.text("ab.: ", max_size=200), max_size=4)


@given(LINES, st.integers(20, 100))
def test_no_word_is_lost_and_only_single_words_are_wider(lines: list[str], width: int) -> None:
    found = list(wrapped(lines, width))
    assert " ".join(found).split() == " ".join(lines).split()
    for line in found:
        assert len(line) <= width or len(line.split()) <= 1 or ": " in line


@given(LINES)
def test_without_a_terminal_lines_stay_as_they_are(lines: list[str]) -> None:
    assert list(wrapped(lines, 0)) == lines


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  reason: one two three four", ["  reason: one two", "          three four"]),
        ("table a.b: one two three four", ["table a.b: one two", "    three four"]),
        ("  12 of 20 segments to read", ["  12 of 20 segments", "      to read"]),
        ("  short: enough", ["  short: enough"]),
    ],
)
def test_what_follows_stands_under_what_it_belongs_to(line: str, shown: list[str]) -> None:
    assert list(wrapped([line], 20)) == shown
