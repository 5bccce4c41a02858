"""Compares the keys of a table that changed since its last completed check, and what that found."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from shake.check import messages
from shake.check.changes import FullCheckNeeded, RecentChanges
from shake.check.findings import UNDECIDED, Difference
from shake.check.keys import stored_keys, typed_identity
from shake.check.meaning import Item
from shake.check.part import CheckConnections, CheckPart
from shake.check.recording import Recording
from shake.check.sides import Advanced
from shake.checkpoint.checks import TableCheck
from shake.checkpoint.stream_records import shard_of
from shake.schema import Table

log = logging.getLogger("shake.check")

#: Why what the last check has found cannot be looked at by its key.
_NO_KEY = "the last check has found it, and only a full check can look at it again"


class SinceCheck:
    """The check of one table. Raises FullCheckNeeded where the last one gives no ground for it."""

    def __init__(self, opened: CheckConnections, table: Table, recording: Recording) -> None:
        self._opened = opened
        self._table = table
        self._recording = recording
        self._last = self._usable(recording.last(table))
        self.began = recording.now()
        self.positions = recording.positions(table)
        self.keys = 0

    @property
    def last(self) -> TableCheck:
        """The completed check."""
        return self._last

    def _usable(self, last: TableCheck | None) -> TableCheck:
        name = self._table.name
        if stored_keys(self._table, self._opened.config).lossy:
            raise FullCheckNeeded(
                name,
                "with convert.type = mchange, keys are stored as doubles, which do not show what "
                "was deleted or folded",
            )
        if last is None:
            raise FullCheckNeeded(name, "no check of it was completed")
        if last.basis != self._recording.basis(self._table):
            raise FullCheckNeeded(
                name,
                "the configuration, the table or the collection is not the one of the last "
                "completed check",
            )
        if not last.stream:
            raise FullCheckNeeded(name, "it had no stream when the last check began")
        return last

    def run(self, part: CheckPart) -> None:
        """Compare."""
        last, name = self._last, self._table.name
        self._look_again(part, self._recording.found(self._table, last))
        shards = tuple(shard_of(name, json.loads(text)) for text in last.shards)
        margin = self._opened.config.incr_margin
        changes = RecentChanges(self._opened.client, name, last.stream, shards, last.began, margin)
        changes.each(lambda keys: self._compare(part, keys))
        part.do(messages.ResolveDoubts())

    def _look_again(self, part: CheckPart, found: Iterable[Difference]) -> None:
        keys = []
        for one in found:
            if one.kind == "index":
                continue  # indexes are looked at in any case
            if typed := _typed(one, self._table):
                keys.append(typed)
            else:
                part.sides.differ(UNDECIDED, one.key, fields=one.fields, note=_NO_KEY)
        self._compare(part, keys)

    def _compare(self, part: CheckPart, keys: list[Item]) -> None:
        """Compare keys, each once."""
        some = list({typed_identity(key): key for key in keys}.values())
        part.compare_keys(some)
        part.sides.listener.advanced(Advanced(compared=len(some), scanned=len(some)))


def _typed(difference: Difference, table: Table) -> Item | None:
    """The key of a difference, None where it is not that of an item."""
    key = difference.key or {}
    if difference.kind == "folded" or {*key} != {one.name for one in table.keys}:
        return None
    return key if all(isinstance(value, dict) for value in key.values()) else None
