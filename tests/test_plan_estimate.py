"""Estimates hold for any sizes and limits: the slowest limit decides, tables run in parallel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.config import Config, load
from shake.plan.estimate import (
    dollars,
    finishes,
    read_units,
    scan_calls,
    slowest,
    slowest_of_all,
    stream_waits,
)
from shake.plan.plan import Action, StreamPlan, TablePlan
from shake.schema import Attribute, Keys, Table
from shake.source.contract import Stream
from shake.source.endpoint import in_aws

FOLLOWED = StreamPlan(Stream("arn:stream", True, "NEW_IMAGE"))


def config_of(*given: str) -> Config:
    return load(None, {}, ["id=t", "target.address=mongodb://h/", *given]).config


def plan_of(table: Table, segments: int = 1, done: int = 0) -> TablePlan:
    record = TableRecord(table.name, f"t.{table.name}", 1, segments)
    progress = tuple(SegmentRecord(number, done=number < done) for number in range(segments))
    return TablePlan(table, Action.CREATE, record, progress, stream=FOLLOWED)


@st.composite
def plans(draw: st.DrawFn) -> TablePlan:
    provisioned = draw(st.sampled_from([0, 0, 5, 4000]))
    table = Table(
        f"t{draw(st.integers(0, 10**6))}",
        Keys(Attribute("pk", "S")),
        items=draw(st.integers(0, 10**10)),
        bytes=draw(st.integers(0, 10**14)),
        read_capacity=provisioned,
        read_maximum=0 if provisioned else draw(st.sampled_from([0, 100, 10**6])),
        in_aws=draw(st.booleans()),
    )
    segments = draw(st.integers(1, 20))
    return plan_of(table, segments, draw(st.integers(0, segments)))


budgets = st.sampled_from(["auto", "none", "100", "7.5"])
configs = st.builds(
    lambda budget, calls, batch, consistent: config_of(
        f"source.read_budget={budget}",
        f"qps.full={calls}",
        f"qps.full.batch_num={batch}",
        f"source.consistent_read={consistent}",
    ),
    budgets,
    st.integers(1, 5000),
    st.sampled_from(["", 1, 128]),
    st.sampled_from(["true", "false"]),
)


@settings(max_examples=40)
@given(plans(), configs)
def test_no_limit_is_broken_in_the_time_that_is_said(plan: TablePlan, config: Config) -> None:
    seconds, units, table = slowest(config, plan).seconds, read_units(config, plan), plan.table
    most: list[float] = [table.read_capacity or table.read_maximum or 40_000]
    budget = config.source_read_budget
    if rate := budget.units(table.read_capacity, in_aws=table.in_aws):
        most.append(rate)
    assert units <= seconds * min(most) * 1.000001
    assert scan_calls(config, plan) <= seconds * config.qps_full * 1.000001
    reached = [*(units / rate for rate in most), scan_calls(config, plan) / config.qps_full]
    assert seconds == pytest.approx(max(reached))


@settings(max_examples=40)
@given(plans(), configs)
def test_consistent_reads_take_twice_the_units(plan: TablePlan, config: Config) -> None:
    once, twice = (
        read_units(replace(config, source_consistent_read=consistent), plan)
        for consistent in (False, True)
    )
    assert twice == 2 * once
    assert once >= scan_calls(config, plan) / 2  # a call takes half a unit at least


@settings(max_examples=40)
@given(st.lists(plans(), max_size=12), st.integers(1, 5))
def test_tables_take_together_what_so_many_at_once_take(
    tables: list[TablePlan], at_once: int
) -> None:
    config = config_of(f"full.concurrency={at_once}")
    alone = [slowest(config, plan).seconds for plan in tables]
    together = slowest_of_all(config, tables).seconds
    assert together == pytest.approx(max(finishes(config, tables), default=0.0))
    assert together >= max([sum(alone) / at_once, *alone]) * 0.999999
    assert together <= sum(alone) * 1.000001
    if at_once >= len(tables):
        assert together == max(alone, default=0.0)


@settings(max_examples=40)
@given(st.lists(plans(), max_size=6), st.floats(0, 10**6))
def test_a_stream_is_needed_from_its_position_to_the_end_of_its_copy(
    tables: list[TablePlan], passed: float
) -> None:
    config = config_of()
    record = StreamRecord("t", "arn:stream", began=1000.0)
    later = [replace(plan, stream=replace(FOLLOWED, record=record)) for plan in tables]
    fresh = [one.limit.seconds for one in stream_waits(config, tables, 1000.0 + passed)]
    resumed = [one.limit.seconds for one in stream_waits(config, later, 1000.0 + passed)]
    assert resumed == pytest.approx([seconds + passed for seconds in fresh])
    assert fresh == sorted(finishes(config, tables), reverse=True)
    assert not stream_waits(replace(config, incr_sync_parallel=True), tables, 0.0)


def test_dollars_are_for_units_on_demand_alone() -> None:
    keys = Keys(Attribute("pk", "S"))
    on_demand = plan_of(Table("t", keys, items=1, bytes=8192 * 2_000_000))
    assert dollars(config_of(), on_demand) == 0.25
    assert dollars(config_of("source.price=1.5"), on_demand) == 3
    assert dollars(config_of("source.price=0"), on_demand) == 0
    rare = replace(on_demand, table=replace(on_demand.table, infrequent_access=True))
    assert dollars(config_of(), rare) == pytest.approx(0.31)
    provisioned = replace(on_demand, table=replace(on_demand.table, read_capacity=5))
    assert dollars(config_of(), provisioned) == 0
    assert dollars(config_of("sync_schema_only=true"), on_demand) == 0


@pytest.mark.parametrize(
    ("url", "aws"),
    [
        ("https://dynamodb.eu-central-1.amazonaws.com", True),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn/", True),
        ("https://dynamodb.us-east-1.api.aws", True),
        ("https://123456789012.ddb.us-east-1.amazonaws.com", True),
        ("https://vpce-1-2.dynamodb.us-east-1.vpce.amazonaws.com", True),
        ("http://127.0.0.1:8000", False),
        ("http://localhost:8000/amazonaws.com", False),
        ("http://dynamodb.amazonaws.com.example.net", False),
    ],
)
def test_an_address_of_aws_is_known(url: str, aws: bool) -> None:
    assert in_aws(url) is aws
