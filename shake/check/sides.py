"""Both sides of one table under check, and the listener that receives findings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from shake.check.findings import KEPT, Difference
from shake.check.following import Following
from shake.check.gate import Gate
from shake.check.kept import Keeping
from shake.check.meaning import Item
from shake.check.source import SourceTable
from shake.check.stored import Stored
from shake.config import Config
from shake.schema import Table


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
