"""Gathers, for the diagnostics page, what every process of the farm is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shake.process.diagnosis import diagnose
from shake.process.messages import Diagnosis

#: Seconds that a process has for its answer; one that hangs must not hang the page.
_PATIENCE = 2.0


class Diagnostics:
    """``post`` runs a call in the supervisor's loop; ``ask`` has all children answer."""

    def __init__(self, post: Callable[[Callable[[], None]], None], ask: Callable[[], int]) -> None:
        self._post = post
        self._ask = ask
        self._one_at_a_time = threading.Lock()
        self._changed = threading.Condition()
        self._expected: int | None = None
        # By process: one that answers late is in time for the next who asks, and counts once. Two
        # machines can have processes of the same number, with names that differ.
        self._reports: dict[tuple[str, int], Diagnosis] = {}

    def add(self, answer: Diagnosis) -> None:
        """A child has answered; called in the loop."""
        with self._changed:
            self._reports[answer.role, answer.pid] = answer
            self._changed.notify_all()

    def gather(self) -> list[Diagnosis]:
        """The supervisor's report and those of all children that answer; from any thread."""
        with self._one_at_a_time:
            with self._changed:
                self._expected, self._reports = None, {}
                self._post(self._start)
                self._changed.wait_for(self._complete, _PATIENCE)
                children = sorted(self._reports.values(), key=lambda each: each.role)
            return [diagnose("supervisor"), *children]

    def _start(self) -> None:
        expected = self._ask()
        with self._changed:
            self._expected = expected
            self._changed.notify_all()

    def _complete(self) -> bool:
        return self._expected is not None and len(self._reports) >= self._expected
