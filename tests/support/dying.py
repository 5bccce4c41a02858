"""A store of checkpoints whose user dies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from shake.checkpoint.contract import Document
from shake.checkpoint.file_store import FileStore


class Killed(Exception):
    """The process has died."""


def quick_store(folder: Path) -> FileStore:
    """A store that is not synchronised to the disk."""
    return FileStore(folder, "task-checkpoint", sync=lambda handle: None)


class Dying(FileStore):
    """Its user dies when its change number ``last`` is on its way. That one arrives later."""

    def __init__(self, folder: Path, last: int) -> None:
        super().__init__(folder, "task-checkpoint", sync=lambda handle: None)
        self._left = itertools.count(last, -1)
        self._late: Callable[[], object] = lambda: None

    def write(self, collection: str, documents: Sequence[Document]) -> None:
        self._meet(partial(super().write, collection, documents))
        super().write(collection, documents)

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        self._meet(partial(super().swap, collection, old, new))
        return super().swap(collection, old, new)

    def arrive(self) -> None:
        """What was on its way arrives."""
        self._late()

    def _meet(self, change: Callable[[], object]) -> None:
        if next(self._left) == 0:
            self._late = change
            raise Killed
