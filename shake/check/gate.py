"""Lets many threads do steps of work at once, and one look at what they all have done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shake.errors import RunError


class Unfinished(RunError):
    """What was done does not agree with itself."""


class Gate:
    """A step is done as a whole, or not begun, whenever :meth:`still` is entered.

    After a step that has failed half-way, nothing is whole: ``still`` then raises Unfinished.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False
        self._failed = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """Do one step; not within another step."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        except BaseException:
            self._failed = True
            raise
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Wait until no step is under way, and let none begin. Raises Unfinished."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._inside)
            if self._failed:
                raise Unfinished("a step of the check has failed half-way")
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
