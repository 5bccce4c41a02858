"""What keeps failing and is tried on: the task is degraded, and the person is told, not flooded."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("shake.farm")

#: A task counts as degraded for so many seconds after its last repeated failure.
_SECONDS = 30.0


class Trouble:
    """Remembers the last repeated failure, and which were told of late."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._text = ""
        self._since: dict[str, float] = {}

    def worry(self, text: str) -> None:
        """Something has failed again."""
        if not self._fails(text):
            log.warning("%s; it is tried again until it works", text)
        self._since = {one: since for one, since in self._since.items() if self._fails(one)}
        self._text, self._since[text] = text, self._clock()

    @property
    def text(self) -> str:
        """What is failing, empty when nothing has of late."""
        return self._text if self._fails(self._text) else ""

    def _fails(self, text: str) -> bool:
        since = self._since.get(text)
        return since is not None and self._clock() - since < _SECONDS
