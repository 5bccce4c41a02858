"""How a task stands, or how its last run ended, as ``shake status`` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from shake.checkpoint.contract import Document
from shake.checkpoint.document import FORMAT, Fields

#: Tables of which a summary has a line each; those that need attention come first.
MAX_TABLES = 200


@dataclass(frozen=True, slots=True)
class TableLine:
    """One table. ``fraction`` is -1 where it is unknown, ``applied_through`` 0."""

    name: str
    state: str
    fraction: float
    applied_through: float
    error: str


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """How a run stood at a time, ``at``. All times are Unix seconds, 0 where unknown.

    ``token`` is that of its task lock. ``exit_status`` is -1 until the run has ended.
    ``state`` and ``reason`` are those of the Snapshot. ``last_error`` is kept over later runs,
    with the time when it was seen. ``applied_through`` is on the source's clock, all other times
    are on the clock of the machine of the run. ``kept`` items cannot be stored. ``seconds_left`` is
    that of the copy, -1 where it is unknown, as for a version that did not save it.
    """

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

    def document(self) -> dict[str, Any]:
        document = asdict(self) | {"lines": [asdict(one) for one in self.lines]}
        named = {_NAMES[name]: value for name, value in document.items()}
        return {"_id": "summary", "Format": FORMAT, **named}

    @classmethod
    def of(cls, collection: str, document: Document) -> TaskSummary:
        """The summary that ``document()`` wrote. Raises RefusedError for any other."""
        read = Fields(collection, document)
        values = {one.name: _value(read, one.type, _NAMES[one.name]) for one in fields(cls)[:-4]}
        lines = document.get("Lines")
        if not isinstance(lines, list):
            raise read.wrong("Lines", lines)
        values["lines"] = tuple(_line(one, read) for one in lines)
        values["last_error"] = read.text("LastError")
        values["last_error_at"] = read.real("LastErrorAt")
        if "SecondsLeft" in document:
            values["seconds_left"] = read.real("SecondsLeft")
        return cls(**values)


def _value(read: Fields, kind: Any, name: str) -> Any:
    if kind == "str":
        return read.text(name)
    if kind == "bool":
        return read.flag(name)
    value = read.real(name)
    return int(value) if kind == "int" else value


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


def _name(field: str) -> str:
    return "".join(word.capitalize() for word in field.split("_"))


_NAMES = {one.name: _name(one.name) for one in fields(TaskSummary)}
