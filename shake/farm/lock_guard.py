"""The fence: nothing that changes the target passes while the task may be another's."""

from __future__ import annotations

from collections.abc import Callable


class LockGuard:
    """Runs calls in order; holds them while ``ours`` says that the lease may have run out.

    A lease that could not be renewed in time may have been taken over: the other supervisor's
    work must not be disturbed by what this one still had in mind.
    """

    def __init__(self, ours: Callable[[], bool]) -> None:
        self._ours = ours
        self._held: list[Callable[[], None]] = []

    def run(self, call: Callable[[], None]) -> None:
        """Run ``call`` now, or when the lease is renewed."""
        if not self._held and self._ours():
            call()
        else:
            self._held.append(call)
            self.release()

    def release(self) -> None:
        """Run what was held, if it may run by now."""
        while self._held and self._ours():
            self._held.pop(0)()
