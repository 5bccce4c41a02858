"""What is saved of checks: how far one is, what it has found, and which one was completed last.

Each table has two collections for that, beside the one of its checkpoint. The first holds the
progress of one check and the result of the last completed one. The second holds what is large:
the state, and the differences. ``status_table`` names the check that is not completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from shake.checkpoint.contract import Document, Store, Superseded, read_one
from shake.checkpoint.document import FORMAT, Fields, Record
from shake.checkpoint.order import numbered, take_number
from shake.checkpoint.records import STATUS_TABLE
from shake.config.names import CHECKED, stored_name
from shake.errors import RefusedError
from shake.status.snapshot import CheckStatus

#: Bytes of one document: a document of MongoDB has 16 MB at most.
_CHUNK = 2_000_000
#: Bytes that are written by one call, so that a slow server takes them within its time.
_AT_ONCE = 8_000_000

#: The document with the progress of a check.
_TOLD = "check_progress"

#: Fields of a TableCheck that not every document has.
_OWN = ("slot", "chunks", "over", "finished", "verdict", "local_began")

R = TypeVar("R", bound="CheckRecord | TableCheck")


@dataclass(frozen=True, slots=True)
class CheckRecord(Record):
    """The check of a task that was begun last; ``done``: it was completed."""

    ID = "check"
    LATER = ("done",)

    check: str
    done: bool = False


@dataclass(frozen=True, slots=True)
class TableCheck(Record):
    """How far the check of a table is; or, with a ``verdict``, the last that was completed.

    ``basis`` is what it depends on; ``began`` is its begin, and ``finished`` its end, in Unix
    seconds on the source's clock. ``local_began`` is its begin by the clock of the machine that
    checked, 0 where an earlier version has saved it. ``stream`` and ``shards`` are where the
    table's stream is read from for all that changes later, each shard as JSON; there is none where
    the table has no stream. ``findings`` says how many documents hold differences. ``slot`` and
    ``chunks`` say which documents hold the state, and ``over`` that all of the table is compared:
    of a check that is not completed. ``run`` is the number of the process that saved it.
    """

    NAMES: ClassVar = dict.fromkeys(_OWN, "") | {"stream": "StreamArn"}

    check: str
    basis: str
    began: float
    stream: str = ""
    shards: tuple[str, ...] = ()
    slot: int = 0
    chunks: int = 0
    findings: int = 0
    over: bool = False
    run: int = 0
    finished: float = 0.0
    verdict: str = ""
    local_began: float = 0.0

    def own(self) -> dict[str, Any]:
        local = {"LocalBegan": self.local_began} if self.local_began else {}
        if self.verdict:
            completed = {"_id": "completed", "Finished": self.finished, "Verdict": self.verdict}
            return completed | local
        progress = {"_id": "progress", "Slot": self.slot, "Chunks": self.chunks}
        return progress | {"Over": self.over} | local

    @classmethod
    def read_own(cls, collection: str, found: Fields) -> dict[str, Any]:
        local = {"local_began": found.real("LocalBegan")} if "LocalBegan" in found.document else {}
        if found.document["_id"] == "completed":
            return {"finished": found.real("Finished"), "verdict": found.text("Verdict")} | local
        over = found.document.get("Over") is True
        progress = {"slot": found.number("Slot"), "chunks": found.number("Chunks")}
        return progress | {"over": over} | local


class Checks:
    """The checks of a task in a store. A process that has no right to check it writes nothing.

    ``run`` is the number of the process that saves, see :meth:`take_number`.
    """

    def __init__(self, store: Store, *, run: int = 0) -> None:
        self.run = run
        self._store = store

    def take_number(self, tables: Iterable[str], renew: Callable[[], None]) -> None:
        """Begin to check these tables. ``renew`` renews the right to check the task."""
        names = [STATUS_TABLE, *map(_name, tables)]
        self.run = take_number(self._store, (STATUS_TABLE, "check-run"), names, renew)

    def load_check(self) -> CheckRecord | None:
        return self._record(STATUS_TABLE, "check", CheckRecord.of)

    def save_check(self, record: CheckRecord) -> None:
        self._store.write(STATUS_TABLE, [self._numbered(record.document())])

    def end_interrupted(self) -> None:
        """A check that is not completed cannot go on: what it has found changes from now on."""
        if saved := read_one(self._store, STATUS_TABLE, CheckRecord.ID):
            self._store.swap(STATUS_TABLE, saved, {**saved, "Done": True})

    def save_status(self, status: CheckStatus) -> None:
        """Save how far the check is, for the page of the task."""
        document = {"_id": _TOLD, "Format": FORMAT, **status._asdict()}
        self._store.write(STATUS_TABLE, [self._numbered(document)])

    def load_status(self) -> CheckStatus | None:
        saved = read_one(self._store, STATUS_TABLE, _TOLD)
        # A later version can save more.
        return CheckStatus(*(saved[name] for name in CheckStatus._fields)) if saved else None

    def load_progress(self, table: str) -> TableCheck | None:
        """The progress of the table's check that was begun last."""
        return self._record(_name(table), "progress", TableCheck.of)

    def load_completed(self, table: str) -> TableCheck | None:
        return self._record(_name(table), "completed", TableCheck.of)

    def load_state(self, table: str, progress: TableCheck) -> bytes:
        """The state that was saved with this progress."""
        return self._joined(table, progress.check, _state_names(progress))

    def load_findings(self, table: str, record: TableCheck) -> list[str]:
        """The differences of a check, each as it was given to :meth:`save`."""
        wanted = [_findings_name(record.check, number) for number in range(record.findings)]
        return self._joined(table, record.check, wanted).decode().split("\n")[:-1]

    def _joined(self, table: str, check: str, names: list[str]) -> bytes:
        """What the documents of these names hold. Raises RefusedError where one is missing.

        What another check has saved late, after a user removed the documents, does not count.
        """
        saved = self._store.read(_data(table)) if names else []
        found = {one["_id"]: one for one in saved if one["Check"] == check}
        for name in names:
            if name not in found:
                raise RefusedError(
                    f"checkpoint {_data(table)} lacks the document {name}: begin the check again "
                    "with --anew"
                )
        return b"".join(Fields(_data(table), found[name]).data("Data") for name in names)

    def begin(self, table: str, progress: TableCheck) -> TableCheck:
        """Save that this process begins or continues the check of a table; return what is saved.

        What was saved of other checks goes, but for the differences of the last completed one.
        """
        progress = replace(progress, run=self.run)
        self._store.write(_name(table), [self._numbered(progress.document())])
        completed = self.load_completed(table)
        kept = {progress.check, completed.check if completed else ""}
        self._delete(table, states=not progress.chunks, but=kept)
        return progress

    def save(self, table: str, last: TableCheck, state: bytes, lines: Sequence[str]) -> TableCheck:
        """Save a state and more differences, a line each; return the progress that counts then.

        Either all of it counts, or nothing: the documents that ``last`` names are not changed.
        """
        slot = 1 - last.slot
        chunks = _cut(state)
        findings = _findings(last, lines)
        count = last.findings + len(findings)
        fresh = replace(last, slot=slot, chunks=len(chunks), findings=count)
        named = {"Format": FORMAT, "Check": last.check, "Run": last.run}
        documents = [
            {"_id": name, **named, "Data": data}
            for name, data in zip(_state_names(fresh), chunks, strict=True)
        ]
        self._write(table, [*documents, *findings])
        self._store.write(_name(table), [self._numbered(fresh.document())])
        return fresh

    def _write(self, table: str, documents: list[dict[str, Any]]) -> None:
        per_call = max(1, _AT_ONCE // _CHUNK)
        for first in range(0, len(documents), per_call):
            part = map(self._numbered, documents[first : first + per_call])
            self._store.write(_data(table), list(part))

    def complete(self, table: str, progress: TableCheck, completed: TableCheck) -> None:
        """Save that the check of a table is completed; the one before it goes."""
        documents = [self._numbered(one.document()) for one in (completed, progress)]
        self._store.write(_name(table), documents)
        self._delete(table, states=True, but={completed.check})

    def complete_since(
        self, table: str, last: TableCheck, completed: TableCheck, lines: Sequence[str]
    ) -> None:
        """Save a completed check that had no progress; an interrupted one stays as it is.

        It takes the place of ``last``, the completed check that it started from, and of no other
        one: what a process sends late does not replace what a later check has found. Can be tried
        again where it was not confirmed. Raises Superseded.
        """
        findings, progress = _findings(completed, lines), self.load_progress(table)
        completed = replace(completed, findings=len(findings), run=self.run)
        self._write(table, findings)
        document = self._numbered(completed.document())
        swapped = self._store.swap(_name(table), last.document(), document)
        if not swapped and self.load_completed(table) != completed:  # by an earlier try
            raise Superseded(f"table {table}: another check has completed in the meantime")
        kept = {completed.check, progress.check if progress else ""}
        self._delete(table, states=False, but=kept)

    def _numbered(self, document: dict[str, Any]) -> dict[str, Any]:
        return numbered(document, self.run)

    def _delete(self, table: str, *, states: bool, but: set[str]) -> None:
        """Delete all states, and the differences of all checks but some."""
        for one in self._store.read(_data(table)):
            state = one["_id"].startswith("state-") and states
            if state or (one["_id"].startswith("findings-") and one["Check"] not in but):
                self._store.swap(_data(table), {"_id": one["_id"], "Run": one["Run"]}, None)

    def _record(self, collection: str, id: str, of: Callable[[str, Document], R]) -> R | None:
        saved = read_one(self._store, collection, id)
        return of(collection, saved) if saved else None


def _name(table: str) -> str:
    return stored_name(table) + CHECKED


def _data(table: str) -> str:
    return f"{stored_name(table)}~data{CHECKED}"


def _state_names(progress: TableCheck) -> list[str]:
    return [f"state-{progress.slot}-{number:03d}" for number in range(progress.chunks)]


def _findings_name(check: str, number: int) -> str:
    return f"findings-{check[:12]}-{number:06d}"


def _findings(last: TableCheck, lines: Sequence[str]) -> list[dict[str, Any]]:
    """The documents of more differences of a check; a long one takes several."""
    named = {"Format": FORMAT, "Check": last.check, "Run": last.run}
    text = "".join(f"{line}\n" for line in lines).encode()
    return [
        {"_id": _findings_name(last.check, last.findings + number), **named, "Data": data}
        for number, data in enumerate(_cut(text))
    ]


def _cut(data: bytes) -> list[bytes]:
    """So much as fits into a document each."""
    return [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
