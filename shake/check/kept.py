"""Reads the kept items of a table, so that a check does not count them as differences."""

from __future__ import annotations

import contextlib
import json
import threading
import time

from shake.check.meaning import Item
from shake.checkpoint.kept import KeptItem, KeptItems, entry_id
from shake.checkpoint.store import Store, StoreUnavailable, attach_store
from shake.codec.typed import meaning
from shake.config import Config

#: Seconds for which what was read counts.
_FRESH = 1.0


class Keeping:
    """What the task has kept of a table; read when it is first needed. Thread-safe."""

    def __init__(self, config: Config, table: str) -> None:
        self._config = config
        self._table = table
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._read = float("-inf")
        self._items: dict[str, KeptItem] = {}

    def is_kept(self, key: Item, item: Item) -> bool:
        """Whether this item is kept, and not an earlier or later one of its key."""
        kept = self._of(key)
        return kept is not None and _equal(json.loads(kept.item), item)

    def _of(self, key: Item) -> KeptItem | None:
        with self._lock:
            if time.monotonic() > self._read + _FRESH:
                self._store = self._store or attach_store(self._config)
                with contextlib.suppress(StoreUnavailable):
                    found = KeptItems(self._store, self._table).items()
                    self._items = {item.id: item for item in found}
                self._read = time.monotonic()
            return self._items.get(entry_id(key))


def _equal(one: Item, other: Item) -> bool:
    return bool(meaning({"M": one}) == meaning({"M": other}))
