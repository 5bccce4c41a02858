"""Ends sessions at the target, so that it refuses what was sent in them and arrives late."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.stream_records import repair_sessions
from shake.config import Config
from shake.follow import phases
from shake.plan.plan import Plan, TablePlan
from shake.plan.positions import StreamPosition
from shake.targets.choice import open_target
from shake.targets.contract import Fence, Writer

log = logging.getLogger("shake")

#: Seconds that the thread has in the end for what it does.
_CLOSE_SECONDS = 1.0


def end_sessions(config: Config, planned: TablePlan, fence: Fence, sessions: list[str]) -> None:
    """End sessions of a table by commands with the numbers of ``fence``."""
    target = open_target(config, stop=threading.Event(), on_retry=log.info)
    with contextlib.closing(target):
        target.writer(planned.namespace, planned.table, fence).end_shards(sessions)


def end_repairs(
    config: Config, checkpoints: Checkpoints, plan: Plan, positions: Mapping[str, StreamPosition]
) -> None:
    """End the sessions of all repairs, before a change is applied that they could undo."""
    for planned in plan.tables:
        position = positions.get(planned.table.name)
        if position is None or not position.record.repairs:
            continue
        identity = checkpoints.load_identity(planned.table.name)
        fence = Fence(identity.collection_uuid if identity else "", position.record.run)
        end_sessions(config, planned, fence, repair_sessions(position.record.repairs))


@contextlib.contextmanager
def replaced_fenced(
    config: Config, checkpoints: Checkpoints, plan: Plan, positions: Mapping[str, StreamPosition]
) -> Iterator[None]:
    """Have the target refuse late changes of collections that a new copy replaces, or has replaced.

    Before MongoDB 6.0 such a change goes to what has the name by then: the new copy. So the
    sessions of all collections before it are ended before that copy gets the name. The server
    forgets them after 30 minutes, however long the copy takes. So they are refreshed while the run
    lasts.
    """
    replaced = [table for table in plan.tables if table.record.fenced]
    followed = [table for table in replaced if table.table.name in positions]
    if not followed:
        yield
        return
    stop = threading.Event()
    target = open_target(config, stop=stop, on_retry=log.info)
    with contextlib.closing(target):
        ended: list[tuple[Writer, list[str]]] = []
        for table in followed if not target.takes_uuids else ():
            stream = positions[table.table.name].record
            names = checkpoints.shard_names(stream.table) + repair_sessions(stream.repairs)
            for collection_uuid in table.record.fenced:
                fence = Fence(collection_uuid, stream.run)
                writer = target.writer(table.namespace, table.table, fence)
                writer.end_shards(names)
                ended.append((writer, names))
        # In a thread, because a target that hangs must not hold up anything.
        thread = threading.Thread(target=_keep, args=(ended, stop), name="fences", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_CLOSE_SECONDS)


def _keep(ended: list[tuple[Writer, list[str]]], stop: threading.Event) -> None:
    while not stop.wait(phases.FENCES_EVERY):
        for writer, names in ended:
            with contextlib.suppress(Exception):  # the next time is soon enough
                writer.keep_fences(names)
