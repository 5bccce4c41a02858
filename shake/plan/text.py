"""The plan as lines for the user: all of it for ``--dry-run``, the main part for a start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from shake.plan.estimate import INFREQUENT_FACTOR
from shake.plan.profile import ProfileReport
from shake.plan.report import PlanReport, TableReport
from shake.schema import OLD
from shake.status.figures import count, duration, many, size

#: Names that are listed before the others are only counted.
_NAMED = 5
#: What a start logs, unless the text says that nothing is done.
_AT_START = frozenset(
    {
        "source",
        "target",
        "time",
        "cost",
        "changes meanwhile",
        "this machine",
        "machines",
        "at the source",
        "existing collections",
    }
)
_NOTHING = frozenset({"nothing", "0 dropped, 0 renamed"})
#: Of a stream that another program can have enabled.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
_SHARED = ", enabled already (AWS throttles a stream that more than two programs read)"
#: Columns of a label.
_LABEL = 22
#: Of a profile: characters of an item that are shown, and attributes.
_SHOWN, _ATTRIBUTES = 400, 40
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_MANAGED_POLICY = 6144


def describe(report: PlanReport) -> list[str]:
    """The whole, then each table, then the rights that it needs, then what speaks against it."""
    lines = [
        f"task {report.task}, sync_mode = {report.sync_mode}: "
        f"{many(len(report.tables), 'table')}, {many(report.items, 'item')}, {size(report.bytes)} "
        "(DynamoDB's own counts, up to six hours old)",
        *(f"  {label + ':':<{_LABEL}}{text}" for label, text in _whole(report)),
    ]
    for table in report.tables:
        lines += _table(report, table)
    for profile in report.profiles:
        lines += _profile(profile)
    lines += _rights(report)
    lines += [f"warning: {text}" for text in report.warnings]
    return lines + [f"REFUSED: {text}" for text in report.refusals]


def brief(report: PlanReport) -> list[str]:
    """The lines at a start: where from, where to, for how long, and what is changed."""
    return [
        f"plan: {label}: {text}"
        for label, text in _whole(report)
        if label in _AT_START and text not in _NOTHING
    ]


def _whole(report: PlanReport) -> Iterator[tuple[str, str]]:
    """Labels and texts about all tables together."""
    yield "source", _source(report)
    yield "target", f"{report.target.hosts or 'unknown'} ({report.target.type})"
    yield "checkpoints", report.target.checkpoints
    reads = "consistent" if report.reading.consistent else "eventually consistent"
    yield "to be read", f"{_read(report.reading.units)} ({reads} reads)"
    if report.reading.seconds:
        yield "time", f"{_at_least(report.reading.seconds)}: {report.reading.limit}"
        yield "cost", _cost(report)
    if report.reading.windows:
        yield "read windows", f"{report.reading.windows}; else source.read_budget"
    if report.changes:
        yield "changes meanwhile", _meanwhile(report)
    if report.target.bytes is not None:
        yield "documents", _documents(report)
    if report.sample:
        one = report.sample
        yield (
            "sample",
            f"{many(one.items, 'item')} of {many(one.tables, 'table')}, for "
            f"{many(one.units, 'read capacity unit')}",
        )
    yield "machines" if report.machine.nodes else "this machine", _machine(report)
    yield "at the source", _changed_at_source(report)
    yield "existing collections", _existing(report)
    yield (
        "at the target",
        f"{many(len(report.target.created), 'collection')} created, "
        f"{many(report.target.indexes, 'index', 'indexes')} built",
    )


def _source(report: PlanReport) -> str:
    source = report.source
    account = _named(source.accounts) or "unknown"
    where = f"account {account}, region {_named(source.regions)}"
    if source.in_aws:
        return f"AWS {where}"
    return f"{source.endpoint}, which is not AWS ({where}): time and cost are those of AWS"


def _cost(report: PlanReport) -> str:
    reading, parts = report.reading, []
    copied = sum(table.segments_left > 0 for table in report.tables)
    if copied > reading.provisioned_tables:
        parts.append(
            f"{_about(reading.dollars)} at ${reading.price:g} per million units on demand "
            "(source.price)"
        )
        if number := reading.infrequent_tables:
            parts[0] += f", and {INFREQUENT_FACTOR} times that for {many(number, 'table')} of the "
            parts[0] += "class Standard-IA"
    if number := reading.provisioned_tables:
        parts.append(f"nothing beyond the capacity of {many(number, 'provisioned table')}")
    return ", and ".join(parts) or "nothing"


def _money(dollars: float) -> str:
    return f"${dollars:,.2f}" if dollars >= 0.005 or not dollars else "less than $0.01"


def _read(units: float) -> str:
    """``about 104 read capacity units``; what is less than one is one."""
    return f"about {many(max(units, 1.0) if units else 0.0, 'read capacity unit')}"


def _about(dollars: float) -> str:
    money = _money(dollars)
    return money if money.startswith("less") else f"about {money}"


def _at_least(seconds: float) -> str:
    return "less than a second" if seconds < 1 else f"{duration(seconds)} at least"


def _meanwhile(report: PlanReport) -> str:
    """What becomes of changes while the copy runs."""
    changes = report.changes
    assert changes is not None
    if changes.journal:
        return f"journaled in {changes.journal}, up to {size(changes.journal_bytes)}"
    needed, built, kept = changes.seconds_needed, changes.index_seconds, changes.seconds_kept
    state = "TOO LONG" if needed + built > kept else "NEAR"
    indexes = f", and the index builds after it about {duration(built)}" if built >= 1 else ""
    return (
        f"kept by their streams for {kept / 3600:g} hours, of which the copy needs "
        f"{'less than a second' if needed < 1 else duration(needed)}{indexes}"
        f"{f': {state}, see the warnings' if needed + built > OLD else ''}"
    )


def _documents(report: PlanReport) -> str:
    unknown = sum(one.target_bytes is None and one.segments_left > 0 for one in report.tables)
    without = f", without {many(unknown, 'table')} of which nothing is known" if unknown else ""
    return f"about {size(report.target.bytes or 0)} of BSON, before compression{without}"


def _machine(report: PlanReport) -> str:
    one = report.machine
    read = "reads" if one.workers == 1 else "read"
    at_once = (
        f", which {read} {many(one.segments_at_once, 'segment')} at once, of "
        f"{many(one.tables_at_once, 'table')} at most"
    )
    nodes = f"{one.nodes}: " if one.nodes else ""
    writers, workers = many(one.writers, "writer"), many(one.workers, "worker")
    return (
        f"{nodes}{many(one.processes, 'process', 'processes')} with up to about "
        f"{size(one.bytes)}: the supervisor, {writers}, {workers}"
        f"{at_once if one.segments_at_once else ''}"
    )


def _changed_at_source(report: PlanReport) -> str:
    names = report.source.streams_enabled
    if not names:
        return "nothing"
    return f"streams ENABLED on {many(len(names), 'table')}: {_named(names)}"


def _existing(report: PlanReport) -> str:
    target = report.target
    dropped = len(target.dropped)
    in_the_way = f", {count(len(target.in_the_way))} in the way" if target.in_the_way else ""
    names = [*target.dropped, *target.renamed, *target.in_the_way]
    return (
        f"{dropped} {'DROPPED' if dropped else 'dropped'}, {len(target.renamed)} renamed"
        f"{in_the_way}{f': {_named(names)}' if names else ''}"
    )


def _named(names: Sequence[str]) -> str:
    more = f" and {count(len(names) - _NAMED)} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _table(report: PlanReport, table: TableReport) -> Iterator[str]:
    yield f"table {table.name} -> {table.place}: {table.action_text}"
    stored = "" if table.target_bytes is None else f", about {size(table.target_bytes)} as BSON"
    yield (
        f"  {many(table.items, 'item')}, {size(table.bytes)}{stored}, key {' + '.join(table.key)}"
    )
    if table.backup:
        yield f"  the existing collection becomes {table.backup}"
    if table.gap:
        yield f"  a gap: {table.gap}"
    if table.segments_left or table.action not in ("complete", "follow"):
        yield _reading(report, table)
        yield f"  indexes: {', '.join(table.indexes) or 'none'}"
    if table.stream_enabled or table.stream or table.shards_left is not None:
        yield _changes(table)


def _reading(report: PlanReport, table: TableReport) -> str:
    if report.schema_only:
        return "  sync_schema_only: collection and indexes, no item is read"
    if not table.segments_left:
        return "  all segments are copied, only the indexes remain to be built"
    cost = "provisioned" if table.provisioned else _money(table.dollars)
    return (
        f"  {count(table.segments_left)} of {many(table.segments, 'segment')} to read: "
        f"{_read(table.units)} ({cost}), {_at_least(table.seconds)} "
        f"({table.limit})"
    )


def _changes(table: TableReport) -> str:
    if table.shards_left is not None:
        return f"  changes: {many(table.shards_left, 'shard')} to be read on from the checkpoint"
    stream = "a stream that will be ENABLED" if table.stream_enabled else table.stream + _SHARED
    start = f", from incr.start = {table.stream_start}" if table.stream_start else ""
    return f"  changes: by {stream}{start}"


def _profile(profile: ProfileReport) -> Iterator[str]:
    """What was read, and what becomes of it."""
    read = f"profile of table {profile.table}: {many(profile.items, 'item')}"
    by = many(profile.requests, "request")
    yield f"{read} read by {by}, for {many(profile.units, 'read capacity unit')}"
    if profile.problem:
        yield f"  {profile.problem}"
    if not profile.items:
        return
    yield (
        f"  size: {size(profile.item_bytes)} in DynamoDB, {size(profile.document_bytes)} as "
        "documents"
    )
    for one in profile.attributes[:_ATTRIBUTES]:
        types = ", ".join(
            name if number == one.items else f"{name} ({count(number)})"
            for name, number in one.types.items()
        )
        each = one.bytes / one.items
        yield f"  attribute {one.name!a}: {types}; in {count(one.items)}; {size(each)} each"
    if (more := len(profile.attributes) - _ATTRIBUTES) > 0:
        yield f"  {many(more, 'more attribute')}: --json shows all"
    for text, number in _oddities(profile):
        yield f"  {text}: {many(number, 'item')}"
    if profile.before:
        yield f"  an item:      {_short(profile.before)}"
        yield f"  its document: {_short(profile.after)}"
    yield f"  bad items (they stop the task, or are kept, by bad.items): {count(profile.bad_items)}"
    for bad in profile.bad:
        yield f"    {_short(bad.key)}: {_short(bad.reason)}"


def _oddities(profile: ProfileReport) -> Iterator[tuple[str, int]]:
    found = {
        "numbers of more than 34 digits (convert.number.overflow)": profile.long_numbers,
        "names with a dot": profile.dotted,
        "names that begin with $": profile.dollars,
        "an attribute _id (convert._id)": profile.ids,
        "number keys that are no doubles (convert.type = mchange could merge them)": (
            profile.inexact_keys
        ),
    }
    for text, number in found.items():
        if number:
            yield text, number


def _short(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _rights(report: PlanReport) -> list[str]:
    """What to grant, as JSON that can be pasted."""
    if not report.tables:
        return []
    scan = "" if "dynamodb:Scan" in json.dumps(report.iam_policy) else "dynamodb:Scan and "
    lines = [
        f"least IAM policy (shake check also needs {scan}dynamodb:BatchGetItem on the tables):"
    ]
    if len(json.dumps(report.iam_policy, separators=(",", ":"))) > _MANAGED_POLICY:
        lines.append(
            f"  (IAM takes {count(_MANAGED_POLICY)} characters for a managed policy: shorten this "
            "one with wildcards)"
        )
    lines += [f"  {line}" for line in json.dumps(report.iam_policy, indent=2).splitlines()]
    lines += [
        f"least MongoDB roles of the user in {key}: {json.dumps(roles)}"
        for key, roles in report.mongodb_roles.items()
    ]
    return lines
