"""What the user should know before a run, besides what stands against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from shake.config import Config
from shake.plan.estimate import stream_waits
from shake.plan.plan import Action, TablePlan, count_segments
from shake.schema import OLD, RETENTION
from shake.source.streams import stream_loss
from shake.status.figures import count, duration, in_short, many


def several_users(tables: list[str]) -> str:
    """Why the target cannot refuse each late change of these tables, and what to do.

    It keeps the numbers of changes for each user: see shake.targets.mongodb.session.
    """
    return (
        f"NO FENCE: table {in_short(tables)}: changes were sent as another user of target.address "
        "too, and a late one of these can bring back old content: take from that user the right to "
        "write, or run shake check before you switch"
    )


def warnings(
    config: Config, scanners: int, plans: Sequence[TablePlan], now: float
) -> Iterable[str]:
    """One line each; ``scanners`` is how many segments the farm reads at once.

    ``now`` is Unix seconds.
    """
    if config.scan_filter is not None:
        yield (
            "SCAN FILTER ON: only items that match full.read.filter_expression "
            f"({config.scan_filter.expression}) are copied, while all are read and paid for"
        )
    yield from _late(config, plans, now)
    if tables := [one.table.name for one in plans if one.stream and len(one.identity.users) > 1]:
        yield several_users(tables)
    for plan in plans:
        yield from _of_table(config, scanners, plan)


def _of_table(config: Config, scanners: int, plan: TablePlan) -> Iterable[str]:
    name = f"table {plan.table.name}"
    for part in plan.table.left_out:
        yield f"{name}: {part} is NOT COPIED, since this version of shake does not support it"
    if config.convert_type == "mchange" and config.capabilities.documents == "bson":
        yield (f"{name}: convert.type = mchange makes every number a double: long ones lose digits")
    record = plan.stream and plan.stream.record
    if plan.stream and record and (loss := stream_loss(plan.stream.stream, record.arn)):
        yield (
            f"{name}: {loss}: where the source still says so a minute after the start, changes "
            "are lost, and gap.policy decides what is done"
        )
    if plan.gap:
        dropped = f", and {plan.namespace} DROPPED" if plan.action is Action.RESYNC else ""
        yield f"{name} is copied again{dropped}, since changes were lost: {plan.gap}"
    if plan.table.items == 0 and plan.copies:
        yield f"{name}: DynamoDB counts 0 items; this count can be 6 hours old"
    if plan.fresh and (by_size := _idle_scanners(config, scanners, plan)):
        yield (
            f"{name}: full.read.concurrency = {config.full_read_concurrency}, though the workers "
            f"could read {count(scanners)} segments at once: unset it for {count(by_size)} "
            "segments, which are fixed once the copy begins"
        )


def _late(config: Config, plans: Sequence[TablePlan], now: float) -> Iterable[str]:
    """Copies and index builds that can outlast what streams keep meanwhile: the worst of them."""
    late = [one for one in stream_waits(config, plans, now) if one.seconds > OLD]
    if not late:
        return
    limit, built = late[0].limit, late[0].index_seconds
    others = f" ({many(len(late) - 1, 'other table')} too)" if len(late) > 1 else ""
    indexes = f", and its index builds take about {duration(built)} more" if built >= 1 else ""
    line = (
        f"table {late[0].table}{others}: its copy ends {duration(limit.seconds)} after its stream "
        f"position was chosen, or later ({limit.reason}){indexes}. Streams keep changes for "
        f"{RETENTION / 3600:g} hours"
    )
    remedy = f"or {limit.remedy}" if built < OLD else "since no faster copy is enough"
    if late[0].seconds > RETENTION:
        yield f"CHANGES CAN BE LOST: {line}: set incr_sync_parallel = true, {remedy}"
    else:
        yield f"{line}: incr_sync_parallel = true is safer, {remedy}"


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
