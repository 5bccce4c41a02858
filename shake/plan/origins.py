"""Continues a checkpoint only with the source table that it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shake.checkpoint.checkpoints import Checkpoints
from shake.config import Config
from shake.plan.plan import Plan, TablePlan
from shake.schema import Origin
from shake.source.contract import Stream
from shake.source.streams import table_arn


def recognise(plan: TablePlan) -> tuple[TablePlan, str]:
    """The plan with its origin, and what shows that the source table is another one, or "".

    What the checkpoint does not tell is taken from the table that is there.
    """
    saved = plan.identity.origin
    there = plan.table.origin
    difference = ""
    if plan.stream and plan.stream.record:  # it names the table where no identity was saved yet
        saved = saved.filled(Origin(arn=table_arn(plan.stream.record.arn)))
        difference = stream_difference(plan.stream.record.arn, plan.stream.stream)
    return with_origin(plan, saved.filled(there)), saved.difference(there) or difference


def stream_difference(arn: str, stream: Stream) -> str:
    """What shows that ``stream`` is the stream of another table than ``arn`` is, or ""."""
    before, now = table_arn(arn), table_arn(stream.arn)
    if before and now and before != now:
        return f"its stream is {stream.arn} and was {arn}"
    return ""


def with_origin(plan: TablePlan, origin: Origin) -> TablePlan:
    """The plan, of this source table."""
    return replace(plan, origin=origin, identity=plan.identity.of_source(origin))


def save_identities(checkpoints: Checkpoints, plan: Plan, ours: Callable[[], None]) -> None:
    """Save what each table's checkpoint is of, before anything else is changed.

    ``ours`` is called before each write, and raises where another run has taken over the task.
    """
    for table in plan.tables:
        if table.identity != table.saved:
            ours()
            checkpoints.save_identity(
                table.table.name, table.saved, table.identity, table.record.run
            )


def another_table(config: Config, plan: TablePlan, difference: str) -> str:
    """What happened, and what to do, where the source table is not the checkpoint's."""
    name = plan.table.name
    return (
        f"table {name} is not the table that this task began with: {difference}. To go on, set "
        "source.region, source.endpoint_url and the credentials (source.profile) back to those of "
        "the first run. To migrate this table, use another id; or start over under this id: remove "
        f"its checkpoint ({config.checkpoint_of(name)}) and set target.db.exist for what "
        f"{plan.place} holds"
    )
