"""The plan as lines for the user, as ``--dry-run`` prints it."""

from __future__ import annotations

from shake.config import Config
from shake.plan.plan import Action, Plan, StreamPlan, TablePlan, capacity_rate, seconds_at_least
from shake.status.figures import count, duration, many, size
from shake.stream.shard import State


def describe(plan: Plan, config: Config, workers: int) -> list[str]:
    """The whole, then each table, then what speaks against it."""
    tables = plan.tables
    items = count(sum(table.table.items for table in tables))
    stored = size(sum(table.table.bytes for table in tables))
    units = count(sum(table.read_capacity(config) for table in tables))
    seconds = seconds_at_least(config, tables)
    actions = [table.action for table in tables]
    dropped = actions.count(Action.DROP) + actions.count(Action.RESYNC)
    lines = [
        f"task {config.id}, sync_mode = {config.sync_mode}: {many(len(tables), 'table')}, "
        f"{items} items, {stored} (DynamoDB's own counts, up to six hours old)",
        f"  to be read: about {units} read capacity units, in {duration(seconds)} at the least",
        f"  by: {many(workers, 'worker')}{_at_once(plan, config, workers)}",
        f"  existing collections: {dropped} {'DROPPED' if dropped else 'dropped'}, "
        f"{actions.count(Action.RENAME)} renamed{_in_the_way(actions)}",
    ]
    if any(table.copies and table.stream for table in tables):
        lines.append(f"  changes during the copy: {_meanwhile(config)}")
    for table in tables:
        lines += _describe_table(table, config)
    lines += [f"warning: {text}" for text in plan.warnings]
    return lines + [f"REFUSED: {text}" for text in plan.refusals]


def _in_the_way(actions: list[Action]) -> str:
    number = actions.count(Action.REFUSE)
    return f", {count(number)} in the way" if number else ""


def _at_once(plan: Plan, config: Config, workers: int) -> str:
    """How many segments are read at the same time: a worker without one does nothing."""
    left = sorted((_segments_left(table) for table in plan.tables), reverse=True)
    readable = sum(left[: config.full_concurrency])
    if config.sync_schema_only or not readable:
        return ""
    scanners = min(workers * config.full_document_parser, readable)
    tables = many(config.full_concurrency, "table")
    return f", which read {many(scanners, 'segment')} at once, of {tables} at most"


def _segments_left(plan: TablePlan) -> int:
    return sum(not record.done for record in plan.segments) if plan.copies else 0


def _describe_table(plan: TablePlan, config: Config) -> list[str]:
    table = plan.table
    keys = " + ".join(f"{key.name} ({key.type})" for key in table.keys)
    lines = [
        f"table {table.name} -> {plan.place}: {plan.action.value}",
        f"  {count(table.items)} items, {size(table.bytes)}, key {keys}",
    ]
    if plan.action is Action.RENAME:
        lines.append(f"  the existing collection becomes {plan.record.backup}")
    if plan.gap:
        lines.append(f"  a gap: {plan.gap}")
    if plan.copies:
        lines += [_reading(plan, config), f"  indexes: {', '.join(plan.indexes) or 'none'}"]
    return lines + ([_changes(plan.stream, config, plan.copies)] if plan.stream else [])


def _changes(plan: StreamPlan, config: Config, copies: bool) -> str:
    if plan.record is not None:
        open_shards = sum(shard.state is not State.APPLIED for shard in plan.shards)
        return f"  changes: {many(open_shards, 'shard')} to be read on from the checkpoint"
    stream = plan.stream.arn if plan.stream.enabled else "a stream that will be ENABLED"
    start = "" if copies else f", from incr.start = {config.incr_start}"
    return f"  changes: by {stream}{start}"


def _meanwhile(config: Config) -> str:
    """What becomes of changes while the copy runs."""
    if not config.incr_sync_parallel:
        return "kept by their streams for 24 hours; a longer copy needs incr_sync_parallel = true"
    return f"journaled in {config.journal_folder}, up to {count(config.journal_max_mb)} MB"


def _reading(plan: TablePlan, config: Config) -> str:
    if config.sync_schema_only:
        return "  sync_schema_only: collection and indexes, no item is read"
    left = _segments_left(plan)
    if not left:
        return "  all segments are copied, the indexes are left"
    return (
        f"  {count(left)} of {many(len(plan.segments), 'segment')} to read: about "
        f"{count(plan.read_capacity(config))} read capacity units, "
        f"{duration(plan.seconds_at_least(config))} at the least ({_limits(plan, config)})"
    )


def _limits(plan: TablePlan, config: Config) -> str:
    calls = f"{count(config.qps_full)} Scan calls a second"
    if items := config.qps_full_batch_num:
        calls += f" of at most {many(items, 'item')}: qps.full.batch_num"
    budget = capacity_rate(config, plan.table)
    return f"{calls}, {count(budget)} capacity units a second" if budget else calls
