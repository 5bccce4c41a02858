"""One run of the check: opens both sides, goes through the tables, and says how each one stands."""

from __future__ import annotations

import contextlib
import json
import platform
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shake import __version__
from shake.check import messages
from shake.check.belonging import Belonging, read_checkpoints
from shake.check.changes import FullCheckNeeded
from shake.check.comparing import Comparison
from shake.check.findings import Findings
from shake.check.part import CheckConnections, CheckPart, connect
from shake.check.plan import CheckPlan, plan
from shake.check.processes import CheckProcesses
from shake.check.progress import CheckProgress, saving, showing
from shake.check.recording import Recording, recording
from shake.check.repairing import Repairs, refuse_early, repairing
from shake.check.sides import Repair
from shake.check.since import compare_changes, last_check
from shake.check.source import try_reading
from shake.check.state import CheckState
from shake.checkpoint.kept import KeptItems
from shake.codec.siphash import SEED_LENGTH
from shake.config import Config
from shake.config.secrets import hosts
from shake.errors import RefusedError, RunError
from shake.plan.origins import saved_origin
from shake.plan.source_tables import find_tables, list_tables, missing_tables, shared_namespaces
from shake.schema import Table
from shake.source.aws_session import open_source
from shake.status.figures import count, many, utc
from shake.status.progress import Reporter
from shake.targets.choice import problems
from shake.targets.contract import NO_FENCE

#: Seconds between two pictures of the progress.
_REFRESH = 0.5


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is asked for: ``sample`` items of each table (None: all), and how much to repair.

    ``eventual``: the scan is eventually consistent, so it can miss the changes of the last seconds.
    ``anew``: it does not go on where an interrupted check has ended. ``since``: only what has
    changed since the last completed check. ``after_cutover``: a repair is allowed after that, too.
    """

    sample: int | None = None
    repair: Repair = Repair.NONE
    eventual: bool = False
    anew: bool = False
    since: bool = False
    after_cutover: bool = False


def check(
    config: Config,
    options: CheckOptions,
    findings: Findings,
    say: Callable[[str], None],
    reporter: Reporter,
    *,
    workers: int,
    confirm: Callable[[Sequence[str]], None],
) -> None:
    """Check all tables, by ``workers`` processes at most; the differences are in ``findings`` then.

    ``say`` gets the closing lines, ``reporter`` the progress. ``confirm`` is called with the
    collections that are to be repaired, and raises to stop that. Raises ShakeError where the check
    cannot be made, or not be brought to its end.
    """
    config = replace(config, source_consistent_read=not options.eventual)
    endpoint, credentials = open_source(config)
    progress = CheckProgress(config.id, findings, filtered=config.scan_filter is not None)
    children = CheckProcesses(config, endpoint, credentials, options.repair, progress)
    opened = connect(config, endpoint, credentials, options.repair)
    with contextlib.closing(opened), contextlib.closing(children), contextlib.ExitStack() as stack:
        found, belonging = _verified(opened)
        repairs: Repairs | None = None
        if options.repair:
            tables = [table for table, _ in found]
            refuse_early(config, options.after_cutover)
            confirm([config.namespace(table.name) for table in tables])
            right = repairing(config, opened.target, tables, options.after_cutover)
            repairs = stack.enter_context(right)
        plans = [plan(config, table, workers, holds_items=holds) for table, holds in found]
        records: Recording | None = None
        if not (options.repair or options.sample or config.sync_schema_only):
            anew, since = options.anew, options.since
            saved = recording(opened, plans, eventual=options.eventual, anew=anew, since=since)
            records = stack.enter_context(saved)
        run = _Run(options, findings, opened, children, progress, belonging, repairs, records, say)
        run.check_all(plans, reporter)
    if findings.unsaid:
        say(f"{count(findings.unsaid)} more differences: --report FILE names all of them")


def _verified(opened: CheckConnections) -> tuple[list[tuple[Table, bool]], Belonging]:
    """The tables, and whether each holds items; all of them can be compared, or repaired."""
    config, client, target, repair = opened.config, opened.client, opened.target, opened.repair
    target.probe([])
    checkpoints = read_checkpoints(config, repair=bool(repair))
    known, checkpoints = checkpoints is not None, checkpoints or {}
    saved = {name: saved_origin(one.identity, one.stream) for name, one in checkpoints.items()}
    found = find_tables(config, client, list_tables(config, client), saved)
    refusals = missing_tables(config, client, found, saved)
    refusals += [problem for table, _ in found for problem in problems(table, config)]
    refusals += shared_namespaces(config, found)
    if refusals:
        raise RefusedError(refusals[0])
    tables = [table for table, _ in found]
    if repair:
        target.probe([config.namespace(table.name) for table in tables])
    belonging = Belonging(config, target, checkpoints, bool(repair), known)
    belonging.verify(tables)
    if not config.sync_schema_only:
        for table in tables:
            try_reading(client, table)
    return found, belonging


def _header(config: Config, options: CheckOptions, tables: list[Table]) -> dict[str, Any]:
    """What the report begins with."""
    kind = "since" if options.since else "sample" if options.sample else "full"
    return {
        "task": config.id,
        "time": utc(time.time()),
        "check": kind,
        "repair": bool(options.repair),
        "source": config.source_endpoint_url or f"AWS {config.source_region}".strip(),
        "target": hosts(config.target_address),
        "tables": {
            table.name: {"arn": table.origin.arn, "place": config.namespace(table.name)}
            for table in tables
        },
        "versions": {"shake": __version__, "python": platform.python_version()},
    }


@dataclass(frozen=True, slots=True)
class _Run:
    """What the checks of all tables share."""

    options: CheckOptions
    findings: Findings
    opened: CheckConnections
    children: CheckProcesses
    progress: CheckProgress
    belonging: Belonging
    repairs: Repairs | None
    recording: Recording | None
    say: Callable[[str], None]

    def check_all(self, plans: list[CheckPlan], reporter: Reporter) -> None:
        """Say what is about to be done. Check one table after the other; show and save progress."""
        config, options = self.opened.config, self.options
        tables = [one.table for one in plans]
        if options.repair:
            for table in tables:
                self.say(self.belonging.announce(table))
        if options.sample is None and not options.since and not config.sync_schema_only:
            for one in plans:
                self.say(one.describe(config))
        self.findings.begin(_header(config, options, tables))
        saves: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.recording:
            saves = saving(self.recording.checks, self.progress, len(plans))
        with saves, showing(self.progress, reporter, _REFRESH):
            for one in plans:
                for line in self.check(one):
                    self.say(line)
        if self.recording and not self.options.since:
            self.recording.done()

    def check(self, plan: CheckPlan) -> list[str]:
        """Check a table; return what is to be said of it."""
        table, options = plan.table, self.options
        fence = NO_FENCE
        if self.repairs:
            fence = self.repairs.begin(table, 1 if plan.processes == 1 else plan.processes + 1)
        # A check that goes on needs the digests of the one before it.
        check = self.recording.check if self.recording else ""
        seed = bytes.fromhex(check) or secrets.token_bytes(SEED_LENGTH)
        # A task can end before the first difference, in whatever process that is found.
        ran, known = self.opened.following.ran, self.belonging.known
        begun = messages.Open(table, 1, seed, fence, ran, known)
        part = CheckPart(self.opened, begun, self.progress)
        whole = not options.since and options.sample is None
        with self.progress.table(table, part.sides.stored.namespace, whole=whole):
            if self.repairs:
                self._replay(part, self.repairs.kept(table))
            if not self.opened.config.sync_schema_only:
                if options.since:
                    return self._compare_changes(part)
                if options.sample is None:
                    return self._compare(plan, part)
                part.items.some(options.sample, random.Random(), holds_items=plan.holds_items)
                if not part.sides.stored.keys.lossy:
                    part.extras.some(options.sample)
                part.do(messages.ResolveDoubts())
            self._verify_again(part)
        return self._closing(part)

    def _verify_again(self, part: CheckPart) -> None:
        """Name the indexes that are not there, and build them where the check repairs.

        Raises RunError where the collection was dropped or replaced during the check.
        """
        sides = part.sides
        self.belonging.verify_again(sides.table)
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
            sides.differ("index", None, fields=(index,), repaired=repaired, note=note)

    def _replay(self, part: CheckPart, kept: KeptItems) -> None:
        """Store kept items that can be stored now. Remove those for which both sides are equal."""
        if keys := [json.loads(item.key) for item in kept.items()]:
            stored = part.items.replay(keys)
            for key in stored:
                kept.remove(key)
            self.say(
                f"table {part.sides.table.name}: {many(len(keys), 'kept item')}: {len(stored)} "
                f"stored, or gone from the source; {len(keys) - len(stored)} still kept"
            )

    def _compare(self, plan: CheckPlan, part: CheckPart) -> list[str]:
        """Compare a table as a whole, or go on with that."""
        table = plan.table
        record = self.recording.begin(plan) if self.recording else None
        state = CheckState(plan.segments)
        if record:
            state = record.state
            if record.since and not record.over:
                self.say(
                    f"table {table.name}: the check of {utc(record.since)} goes on, after "
                    f"{many(state.done.compared, 'item')} (--anew begins again)"
                )
            self.findings.restore(record.differences, record.since)
            if record.over:
                differences = self.findings.closing(table.name) or "no difference"
                return [f"table {table.name}: this check has compared it already: {differences}"]
        self.progress.resumed(state.done)
        comparison = Comparison(plan, part, self.children, self.progress, state, record)
        comparison.run()
        self._verify_again(part)
        comparison.finish()
        if record:
            finished = self.opened.client.clock.earliest()
            record.complete(self.findings.verdict(table.name), finished)
        return self._closing(part)

    def _compare_changes(self, part: CheckPart) -> list[str]:
        """Compare what has changed since the last completed check of a table."""
        table, records = part.sides.table, self.recording
        if records is None:
            raise FullCheckNeeded(table.name, "the checkpoint store cannot be used")
        self.findings.name_once()
        last = last_check(records, table)
        began, local, (stream, shards) = records.now(), time.time(), records.positions(table)
        compare_changes(records, last, part)
        self._verify_again(part)
        verdict = self.findings.verdict(table.name)
        done = replace(
            last,
            began=began,
            local_began=local,
            finished=records.now(),
            verdict=verdict,
            stream=stream,
            shards=shards,
        )
        records.complete(table.name, last, done, list(part.snapshot(0).differences))
        compared = many(self.progress.done.compared, "key")
        moment = utc(last.began)
        differences = self.findings.closing(table.name) or "no difference"
        return [
            f"table {table.name}: {compared} that changed since {moment}, or differed then, "
            f"compared: {differences}"
        ]

    def _closing(self, part: CheckPart) -> list[str]:
        name, config = f"table {part.sides.table.name}", self.opened.config
        sample = self.options.sample is not None
        done = self.progress.done
        what = f"{'a sample of ' * sample}{many(done.compared, 'item')}"
        if config.sync_schema_only:
            what = "indexes"
        filtered = config.scan_filter is not None
        differences = self.findings.closing(part.sides.table.name) or "no difference" * filtered
        result = f"compared: {differences}" if differences else "equal"
        lines = [f"{name}: {what} {result} ({many(round(done.units), 'read unit')} used)"]
        if sample and part.sides.stored.keys.lossy:
            lines.append(
                f"{name}: extra documents were not looked for: with convert.type = mchange only a "
                "check without --sample can find out"
            )
        if filtered:
            lines.append(
                f"SCAN FILTER ON: {name}: {count(done.compared)} of {count(done.scanned)} "
                "scanned items were compared, the others were NOT (full.read.filter_expression)"
            )
        return lines
