"""Continues a checkpoint only with the source table, and the settings, that it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.identity import Identity
from shake.checkpoint.records import TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.config import Config
from shake.config.declared_keys import KEYS
from shake.plan.plan import Plan, TablePlan
from shake.schema import Origin
from shake.source.contract import Stream
from shake.source.streams import table_arn


def recognise(plan: TablePlan) -> tuple[TablePlan, str]:
    """The plan with its origin, and what shows that the source table is another one, or "".

    What the checkpoint lacks is taken from the table that is there.
    """
    record = plan.stream.record if plan.stream else None
    saved = saved_origin(plan.identity, record)
    there = plan.table.origin
    difference = ""
    if plan.stream and record:
        difference = stream_difference(record.arn, plan.stream.stream)
    return with_origin(plan, saved.filled(there)), saved.difference(there) or difference


def saved_origin(identity: Identity, record: StreamRecord | None) -> Origin:
    """The source table of a checkpoint; its stream names it where no identity was saved yet."""
    return identity.origin.filled(Origin(arn=table_arn(record.arn) if record else ""))


def stream_difference(arn: str, stream: Stream) -> str:
    """What shows that ``stream`` is the stream of another table than ``arn`` is, or ""."""
    before, now = table_arn(arn), table_arn(stream.arn)
    if before and now and before != now:
        return f"its stream is {stream.arn} and was {arn}"
    return ""


def with_origin(plan: TablePlan, origin: Origin) -> TablePlan:
    """The plan, of this source table."""
    return replace(plan, identity=replace(plan.identity, origin=origin))


def save_identities(checkpoints: Checkpoints, plan: Plan, ours: Callable[[], None]) -> None:
    """Save what each table's checkpoint is of, before anything else is changed.

    ``ours`` is called before each write, and raises where another run has taken over the task.
    """
    for table in plan.tables:
        if table.identity != table.saved:
            ours()
            generation = table.record.generation
            checkpoints.save_identity(table.table.name, table.saved, table.identity, generation)


def shaping_settings(config: Config) -> dict[str, str]:
    """The settings that shape the data, by key."""
    settings = config.as_settings()
    return {key.name: settings[key.name] for key in KEYS if key.shapes_data}


def changed_settings(config: Config, record: TableRecord) -> list[str]:
    """The settings that differ from those with which the copy began, and what to do."""
    changed = {
        key: (record.settings.get(key, ""), value)
        for key, value in shaping_settings(config).items()
        if record.settings.get(key, "") != value
    }
    if record.namespace != (namespace := config.namespace(record.table)):
        changed["namespace.map"] = (record.namespace, namespace)
    return [
        f"the copy of table {record.table} was begun with {key} = {old or '(none)'}, now "
        f"it is {new or '(none)'}: set it back, or copy under another id, or "
        + config.start_over(record.table)
        for key, (old, new) in changed.items()
    ]


def another_table(config: Config, name: str, difference: str) -> str:
    """What happened, and what to do, where the source table is not the checkpoint's."""
    return (
        f"table {name} is not the table that this task began with: {difference}. To go on, set "
        "source.region, source.endpoint_url and the credentials (source.profile) back to those of "
        "the first run. To migrate this table, use another id, or " + config.start_over(name)
    )
