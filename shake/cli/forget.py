"""``shake forget``: removes the checkpoint of tables, so that their copy begins anew."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Sequence
from difflib import get_close_matches

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.records import SegmentRecord
from shake.checkpoint.store import open_store
from shake.checkpoint.task_lock import TaskLock
from shake.cli import command, streams
from shake.cli.definition import Command
from shake.config import Config, Loaded, Redactor
from shake.errors import ShakeError, UsageError
from shake.phase import COMPLETE

log = logging.getLogger("shake")

FORGOTTEN, FAILED, WRONG, REFUSED = range(4)


def _run(options: argparse.Namespace) -> int:
    def body(loaded: Loaded, redactor: Redactor) -> int:
        return _forget(loaded.config, options.table)

    return command.run(options, body, stopped=("stopped; the same command goes on", FAILED))


def _forget(config: Config, tables: list[str]) -> int:
    with (
        contextlib.closing(open_store(config)) as store,
        TaskLock.acquire(store, notice=log.warning).held() as lock,
    ):
        checkpoints = Checkpoints(store)
        _refuse_mistyped(checkpoints, tables)
        checkpoints.take_number(tables, lock.renew)
        for table in tables:
            place = config.checkpoint_of(table)
            if checkpoints.knows(table):
                _change_summary(checkpoints, table, lock)
            if not checkpoints.forget(table):
                streams.say(f"table {table}: it has no checkpoint ({place})")
                continue
            streams.say(
                f"table {table}: its checkpoint is removed ({place}): {config.begins_anew(table)}"
            )
    return FORGOTTEN


def _change_summary(checkpoints: Checkpoints, table: str, lock: TaskLock) -> None:
    """Have the last summary of the task say that a table is not begun any more.

    A damaged checkpoint is removed, too; its figures are not known then.
    """
    record, segments = None, list[SegmentRecord]()
    with contextlib.suppress(ShakeError):
        record, segments = checkpoints.load(table)
    with contextlib.suppress(ShakeError):
        if summary := checkpoints.load_summary():
            items, size = sum(one.documents for one in segments), sum(one.bytes for one in segments)
            complete = record is not None and record.phase in COMPLETE
            changed = summary.without(table, items, size, complete=complete)
            checkpoints.save_summary(changed, lock.renew)


def _refuse_mistyped(checkpoints: Checkpoints, tables: Sequence[str]) -> None:
    """Raises UsageError for a table that the task never had, where it has one of a near name."""
    unknown = [table for table in tables if not checkpoints.knows(table)]
    begun = checkpoints.begun(lambda _: True) if unknown else {}
    for table in unknown:
        if near := get_close_matches(table, begun, n=3):
            raise UsageError(
                f"table {table}: it has no checkpoint; near it: {', '.join(near)}; nothing is "
                "removed"
            )


def _define(parser: argparse.ArgumentParser) -> None:
    command.add_configuration(parser)
    parser.add_argument("table", nargs="+", metavar="TABLE", help="name of a table at the source")


FORGET = Command(
    name="forget",
    summary="remove the checkpoint of a table, to copy it anew",
    description="Removes what the task has saved of some tables: how far the copy is, positions in "
    "the stream, and kept items. The next start copies them anew. With sync_mode = incr it copies "
    "nothing, and follows them anew from incr.start: latest leaves out the changes made before. "
    "The command changes nothing at the source or the target, and is refused while the task runs.",
    examples=(("copy table orders anew", "{prog} --conf my.conf orders"),),
    statuses={
        FORGOTTEN: "removed, or there was none",
        FAILED: "failed; the same command goes on",
        WRONG: "wrong command line or configuration, or a table that seems to be mistyped",
        REFUSED: "the task runs, or its checkpoints cannot be reached; nothing was changed",
    },
    define=_define,
    act=_run,
)
