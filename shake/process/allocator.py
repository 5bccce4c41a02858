"""Keeps the memory of a process with many threads low."""

from __future__ import annotations

import contextlib
import ctypes

#: Source: https://man7.org/linux/man-pages/man3/mallopt.3.html (M_ARENA_MAX)
_ARENA_MAX = -8


def share_memory_among_threads() -> None:
    """Have all threads take memory from one arena, before they start.

    Otherwise each keeps what its largest page has needed. Does nothing without glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
