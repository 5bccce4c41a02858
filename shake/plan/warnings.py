"""What the user should know before a run, besides what stands against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from shake.config import Config
from shake.plan.plan import Action, TablePlan, count_segments, seconds_at_least
from shake.schema import OLD, RETENTION
from shake.source.streams import stream_loss
from shake.status.figures import count, duration
from shake.targets.capabilities import capabilities


def warnings(config: Config, scanners: int, plans: Sequence[TablePlan]) -> Iterable[str]:
    """One line each; ``scanners`` is how many segments the farm reads at once."""
    if config.scan_filter is not None:
        yield (
            "SCAN FILTER ON: only items that match full.read.filter_expression "
            f"({config.scan_filter.expression}) are copied, while all are read and paid for"
        )
    yield from _late(config, plans)
    for plan in plans:
        for part in plan.table.left_out:
            yield (
                f"table {plan.table.name}: {part} is NOT COPIED, since this version of shake does "
                "not know it"
            )
        if config.convert_type == "mchange" and capabilities(config).documents == "bson":
            yield (
                f"table {plan.table.name}: convert.type = mchange makes every number a double: "
                "long ones lose digits"
            )
        if (
            plan.stream
            and plan.stream.record
            and (loss := stream_loss(plan.stream.stream, plan.stream.record.arn))
        ):
            yield (
                f"table {plan.table.name}: {loss}: where the source still says so a minute after "
                "the start, changes are lost, and gap.policy decides what is done"
            )
        if plan.gap:
            dropped = f", and {plan.place} DROPPED" if plan.action is Action.RESYNC else ""
            yield (
                f"table {plan.table.name} is copied again{dropped}, since changes were lost: "
                f"{plan.gap}"
            )
        if plan.table.items == 0 and plan.copies:
            yield f"table {plan.table.name}: DynamoDB's count says empty, which may be hours old"
        if plan.fresh and (by_size := _idle_scanners(config, scanners, plan)):
            yield (
                f"table {plan.table.name}: full.read.concurrency = {config.full_read_concurrency}, "
                f"though the workers could read {count(scanners)} segments at once: unset it for "
                f"{count(by_size)} segments, which are fixed once the copy begins"
            )


def _late(config: Config, plans: Sequence[TablePlan]) -> Iterable[str]:
    """Copies that may last longer than their streams keep what changes meanwhile."""
    followed = [plan for plan in plans if plan.stream and plan.copies]
    if config.incr_sync_parallel or not followed:
        return
    for plan in followed:
        name, seconds = plan.table.name, plan.seconds_at_least(config)
        if seconds > RETENTION:
            yield (
                f"table {name} cannot be copied within 24 hours at these limits "
                f"({duration(seconds)} at the least), and its stream keeps changes no longer: "
                "set incr_sync_parallel = true"
            )
        elif seconds > OLD:
            yield (
                f"table {name} takes {duration(seconds)} at the least, and its stream keeps "
                "changes for 24 hours: incr_sync_parallel = true is safer"
            )
    whole = seconds_at_least(config, plans)
    if whole > RETENTION and all(plan.seconds_at_least(config) <= OLD for plan in followed):
        yield (
            "the tables cannot all be copied within 24 hours at these limits "
            f"({duration(whole)} at the least), and their streams keep changes no longer: "
            "set incr_sync_parallel = true"
        )


def _idle_scanners(config: Config, scanners: int, plan: TablePlan) -> int:
    """Segments that the table would have without ``full.read.concurrency``, if scanners lack them.

    ``scanners`` is how many the farm reads at once.
    """
    given = config.full_read_concurrency
    if given is None or given >= scanners or config.sync_schema_only:
        return 0
    unset = replace(config, full_read_concurrency=None)
    by_size = count_segments(unset, plan.table, scanners, holds_items=False)
    return by_size if by_size > given else 0
