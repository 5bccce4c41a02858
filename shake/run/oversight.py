"""Connects a run with the outside: commands come in, summaries and webhook go out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.task_lock import TaskLock
from shake.config import Config, Redactor
from shake.control.address import socket_path
from shake.control.commands import Reply
from shake.control.desk import Desk
from shake.control.server import serving
from shake.errors import ShakeError
from shake.run.summaries import Summaries
from shake.status.snapshot import Snapshot
from shake.status.webhook import Webhook

log = logging.getLogger("shake")

#: Seconds that store and webhook have in the end.
_CLOSE_SECONDS = 2.0
#: Seconds that the store has to take the good end of a run: less than a stop can take.
_CUTOVER_SECONDS = 9.0

#: The warning where it has not.
_UNSAVED_END = (
    "the end of this run could not be saved: stop each standby of the task before you switch, or "
    "it goes on with the task"
)


class Oversight:
    """Gives each snapshot, and the end of the run, to summaries and webhook."""

    def __init__(self, config: Config, checkpoints: Checkpoints, lock: TaskLock) -> None:
        self.desk = Desk()
        self._redact = Redactor(config.secrets()).redact
        self._summaries = Summaries(checkpoints, lock)
        url = config.webhook_url
        self._webhook = Webhook(url, config.id, self._redact) if url else None
        self._over = False

    def show(self, snapshot: Snapshot) -> None:
        self._summaries.show(snapshot)
        if self._webhook:
            self._webhook.show(snapshot)

    def end(self, status: int, line: str, *, complete: bool = False) -> None:
        """The run has ended; the first call counts.

        ``complete``: the copy without changes is finished, or all changes are applied as asked.
        """
        if self._over:
            return
        self._over = True
        line = self._redact(line)
        self._summaries.end(status, line)
        if self._webhook:
            self._webhook.end(status, line, complete=complete)
            self._webhook.close(_CLOSE_SECONDS / 2 if status or complete else 0.0)
        # A user who reads "finished" acts on it, so a standby must be able to read it too.
        seconds = _CUTOVER_SECONDS if complete else _CLOSE_SECONDS / 2
        if not self._summaries.close(seconds, patient=complete) and complete:
            log.warning("%s", _UNSAVED_END)
            line = f"{line}; {_UNSAVED_END}"
        self.desk.conclude(Reply(status == 0 and complete, line))


@contextlib.contextmanager
def overseen(config: Config, checkpoints: Checkpoints, lock: TaskLock) -> Iterator[Oversight]:
    """Take commands, and publish how the run stands, until it has ended in whatever way."""
    oversight = Oversight(config, checkpoints, lock)
    with serving(socket_path(config.pid_path, config.id), oversight.desk.ask):
        try:
            yield oversight
        except ShakeError as error:
            oversight.end(error.exit_status, str(error))
            raise
        except Exception as error:
            oversight.end(1, f"unexpected {type(error).__name__}: {error}")
            raise
        finally:
            oversight.end(0, "stopped: start again to go on")
