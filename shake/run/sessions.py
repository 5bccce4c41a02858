"""Ends sessions at the target, so that it refuses what was sent in them and arrives late."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.records import repair_sessions
from shake.config import Config
from shake.plan.plan import Plan, TablePlan
from shake.plan.positions import StreamPosition
from shake.targets.choice import open_target
from shake.targets.contract import Fence

log = logging.getLogger("shake")


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
