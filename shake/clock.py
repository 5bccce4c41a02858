"""The clock that all processes of a machine share, and that cannot be set."""

from __future__ import annotations

import time


def boot_clock() -> float:
    """Seconds since the machine started; unlike time.monotonic() on Linux, also while it sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
