"""What a benchmark is told, and what it has found, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass, field

Value = str | int | float


@dataclass(slots=True)
class Report:
    """A table of ``rows``, each by column; ``findings`` are what it comes to, in words."""

    title: str
    rows: list[dict[str, Value]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        table = [
            columns,
            *([_text(row.get(column, "")) for column in columns] for row in self.rows),
        ]
        widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
        lines = ["  ".join(map(str.rjust, cells, widths)) for cells in table]
        return "\n".join([f"== {self.title}", *lines, *(f"-> {text}" for text in self.findings)])


def _text(value: Value) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class Options:
    """What the person may choose; None: as the benchmark thinks fit."""

    items: int | None = None
    shape: str | None = None
    workers: int = 2
    rounds: int = 2
    seconds: float = 15.0
