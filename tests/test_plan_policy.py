"""The least rights: no table, stream, key or database too few, and none too many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.stream_records import StreamRecord
from shake.config import Config, load
from shake.plan.plan import Action, Plan, StreamPlan, TablePlan
from shake.plan.policy import iam_policy, mongodb_roles
from shake.plan.report import Facts, make_report
from shake.plan.text import describe
from shake.schema import Attribute, Keys, Origin, Table
from shake.source.contract import Stream
from shake.source.endpoint import Endpoint

ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/"


def config_of(*given: str) -> Config:
    return load(None, {}, ["id=shop", "target.address=mongodb://h/", *given]).config


def plan_of(name: str, place: str = "", stream: StreamPlan | None = None) -> TablePlan:
    table = Table(name, Keys(Attribute("pk", "S")), origin=Origin(ARN + name))
    record = TableRecord(name, place or f"shop.{name}", 1, 1)
    return TablePlan(table, Action.CREATE, record, (SegmentRecord(0),), stream=stream)


def statements(config: Config, *tables: TablePlan) -> dict[str, Any]:
    """The resources of each statement."""
    policy: Any = iam_policy(config, Plan(tables))
    assert policy["Version"] == "2012-10-17"
    return {one["Sid"]: one["Resource"] for one in policy["Statement"]}


def test_only_what_is_done_is_allowed() -> None:
    enabled = StreamPlan(Stream(f"{ARN}a/stream/1", True))
    begun = StreamPlan(Stream(f"{ARN}b/stream/1"), StreamRecord("b", f"{ARN}b/stream/1"))
    missing = StreamPlan(Stream())
    plain = config_of("filter.collection.white=a;b;c;d")
    tables = plan_of("a", stream=enabled), plan_of("b", stream=begun)
    assert statements(plain, plan_of("a")) == {"ReadTables": [f"{ARN}a"]}
    assert statements(config_of(), plan_of("a"))["ListTables"] == ["*"]
    assert statements(config_of("filter.collection.white=a*"), plan_of("a"))["ListTables"] == ["*"]
    assert statements(plain, *tables, plan_of("c", stream=missing), plan_of("d")) == {
        "ReadTables": [f"{ARN}{name}" for name in "abcd"],
        "ReadStreams": [f"{ARN}{name}/stream/*" for name in "abc"],
        "EnableStreams": [f"{ARN}c"],
    }


def test_only_a_run_that_can_read_items_is_allowed_to_scan() -> None:
    facts = Facts(Endpoint("https://dynamodb.eu-central-1.amazonaws.com", "eu-central-1"), 1)
    for scans, *given in (
        (True, "sync_mode=full"),
        (False, "sync_mode=incr"),
        (True, "sync_mode=incr", "gap.policy=resync"),
        (False, "sync_schema_only=true", "gap.policy=resync"),
    ):
        config, plan = config_of(*given), Plan((plan_of("a"),))
        policy: Any = iam_policy(config, plan)
        assert ("dynamodb:Scan" in policy["Statement"][0]["Action"]) is scans, given
        text = "\n".join(describe(make_report(config, plan, facts)))
        assert ("needs dynamodb:Scan and dynamodb:BatchGetItem" in text) is not scans


def test_the_keys_of_encrypted_tables_are_named_once() -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    tables = [
        replace(plan, table=replace(plan.table, key_arn=key))
        for plan in (plan_of("a"), plan_of("b"))
    ]
    assert statements(config_of(), *tables, plan_of("c"))["DecryptTables"] == [key]


def test_a_table_of_unknown_arn_is_named_in_any_region() -> None:
    plan = plan_of("a")
    plan = replace(plan, table=replace(plan.table, origin=Origin()))
    assert statements(config_of(), plan)["ReadTables"] == ["arn:aws:dynamodb:*:*:table/a"]


def role(name: str, database: str) -> dict[str, str]:
    return {"role": name, "db": database}


CHECKPOINTS = role("readWrite", "shop-checkpoint")


@pytest.mark.parametrize(
    ("settings", "roles"),
    [
        ((), {"target.address": [role("readWrite", "shop"), role("readWrite", "x"), CHECKPOINTS]}),
        (
            ("target.mongodb.type=sharding", "checkpoint.type=file"),
            {
                "target.address": [
                    role("readWrite", "shop"),
                    role("readWrite", "x"),
                    role("clusterManager", "admin"),
                ]
            },
        ),
        (
            ("checkpoint.address=mongodb://other/",),
            {
                "target.address": [role("readWrite", "shop"), role("readWrite", "x")],
                "checkpoint.address": [CHECKPOINTS],
            },
        ),
        (
            (
                "target.type=aliyun_dynamo_proxy",
                "target.address=http://h:1",
                "checkpoint.address=mongodb://other/",
            ),
            {"checkpoint.address": [CHECKPOINTS]},
        ),
    ],
)
def test_roles_are_of_the_databases_that_are_written_to(settings: Any, roles: Any) -> None:
    plan = Plan((plan_of("a"), plan_of("b"), plan_of("c", "x.c")))
    assert mongodb_roles(config_of(*settings), plan) == roles


def test_a_policy_that_iam_would_not_take_is_said_to_be_too_long() -> None:
    facts = Facts(Endpoint("https://dynamodb.eu-central-1.amazonaws.com", "eu-central-1"), 1)
    for tables, too_long in ((10, False), (200, True)):
        plan = Plan(tuple(plan_of(f"table-{number}") for number in range(tables)))
        lines = describe(make_report(config_of(), plan, facts))
        assert any("6,144 characters" in line for line in lines) is too_long
