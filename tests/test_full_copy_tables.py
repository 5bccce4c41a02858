"""Many tables in one task: each is begun once, and no more are at work than may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.migration import Migration, compare
from tests.support.tables import create_table, put_items


def test_many_tables_are_copied_a_few_at_a_time(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    tables = [f"{name}.{number}" for number in range(9)]
    for number, table in enumerate(tables):
        create_table(dynamodb.client, table)
        items = ({"pk": {"S": f"{table}-{item}"}} for item in range(5 * number))
        put_items(dynamodb.client, table, items)
    migration = Migration(
        dynamodb.url,
        mongo.uri,
        name,
        tmp_path,
        filter__collection__white=f"{name}.*",
        full__concurrency=3,
    )
    result = migration.run()
    assert result.status == 0, result
    assert "9 of 9 tables done" in result.stdout
    for table in tables:
        compare(dynamodb.client, mongo.client, table, f"{name}.{table}")

    again = migration.run()
    assert again.status == 0
    assert "complete already" in again.stdout
