"""Keeps the memory of a process with many threads low. Does nothing without glibc."""

from __future__ import annotations

import contextlib
import ctypes

#: Source: https://man7.org/linux/man-pages/man3/mallopt.3.html (M_ARENA_MAX)
_ARENA_MAX = -8
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

#: Bytes from which on the system maps a block separately. Twice as many can stay free at the end of
#: the heap.
_LARGE, _KEPT = 256 * 1024, 4 * 2**20


def share_memory_among_threads() -> None:
    """Have all threads take memory from one arena, before they start.

    Otherwise each keeps what its largest page has needed.
    """
    _call("mallopt", _ARENA_MAX, 1)


def keep_large_blocks() -> None:
    """Have blocks of up to _KEPT bytes used again: new memory from the system costs much CPU."""
    _map_from(_KEPT)


def give_memory_back() -> None:
    """Have large blocks go back to the system when they are freed, and what is free now.

    By default glibc keeps blocks of the size of those that were freed.
    """
    _map_from(_LARGE)
    release_free_memory()


def release_free_memory() -> None:
    """Give free memory back to the system, once."""
    _call("malloc_trim", 0)


def _map_from(size: int) -> None:
    _call("mallopt", _MMAP_THRESHOLD, size)
    _call("mallopt", _TRIM_THRESHOLD, 2 * size)


def _call(name: str, *arguments: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        getattr(ctypes.CDLL(None), name)(*arguments)
