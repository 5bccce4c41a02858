"""Removes what late commands of earlier runs have created, where no writer is to do it."""

from __future__ import annotations

import contextlib
import logging
import threading

from shake.config import Config
from shake.phase import Phase
from shake.plan.plan import Plan, TablePlan
from shake.targets.choice import open_target

log = logging.getLogger("shake")


def sweep(config: Config, plan: Plan) -> bool:
    """Remove what late commands of earlier runs have created, where no writer is to do it.

    A writer does it when it has taken over a staging collection, and before it applies changes.
    Returns whether an unfinished copy was removed too, which is to be begun again.
    """
    swept = [one for one in plan.tables if one.record.staged and _swept_first(one)]
    if not swept:
        return False
    target = open_target(config, stop=threading.Event(), on_retry=log.info)
    with contextlib.closing(target):
        for table in swept:
            copy = table.record.copy_run
            if staging := target.staging(table.namespace, table.table, copy, log.info):
                # Another process can have taken the number of an unfinished run by now.
                staging.sweep(published=table.record.published)
    return not all(one.record.published for one in swept)


def _swept_first(table: TablePlan) -> bool:
    if table.record.published:
        return table.stream is None
    return table.record.run > 0 and table.record.phase is Phase.PREPARING
