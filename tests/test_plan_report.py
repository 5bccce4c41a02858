"""The plan of a dry run is true: time, cost, size and rights, as text and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import bson
import orjson
import pytest
from pymongo import MongoClient

from shake.demo.mongo import MongoServer
from shake.plan.report import PlanReport
from tests.support.faulty import Faulty, Reply, Request, error, forward
from tests.support.migration import ROOT, Migration, compare
from tests.support.tables import create_table, put_items

pytestmark = pytest.mark.slow

Migrate = Callable[..., Migration]
ITEMS = [{"pk": {"S": f"k{i}"}, "text": {"S": "x" * 400}, "n": {"N": str(i)}} for i in range(300)]
PROVISIONED_120_GB = {
    "TableSizeBytes": 120 * 10**9,
    "ItemCount": 10**8,
    "BillingModeSummary": {"BillingMode": "PROVISIONED"},
    "ProvisionedThroughput": {"ReadCapacityUnits": 4000, "WriteCapacityUnits": 1},
}
ON_DEMAND_20_TB = {"TableSizeBytes": 20 * 10**12, "ItemCount": 25 * 10**9}


@pytest.fixture
def table(dynamodb: Any, name: str) -> str:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, ITEMS)
    return name


def described(url: str, **differs: Any) -> Faulty:
    """The source at ``url``, whose tables are described otherwise."""
    answer = forward(url)

    def answers(request: Request) -> Reply:
        reply = answer(request)
        if request.operation != "DescribeTable" or reply.status != 200:
            return reply
        body = json.loads(reply.body)
        body["Table"] |= differs
        return Reply(orjson.dumps(body))

    return Faulty(otherwise=answers)


def report(migration: Migration, *arguments: str, status: int = 0) -> dict[str, Any]:
    """What ``--json`` prints, which must be all of stdout."""
    result = migration.run("--dry-run", "--json", *arguments)
    assert result.status == status, result
    plan: dict[str, Any] = json.loads(result.stdout)
    return plan


@pytest.mark.parametrize(
    ("description", "settings", "time"),
    [
        (PROVISIONED_120_GB, (), "1h 01m at least: table {}, 4,000 units a second: its prov"),
        (
            PROVISIONED_120_GB,
            ("source.read_budget=50%",),
            "2h 02m at least: table {}, 2,000 units a second: source.read_budget = 50%\n",
        ),
        (
            PROVISIONED_120_GB,
            ("source.consistent_read=true",),
            "2h 02m at least: table {}, 4,000 units a second: its provisioned capacity",
        ),
        (
            ON_DEMAND_20_TB,
            (),
            "16h 57m at least: table {}, 40,000 units a second: the default quota of AWS",
        ),
        (
            ON_DEMAND_20_TB,
            ("source.read_budget=100000", "qps.full=10000"),
            "6h 46m at least: table {}, 100,000 units a second: source.read_budget, above the",
        ),
        (
            ON_DEMAND_20_TB | {"OnDemandThroughput": {"MaxReadRequestUnits": 20_000}},
            (),
            "1d 09h at least: table {}, 20,000 units a second: its on-demand maximum",
        ),
        (
            ON_DEMAND_20_TB | {"OnDemandThroughput": {"MaxReadRequestUnits": -1}},
            ("qps.full=100",),
            "2d 04h at least: table {}, 100 Scan calls a second: qps.full\n",
        ),
    ],
)
def test_the_time_is_that_of_the_limit_that_decides(
    dynamodb: Any, table: str, migrate: Migrate, description: Any, settings: Any, time: str
) -> None:
    with described(dynamodb.url, **description) as source:
        plan = migrate(source=source.url).run(
            "--dry-run", *(f"--set={setting}" for setting in settings)
        )
    assert plan.status == 0, plan
    assert f"\n  time:                 {time.format(table)}" in plan.stdout


def test_a_copy_that_needs_most_of_the_day_for_which_streams_keep_changes_is_a_warning(
    dynamodb: Any, table: str, migrate: Migrate
) -> None:
    with described(dynamodb.url, **ON_DEMAND_20_TB) as source:
        plan = migrate(source=source.url, sync_mode="all").run("--dry-run").stdout
    built = "16h 57m, and the index builds after it about 6h 56m: NEAR, see the warnings"
    assert f"of which the copy needs {built}" in plan
    assert f"\nwarning: table {table}: its copy ends 16h 57m after its stream position" in plan
    assert "about $305.18 at $0.125 per million units on demand (source.price)" in plan
    assert f"at the source:        streams ENABLED on 1 table: {table}\n" in plan
    assert "which is not AWS (account 000000000000, region ddblocal)" in plan


def test_units_of_infrequent_access_cost_more_and_a_stream_can_have_other_readers(
    dynamodb: Any, table: str, migrate: Migrate
) -> None:
    rare = {"TableClassSummary": {"TableClass": "STANDARD_INFREQUENT_ACCESS"}}
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    dynamodb.client.update_table(TableName=table, StreamSpecification=stream)
    with described(dynamodb.url, **ON_DEMAND_20_TB, **rare) as source:
        plan = migrate(source=source.url, sync_mode="all").run("--dry-run").stdout
    assert "about $378.42 at $0.125 per million units on demand (source.price)" in plan
    assert ", and 1.24 times that for 1 table of the class Standard-IA\n" in plan
    assert ", enabled already (AWS throttles a stream that more than two programs read)\n" in plan


def test_provisioned_tables_cost_nothing_beyond_their_capacity(
    dynamodb: Any, table: str, migrate: Migrate
) -> None:
    with described(dynamodb.url, **PROVISIONED_120_GB) as source:
        migration = migrate(source=source.url)
        plan = report(migration)
        assert plan["reading"]["dollars"] == plan["tables"][0]["dollars"] == 0
        text = migration.run("--dry-run").stdout
    assert "cost:                 nothing beyond the capacity of 1 provisioned table\n" in text


def test_the_json_is_alone_on_stdout_and_holds_what_the_documents_say(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, tmp_path: Path
) -> None:
    before = mongo.client.list_database_names(), set(tmp_path.glob("*.journal"))
    migration = migrate(sync_mode="all", log__level="debug")
    result = migration.run("--dry-run", "--json")
    assert (result.status, json.loads(result.stdout)["refusals"]) == (0, [])
    page = (ROOT / "docs/plan.md").read_text(encoding="utf-8").partition("## JSON")[2]
    rows = re.findall(r"^\| (`.*`) \|", page, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    plan = json.loads(result.stdout)
    assert set(paths(PlanReport)) == documented
    assert set(plan) == {name.partition(".")[0] for name in documented}
    of_table = {name.removeprefix("tables.") for name in documented if name.startswith("tables.")}
    assert set(plan["tables"][0]) == of_table
    assert plan["source"]["streams_enabled"] == [table]
    assert plan["target"]["created"] == [f"{table}.{table}"]
    assert (mongo.client.list_database_names(), set(tmp_path.glob("*.journal"))) == before
    assert "StreamSpecification" not in dynamodb.client.describe_table(TableName=table)["Table"]


def paths(report: Any, prefix: str = "") -> list[str]:
    """All fields of a report, with dots."""
    found = []
    for field in fields(report):
        hint = get_type_hints(report)[field.name]
        inner = [one for one in (hint, *get_args(hint)) if is_dataclass(one)]
        if not inner or isinstance(hint, UnionType) or get_args(hint):
            found.append(f"{prefix}{field.name}")
        found += [name for one in inner for name in paths(one, f"{prefix}{field.name}.")]
    return found


def test_the_json_of_a_refused_plan_has_the_refusals(
    mongo: Any, table: str, migrate: Migrate
) -> None:
    mongo.client[table][table].insert_one({})
    plan = report(migrate(), status=3)
    [refusal] = plan["refusals"]
    assert refusal.startswith(f"collection {table}.{table} exists: set target.db.exist")
    assert plan["target"]["in_the_way"] == [f"{table}.{table}"]
    assert plan["sample"] is None  # it would cost, and the start is refused


@pytest.mark.parametrize("arguments", [[], ["--print-config"]])
def test_json_without_a_dry_run_is_a_usage_error(migrate: Migrate, arguments: list[str]) -> None:
    result = migrate().run("--json", *arguments)
    assert (result.status, result.stdout) == (2, "")
    assert result.line == "--json is for --dry-run: give both, or none"


def test_the_size_of_documents_is_near_what_the_copy_stores(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    migration = migrate()
    with Faulty(otherwise=forward(dynamodb.url)) as source:
        plan = report(migration, f"--set=source.endpoint_url={source.url}")
        scans = [json.loads(one.body) for one in source.requests if one.operation == "Scan"]
    assert migration.run().status == 0
    stored = sum(len(bson.encode(document)) for document in mongo.client[table][table].find())
    assert plan["target"]["bytes"] == pytest.approx(stored, rel=0.1)
    sampled = [scan for scan in scans if "Segment" in scan]
    assert len(sampled) == 4
    assert all(scan["Limit"] == 50 for scan in sampled)
    assert plan["sample"]["tables"] == 1
    assert 0 < plan["sample"]["items"] <= 200


def test_a_sample_ends_at_its_most_units(dynamodb: Any, name: str, migrate: Migrate) -> None:
    create_table(dynamodb.client, name)
    large = ({"pk": {"S": f"k{i}"}, "b": {"S": "x" * 380_000}} for i in range(12))
    for item in large:
        dynamodb.client.put_item(TableName=name, Item=item)
    with Faulty(otherwise=forward(dynamodb.url)) as source:
        plan = report(migrate(source=source.url))
        scans = [one for one in source.requests if b'"Segment"' in one.body]
    assert len(scans) < 4
    assert 128 <= plan["sample"]["units"] <= 256


def test_an_item_of_the_sample_that_cannot_be_stored_is_a_warning(
    dynamodb: Any, table: str, migrate: Migrate
) -> None:
    bad = {"pk": {"S": "bad"}, "_id": {"S": "a"}, "pre_id": {"S": "b"}}
    dynamodb.client.put_item(TableName=table, Item=bad)
    for item in ITEMS[:280]:
        dynamodb.client.delete_item(TableName=table, Key={"pk": item["pk"]})
    plan = migrate().run("--dry-run")
    assert plan.status == 0
    said = plan.stdout.replace('": ', '":')
    fate = "1 item of the sample cannot be stored and would stop the task"
    assert f'warning: table {table}: {fate}: {{"pk":{{"S":"bad"}}}}: ' in said
    assert "of which nothing is known" not in said  # the size of the others is


def test_the_printed_policy_is_enough_for_a_whole_run_and_all_of_it_is_used(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate
) -> None:
    migration = migrate(sync_mode="all", filter__collection__white=f"{table}*")
    policy = report(migration)["iam_policy"]
    allowed = {
        action.removeprefix("dynamodb:"): re.compile(
            "|".join(re.escape(one).replace(r"\*", ".*") for one in statement["Resource"])
        )
        for statement in policy["Statement"]
        for action in statement["Action"]
    }
    arn = dynamodb.client.describe_table(TableName=table)["Table"]["TableArn"]
    answer, used = forward(dynamodb.url), set[str]()

    def enforced(request: Request) -> Reply:
        body = json.loads(request.body)
        # An iterator names no stream that a test could read; its operation counts.
        resource = body.get("StreamArn") or (arn if "TableName" in body else f"{arn}/stream/x")
        pattern = allowed.get(request.operation)
        if pattern is None or not (request.operation == "ListTables" or pattern.match(resource)):
            return error("AccessDeniedException", f"not authorized: {request.operation}")
        used.add(request.operation)
        return answer(request)

    with Faulty(otherwise=enforced) as source:
        run = migration.run("--until-consistent", f"--set=source.endpoint_url={source.url}")
    assert run.status == 0, run
    assert used == set(allowed)
    compare(dynamodb.client, mongo.client, table, f"{table}.{table}")


def test_the_printed_roles_are_enough_for_a_whole_run(
    dynamodb: Any, own_mongo: MongoServer, table: str, migrate: Migrate
) -> None:
    plain = own_mongo.uri
    roles = report(migrate(target=plain))["mongodb_roles"]["target.address"]
    with MongoClient[Any](plain) as client:
        client[table][table].insert_one({"old": 1})
        client.admin.command("createUser", "mover", pwd="p", roles=roles)
        client.admin.command("createUser", "root", pwd="p", roles=["root"])
    own_mongo.auth = True
    own_mongo.restart()
    migration = migrate(
        target=plain.replace("://", "://mover:p@"), sync_mode="all", target__db__exist="drop"
    )
    run = migration.run("--until-consistent")
    assert run.status == 0, run
    with MongoClient[Any](plain.replace("://", "://root:p@")) as client:
        compare(dynamodb.client, client, table, f"{table}.{table}")


def test_a_start_logs_the_main_lines_of_the_plan(mongo: Any, table: str, migrate: Migrate) -> None:
    mongo.client[table][table].insert_one({})
    run = migrate(target__db__exist="drop", sync_mode="all").run("--until-consistent")
    assert run.status == 0, run
    lines = [line.partition("plan: ")[2] for line in run.stdout.splitlines() if "plan: " in line]
    assert lines[0].startswith("source: http://127.0.0.1:")
    assert f"at the source: streams ENABLED on 1 table: {table}" in lines
    assert f"existing collections: 1 DROPPED, 0 renamed: {table}.{table}" in lines
    assert len(lines) <= 10


def test_a_profile_shows_what_items_consist_of_and_which_are_bad(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))
    long, inexact = {"N": "1" * 36}, "1234567890123456789012345678901234"
    items = [
        {"pk": {"S": f"k{n}"}, "sk": {"N": str(n)}, "v": {"S": "x" * 100}, "a.b": {"BOOL": True}}
        for n in range(50)
    ]
    items += [
        {"pk": {"S": "long"}, "sk": {"N": "1"}, "v": {"M": {"in": {"L": [{"NS": [long["N"]]}]}}}},
        {"pk": {"S": "odd"}, "sk": {"N": inexact}, "_id": {"S": "x"}, "$set": {"N": "1"}},
        {"pk": {"S": "nul"}, "sk": {"N": "1"}, "a\0": {"S": "x"}},
    ]
    put_items(dynamodb.client, name, items)
    before = mongo.client.list_database_names()
    migration = migrate(convert__number__overflow="error")
    result = migration.run("--dry-run", "--json", "--profile", "1000")
    assert result.status == 0, result
    [found] = json.loads(result.stdout)["profiles"]
    assert found["items"] == 53
    assert found["units"] >= found["requests"] / 2 > 0
    attributes = {one["name"]: one for one in found["attributes"]}
    assert attributes["v"]["types"] == {"S": 50, "M": 1}
    assert attributes["pk"]["items"] == 53
    assert attributes["a.b"]["bytes"] == 50 * 4
    counts = ("long_numbers", "dotted", "dollars", "ids", "inexact_keys")
    assert [found[one] for one in counts] == [1, 50, 1, 1, 1]
    assert found["document_bytes"] > found["item_bytes"] > 5000
    item, document = json.loads(found["before"]), json.loads(found["after"])
    assert document["pk"] == item["pk"]["S"]
    assert {json.loads(one["key"])["pk"]["S"] for one in found["bad"]} == {"long", "nul"}
    assert found["bad_items"] == 2
    text = migration.run("--dry-run", "--profile", "10").stdout
    assert f"profile of table {name}: 10 items read by " in text
    assert "its document: {" in text
    assert mongo.client.list_database_names() == before
    refused = migration.run("--profile", "10")
    assert refused.status == 2
    assert "--profile is for --dry-run" in refused.stderr
    assert migration.run("--dry-run", "--profile", "10001").status == 2


def test_a_profile_with_a_scan_filter_reads_no_more_items_than_it_is_told(
    dynamodb: Any, name: str, migrate: Migrate
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": f"k{n}"}} for n in range(1000)])
    migration = migrate(
        full__read__filter_expression="pk = :k", full__read__filter_attributevalues="k```S```none"
    )
    result = migration.run("--dry-run", "--json", "--profile", "20")
    assert result.status == 0, result
    [found] = json.loads(result.stdout)["profiles"]
    assert (found["items"], found["requests"] <= 20) == (0, True)
