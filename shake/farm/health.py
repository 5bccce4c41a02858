"""What keeps failing or is uncertain: the task is degraded, and the log names it once."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("shake.farm")

#: A task counts as degraded for so many seconds after its last repeated failure.
_SECONDS = 30.0


class Health:
    """Repeated failures and what is uncertain, and which of them were logged of late."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def failed_again(self, text: str) -> None:
        self._remember(text, "; retrying")

    def uncertain(self, text: str) -> None:
        """Something is uncertain; the text says what is done about it."""
        self._remember(text, "")

    def resolve(self, text: str) -> None:
        """It is certain now."""
        self._since.pop(text, None)

    def _remember(self, text: str, what_is_done: str) -> None:
        if not self._fails(text):
            log.warning("%s%s", text, what_is_done)
        self._since = {one: since for one, since in self._since.items() if self._fails(one)}
        self._since[text] = self._clock()

    @property
    def text(self) -> str:
        """What is failing, empty when nothing has of late."""
        failing = filter(self._fails, self._since)
        return max(failing, key=self._since.__getitem__, default="")

    def _fails(self, text: str) -> bool:
        since = self._since.get(text)
        return since is not None and self._clock() - since < _SECONDS
