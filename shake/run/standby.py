"""A standby: waits while another supervisor runs this task, and takes over when it is gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from shake.checkpoint.task_lock import POLL
from shake.errors import ShakeError, TaskRunning

log = logging.getLogger("shake")

T = TypeVar("T")


class Standby:
    """Retries what cannot be done yet; logs each reason once, however often it comes again."""

    def __init__(self, wait: Callable[[float], None] = time.sleep) -> None:
        self._wait = wait
        self._logged = set[str]()

    def notice(self, line: str) -> None:
        """Log a line that is new."""
        if line not in self._logged:
            self._logged.add(line)
            log.warning("%s", line)

    def retry(self, attempt: Callable[[], T]) -> T:
        """The result of ``attempt``, made every POLL seconds until no other process is in the way.

        It waits for an election too, or for a server that does not answer: it often comes with the
        failure of the machine that ran the task. Raises what no waiting cures.
        """
        while True:
            try:
                return attempt()
            except TaskRunning as error:
                self.notice(f"standby: {error.runner} runs this task; waiting until it is gone")
            except ShakeError as error:
                if not error.passes:
                    raise
                self.notice(f"standby: {error}; retrying")
            self._wait(POLL)
