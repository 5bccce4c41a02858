"""Collects the differences: in numbers, the first ones in words, and all of them in a file."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

from shake.check.report import Report
from shake.status.figures import count, utc

#: The format of the report file.
FORMAT = 1

#: A key as DynamoDB JSON; parts that no item can have are text.
ReportedKey: TypeAlias = dict[str, dict[str, str] | str]

#: Differences that are printed, beside those of indexes; a report file names all.
SHOWN = 20

#: The kind of what is neither equal nor a difference, since that cannot be decided.
UNDECIDED = "undecided"

#: Why a key is undecided whose change the task can have left unapplied.
TASK_ENDED = "the task ended while the check ran, and can have left its changes unapplied"

#: The kind of an item that cannot be stored, and that the task has kept (bad.items = keep).
KEPT = "kept"

#: Kinds that are no differences: what is said of them is said apart.
_APART = frozenset({UNDECIDED, KEPT})

#: Kinds that every closing line counts, and those that are named only where there are any.
_ALWAYS = ("missing", "different", "extra", "duplicate")
_AT_TIMES = ("index", "folded", KEPT, UNDECIDED)


class Difference(NamedTuple):
    """One thing in which source and target are not equal.

    ``kind``: ``missing`` or ``different`` (``fields`` name what differs) in the target, ``extra``
    there, there more than once (``duplicate``), an ``index`` (named by ``fields``) that is not
    there, or ``folded``: several items of the source have one double as their key.
    ``undecided``: the check could not decide whether the key differs. ``kept``: the item cannot be
    stored, and the task has kept it beside its checkpoints. ``key`` is DynamoDB JSON.
    ``repaired`` means put right, and looked at again. ``source`` is the item as DynamoDB JSON, and
    ``target`` are the documents of its key as MongoDB Extended JSON, as far as they are known.
    """

    table: str
    namespace: str
    kind: str
    key: ReportedKey | None = None
    fields: tuple[str, ...] = ()
    repaired: bool = False
    note: str = ""
    source: str = ""
    target: tuple[str, ...] = ()

    def as_json(self) -> str:
        """The line of the report file."""
        line = {
            "table": self.table,
            "place": self.namespace,
            "kind": self.kind,
            "key": self.key,
            "fields": self.fields,
            "repaired": self.repaired,
        }
        known = {
            "note": self.note,
            "source": self.source and json.loads(self.source),
            "target": list(map(json.loads, self.target)),
        }
        return json.dumps(line | {name: value for name, value in known.items() if value})

    @classmethod
    def of_json(cls, text: str) -> Difference:
        """The difference of such a line."""
        line: dict[str, Any] = json.loads(text)
        return cls(
            table=line["table"],
            namespace=line["place"],
            kind=line["kind"],
            key=line["key"],
            fields=tuple(line["fields"]),
            repaired=line["repaired"],
            note=line.get("note", ""),
            source=json.dumps(line["source"]) if "source" in line else "",
            target=tuple(map(json.dumps, line.get("target", ()))),
        )

    def __str__(self) -> str:
        key = "" if self.key is None else " " + json.dumps(self.key, ensure_ascii=False)
        names = f" ({', '.join(self.fields)})" if self.fields else ""
        note = f": {self.note}" if self.note else ""
        return f"table {self.table}: {self.kind}{key}{names}{note}{', repaired' * self.repaired}"


class Findings:
    """All differences of a run; thread-safe. ``say`` prints a line."""

    def __init__(self, say: Callable[[str], None], report: Report | None) -> None:
        self._say = say
        self._report = report
        self._lock = threading.Lock()
        self._kinds: dict[str, Counter[str]] = {}  # by table
        self._odd: set[str] = set()
        self._known: set[bytes] = set()  # see restore, and name_once
        self._once = False
        self._shown = 0
        self.begun = False
        self.total = 0
        self.undecided = 0
        self.task_ended = False  # why some are undecided
        self.kept = 0
        self.repaired = 0
        #: When the check of a table was begun that goes on, on the source's clock; else 0.
        self.since = 0.0

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the header of the report."""
        self.begun = True
        self.write_line(json.dumps({"format": FORMAT, **header}))

    def end(self, verdict: str, reason: str = "") -> None:
        """Write the verdict, the last line of the report; ``reason`` is why there is no proof."""
        with self._lock:
            tables = {table: dict(kinds) for table, kinds in self._kinds.items()}
        line: dict[str, Any] = {
            "verdict": verdict,
            "time": utc(time.time()),
            "differences": self.total,
            "kept": self.kept,
            "undecided": self.undecided,
            "repaired": self.repaired,
            "tables": tables,
        }
        self.write_line(json.dumps(line | ({"reason": reason} if reason else {})))

    def write_line(self, line: str) -> None:
        """Write a line to the report."""
        with self._lock:
            if self._report is not None:
                self._report.write(line)

    def settle(self) -> None:
        """Return when all lines so far are in the report."""
        if self._report is not None:
            self._report.settle()

    def add(self, difference: Difference) -> None:
        """Count, print and write down a difference."""
        with self._lock:
            if (self._known or self._once) and (name := _name(difference)) in self._known:
                return
            if self._once:
                self._known.add(name)
            if isinstance((difference.key or {}).get("_id"), str):
                # Not the key of an item. If it is an array, an index has the document several
                # times, in several parts.
                if (line := difference.as_json()) in self._odd:
                    return
                self._odd.add(line)
            self._kinds.setdefault(difference.table, Counter())[difference.kind] += 1
            self.total += difference.kind not in _APART
            self.kept += difference.kind == KEPT
            self.undecided += difference.kind == UNDECIDED
            self.task_ended |= difference.note == TASK_ENDED
            self.repaired += difference.repaired
            if self._report is not None:
                self._report.write(difference.as_json())
            elif self._shown < SHOWN or difference.kind == "index":
                self._shown += 1
                self._say(str(difference))

    def name_once(self) -> None:
        """From now on, count what is found again as found once: a key can be compared often."""
        self._once = True

    def restore(self, differences: list[Difference], since: float = 0.0) -> None:
        """Add what a check has found that was begun at ``since``, and was interrupted.

        What it finds once more counts once.
        """
        if since:
            self.since = min(since, self.since or since)
        for difference in differences:
            self.add(difference)
            with self._lock:
                self._known.add(_name(difference))

    @property
    def extra(self) -> int:
        """How many documents are extra."""
        return sum(kinds["extra"] for kinds in self._kinds.values())

    @property
    def unsaid(self) -> int:
        """How many differences were neither printed nor written."""
        found = self.total + self.undecided + self.kept
        return 0 if self._report is not None else found - self._shown

    def verdict(self, table: str) -> str:
        """What the check of a table has shown, in a word."""
        kinds = self._of(table).keys()
        if kinds - _APART:
            return "different"
        for kind in (UNDECIDED, KEPT):
            if kind in kinds:
                return kind
        return "equal"

    def closing(self, table: str) -> str:
        """A table's differences in numbers, empty where there are none."""
        kinds = self._of(table)
        if not kinds:
            return ""
        shown = _ALWAYS + tuple(kind for kind in _AT_TIMES if kind in kinds)
        return ", ".join(f"{count(kinds[kind])} {kind}" for kind in shown)

    def _of(self, table: str) -> Counter[str]:
        with self._lock:
            return Counter(self._kinds.get(table, {}))


def _name(difference: Difference) -> bytes:
    """What a difference is known by, in little memory."""
    key = json.dumps((difference.table, difference.kind, difference.key, difference.fields))
    return blake2b(key.encode(), digest_size=16).digest()
