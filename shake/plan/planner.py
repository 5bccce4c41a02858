"""Plans one table after the other, and collects everything that stands against a run."""

from __future__ import annotations

import time
from dataclasses import replace

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.identity import Identity
from shake.checkpoint.records import (
    STATUS_TABLE,
    SegmentRecord,
    TableRecord,
    new_generation,
)
from shake.config import Config
from shake.config.secrets import hosts
from shake.phase import Phase
from shake.plan.origins import (
    another_table,
    changed_settings,
    recognise,
    shaping_settings,
    with_origin,
)
from shake.plan.plan import Action, StreamPlan, TablePlan, count_segments
from shake.private_files import unwritable_ancestor
from shake.schema import Table
from shake.source.contract import Stream
from shake.source.streams import stream_problem
from shake.status.figures import many
from shake.stream.journal import Journal
from shake.stream.shard import ShardState, as_number
from shake.targets.choice import index_names, namespace_problems, problems
from shake.targets.contract import Location, OnExisting, Staging, Target
from shake.targets.same_collection import collation_problem, mismatch


def following_problems(config: Config) -> list[str]:
    """Why changes cannot be followed as the configuration says."""
    if config.sync_mode == "full":
        return []
    refusals, folder = [], config.journal_folder  # which is made when it is needed
    if config.incr_sync_parallel and (near := unwritable_ancestor(folder)):
        refusals.append(
            f"journal.path: {folder} cannot be created or written to: {near} is not a writable "
            "folder"
        )
    if not (config.increase_executor_upsert or config.capabilities.updates_only):
        refusals.append(
            f"increase.executor.upsert = false: target.type = {config.target_type} cannot "
            "leave out changes of missing items"
        )
    return refusals


def _with_policy(plan: TablePlan, on_existing: OnExisting, backup: str = "") -> TablePlan:
    """The plan, with what becomes of an existing collection."""
    record = replace(plan.record, on_existing=on_existing, backup=backup or plan.record.backup)
    return replace(plan, action=Action[on_existing.upper()], record=record)


def _without_old_positions(plan: TablePlan) -> TablePlan:
    """The plan; where its copy begins now, it needs no change from before, which can be trimmed.

    Where it was followed already, a user can go back to ``sync_mode = incr``: they stay.
    """
    begins = plan.copies and plan.record.phase is Phase.PREPARING
    if not begins or plan.stream is None or plan.stream.record is None:
        return plan
    began = plan.stream.record.began
    if any(one.sequence or one.applied_through > began for one in plan.stream.shards):
        return plan
    return replace(plan, stream=StreamPlan(plan.stream.stream))


def _stores_nothing(record: TableRecord, segments: list[SegmentRecord]) -> bool:
    """Whether a copy has got no further than its staging collection, which can be replaced."""
    begun = record.phase in (Phase.PREPARING, Phase.COPYING)
    got_on = any(one != SegmentRecord(one.segment, run=one.run) for one in segments)
    return begun and record.staged and not got_on


class Planner:
    """Plans table by table, collecting refusals, so that the user sees all of them at once."""

    def __init__(
        self, config: Config, scanners: int, target: Target, checkpoints: Checkpoints, stamp: int
    ) -> None:
        self.refusals: list[str] = []
        self.warnings: list[str] = []
        self.refusals += following_problems(config)
        self._config = config
        self._scanners = scanners
        self._target = target
        self._checkpoints = checkpoints
        self._stamp = stamp
        self._settings = shaping_settings(config)

    def plan(self, table: Table, holds_items: bool, stream: Stream | None) -> TablePlan:
        """``stream`` is the one that the table has, None where changes are not followed."""
        found = len(self.refusals)
        plan = self._with_stream(table, holds_items, stream)
        self._name_others(plan)
        plan, difference = recognise(plan)
        if difference and not self._begun(plan):
            return with_origin(plan, table.origin)
        if difference:  # what else was found follows from it
            self.refusals[found:] = [another_table(self._config, table.name, difference)]
            return plan
        plan = _without_old_positions(plan)
        self._check_journal(plan)
        return plan

    def _name_others(self, plan: TablePlan) -> None:
        """Warn of collections of copies whose checkpoints were removed."""
        staging = self._staging(plan) if plan.record.staged else None
        for name, documents in staging.others(plan.record.drops) if staging else ():
            self.warnings.append(
                f"{name} ({many(documents, 'document')}) is what a copy into {plan.namespace} has "
                "left, and this task has no checkpoint of it: remove it, unless another task is at "
                "work there"
            )

    def _begun(self, plan: TablePlan) -> bool:
        """The checkpoint holds something of the table besides its identity."""
        record, _ = self._checkpoints.load(plan.table.name)
        return record is not None or (plan.stream is not None and plan.stream.record is not None)

    def _with_stream(self, table: Table, holds_items: bool, stream: Stream | None) -> TablePlan:
        plan = self._plan(table, holds_items, stream)
        if stream is None:
            return plan
        plan = replace(plan, identity=plan.identity.used_by(self._target.user))
        record, shards = self._checkpoints.load_stream(table.name)
        if problem := stream_problem(table.name, stream):
            self.refusals.append(problem)
        plan = replace(plan, stream=StreamPlan(stream, record, tuple(shards)))
        alone = self._config.sync_mode == "incr" and not plan.gap
        return self._follow(plan) if alone else self._copied(plan)

    def _check_journal(self, plan: TablePlan) -> None:
        """What is journaled and not applied must be where it was."""
        journal, name = Journal(self._config.journal_folder), plan.table.name
        missing = sum(
            as_number(one.journal.sequence) > as_number(one.sequence)
            and not journal.file(name, one.id).exists()
            for one in (plan.stream.shards if plan.stream else ())
            if one.journal and one.state is not ShardState.APPLIED
        )
        if missing:
            self.refusals.append(
                f"table {name}: the journal of {missing} of its shards is not in "
                f"{journal.folder}: start in the folder, and on the machine, where the last run "
                "was, or set journal.path to where it is"
            )

    def _follow(self, plan: TablePlan) -> TablePlan:
        """Changes alone: what is there already is as it should be."""
        name = plan.table.name
        if plan.action is Action.RESUME:
            self.refusals.append(
                f"the copy of table {name} is not complete: go on with sync_mode = all, or full"
            )
        record = replace(plan.record, segments=0, phase=Phase.DONE)
        complete = plan.action is Action.COMPLETE
        plan = replace(plan, action=Action.FOLLOW, record=record, segments=())
        if plan.identity.collection_uuid and not complete:
            return self._verified(plan)
        if found := self._target.find(plan.namespace, plan.table):
            self.refusals += filter(None, [collation_problem(name, plan.namespace, found)])
        return plan

    def _copied(self, plan: TablePlan) -> TablePlan:
        """A copy that was begun without its stream's positions misses what changed meanwhile."""
        assert plan.stream is not None
        name, began = plan.table.name, plan.action in (Action.RESUME, Action.COMPLETE)
        if began and plan.stream.record is None:
            self.refusals.append(
                f"the copy of table {name} was begun with sync_mode = full, so what has changed "
                "since is not in it: go on with full; or follow from the stream's oldest change, "
                "at most 24 hours ago, with sync_mode = incr; or copy anew under another id; or "
                + self._config.start_over(name)
            )
        return plan

    def _lacks_positions(self, record: TableRecord, stream: Stream | None) -> bool:
        """A copy has begun, and where its changes are read from is not saved, or of another copy.

        Such as of one with other settings, which has ended before its record was saved.
        """
        began = record.phase is Phase.COPYING and stream is not None
        return began and self._checkpoints.load_stream(record.table)[0] is None

    def _plan(self, table: Table, holds_items: bool, stream: Stream | None) -> TablePlan:
        config = self._config
        record, saved = self._checkpoints.load(table.name)
        namespace = config.namespace(table.name)
        fresh, anew = record is None, False
        if record is None:
            record = TableRecord(
                table=table.name,
                namespace=namespace,
                stamp=self._stamp,
                segments=count_segments(config, table, self._scanners, holds_items=holds_items),
                settings=self._settings,
                generation=new_generation(),
            )
        elif (changed := changed_settings(config, record)) or self._lacks_positions(record, stream):
            copies = config.sync_mode != "incr" and self._target.staging(
                namespace, table, record.copy_run, lambda line: None
            )
            if copies and _stores_nothing(record, saved) and record.namespace == namespace:
                record = replace(
                    record.anew(self._stamp, record.segments, record.gap), settings=self._settings
                )
                saved, anew = [], True
            else:
                self.refusals += changed
        known = {one.segment: one for one in saved}
        identity = self._checkpoints.load_identity(table.name)
        plan = TablePlan(
            table=table,
            action=Action.CREATE,
            record=record,
            segments=tuple(
                known.get(number) or SegmentRecord(number, run=record.run)
                for number in range(record.segments)
            ),
            indexes=tuple(index_names(table, config)),
            saved=identity,
            identity=identity or Identity(server=hosts(config.target_address)),
            anew=anew,
        )
        self._check(table)
        if not fresh:
            return self._go_on(plan)
        plan = self._staged(plan)
        if config.sync_mode == "incr":
            return plan
        return self._decide_existing(
            replace(plan, identity=replace(plan.identity, collection_uuid=""))
        )

    def _decide_existing(self, plan: TablePlan) -> TablePlan:
        """Decide what is done with an existing collection that has the final name of the copy."""
        record, namespace = plan.record, plan.namespace
        found = self._target.find(namespace, plan.table)
        if found is None:
            return _with_policy(plan, "create")
        # Also an unfinished copy that got its name after all, by a rename that was not answered.
        filled = {plan.identity.collection_uuid} - {""}
        if record.on_existing == "resync" or record.replaces:
            filled.add(record.replaces)
        dropping = replace(
            record, drops=tuple(dict.fromkeys([*record.drops, found.collection_uuid]))
        )
        if found.collection_uuid in filled:
            record = dropping.replacing(found.collection_uuid)
            return _with_policy(replace(plan, record=record), "resync")
        match self._config.target_db_exist:
            case "drop":
                return _with_policy(replace(plan, record=dropping), "drop")
            case "rename" if record.staged:
                date = time.strftime("%Y-%m-%dZ%H:%M:%S", time.gmtime(record.stamp))
                backup = f"{namespace}.{date}"
                self.refusals += namespace_problems(backup, self._config)
                if self._target.find(backup, plan.table) is not None:
                    self.refusals.append(
                        f"collection {namespace} cannot be renamed to {backup}, which exists: "
                        "rename or remove that one"
                    )
                return _with_policy(plan, "rename", backup)
            case "rename":
                self.refusals.append(
                    f"collection {namespace} exists, and this target cannot rename it: set "
                    "target.db.exist = drop, or give the table another namespace by "
                    "namespace.map"
                )
            case _:
                self.refusals.append(
                    f"collection {namespace} exists: set target.db.exist to rename or drop, or "
                    f"give table {plan.table.name} another namespace by namespace.map"
                )
        return replace(plan, action=Action.REFUSE)

    def _go_on(self, plan: TablePlan) -> TablePlan:
        """A later run: the collection is our own."""
        record = plan.record
        if record.phase is Phase.DONE:
            return replace(self._verified(plan), action=Action.COMPLETE)
        plan = replace(plan, record=replace(record, run=record.run + 1))
        if record.phase is Phase.PREPARING:
            if record.replaces and not record.staged:  # what an older version copied
                plan = self._staged(plan)
            # Unstaged: what exists by now can be what an earlier run has created.
            looks = plan.record.staged or record.on_existing == "drop"
            return self._decide_existing(plan) if looks else _with_policy(plan, record.on_existing)
        if record.phase is Phase.BROKEN or not record.staged:
            return replace(self._verified(plan), action=Action.RESUME)
        return self._resume(plan)

    def _resume(self, plan: TablePlan) -> TablePlan:
        """A copy that has begun goes on in its staging collection, which must be there."""
        staging = self._staging(plan)
        location = staging.look(plan.identity.collection_uuid) if staging else None
        if location is None:
            self.refusals.append(
                f"the staging collection of table {plan.table.name} is gone, but its copy is not "
                "complete: check target.address; or " + self._config.start_over(plan.table.name)
            )
        elif location.namespace != plan.namespace:
            plan = self._decide_existing(plan)
        return plan if plan.action is Action.REFUSE else replace(plan, action=Action.RESUME)

    def _staged(self, plan: TablePlan) -> TablePlan:
        """The plan of a copy that begins: in a staging collection, where the target has one."""
        staged = self._staging(plan) is not None
        return replace(plan, record=replace(plan.record, staged=staged))

    def _staging(self, plan: TablePlan) -> Staging | None:
        copy = plan.record.copy_run
        return self._target.staging(plan.namespace, plan.table, copy, lambda line: None)

    def _verified(self, plan: TablePlan) -> TablePlan:
        """The collection that was filled must still be there; one that is not known is adopted."""
        identity = plan.identity
        found = self._target.find(plan.namespace, plan.table)
        if found and plan.record.phase not in (Phase.DONE, Phase.BROKEN):
            found = found._replace(has_key_index=True)  # it is built after the data
        location = Location(plan.namespace, identity.collection_uuid)
        if problem := mismatch(self._config, plan.table.name, location, found, identity.server):
            self.refusals.append(problem)
            return plan
        uuid = identity.collection_uuid or (found.collection_uuid if found else "")
        return replace(plan, identity=replace(identity, collection_uuid=uuid))

    def _check(self, table: Table) -> None:
        config = self._config
        self.refusals += problems(table, config)
        if table.name == STATUS_TABLE:
            self.refusals.append(
                f"table {STATUS_TABLE}: shake keeps its own state under that name; leave it out "
                "with filter.collection.black"
            )
        windows = [window.budget for window in config.source_windows]
        for budget in (config.source_read_budget, *windows):
            shares = budget.chosen and budget.share
            if shares and budget.units(table.read_capacity, in_aws=table.in_aws) is None:
                key = "source.windows" if budget in windows else "source.read_budget"
                self.refusals.append(
                    f"table {table.name} is on demand: a share as {key} has no meaning there; "
                    "give capacity units a second"
                )
                return
