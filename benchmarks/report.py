"""The options of a benchmark, and its results, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass, field

from shake.config import Config

Value = str | int | float

#: Segments that each worker reads at once, by default.
WORKER_SCANNERS = Config(id="", target_address="").full_document_parser


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines through points (x, y), by what each line is."""

    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(slots=True)
class Report:
    """A table of ``rows``, each by column; ``findings`` are the results in words."""

    title: str
    rows: list[dict[str, Value]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    charts: dict[str, Chart] = field(default_factory=dict)

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
    """What the user can choose; each benchmark has its default for an empty value.

    A benchmark of one shape, or of one number of workers, takes the first.
    """

    items: int = 0
    shapes: tuple[str, ...] = ()
    workers: tuple[int, ...] = ()
    writers: tuple[int, ...] = ()
    rounds: int = 0
    seconds: float = 15.0

    def shape(self, default: str) -> str:
        return self.shapes[0] if self.shapes else default

    @property
    def farm(self) -> int:
        """Workers of a farm in a benchmark that does not vary their number."""
        return self.workers[0] if self.workers else 2

    @property
    def scanners(self) -> int:
        """Segments that this farm reads at once."""
        return self.farm * WORKER_SCANNERS
