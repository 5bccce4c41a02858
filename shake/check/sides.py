"""Both sides of one table under check, what is kept of it, and who receives the findings."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from shake.check.findings import KEPT, Difference
from shake.check.following import Following
from shake.check.gate import Gate
from shake.check.meaning import Item
from shake.check.source import SourceTable
from shake.check.stored import Stored
from shake.checkpoint.kept import KeptItem, KeptItems, entry_id
from shake.checkpoint.retrying import retried
from shake.checkpoint.store import Store, attach_store
from shake.codec.typed import meaning
from shake.config import Config
from shake.schema import Table

#: Seconds for which what was read of kept items counts.
_FRESH = 1.0


class Advanced(NamedTuple):
    """So much more is done, in numbers."""

    compared: int = 0  # items
    scanned: int = 0  # items scanned for that
    size: int = 0  # bytes of the documents of compared items
    keys: int = 0  # keys of the target read
    to_repair: int = 0  # differences
    repaired: int = 0  # repairs tried
    units: float = 0.0  # read capacity units consumed

    def plus(self, more: Advanced) -> Advanced:
        return Advanced._make(one + other for one, other in zip(self, more, strict=True))


class Listener(Protocol):
    """Receives what a check finds, and how far it is; thread-safe."""

    def differs(self, difference: Difference) -> None:
        """A difference was found."""

    def write_line(self, line: str) -> None:
        """Write a line to the report, if there is one."""

    def settle(self) -> None:
        """Return when all lines so far are in the report."""

    def advanced(self, more: Advanced) -> None:
        """More is done."""


class Keeping:
    """What the task has kept of one table after the other. Thread-safe.

    It is read when it is first needed, and the store is opened then.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = ""
        self._known = False
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._read = float("-inf")
        self._items: dict[str, KeptItem] = {}

    def begin(self, table: str, *, known: bool) -> None:
        """Begin with a table. ``known``: checkpoints can be read. Else no item counts as kept."""
        with self._lock:
            self._table, self._known = table, known
            self._read, self._items = float("-inf"), {}

    def close(self) -> None:
        if self._store:  # without the lock: a thread can wait for the store
            self._store.close()

    def is_kept(self, key: Item, item: Item) -> bool:
        """Whether this item is kept, and not an earlier or later one of its key."""
        kept = self._of(key)
        there = kept and meaning({"M": json.loads(kept.item)})
        return bool(there == meaning({"M": item}))

    def _of(self, key: Item) -> KeptItem | None:
        with self._lock:
            if self._known and time.monotonic() > self._read + _FRESH:
                self._store = self._store or attach_store(self._config)
                found = retried(KeptItems(self._store, self._table).items)()
                self._items = {item.id: item for item in found}
                self._read = time.monotonic()
            return self._items.get(entry_id(key))


class Repair(IntEnum):
    """What a check changes in the target: nothing, what items differ in, or extra documents too."""

    NONE = 0
    ITEMS = 1
    EXTRAS = 2


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, how much of the target is to be repaired, and what work on them shares.

    ``gate``: see Doubts; ``stop`` ends the check.
    """

    table: Table
    config: Config
    source: SourceTable
    stored: Stored
    listener: Listener
    repair: Repair
    kept: Keeping
    following: Following
    gate: Gate
    stop: threading.Event

    def differ(
        self,
        kind: str,
        key: Item | None,
        *,
        fields: tuple[str, ...] = (),
        repaired: bool = False,
        note: str = "",
        source: str = "",
        target: tuple[str, ...] = (),
    ) -> None:
        """Report a difference of this table (see Difference).

        An item that the target refuses, and that is kept, is no difference.
        """
        if kind in ("missing", "different") and key and source and not repaired:
            kind = KEPT if self.kept.is_kept(key, json.loads(source)) else kind
        name, namespace = self.table.name, self.stored.namespace
        self.listener.differs(
            Difference(name, namespace, kind, key, fields, repaired, note, source, target)
        )

    def report_before_repair(self, replaced: Iterable[tuple[Item, Sequence[bytes]]]) -> None:
        """Report keys, each with the stored documents that a repair is about to change.

        Returns when that is in the report: a repair can be killed, and the report's disk be full.
        """
        place = {"table": self.table.name, "place": self.stored.namespace}
        for key, documents in replaced:
            target = [json.loads(self.stored.shown(one)) for one in documents]
            self.listener.write_line(json.dumps({**place, "before_repair": key, "target": target}))
        self.listener.settle()
