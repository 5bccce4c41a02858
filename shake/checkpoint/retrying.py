"""Tries again while the checkpoint store does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from shake.checkpoint.contract import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

#: Tries of one call, which take 8 seconds each at most, and seconds between two of them.
_TRIES, _PAUSE = 10, 1.0


def retried(act: Callable[P, T]) -> Callable[P, T]:
    """Have ``act`` tried again where it raises StoreUnavailable, until the tries are used up.

    A try can have happened that was not confirmed, so doing ``act`` twice must do no harm.
    """

    @wraps(act)
    def call(*args: P.args, **named: P.kwargs) -> T:
        for _ in range(_TRIES - 1):
            try:
                return act(*args, **named)
            except StoreUnavailable:
                time.sleep(_PAUSE)
        return act(*args, **named)

    return call
