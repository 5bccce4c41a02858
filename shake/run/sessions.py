"""Ends sessions at the target, so that it refuses what was sent in them and arrives late."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.stream_records import StreamRecord, repair_sessions
from shake.config import Config
from shake.follow import phases
from shake.plan.plan import Plan, TablePlan
from shake.plan.positions import StreamPosition
from shake.targets.choice import open_target
from shake.targets.contract import Fence, Target, Writer

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
    sessions of the old collection are ended before that copy gets the name. The server forgets
    them after 30 minutes, however long the copy takes. So they are refreshed while the run lasts.
    """
    replaced = [table for table in plan.tables if table.record.replaces]
    followed = [table for table in replaced if table.table.name in positions]
    if not followed:
        yield
        return
    stop = threading.Event()
    target = open_target(config, stop=stop, on_retry=log.info)
    with contextlib.closing(target):
        fenced = _Fenced(target, stop)
        for table in followed if not target.takes_uuids else ():
            name = table.table.name
            fenced.end(table, positions[name].record, checkpoints.shard_names(name))
        with fenced.kept():
            yield


@dataclass(frozen=True, slots=True)
class _Fenced:
    """The sessions of collections that were replaced."""

    target: Target
    stop: threading.Event
    sessions: list[tuple[Writer, list[str]]] = field(default_factory=list)

    def end(self, planned: TablePlan, stream: StreamRecord, shards: list[str]) -> None:
        """End the sessions of a table's replaced collection."""
        fence = Fence(planned.record.replaces, stream.run)
        writer = self.target.writer(planned.namespace, planned.table, fence)
        names = shards + repair_sessions(stream.repairs)
        writer.end_shards(names)
        self.sessions.append((writer, names))

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Refresh all of them now and then, in a thread: a target that hangs holds up nothing."""
        thread = threading.Thread(target=self._keep, name="fences", daemon=True)
        if self.sessions:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            if self.sessions:
                thread.join(_CLOSE_SECONDS)

    def _keep(self) -> None:
        while not self.stop.wait(phases.FENCES_EVERY):
            for writer, names in self.sessions:
                with contextlib.suppress(Exception):  # the next time is soon enough
                    writer.keep_fences(names)
