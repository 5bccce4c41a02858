"""A check finds a difference of a key in whatever form the source or the target writes that key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shake.cli import check
from tests.support.migration import Migration
from tests.support.tables import create_table, put_items

pytestmark = pytest.mark.slow

#: Each has another form as a Decimal128, or as a document's number, than in DynamoDB's answers.
NUMBERS = ["0.000000123", "-0.00000001", "1E+34", "123000000000000000000000000000000000000", "5"]


def test_what_changed_since_a_check_is_found_by_keys_of_two_attributes(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration]
) -> None:
    """A record has the attributes of its key in an order of its own."""
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))

    def put(keys: range, content: str) -> None:
        items = [{"pk": {"S": f"k{n}"}, "sk": {"N": f"{n}E-7"}, "v": {"S": content}} for n in keys]
        put_items(dynamodb.client, name, items)

    put(range(6), "old")
    migration = migrate(sync_mode="all", incr__margin=1)
    assert migration.run("--until-consistent").status == 0
    report = migration.folder / "report"
    arguments = ["--conf", str(migration.conf), "--report", str(report)]
    assert check.main(arguments) == 0
    put(range(3, 9), "new")
    assert check.main([*arguments, "--since"]) == 1
    lines = map(json.loads, report.read_text().splitlines())
    found = {(line["kind"], line["key"]["pk"]["S"]) for line in lines if "kind" in line}
    changed = {("different", f"k{n}") for n in range(3, 6)}
    assert found == changed | {("missing", f"k{n}") for n in range(6, 9)}
    assert check.main(arguments) == 1


@pytest.mark.parametrize("settings", [{}, {"id__mode": "key"}], ids=str)
def test_missing_documents_of_very_small_and_very_large_numbers_are_found(
    dynamodb: Any,
    mongo: Any,
    name: str,
    migrate: Callable[..., Migration],
    settings: dict[str, str],
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"), ("sk", "N"))
    keys = [{"pk": {"S": "k"}, "sk": {"N": number}} for number in NUMBERS]
    put_items(dynamodb.client, name, keys)
    migration = migrate(**settings)
    assert migration.run().status == 0
    report = migration.folder / "report"
    arguments = ["--conf", str(migration.conf), "--report", str(report)]
    assert check.main(arguments) == 0
    mongo.client[name][name].delete_many({})
    assert check.main(arguments) == 1
    kinds = [json.loads(line).get("kind") for line in report.read_text().splitlines()]
    assert kinds.count("missing") == len(NUMBERS)


def test_a_document_whose_key_is_another_type_of_number_is_found_since_a_check(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration]
) -> None:
    create_table(dynamodb.client, name, ("pk", "N"))
    put_items(dynamodb.client, name, [{"pk": {"N": str(number)}} for number in range(6)])
    migration = migrate(sync_mode="all", incr__margin=1, id__mode="key")
    assert migration.run("--until-consistent").status == 0
    report = migration.folder / "report"
    arguments = ["--conf", str(migration.conf), "--report", str(report)]
    assert check.main(arguments) == 0
    dynamodb.client.delete_item(TableName=name, Key={"pk": {"N": "5"}})
    stored = mongo.client[name][name]
    stored.delete_one({"_id": 5})
    stored.insert_one({"_id": 5.0})
    assert check.main([*arguments, "--since"]) == 1
    kinds = [json.loads(line).get("kind") for line in report.read_text().splitlines()]
    assert kinds.count("extra") == 1
