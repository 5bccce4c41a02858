"""Refuses to compare a source table and a collection that do not belong together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.identity import UNKNOWN, Identity
from shake.checkpoint.records import TableRecord
from shake.checkpoint.store import open_store
from shake.checkpoint.stream_records import StreamRecord
from shake.config import Config
from shake.config.secrets import hosts
from shake.errors import RefusedError, RunError
from shake.plan.origins import another_table, changed_settings, saved_origin
from shake.schema import Table
from shake.targets.contract import Location, Target
from shake.targets.same_collection import mismatch

log = logging.getLogger("shake.check")


class CheckRefused(RefusedError):
    """The check, or the repair, is not allowed, or not now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What the checkpoint of a task holds of a table that the task has begun with."""

    record: TableRecord | None
    stream: StreamRecord | None
    identity: Identity


def read_checkpoints(config: Config, *, repair: bool) -> dict[str, Saved] | None:
    """The checkpoint of each table that the task has begun with; empty where there is none.

    A check that changes nothing needs no right to read checkpoints: it then logs that they are
    unknown, and returns None. It returns an empty one where the store only does not answer for now.
    Raises ShakeError where the check repairs, or where they are damaged.
    """
    try:
        store = open_store(config, writable=False)
    except RefusedError as error:
        if repair:
            raise
        log.warning(
            "%s; the check goes on, and cannot find out whether this task has filled the "
            "collections from this source, or which items it has kept",
            error,
        )
        return {} if error.passes else None
    with contextlib.closing(store):
        checkpoints = Checkpoints(store)
        return {
            name: Saved(
                checkpoints.load(name)[0],
                checkpoints.load_stream(name)[0],
                checkpoints.load_identity(name) or UNKNOWN,
            )
            for name in checkpoints.begun(config.selects_table)
        }


@dataclass(frozen=True, slots=True)
class Belonging:
    """Compares a table and its collection with the checkpoint, as each start of the task does.

    ``known``: checkpoints can be read.
    """

    config: Config
    target: Target
    checkpoints: Mapping[str, Saved]
    repair: bool
    known: bool

    def verify(self, tables: list[Table]) -> None:
        """Raise CheckRefused where one of the tables must not be compared, or repaired."""
        for problem in (problem for table in tables for problem in self._problems(table)):
            raise CheckRefused(problem)

    def verify_again(self, table: Table) -> None:
        """Raise RunError where the collection was dropped or replaced during the check."""
        for problem in self._problems(table):
            raise RunError(f"what was compared counts for nothing: {problem}")

    def announce(self, table: Table) -> str:
        """The line that says what ``--repair`` is about to change."""
        origin = table.origin.arn or self.config.source_endpoint_url or "AWS"
        line = (
            f"table {table.name}: --repair changes collection {self.config.namespace(table.name)} "
            f"on {hosts(self.config.target_address)}, to make it equal to the table at {origin}"
        )
        if table.name in self.checkpoints:
            return line
        return f"{line}; task {self.config.id} has no checkpoint that says whether it is its copy"

    def _problems(self, table: Table) -> Iterator[str]:
        namespace, saved = self.config.namespace(table.name), self.checkpoints.get(table.name)
        # A collection that another task, or another program, has filled can be checked too.
        if saved is None:
            if (found := self.target.seen(namespace, table)) is None:
                yield (
                    f"collection {namespace} does not exist, and task {self.config.id} has not "
                    f"copied table {table.name} yet (it has no checkpoint): copy it with shake "
                    "run, or check id, target.address and namespace.map"
                )
            elif self.repair and not found.has_key_index:
                yield (
                    f"collection {namespace} lacks the unique index on the key of table "
                    f"{table.name}, so --repair could store an item twice: build that index"
                )
            return
        if difference := saved_origin(saved.identity, saved.stream).difference(table.origin):
            yield another_table(self.config, table.name, difference)
        if saved.record:
            yield from changed_settings(self.config, saved.record)
            if not saved.record.published:
                yield (
                    f"table {table.name}: the copy is not complete (status "
                    f"{saved.record.phase.value}), so there is nothing to compare yet: let "
                    "shake run finish it"
                )
        held = Location(namespace, saved.identity.collection_uuid)
        found = self.target.seen(namespace, table)
        if found and not self.repair:  # the check reports the missing index among the differences
            found = found._replace(has_key_index=True)
        if problem := mismatch(self.config, table.name, held, found, saved.identity.server):
            yield problem
