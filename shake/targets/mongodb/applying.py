"""Applies a batch of changes to a collection: statements, each of another key, in any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from shake import codec
from shake.config import Config
from shake.errors import ItemError, RunError
from shake.schema import Table
from shake.targets.contract import Changes, Refusal
from shake.targets.mongodb import fields
from shake.targets.mongodb.bulk import (
    DUPLICATE_KEY,
    MAX_BYTES,
    RawCommands,
    confirm,
    copies,
)
from shake.targets.mongodb.retrying import (
    NOT_OF_A_DOCUMENT,
    Contended,
    Retrier,
    is_of_a_document,
    is_transient_write,
    words,
)
from shake.targets.mongodb.session import TOO_OLD, Session

#: Duplicate key errors in a row after which another unique index must be the cause. Two inserts of
#: one key at the same time give one such error, and the next try finds the document.
#: https://www.mongodb.com/docs/manual/reference/method/db.collection.update/#upsert-with-unique-index
MAX_DUPLICATES = 5


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies to one collection, which must decode to raw documents. Thread-safe.

    After a fault it sends the same command again, so doing it twice is harmless. ``session``
    prevents the server from executing an earlier try after a later change. Where no session is
    used (see RawCommands.run), shake relies on one assumption about a command whose connection is
    lost: the server does not execute it after it has acknowledged the next batch.
    """

    collection: Collection[RawBSONDocument]
    bulk: RawCommands
    table: Table
    config: Config
    retrier: Retrier
    session: Session
    refused: list[Refusal] | None = None  # see targets.contract.Writer

    def apply(self, changes: Changes) -> int:
        """See targets.contract.Writer: how many MODIFYs found nothing to modify."""
        self._run("insert", changes.inserts, self._judge_insert)
        matched, count = self._run("update", changes.updates, self._judge_update)
        self._run("delete", changes.deletes, self._judge_update)
        return count - matched

    def _run(
        self, command: str, statements: memoryview, judge: Callable[[Any, RawBSONDocument], None]
    ) -> tuple[int, int]:
        """Carry out all statements: how many met a document, of how many."""
        met = total = 0
        cuts = codec.batches(statements, self.config.full_document_write_batch, MAX_BYTES)
        for start, end, count in cuts:
            met += self._apply_retrying(command, statements[start:end], count, judge)
            total += count
        return met, total

    def _apply_retrying(
        self,
        command: str,
        batch: memoryview,
        count: int,
        judge: Callable[[Any, RawBSONDocument], None],
    ) -> int:
        duplicates, before = 0, len(self.refused or ())

        def call() -> int:
            nonlocal duplicates
            if self.refused:
                del self.refused[before:]  # of an earlier try
            try:
                return int(self.bulk.run(command, batch, count, self.session)["n"])
            except BulkWriteError as error:
                codes = {entry["code"] for entry in error.details["writeErrors"]}
                duplicates += DUPLICATE_KEY in codes
                contended = 0 < duplicates < MAX_DUPLICATES and codes <= {DUPLICATE_KEY}
                if command != "insert" and contended:
                    text = (
                        f"{self.collection.full_name}: another write of the same key is under way"
                    )
                    raise Contended(text) from error
                self._judge(error, batch, judge)
                return int(error.details["n"]) + len(error.details["writeErrors"])

        try:
            return self.retrier.call(self.collection.full_name, call)
        except PyMongoError as error:
            if self.refused is None or not is_of_a_document(error):
                raise self._refused_command(error) from error
            if count > 1:  # each one alone: the server does not say which it refused
                return sum(
                    self._apply_retrying(command, one, 1, judge) for one in codec.singly(batch)
                )
            reason = f"{self.collection.full_name}: {words(error)}"
            self.refused.append(Refusal(batch.tobytes(), reason))
            return 1

    def _judge(
        self,
        error: BulkWriteError,
        batch: memoryview,
        judge: Callable[[Any, RawBSONDocument], None],
    ) -> None:
        """Judge each statement that was refused. Raises the error where a later try can succeed."""
        errors, statements = error.details["writeErrors"], copies(batch)
        for entry in errors:
            if not is_transient_write(entry):
                judge(entry, statements[entry["index"]])
        if any(map(is_transient_write, errors)) or error.details["writeConcernErrors"]:
            raise error
        confirm(self.collection)

    def _refused_command(self, error: PyMongoError) -> RunError:
        namespace = self.collection.full_name
        if isinstance(error, OperationFailure) and error.code == TOO_OLD:
            return RunError(
                f"{namespace}: the target has later changes of this task: another "
                "shake run is at work; or an older checkpoint was restored: then start again "
                "in half an hour, when the sessions of the later changes have expired"
            )
        return RunError(f"{namespace}: the target refused a change: {words(error)}")

    def _judge_update(self, entry: Mapping[str, Any], statement: RawBSONDocument) -> None:
        if not self._refuse(entry, statement):
            raise self._item_error(bson.decode(statement.raw)["q"], entry)

    def _refuse(self, entry: Mapping[str, Any], statement: RawBSONDocument) -> bool:
        """Note that the target refuses a statement; False where that is an error."""
        if self.refused is None or entry["code"] in NOT_OF_A_DOCUMENT:
            return False
        reason = f"{self.collection.full_name}: {entry['errmsg']}"
        self.refused.append(Refusal(bytes(statement.raw), reason))
        return True

    def _judge_insert(self, entry: Mapping[str, Any], document: RawBSONDocument) -> None:
        """A document that is there already as it is was inserted by an earlier try."""
        query = self.config.id_rule.selector(self.table.keys, document, sharded=False)
        if entry["code"] != DUPLICATE_KEY:
            if self._refuse(entry, document):
                return
            raise self._item_error(query, entry)
        stored = self.retrier.call(
            self.collection.full_name, lambda: self.collection.find_one(query)
        )
        if stored is None or _without_id(stored) != _without_id(document):
            reason = (
                "the change inserts it, and the target holds this key already, with other content"
                " (increase.executor.insert_on_dup_update = false)"
            )
            raise self._item_error(query, {"code": DUPLICATE_KEY, "errmsg": reason})

    def _item_error(self, query: Mapping[str, Any], entry: Mapping[str, Any]) -> ItemError:
        key = fields.query_text(query, self.table, self.config)
        reason = f"{self.collection.full_name}: {entry['errmsg']}"
        kept = entry["code"] not in NOT_OF_A_DOCUMENT | {DUPLICATE_KEY}
        return ItemError(key, reason, self.table.name, can_be_kept=kept)


def _without_id(document: RawBSONDocument) -> bytes:
    return bson.encode({name: value for name, value in document.items() if name != "_id"})
