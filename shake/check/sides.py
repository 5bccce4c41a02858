"""Both sides of one table, and where its differences go: what every part of its check needs."""

from __future__ import annotations

from dataclasses import dataclass

from shake.check.findings import Difference, Findings
from shake.check.meaning import Item
from shake.check.source import SourceTable
from shake.check.target import StoredTable
from shake.config import Config
from shake.schema import Table


@dataclass(frozen=True, slots=True)
class Sides:
    """``repair`` makes the target follow the source wherever they differ."""

    table: Table
    config: Config
    source: SourceTable
    stored: StoredTable
    findings: Findings
    repair: bool

    def differ(
        self,
        kind: str,
        key: Item | None,
        *,
        fields: tuple[str, ...] = (),
        repaired: bool = False,
        note: str = "",
    ) -> None:
        """Record a difference of this table (see Difference)."""
        name, place = self.table.name, self.stored.place
        self.findings.add(Difference(name, place, kind, key, fields, repaired, note))
