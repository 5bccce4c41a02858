"""One run of the check: opens both sides, goes through the tables, and says how each one stands."""

from __future__ import annotations

import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import bson

from shake.check import messages
from shake.check.belonging import Belonging, read_checkpoints
from shake.check.crew import Alone, Children, Crew
from shake.check.documents import DECODED
from shake.check.findings import Findings
from shake.check.fingerprint import BUCKETS, Fingerprint, Sums
from shake.check.part import Ends, Part, connect
from shake.check.plan import Plan, plan
from shake.check.progress import Progress, showing
from shake.check.repairing import Repairs, repairing
from shake.check.sides import Repair, Sides
from shake.check.target import KeyRange
from shake.config import Config
from shake.errors import RefusedError, RunError, UsageError
from shake.plan.source_tables import find_tables, list_tables, missing_tables, shared_places
from shake.schema import Table
from shake.source.session import open_source
from shake.status.figures import count
from shake.status.progress import Reporter
from shake.targets.capabilities import capabilities
from shake.targets.choice import problems
from shake.targets.contract import NO_FENCE, Fence

log = logging.getLogger("shake.check")

#: Parts that the keys of a collection are read in: so many for each process, and none smaller.
_RANGES_A_PROCESS = 32
_SMALLEST_RANGE = 50_000
#: Keys that are worth a warning where they are asked for one by one.
_MANY = 1_000_000
_ASKED = (
    "table %s: the source is asked for about %s keys of the target, 100 at a time: keys that came "
    "or went during the check make it so"
)
#: Keys that are held in memory when the source has to be scanned for them.
_HELD = 100_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: ``sample`` items of each table (None: all), and how much to repair.

    ``eventual``: the scan is eventually consistent, so it can miss the changes of the last seconds.
    """

    sample: int | None = None
    repair: Repair = Repair.NONE
    eventual: bool = False


def check(
    config: Config,
    wish: Wish,
    findings: Findings,
    say: Callable[[str], None],
    reporter: Reporter,
    *,
    refresh: float,
    chance: random.Random,
    workers: int,
) -> None:
    """Check all tables, by ``workers`` processes at most; the differences are in ``findings`` then.

    ``say`` gets the closing lines, ``reporter`` the progress every ``refresh`` seconds. Raises
    ShakeError where the check cannot be made, or not be brought to its end.
    """
    if not capabilities(config).is_checked:
        raise UsageError(
            f"target.type = {config.target_type}: this version compares with MongoDB only"
        )
    config = replace(config, source_consistent_read=not wish.eventual)
    endpoint, credentials = open_source(config)
    progress = Progress(config.id, findings, filtered=config.scan_filter is not None)

    def set_up() -> messages.CheckSetup:
        return messages.CheckSetup(endpoint, credentials(), wish.repair)

    children = Children(config, set_up, credentials, progress)
    ends = connect(config, endpoint, credentials, live=not wish.repair)
    with contextlib.closing(ends), contextlib.closing(children), contextlib.ExitStack() as stack:
        ends.target.probe([])
        checkpoints = read_checkpoints(config, repair=bool(wish.repair))
        found = _find(config, ends, list(checkpoints))
        tables = [table for table, _ in found]
        if wish.repair:
            ends.target.probe([config.place(table.name) for table in tables])
        belonging = Belonging(config, ends.target, checkpoints, bool(wish.repair))
        belonging.verify(tables)
        repairs = None
        if wish.repair:
            repairs = stack.enter_context(repairing(config, ends.target))
        run = _Run(config, wish, findings, ends, children, chance, progress, belonging, repairs)
        plans = [plan(config, table, workers, holds_items=holds) for table, holds in found]
        if wish.repair:
            for table in tables:
                say(belonging.announce(table))
        if wish.sample is None and not config.sync_schema_only:
            for one in plans:
                say(one.describe(config))
        with showing(progress, reporter, refresh):
            for one in plans:
                for line in run.check(one):
                    say(line)
    if findings.unsaid:
        say(f"{count(findings.unsaid)} more differences: --report FILE names all of them")


def _find(config: Config, ends: Ends, saved: list[str]) -> list[tuple[Table, bool]]:
    """The tables to be compared, and whether each holds items; ``saved`` are in the checkpoint."""
    found = find_tables(config, ends.client, list_tables(config, ends.client), saved)
    refusals = missing_tables(config, ends.client, found, saved)
    refusals += [problem for table, _ in found for problem in problems(table, config)]
    refusals += shared_places(config, found)
    if refusals:
        raise RefusedError(refusals[0])
    return list(found)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the checks of all tables share."""

    config: Config
    wish: Wish
    findings: Findings
    ends: Ends
    children: Children
    chance: random.Random
    progress: Progress
    belonging: Belonging
    repairs: Repairs | None

    def check(self, plan: Plan) -> list[str]:
        """Check a table; return what is to be said of it."""
        table, wish = plan.table, self.wish
        fence = NO_FENCE
        if self.repairs:
            fence = self.repairs.begin(table, 1 if plan.processes == 1 else plan.processes + 1)
        part = Part(self.ends, table, self.progress, repair=wish.repair, fence=fence, processes=1)
        with self.progress.table(table, part.sides.stored.place):
            if self.config.sync_schema_only:
                pass
            elif wish.sample is not None:
                part.items.some(wish.sample, self.chance, holds_items=plan.holds_items)
                if not part.sides.stored.keys.lossy:
                    part.extras.some(wish.sample)
                part.do(messages.Settle())
            else:
                self._compare(plan, part, fence)
            self.belonging.verify_again(table)
            _check_indexes(part.sides)
        return self._closing(table, lossy=part.sides.stored.keys.lossy)

    def _compare(self, plan: Plan, part: Part, fence: Fence) -> None:
        """Every item, then every document."""
        crew: Crew = Alone(part, self.ends.stop.set)
        if plan.processes > 1:
            crew = self.children.open(plan.table, plan.processes, fence)
        for _ in crew.each(
            [messages.Compare(n, plan.segments) for n in range(plan.segments)], messages.Done
        ):
            pass
        crew.all(messages.Settle(), messages.Done)
        found = _merged(crew.all(messages.SumItems(), Sums))
        self.progress.reading_keys(found.keys)
        ranges = part.sides.stored.ranges(_parts(plan, found.keys))
        for _ in crew.each([messages.ReadKeys(one) for one in ranges], messages.Done):
            pass
        theirs = _merged(crew.all(messages.SumKeys(), Sums))
        unequal = found.unequal(theirs)
        if part.sides.stored.keys.lossy:
            at_once = max(1, _HELD * BUCKETS // max(1, found.keys + theirs.keys))
            rest = sorted(unequal)
            for first in range(0, len(rest), at_once):
                buckets = messages.LookFor(tuple(rest[first : first + at_once]))
                self._count_again(crew, part, buckets, plan.segments, ranges)
        elif unequal:
            asked = theirs.keys * len(unequal) // BUCKETS
            if asked > _MANY:
                log.warning(_ASKED, plan.table.name, count(asked))
            self.progress.reading_keys(theirs.keys)
            crew.all(messages.LookFor(tuple(unequal)), messages.Done)
            for _ in crew.each([messages.NameExtras(one) for one in ranges], messages.Done):
                pass
            crew.all(messages.Settle(), messages.Done)

    def _count_again(
        self,
        crew: Crew,
        part: Part,
        buckets: messages.LookFor,
        segments: int,
        ranges: list[KeyRange],
    ) -> None:
        """Compare the keys of some buckets by reading the whole source once more.

        For keys that have become doubles, from which no way leads back to the item.
        """
        crew.all(buckets, messages.Done)
        held = crew.each([messages.ListKeys(one) for one in ranges], messages.Keys)
        theirs = [bson.decode(key, DECODED) for keys in held for key in keys.documents]
        ours: Counter[bytes] = Counter()
        for some in crew.each(
            [messages.CountItems(n, segments) for n in range(segments)], messages.Counts
        ):
            ours.update(some.digests)
        part.extras.compare(ours, theirs)

    def _closing(self, table: Table, *, lossy: bool) -> list[str]:
        name = f"table {table.name}"
        sample = self.wish.sample is not None
        compared, scanned = self.progress.done.compared, self.progress.done.scanned
        what = f"{'a sample of ' * sample}{count(compared)} items"
        if self.config.sync_schema_only:
            what = "indexes"
        filtered = self.config.scan_filter is not None
        differences = self.findings.closing(table.name) or "no difference" * filtered
        lines = [
            f"{name}: {what} compared: {differences}" if differences else f"{name}: {what} equal"
        ]
        if sample and lossy:
            lines.append(
                f"{name}: extra documents were not looked for: with convert.type = mchange only a "
                "check without --sample can tell"
            )
        if filtered:
            lines.append(
                f"SCAN FILTER ON: {name}: {count(compared)} of {count(scanned)} "
                "scanned items were compared, the others were NOT (full.read.filter_expression)"
            )
        return lines


def _check_indexes(sides: Sides) -> None:
    """Name the indexes that are not there, and build them where the check repairs."""
    missing = left = sides.stored.missing_indexes()
    refused = ""
    if missing and sides.repair:
        try:
            sides.stored.build_indexes()
        except RunError as error:
            refused = str(error)
        left = sides.stored.missing_indexes()
    for index in missing:
        repaired = index not in left
        note = "" if repaired else refused
        sides.differ("index", None, fields=(str(index),), repaired=repaired, note=note)


def _parts(plan: Plan, keys: int) -> int:
    """How many parts so many keys of a collection are read in."""
    most = max(plan.processes, keys // _SMALLEST_RANGE)
    return 1 if plan.processes == 1 else min(plan.processes * _RANGES_A_PROCESS, most)


def _merged(sums: list[Sums]) -> Fingerprint:
    whole = Fingerprint()
    for one in sums:
        whole.merge(one)
    return whole
