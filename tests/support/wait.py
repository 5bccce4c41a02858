"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T | Literal[False] | None], deadline: float = 30.0, every: float = 0.02
) -> T:
    """The first true value of ``condition``, asked again and again; fails after ``deadline`` s."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline:g} s: {condition}"
        time.sleep(every)
    return value
