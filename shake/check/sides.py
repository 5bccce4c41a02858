"""Both sides of one table under check, and the listener that receives findings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from shake.check.findings import KEPT, Difference
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

    def advanced(self, more: Advanced) -> None:
        """More is done."""


class Repair(IntEnum):
    """What a check changes in the target: nothing, what items differ in, or extra documents too."""

    NONE = 0
    ITEMS = 1
    EXTRAS = 2


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, and how much of the target is to be repaired."""

    table: Table
    config: Config
    source: SourceTable
    stored: Stored
    listener: Listener
    repair: Repair
    kept: Keeping

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
