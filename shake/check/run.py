"""One run of the check: opens both sides, goes through the tables, and says how each one stands."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shake.check.extras import Extras
from shake.check.findings import Findings
from shake.check.indexes import check_indexes
from shake.check.items import THREADS, Items
from shake.check.pace import Pace
from shake.check.progress import Progress, showing
from shake.check.sides import Sides
from shake.check.source import SourceTable
from shake.check.target import StoredTable
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.records import TableState
from shake.checkpoint.store import open_store
from shake.config import Config
from shake.errors import RefusedError, UsageError
from shake.plan import capacity_rate, count_segments
from shake.preflight import find_tables, missing_tables
from shake.schema import Table
from shake.source.client import Client, Retry
from shake.source.session import open_source
from shake.status.figures import count
from shake.status.progress import Reporter
from shake.target import problems
from shake.target.mongodb import MongoTarget
from shake.target.retrying import Patience

log = logging.getLogger("shake.check")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: ``sample`` items of each table (None: all), and whether to repair."""

    sample: int | None = None
    repair: bool = False


def check(
    config: Config,
    wish: Wish,
    findings: Findings,
    say: Callable[[str], None],
    reporter: Reporter,
    *,
    refresh: float,
    chance: random.Random,
) -> None:
    """Check all tables; the differences are in ``findings`` then.

    ``say`` gets the closing lines, ``reporter`` the progress every ``refresh`` seconds. Raises
    ShakeError where the check cannot be made, or not be brought to its end.
    """
    if config.target_type != "mongodb":
        raise UsageError(
            f"target.type = {config.target_type}: this version compares with MongoDB only"
        )
    stop = threading.Event()
    with _open(config, stop) as (client, target):
        found = find_tables(config, client)
        refusals = missing_tables(config, found)
        refusals += [problem for table, _ in found for problem in problems(table, config)]
        if wish.repair:
            refusals += _unfinished(config, [table.name for table, _ in found])
        if refusals:
            raise RefusedError(refusals[0])
        target.probe([config.place(table.name) for table, _ in found] if wish.repair else [])
        progress = Progress(config.id, filtered=config.scan_filter is not None)
        run = _Run(config, wish, findings, client, target, stop, chance, progress)
        with showing(progress, reporter, refresh):
            for table, holds_items in found:
                for line in run.check(table, holds_items):
                    say(line)
    if findings.unsaid:
        say(f"{count(findings.unsaid)} more differences: --report FILE names all of them")


def _unfinished(config: Config, tables: list[str]) -> Iterator[str]:
    """A copy that goes on stores, under new ObjectIds, what was repaired before its turn came."""
    with contextlib.closing(open_store(config)) as store:
        for table in tables:
            record, _ = Checkpoints(store).load(table)
            if record and record.state in (TableState.PREPARING, TableState.COPYING):
                yield (
                    f"table {table}: the copy is not complete (status {record.state.value}), so "
                    "there is nothing to repair yet: let shake-supervisor finish it"
                )


@contextlib.contextmanager
def _open(config: Config, stop: threading.Event) -> Iterator[tuple[Client, MongoTarget]]:
    def retried(retry: Retry) -> None:
        level = (
            logging.WARNING if retry.tries == config.source_session_max_retries else logging.INFO
        )
        log.log(level, "%s: %s; it is tried again", retry.operation, retry.reason)

    client = Client(*open_source(config), on_retry=retried, stop=stop, random=random.Random())
    target = MongoTarget(config, stop, log.info)
    with contextlib.closing(client), contextlib.closing(target):
        try:
            yield client, target
        finally:
            stop.set()


@dataclass(frozen=True, slots=True)
class _Run:
    """What the checks of all tables share."""

    config: Config
    wish: Wish
    findings: Findings
    client: Client
    target: MongoTarget
    stop: threading.Event
    chance: random.Random
    progress: Progress

    def check(self, table: Table, holds_items: bool) -> list[str]:
        """Check a table; return what is to be said of it."""
        sides = self._sides(table)
        items = Items(sides, self.stop)
        with self.progress.table(table, sides.stored.place, items):
            if self.wish.repair:
                sides.stored.create()
            if not self.config.sync_schema_only:
                self._compare(sides, items, holds_items)
            check_indexes(sides)
        return self._closing(sides, items)

    def _sides(self, table: Table) -> Sides:
        config = self.config
        pace = Pace(config.qps_full, capacity_rate(config, table), self.stop)
        source = SourceTable(self.client, table, config, pace)
        patience = Patience(self.stop, log.info)
        stored = StoredTable(self.target, config.place(table.name), table, config, patience)
        return Sides(table, config, source, stored, self.findings, self.wish.repair)

    def _compare(self, sides: Sides, items: Items, holds_items: bool) -> None:
        extras, sample = Extras(sides), self.wish.sample
        if sample is not None:
            items.some(sample, self.chance, holds_items=holds_items)
            if not sides.stored.keys.lossy:
                extras.some(sample)
            return
        segments = count_segments(self.config, sides.table, THREADS, holds_items=holds_items)
        items.all(segments)
        extras.all(items.found, segments)

    def _closing(self, sides: Sides, items: Items) -> list[str]:
        name = f"table {sides.table.name}"
        sample = self.wish.sample is not None
        what = f"{'a sample of ' * sample}{count(items.compared)} items"
        if self.config.sync_schema_only:
            what = "indexes"
        differences = self.findings.closing(sides.table.name)
        lines = [
            f"{name}: {what} compared: {differences}" if differences else f"{name}: {what} equal"
        ]
        if sample and sides.stored.keys.lossy:
            lines.append(
                f"{name}: extra documents were not looked for: with convert.type = mchange only a "
                "check without --sample can tell"
            )
        if self.config.scan_filter is not None:
            lines.append(
                f"SCAN FILTER ON: {name}: {count(items.compared)} of {count(items.scanned)} "
                "scanned items were compared, the others were NOT (full.read.filter_expression)"
            )
        return lines
