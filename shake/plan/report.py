"""The plan as the user gets it: what is read, written and changed, how long it takes, its cost.

``--dry-run --json`` prints a PlanReport as it is, so its fields are documented, and a test compares
them with that page. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from shake.config import Config
from shake.config.secrets import hosts
from shake.plan import estimate
from shake.plan.estimate import Limit, StreamWait
from shake.plan.machine import MachineReport, machine, segments_left
from shake.plan.plan import Action, Plan, TablePlan
from shake.plan.policy import Role, Statement, iam_policy, mongodb_roles
from shake.plan.profile import ProfileReport
from shake.plan.sample import Sample
from shake.schema import RETENTION
from shake.source.endpoint import Endpoint, in_aws, shown
from shake.stream.shard import ShardState


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Where tables are read. ``accounts`` and ``regions`` are those of their ARNs."""

    endpoint: str
    in_aws: bool
    accounts: tuple[str, ...]
    regions: tuple[str, ...]
    streams_enabled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetReport:
    """Where documents go, and which collections change their name or content at the end."""

    type: str
    hosts: str
    checkpoints: str
    created: tuple[str, ...]
    dropped: tuple[str, ...]
    renamed: Mapping[str, str]
    in_the_way: tuple[str, ...]
    indexes: int
    bytes: int | None


@dataclass(frozen=True, slots=True)
class ReadingReport:
    """What is left to be read, at least how long that takes, and what makes it so long.

    ``dollars`` is what on-demand tables cost, at ``price`` dollars for a million units, and more
    for ``infrequent_tables``, whose class is Standard-IA.
    ``windows``: ``source.windows``, empty where there are none.
    """

    units: float
    consistent: bool
    seconds: float
    limit: str
    windows: str
    dollars: float
    price: float
    infrequent_tables: int
    provisioned_tables: int


@dataclass(frozen=True, slots=True)
class ChangesReport:
    """How long the copy needs of the time for which streams keep changes.

    ``table`` is the one that needs it longest, with the index builds after its copy; ``journal`` is
    the folder that keeps its changes longer, "" for none.
    """

    table: str
    seconds_needed: float
    index_seconds: float
    seconds_kept: float
    journal: str
    journal_bytes: int


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What a dry run has read to learn the size of documents."""

    tables: int
    items: int
    units: float


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table. ``action`` is what is done, and ``action_text`` the same in words.

    Changes are read by ``stream``, or by one that will be enabled, where nothing is copied from
    ``stream_start`` (incr.start). ``shards_left`` are read on from a checkpoint; None: there is
    none yet.
    """

    name: str
    place: str
    action: str
    action_text: str
    key: tuple[str, ...]
    items: int
    bytes: int
    target_bytes: int | None
    segments: int
    segments_left: int
    units: float
    dollars: float
    provisioned: bool
    seconds: float
    limit: str
    indexes: tuple[str, ...]
    backup: str
    gap: str
    stream: str
    stream_enabled: bool
    stream_start: str
    shards_left: int | None


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The whole plan. ``items`` and ``bytes`` are DynamoDB's own counts."""

    task: str
    sync_mode: str
    schema_only: bool
    source: SourceReport
    target: TargetReport
    items: int
    bytes: int
    reading: ReadingReport
    changes: ChangesReport | None
    machine: MachineReport
    sample: SampleReport | None
    tables: tuple[TableReport, ...]
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]
    iam_policy: Mapping[str, str | list[Statement]]
    mongodb_roles: Mapping[str, list[Role]]
    profiles: tuple[ProfileReport, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report is made of besides configuration and plan. ``now`` is Unix seconds.

    ``nodes``: see MachineReport.
    """

    endpoint: Endpoint
    workers: int
    now: float = 0.0
    samples: Mapping[str, Sample] = field(default_factory=dict)
    profiles: tuple[ProfileReport, ...] = ()
    nodes: str = ""


def make_report(config: Config, plan: Plan, facts: Facts) -> PlanReport:
    """The report of a plan. It sends no request."""
    tables = tuple(
        _table(config, table, facts.now, facts.samples.get(table.table.name))
        for table in plan.tables
    )
    problems = tuple(one.problem for one in facts.samples.values() if one.problem)
    return PlanReport(
        task=config.id,
        sync_mode=config.sync_mode,
        schema_only=config.sync_schema_only,
        source=_source(plan, facts.endpoint),
        target=_target(config, plan, tables),
        items=sum(table.items for table in tables),
        bytes=sum(table.bytes for table in tables),
        reading=_reading(config, plan, facts.now),
        changes=_changes(config, plan, facts.now),
        machine=replace(machine(config, plan, facts.workers), nodes=facts.nodes),
        sample=_sample(tuple(facts.samples.values())),
        tables=tables,
        warnings=(*plan.warnings, *problems),
        refusals=plan.refusals,
        iam_policy=iam_policy(config, plan),
        mongodb_roles=mongodb_roles(config, plan),
        profiles=facts.profiles,
    )


def _source(plan: Plan, endpoint: Endpoint) -> SourceReport:
    arns = [table.table.origin.arn.split(":") for table in plan.tables]
    return SourceReport(
        endpoint=shown(endpoint.url),
        in_aws=in_aws(endpoint.url),
        accounts=tuple(sorted({arn[4] for arn in arns if len(arn) > 4})),
        regions=tuple(sorted({arn[3] for arn in arns if len(arn) > 4})) or (endpoint.region,),
        streams_enabled=tuple(one.table.name for one in plan.tables if one.enables_stream),
    )


def _target(config: Config, plan: Plan, tables: Sequence[TableReport]) -> TargetReport:
    def namespaces(*actions: Action) -> tuple[str, ...]:
        return tuple(one.namespace for one in plan.tables if one.action in actions)

    known = [table.target_bytes for table in tables if table.target_bytes is not None]
    in_file = config.checkpoint_type == "file"
    where = f"{config.checkpoint_location}/" if in_file else ""
    server = "" if in_file else f" at {hosts(config.checkpoint_location)}"
    return TargetReport(
        type=config.target_type,
        hosts=hosts(config.target_address),
        checkpoints=f"{where}{config.checkpoint_database}{server}",
        created=namespaces(Action.CREATE),
        dropped=namespaces(Action.DROP, Action.RESYNC),
        renamed={t.namespace: t.record.backup for t in plan.tables if t.action is Action.RENAME},
        in_the_way=namespaces(Action.REFUSE),
        indexes=sum(len(one.indexes) for one in plan.tables if one.copies),
        bytes=sum(known) if known else None,
    )


def _reading(config: Config, plan: Plan, now: float) -> ReadingReport:
    limit = estimate.slowest_of_all(config, plan.tables, now)
    return ReadingReport(
        units=sum(estimate.read_units(config, table) for table in plan.tables),
        consistent=config.source_consistent_read,
        seconds=limit.seconds,
        limit=limit.reason,
        windows=estimate.windows(config),
        dollars=sum(estimate.dollars(config, table) for table in plan.tables),
        price=config.source_price,
        infrequent_tables=sum(
            estimate.dollars(config, t) > 0 and t.table.infrequent_access for t in plan.tables
        ),
        provisioned_tables=sum(t.copies and t.table.read_capacity > 0 for t in plan.tables),
    )


def _changes(config: Config, plan: Plan, now: float) -> ChangesReport | None:
    if not any(table.copies and table.stream for table in plan.tables):
        return None
    waits = estimate.stream_waits(config, plan.tables, now)
    longest = next(iter(waits), StreamWait("", Limit(0.0)))
    journal = config.incr_sync_parallel
    return ChangesReport(
        table=longest.table,
        seconds_needed=longest.limit.seconds,
        index_seconds=longest.index_seconds,
        seconds_kept=RETENTION,
        journal=str(config.journal_folder) if journal else "",
        journal_bytes=config.journal_max_mb * 1_000_000 if journal else 0,
    )


def _sample(samples: Sequence[Sample]) -> SampleReport | None:
    if not samples:
        return None
    read = sum(one.scanned for one in samples)
    return SampleReport(len(samples), read, sum(one.units for one in samples))


def _table(config: Config, plan: TablePlan, now: float, sample: Sample | None) -> TableReport:
    table, limit = plan.table, estimate.slowest(config, plan, now)
    stream = plan.stream
    return TableReport(
        name=table.name,
        place=plan.namespace,
        action=plan.action.name.lower(),
        action_text=plan.action.value,
        key=tuple(f"{key.name} ({key.type})" for key in table.keys),
        items=table.items,
        bytes=table.bytes,
        target_bytes=sample.target_bytes(table.bytes) if sample else None,
        segments=len(plan.segments),
        segments_left=segments_left(plan),
        units=estimate.read_units(config, plan),
        dollars=estimate.dollars(config, plan),
        provisioned=table.read_capacity > 0,
        seconds=limit.seconds,
        limit=limit.reason,
        indexes=plan.indexes,
        backup=plan.record.backup if plan.action is Action.RENAME else "",
        gap=plan.gap,
        stream=stream.stream.arn if stream and stream.stream.enabled else "",
        stream_enabled=plan.enables_stream,
        stream_start="" if not stream or stream.record or plan.copies else config.incr_start,
        shards_left=_shards_left(plan),
    )


def _shards_left(plan: TablePlan) -> int | None:
    if plan.stream is None or plan.stream.record is None:
        return None
    return sum(shard.state is not ShardState.APPLIED for shard in plan.stream.shards)
