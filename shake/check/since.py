"""Compares the keys of a table that changed since its last completed check, and what that found."""

from __future__ import annotations

import json
import time

from shake.check import messages
from shake.check.changes import FullCheckNeeded, RecentChanges
from shake.check.findings import UNDECIDED, Difference
from shake.check.keys import stored_keys
from shake.check.meaning import Item
from shake.check.part import CheckPart
from shake.check.recording import Recording
from shake.checkpoint.checks import TableCheck
from shake.checkpoint.retrying import retried
from shake.checkpoint.stream_records import shard_of
from shake.schema import Table

#: Why what the last check has found cannot be looked at by its key.
_NO_KEY = "the last check has found it, and only a full check can look at it again"


def last_check(recording: Recording, table: Table) -> TableCheck:
    """The last completed check. Raises FullCheckNeeded where it does not say what has changed."""
    last = retried(recording.checks.load_completed)(table.name)
    if stored_keys(table, recording.opened.config).lossy:
        reason = (
            "with convert.type = mchange, keys are stored as doubles, which do not show what was "
            "deleted or folded"
        )
    elif last is None:
        reason = "no check of it was completed"
    elif last.basis != recording.basis(table):
        reason = (
            "the configuration, the table or the collection is not the one of the last completed "
            "check"
        )
    elif not last.stream:
        reason = "it had no stream when the last check began"
    else:
        return last
    raise FullCheckNeeded(table.name, reason)


def compare_changes(recording: Recording, last: TableCheck, part: CheckPart) -> None:
    """Compare what has changed since the last check, and what that has found."""
    table, opened = part.sides.table, recording.opened
    keys = []
    for one in recording.found(table.name, last):
        if one.kind == "index":
            continue  # indexes are looked at in any case
        if typed := _typed(one, table):
            keys.append(typed)
        else:
            part.sides.differ(UNDECIDED, one.key, fields=one.fields, note=_NO_KEY)
    part.compare_keys(keys)
    shards = tuple(shard_of(table.name, json.loads(text)) for text in last.shards)
    changes = RecentChanges(
        opened.client,
        table.name,
        last.stream,
        shards,
        last.began,
        opened.config.incr_margin,
        time.time() - (last.local_began or last.began),
    )
    changes.each(part.compare_keys)
    part.do(messages.ResolveDoubts())


def _typed(difference: Difference, table: Table) -> Item | None:
    """The key of a difference, None where it is not that of an item."""
    key = difference.key or {}
    if difference.kind == "folded" or {*key} != {one.name for one in table.keys}:
        return None
    return key if all(isinstance(value, dict) for value in key.values()) else None
