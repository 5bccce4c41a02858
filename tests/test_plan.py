"""The plan: how a table is cut, what reading it costs, and how that reads before a 20 TB copy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.config import Config, load
from shake.plan import estimate
from shake.plan.machine import machine, writers_of
from shake.plan.plan import (
    MAX_SEGMENTS,
    SEGMENT_BYTES,
    SMALLEST_SEGMENT_BYTES,
    Action,
    Plan,
    StreamPlan,
    TablePlan,
    count_segments,
)
from shake.plan.report import Facts, make_report
from shake.plan.sample import Sample
from shake.plan.source_tables import idle_names
from shake.plan.text import describe
from shake.plan.warnings import warnings
from shake.schema import Attribute, Keys, Origin, Table
from shake.source.contract import Stream
from shake.source.endpoint import Endpoint

KEYS = Keys(Attribute("pk", "S"), Attribute("sk", "N"))


def config_of(*settings: str) -> Config:
    given = ["id=prod", "target.address=mongodb://host/", "sync_mode=full", *settings]
    return load(None, {}, given).config


def plan_of(
    name: str,
    items: int,
    size: int,
    action: Action = Action.CREATE,
    segments: int = 1,
    done: int = 0,
) -> TablePlan:
    backup = f"prod.{name}.2026-11-23Z10:00:00" if action is Action.RENAME else ""
    record = TableRecord(name, f"prod.{name}", 1, segments, backup=backup)
    progress = tuple(SegmentRecord(number, done=number < done) for number in range(segments))
    origin = Origin(f"arn:aws:dynamodb:eu-central-1:123456789012:table/{name}")
    table = Table(name, KEYS, items=items, bytes=size, origin=origin)
    return TablePlan(table, action, record, progress, ("pk_1_sk_1 (unique)", "pk_1"))


def said(plan: Plan, config: Config, workers: int, **samples: Sample) -> list[str]:
    facts = Facts(Endpoint("https://dynamodb.eu-central-1.amazonaws.com", "eu-central-1"), workers)
    return describe(make_report(config, plan, replace(facts, samples=samples)))


@pytest.mark.parametrize(
    ("size", "segments"),
    [
        (0, 1),
        (SMALLEST_SEGMENT_BYTES, 1),
        (SMALLEST_SEGMENT_BYTES + 1, 2),
        (SEGMENT_BYTES, 16),
        (64 * SMALLEST_SEGMENT_BYTES + 1, 64),  # each of 8 scanners has several
        (64 * SEGMENT_BYTES, 64),
        (64 * SEGMENT_BYTES + 1, 65),
        (MAX_SEGMENTS * SEGMENT_BYTES, MAX_SEGMENTS),
        (20 * 10**12, MAX_SEGMENTS),
    ],
)
def test_a_table_is_cut_by_its_size(size: int, segments: int) -> None:
    table = Table("t", KEYS, items=1000, bytes=size)
    assert count_segments(config_of(), table, 8, holds_items=True) == segments


def test_a_table_whose_size_is_not_known_yet_is_cut_as_if_it_were_large() -> None:
    table = Table("t", KEYS)
    assert count_segments(config_of(), table, 8, holds_items=True) == 64
    assert count_segments(config_of(), table, 1 << 20, holds_items=True) == MAX_SEGMENTS
    assert count_segments(config_of(), table, 8, holds_items=False) == 1


def test_the_person_has_the_last_word_on_segments() -> None:
    config = config_of("full.read.concurrency=3")
    for size in (0, 20 * 10**12):
        table = Table("t", KEYS, bytes=size)
        assert count_segments(config, table, 64, holds_items=True) == 3


def test_reading_consistently_costs_twice_and_what_is_done_costs_nothing() -> None:
    plan = plan_of("t", 1000, 8192 * 1000, segments=4)
    assert estimate.read_units(config_of(), plan) == 1000
    assert estimate.read_units(config_of("source.consistent_read=true"), plan) == 2000
    half = plan_of("t", 1000, 8192 * 1000, Action.RESUME, segments=4, done=2)
    assert estimate.read_units(config_of(), half) == 500
    assert estimate.read_units(config_of(), plan_of("t", 9, 9**9, Action.COMPLETE)) == 0


def test_the_time_is_that_of_the_tightest_limit() -> None:
    plan = plan_of("t", 1_000_000, 100 * 1024 * 1024)  # 100 pages, 12,800 units
    assert estimate.slowest(config_of("qps.full=10"), plan).seconds == 10
    assert (
        estimate.slowest(config_of("qps.full=10", "qps.full.batch_num=100"), plan).seconds == 1000
    )
    assert estimate.slowest(config_of("source.read_budget=128"), plan).seconds == 100


def test_a_20_tb_plan_says_cost_time_and_danger_at_a_glance() -> None:
    plan = Plan(
        (
            plan_of("orders", 25_000_000_000, 20 * 10**12, segments=8192),
            plan_of("users", 3_000_000, 4 * 10**9, Action.DROP, segments=64),
            plan_of("events", 9_000_000, 80 * 10**9, Action.RESUME, segments=1200, done=700),
            plan_of("tiny", 5, 500, Action.RENAME),
            plan_of("late", 5, 500, Action.RESUME, done=1),
            plan_of("old", 5, 500, Action.COMPLETE, done=1),
        ),
        ("collection prod.x exists: set target.db.exist",),
        ("SCAN FILTER ON",),
    )
    config = config_of("source.read_budget=20000", "target.address=mongodb://u:geheim@h:27017/")
    limit = "20,000 units a second: source.read_budget"
    indexes = "  indexes: pk_1_sk_1 (unique), pk_1"
    lines = said(plan, config, 32, orders=Sample(200, 200, 160_000, 176_000, 19.5))
    assert lines[:22] == [
        "task prod, sync_mode = full: 6 tables, 25,012,000,015 items, 20.1 TB (DynamoDB's own "
        "counts, up to six hours old)",
        "  source:               AWS account 123456789012, region eu-central-1",
        "  target:               h:27017 (mongodb)",
        "  checkpoints:          prod-checkpoint at h:27017",
        "  to be read:           about 2,445,963,542 read capacity units (eventually consistent "
        "reads)",
        f"  time:                 1d 09h at least: table orders, {limit}",
        "  cost:                 about $305.75 at $0.125 per million units on demand "
        "(source.price)",
        "  documents:            about 22.0 TB of BSON, before compression, without 3 tables of "
        "which nothing is known",
        "  sample:               200 items of 1 table, for 20 read capacity units",
        "  this machine:         44 processes with up to about 1.59 GB: the supervisor, 11 "
        "writers, 32 workers, which read 64 segments at once, of 4 tables at most",
        "  at the source:        nothing",
        "  existing collections: 1 DROPPED, 1 renamed: prod.users, prod.tiny",
        "  at the target:        1 collection created, 10 indexes built",
        "table orders -> prod.orders: copy into a new collection",
        "  25,000,000,000 items, 20.0 TB, about 22.0 TB as BSON, key pk (S) + sk (N)",
        "  8,192 of 8,192 segments to read: about 2,441,406,250 read capacity units ($305.18), "
        f"1d 09h at least ({limit})",
        indexes,
        "table users -> prod.users: copy, then DROP the existing collection and take its name",
        "  3,000,000 items, 4.00 GB, key pk (S) + sk (N)",
        "  64 of 64 segments to read: about 488,281 read capacity units ($0.06), 24s at least "
        f"({limit})",
        indexes,
        "table events -> prod.events: continue where the last run was stopped",
    ]
    rights = lines.index(
        "least IAM policy (shake check also needs dynamodb:BatchGetItem on the tables):"
    )
    assert lines[22:rights] == [
        "  9,000,000 items, 80.0 GB, key pk (S) + sk (N)",
        "  500 of 1,200 segments to read: about 4,069,010 read capacity units ($0.51), 3m 23s at "
        f"least ({limit})",
        indexes,
        "table tiny -> prod.tiny: copy, then rename the existing collection and take its name",
        "  5 items, 500 B, key pk (S) + sk (N)",
        "  the existing collection becomes prod.tiny.2026-11-23Z10:00:00",
        "  1 of 1 segment to read: about 1 read capacity unit (less than $0.01), less than a "
        "second (1,000 Scan calls a second: qps.full)",
        indexes,
        "table late -> prod.late: continue where the last run was stopped",
        "  5 items, 500 B, key pk (S) + sk (N)",
        "  all segments are copied, only the indexes remain to be built",
        indexes,
        "table old -> prod.old: nothing: the copy is complete",
        "  5 items, 500 B, key pk (S) + sk (N)",
    ]
    assert lines[-3:] == [
        'least MongoDB roles of the user in target.address: [{"role": "readWrite", "db": "prod"}, '
        '{"role": "readWrite", "db": "prod-checkpoint"}]',
        "warning: SCAN FILTER ON",
        "REFUSED: collection prod.x exists: set target.db.exist",
    ]
    assert "geheim" not in "\n".join(lines)


def test_the_limits_that_make_a_nimoshake_file_slow_are_named() -> None:
    """Its shipped example sets the first of these keys, and many files the second."""
    plan = Plan((plan_of("orders", 20_000_000_000, 20 * 10**12),))
    config = config_of("qps.full.batch_num=128", "full.read.concurrency=1")
    lines = said(plan, config, 64)
    reason = "1,000 Scan calls a second of 128 items: qps.full, qps.full.batch_num"
    assert f"  time:                 1d 19h at least: table orders, {reason}" in lines
    [machine] = [line for line in lines if line.startswith("  this machine: ")]
    assert machine.endswith("1 worker, which reads 1 segment at once, of 4 tables at most")
    assert (
        "  1 of 1 segment to read: about 2,441,406,250 read capacity units ($305.18), 1d 19h at "
        f"least ({reason})" in lines
    )


def test_no_more_segments_are_read_at_once_than_the_tables_of_their_turn_have() -> None:
    tables = (plan_of(f"t{i}", 9, 10**9, segments=3, done=i % 2) for i in range(6))
    found = machine(config_of("full.concurrency=4"), Plan(tuple(tables)), 64)
    assert (found.segments_at_once, found.workers) == (11, 8)  # 8 workers read 16 segments
    done = Plan((plan_of("t", 9, 9, Action.COMPLETE, done=1),))
    assert machine(config_of(), done, 64).processes == 1


@pytest.mark.parametrize(
    ("size", "segments", "workers", "setting", "writers"),
    [
        (10**9, 500, 64, "", 1),
        (250 * 10**9, 500, 64, "", 3),  # one for each 100 GB
        (20 * 10**12, 500, 64, "", 8),  # at most 8
        (20 * 10**12, 500, 6, "", 2),  # at most one for each 3 workers
        (20 * 10**12, 500, 1, "", 1),
        (10**9, 500, 64, "full.writers=5", 5),
        (10**9, 500, 64, "full.writers=64", 64),
        (10**9, 3, 64, "full.writers=5", 3),  # as many as segments are left
        (10**9, 500, 1, "full.writers=5", 2),  # as many as segments are read at once
        (10**9, 500, 64, "sync_schema_only=true", 1),
    ],
)
def test_a_table_gets_writers_by_its_size_and_by_the_workers(
    size: int, segments: int, workers: int, setting: str, writers: int
) -> None:
    config = config_of(*filter(None, [setting]))
    table = plan_of("t", 10**6, size, segments=segments)
    assert writers_of(config, table, workers) == writers
    alone = machine(config, Plan((table,)), workers)
    assert alone.writers == writers
    four = machine(config, Plan((table,) * 6), workers)  # of 6 tables, 4 are copied at once
    assert four.writers == 4 * writers


def test_scanners_that_full_read_concurrency_leaves_without_a_segment_are_a_warning() -> None:
    large, small = plan_of("orders", 10**9, 20 * 10**12), plan_of("tiny", 5, 500)
    [line] = warnings(config_of("full.read.concurrency=1"), 128, [large, small], 0.0)
    assert line == (
        "table orders: full.read.concurrency = 1, though the workers could read 128 segments at "
        "once: unset it for 8,192 segments, which are fixed once the copy begins"
    )
    assert not list(warnings(config_of(), 128, [large], 0.0))  # it was not configured
    enough = plan_of("orders", 10**9, 20 * 10**12, segments=128)
    assert not list(warnings(config_of("full.read.concurrency=128"), 128, [enough], 0.0))
    begun = plan_of("orders", 10**9, 20 * 10**12, Action.RESUME)
    assert not list(warnings(config_of("full.read.concurrency=1"), 128, [begun], 0.0))


def test_a_part_of_a_table_that_is_not_known_is_a_warning() -> None:
    plan = plan_of("t", 1, 1)
    plan = replace(plan, table=replace(plan.table, left_out=("VectorIndexes of its description",)))
    [line] = warnings(config_of(), 1, [plan], 0.0)
    assert "table t: VectorIndexes of its description is NOT COPIED" in line


def test_a_name_that_selects_no_table_is_said_with_the_nearest() -> None:
    config = config_of("filter.collection.black=user-pii;tmp-*", "namespace.map=order:a.b;u*:c.*")
    assert idle_names(config, ["users-pii", "orders"]) == [
        "filter.collection.black: user-pii SELECTS NO TABLE of this account and region; "
        "the nearest is users-pii",
        "filter.collection.black: tmp-* SELECTS NO TABLE of this account and region",
        "namespace.map: order SELECTS NO TABLE of this account and region; the nearest is orders",
    ]
    config = config_of("filter.collection.white=orders;x*")
    [line] = idle_names(config, ["orders"])
    assert line.startswith("filter.collection.white: x* SELECTS")


def followed(plan: TablePlan) -> TablePlan:
    """Without indexes, whose builds take time too."""
    return replace(plan, indexes=(), stream=StreamPlan(Stream("arn:stream", True, "NEW_IMAGE")))


def test_a_copy_that_outlasts_its_stream_at_the_limits_is_a_warning() -> None:
    large = followed(plan_of("orders", 20_000_000_000, 20 * 10**12, segments=8192))
    slow = "qps.full.batch_num=128"  # 43 hours
    [line] = warnings(config_of(slow), 1, [large], 0.0)
    assert line == (
        "CHANGES CAN BE LOST: table orders: its copy ends 1d 19h after its stream position was "
        "chosen, or later (1,000 Scan calls a second of 128 items: qps.full, qps.full.batch_num). "
        "Streams keep changes for 24 hours: set incr_sync_parallel = true, or raise qps.full, "
        "qps.full.batch_num"
    )
    [line] = warnings(config_of(), 1, [large], 0.0)
    assert line == (
        "table orders: its copy ends 16h 57m after its stream position was chosen, or later "
        "(40,000 units a second: the default quota of AWS for a table). Streams keep changes "
        "for 24 hours: incr_sync_parallel = true is safer, or ask AWS for a higher quota"
    )
    half = followed(plan_of("orders", 10_000_000_000, 10**13, segments=8192))
    assert not list(warnings(config_of(), 1, [half], 0.0))  # 8 hours
    assert not list(warnings(config_of(slow, "incr_sync_parallel=true"), 1, [large], 0.0))
    assert not list(warnings(config_of(slow), 1, [replace(large, stream=None)], 0.0))


def test_index_builds_count_within_the_time_that_streams_keep_changes() -> None:
    table = followed(plan_of("orders", 20_000_000_000, 10**13, segments=8192))
    table = replace(table, indexes=("{a: 1}",))
    [line] = warnings(config_of(), 1, [table], 0.0)
    assert line == (
        "table orders: its copy ends 8h 28m after its stream position was chosen, or later "
        "(40,000 units a second: the default quota of AWS for a table), and its index builds take "
        "about 5h 33m more. Streams keep changes for 24 hours: incr_sync_parallel = true is safer, "
        "or ask AWS for a higher quota"
    )
    table = replace(table, indexes=("{a: 1}", "{b: 1}", "{c: 1}"))
    [line] = warnings(config_of(), 1, [table], 0.0)
    assert line.startswith("CHANGES CAN BE LOST: ")
    assert line.endswith("set incr_sync_parallel = true, since no faster copy is enough")
    lines = said(Plan((table,)), config_of("sync_mode=all"), 1)
    assert (
        "  changes meanwhile:    kept by their streams for 24 hours, of which the copy needs "
        "8h 28m, and the index builds after it about 16h 40m: TOO LONG, see the warnings"
    ) in lines


def test_tables_that_must_wait_for_each_other_longer_than_their_streams_are_a_warning() -> None:
    tables = [followed(plan_of(f"t{i}", 9, 8_400 * 10**9, segments=8192)) for i in range(5)]
    [line] = warnings(config_of("full.concurrency=1"), 1, tables, 0.0)
    assert line == (
        "CHANGES CAN BE LOST: table t4 (3 other tables too): its copy ends 1d 11h after its stream "
        "position was chosen, or later (full.concurrency). Streams keep changes for 24 "
        "hours: set incr_sync_parallel = true, or raise full.concurrency"
    )
    assert not list(warnings(config_of("full.concurrency=5"), 1, tables, 0.0))


def test_what_has_passed_since_the_position_was_chosen_counts() -> None:
    plan = followed(plan_of("orders", 10**10, 10**13, Action.RESUME, segments=8192, done=4096))
    assert plan.stream
    record = StreamRecord("orders", "arn:stream", began=1000.0)
    plan = replace(plan, stream=replace(plan.stream, record=record))
    assert not list(warnings(config_of(), 1, [plan], 1000.0 + 7 * 3600))  # 4 hours are left
    [line] = warnings(config_of(), 1, [plan], 1000.0 + 21 * 3600)
    assert line.startswith("CHANGES CAN BE LOST: table orders: its copy ends 1d 01h after its")


def test_what_becomes_of_changes_during_the_copy_is_said_once() -> None:
    plan = Plan(tuple(followed(plan_of(name, 5, 500)) for name in ("a", "b")))
    lines = said(plan, config_of("sync_mode=all"), 1)
    kept = (
        "  changes meanwhile:    kept by their streams for 24 hours, of which the copy needs less "
        "than a second"
    )
    assert lines.count(kept) == 1
    assert sum(line.startswith("  changes: by arn:stream,") for line in lines) == 2
    settings = "incr_sync_parallel=true", "pid_path=/x", "journal.max_mb=100000"
    journaled = "  changes meanwhile:    journaled in /x/prod.journal, up to 100 GB"
    assert said(plan, config_of(*settings), 1).count(journaled) == 1


def test_a_collection_in_the_way_is_no_new_collection() -> None:
    plan = Plan((plan_of("t", 5, 500, Action.REFUSE),), ("collection prod.t exists",))
    lines = said(plan, config_of(), 1)
    assert "table t -> prod.t: REFUSED: the collection exists" in lines
    assert "  existing collections: 0 dropped, 0 renamed, 1 in the way: prod.t" in lines


def test_a_plan_for_the_schema_only_reads_nothing() -> None:
    plan = Plan((plan_of("orders", 10**9, 10**12, segments=64),))
    lines = said(plan, config_of("sync_schema_only=true"), 1)
    assert (
        "  to be read:           about 0 read capacity units (eventually consistent reads)" in lines
    )
    assert not any(line.startswith("  time:") for line in lines)
    assert "  sync_schema_only: collection and indexes, no item is read" in lines


def test_an_empty_plan_can_be_described() -> None:
    assert said(Plan((), ("no table to copy",)), config_of(), 1)[-1] == (
        "REFUSED: no table to copy"
    )
