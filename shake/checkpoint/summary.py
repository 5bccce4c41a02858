"""How a task stands, or how its last run ended, as ``shake status`` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from shake.checkpoint.document import Fields, Record

#: Tables of which a summary has a line each; those that need attention come first.
MAX_TABLES = 200
#: State of a table whose checkpoint was removed after the run.
FORGOTTEN = "not begun"


@dataclass(frozen=True, slots=True)
class TableLine:
    """One table. ``fraction`` is -1 where it is unknown, ``applied_through`` 0."""

    name: str
    state: str
    fraction: float
    applied_through: float
    error: str


@dataclass(frozen=True, slots=True)
class TaskSummary(Record):
    """How a run stood at a time, ``at``. All times are Unix seconds, 0 where unknown.

    ``token`` is that of its task lock. ``exit_status`` is -1 until the run has ended.
    ``state`` and ``reason`` are those of the Snapshot, and a task that finishes has that as its
    reason. ``last_error`` is kept over later runs, with the time when it was seen.
    ``applied_through`` is on the source's clock, all other times are on the clock of the machine of
    the run. ``kept`` items cannot be stored. ``seconds_left`` is that of the copy, -1 where it is
    unknown, as for a version that did not save it.
    """

    ID = "summary"
    NAMES: ClassVar = {"exit_status": "", "lines": ""}
    LATER = ("seconds_left",)

    token: str
    state: str
    phase: str
    reason: str
    exit_status: int
    started: float
    at: float
    fraction: float
    items: int
    bytes: int
    applied_through: float
    consistent: bool
    tables: int
    tables_done: int
    kept: int
    lines: tuple[TableLine, ...] = ()
    last_error: str = ""
    last_error_at: float = 0.0
    seconds_left: float = -1.0

    @property
    def ended(self) -> bool:
        return self.exit_status >= 0

    @property
    def finished_by_cutover(self) -> bool:
        """Whether the run ended since every change made before was applied, as asked."""
        return self.exit_status == 0 and self.state == "finished" and self.phase == "follow"

    def after(self, earlier: TaskSummary) -> TaskSummary:
        """This summary, which keeps the last error of an earlier one where it has none."""
        if self.last_error:
            return self
        return replace(self, last_error=earlier.last_error, last_error_at=earlier.last_error_at)

    def without(self, table: str, items: int, size: int, *, complete: bool) -> TaskSummary:
        """This summary, once the checkpoint of a table was removed.

        ``items``, their ``size`` and ``complete`` are of its copy. Where all tables have a line,
        one without a line is none of the run; it and one that is forgotten already change nothing.
        """
        states = {one.name: one.state for one in self.lines}
        if states.get(table, "" if len(states) < self.tables else FORGOTTEN) == FORGOTTEN:
            return self
        others = tuple(one for one in self.lines if one.name != table)
        return replace(
            self,
            fraction=-1.0,
            seconds_left=-1.0,
            applied_through=0.0,
            consistent=False,
            items=max(0, self.items - items),  # what was saved of it can be newer
            bytes=max(0, self.bytes - size),
            tables_done=max(0, self.tables_done - complete),
            lines=(TableLine(table, FORGOTTEN, 0.0, 0.0, ""), *others),
        )

    def own(self) -> dict[str, Any]:
        return {"ExitStatus": self.exit_status, "Lines": [asdict(one) for one in self.lines]}

    @classmethod
    def read_own(cls, collection: str, found: Fields) -> dict[str, Any]:
        lines = found.document.get("Lines")
        if not isinstance(lines, list):
            raise found.wrong("Lines", lines)
        return {
            "exit_status": int(found.real("ExitStatus")),
            "lines": tuple(_line(one, found) for one in lines),
        }


def _line(line: Mapping[str, Any], read: Fields) -> TableLine:
    try:
        return TableLine(
            name=str(line["name"]),
            state=str(line["state"]),
            fraction=float(line["fraction"]),
            applied_through=float(line["applied_through"]),
            error=str(line["error"]),
        )
    except (KeyError, TypeError, ValueError):
        raise read.wrong("Lines", line) from None
