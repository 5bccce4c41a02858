"""Each refusal names its cause in the user's own words, and the way out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from shake.demo.mongo import MongoServer
from tests.support.faulty import Faulty, Reply, Request, error, forward
from tests.support.migration import Migration
from tests.support.tables import create_table, put_items

Migrate = Callable[..., Migration]


@pytest.fixture
def table(dynamodb: Any, name: str) -> str:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}])
    return name


def test_a_refused_filter_is_shown_with_its_own_names(table: str, migrate: Migrate) -> None:
    result = migrate(
        full__read__filter_expression="status == :s", full__read__filter_attributevalues="s```S```x"
    ).run("--dry-run")
    assert result.status == 3
    assert "#n" not in result.line
    assert 'near: "== :s"' in result.line


@pytest.mark.parametrize(
    "expression", ["2fa = :s", "status = :s", "data.name = :s", "data.list[0].2fa = :s"]
)
def test_a_filter_takes_each_name_that_an_attribute_can_have(
    dynamodb: Any, mongo: Any, table: str, migrate: Migrate, expression: str
) -> None:
    x = {"S": "x"}
    data = {"M": {"name": x, "list": {"L": [{"M": {"2fa": x}}]}}}
    put_items(dynamodb.client, table, [{"pk": x, "2fa": x, "status": x, "data": data}])
    result = migrate(
        full__read__filter_expression=expression, full__read__filter_attributevalues="s```S```x"
    ).run()
    assert result.status == 0, result
    assert [one["pk"] for one in mongo.client[table][table].find()] == ["x"]


@pytest.mark.parametrize(
    ("collection", "words"),
    [
        ("system.x", "cannot start with system."),
        ("a$b", "cannot hold $"),
        ("a..b", "nor hold two in a row"),
        ("c" * 250, "shorten it by namespace.map"),
    ],
)
def test_a_collection_that_cannot_be_is_refused_by_its_name(
    table: str, migrate: Migrate, collection: str, words: str
) -> None:
    result = migrate(namespace__map=f"{table}:{table}.{collection}").run()
    assert result.status == 3, result
    assert words in result.line
    assert "host and port" not in result.line


def test_databases_that_differ_only_in_case_are_refused(
    dynamodb: Any, table: str, migrate: Migrate
) -> None:
    create_table(dynamodb.client, f"{table}b")
    result = migrate(
        filter__collection__white=f"{table};{table}b",
        namespace__map=f"{table}:Shop{table}.a;{table}b:shop{table}.b",
    ).run("--dry-run")
    assert result.status == 3
    line = f"databases Shop{table} and shop{table} differ only in upper and lower case"
    assert line in result.line


@pytest.mark.parametrize("concern", ["w=9", "w=nowhere"])
def test_a_write_concern_that_the_target_cannot_give_is_refused_with_the_way_out(
    own_mongo: MongoServer, table: str, migrate: Migrate, concern: str
) -> None:
    result = migrate(target=f"{own_mongo.uri.rstrip('/')}/?{concern}").run()
    assert result.status == 3, result
    assert result.line.endswith("remove w from target.address, or use w=majority")


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
def test_an_option_that_the_driver_does_not_know_is_named_once_with_its_key(
    mongo: Any, table: str, migrate: Migrate, arguments: list[str]
) -> None:
    address = mongo.uri.rstrip("/")
    migration = migrate(
        target=f"{address}/?retryWrite=1&zlib=2", checkpoint__address=f"{address}/?retryWrite=1"
    )
    result = migration.run(*arguments)
    assert (result.status, result.stderr) == (0, "")
    warned = re.findall("WARN .* shake: (.*) and ignores it", result.stdout)
    assert warned == [
        "target.address: the MongoDB driver does not know option retryWrite",
        "target.address: the MongoDB driver does not know option zlib",
        "checkpoint.address: the MongoDB driver does not know option retryWrite",
    ]
    assert "Unknown option" not in result.stdout


@pytest.mark.parametrize(
    ("code", "message", "way_out"),
    [
        ("InvalidSignatureException", "Credential should be scoped to a valid region", "region"),
        ("InvalidSignatureException", "The request signature does not match", "secret key"),
        ("ExpiredTokenException", "The security token is expired", "temporary keys"),
        ("OptInRequired", "", "source.region"),
    ],
)
def test_keys_that_the_source_does_not_take_get_the_right_advice(
    table: str, migrate: Migrate, code: str, message: str, way_out: str
) -> None:
    with Faulty(otherwise=lambda request: error(code, message)) as source:
        result = migrate(source=source.url).run("--dry-run")
    assert result.status == 3
    assert way_out in result.line.rpartition("; ")[2]


@pytest.mark.parametrize("operation", ["ListTables", "Scan", "GetRecords"])
def test_a_refused_dry_run_says_so_on_stderr_and_in_its_json(
    dynamodb: Any, table: str, migrate: Migrate, operation: str
) -> None:
    answer = forward(dynamodb.url)

    def deny(request: Request) -> Reply:
        if request.operation == operation:
            return error("AccessDeniedException", f"not allowed: dynamodb:{operation}")
        return answer(request)

    with Faulty(otherwise=deny) as source:
        migration = migrate(
            source=source.url, sync_mode="all", filter__collection__white=f"{table}*"
        )
        text, plan = migration.run("--dry-run"), migration.run("--dry-run", "--json")
    document = json.loads(plan.stdout)
    assert document["task"] == table
    assert f"dynamodb:{operation}" in document["refusals"][0]
    for result in (text, plan):
        assert result.status == 3
        assert f"allow dynamodb:{operation} in the IAM policy" in result.line
