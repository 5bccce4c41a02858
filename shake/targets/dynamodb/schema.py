"""What a table looks like on a DynamoDB target: its name, its keys, its secondary indexes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from shake.config import Config
from shake.schema import Attribute, SecondaryIndex, Table

#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")

_KINDS = (("GlobalSecondaryIndexes", False), ("LocalSecondaryIndexes", True))


def table_name(namespace: str) -> str:
    """The name on the target: an endpoint has no databases, so that part of a place is not used."""
    return namespace.partition(".")[2]


def name_problem(namespace: str) -> str | None:
    """Why DynamoDB refuses this name, or None."""
    if _NAME.fullmatch(table_name(namespace)):
        return None
    return (
        f"{namespace}: the name of a DynamoDB table has 3 to 255 of a-z, A-Z, 0-9, _, - and the "
        f"dot, {table_name(namespace)!r} is none; choose another by namespace.map"
    )


def wanted_indexes(table: Table, config: Config) -> tuple[SecondaryIndex, ...]:
    """The secondary indexes that the table gets on the target."""
    return table.indexes if config.full_enable_index_user else ()


def describe(index: SecondaryIndex) -> str:
    """An index in words, for the user."""
    attributes = ", ".join(attribute.name for attribute in index.keys)
    kind = "local" if index.local else "global"
    return f"{kind} secondary index {index.name} ({attributes})"


def missing_indexes(table: Table, config: Config, description: dict[str, Any]) -> list[str]:
    """The configured indexes that DescribeTable does not show, in words."""
    found = {
        (index["IndexName"], local): index["KeySchema"]
        for kind, local in _KINDS
        for index in description.get(kind, [])
    }
    return [
        describe(index)
        for index in wanted_indexes(table, config)
        if found.get((index.name, index.local)) != _schema(index.partition, index.sort)
    ]


def create_request(namespace: str, table: Table, config: Config) -> dict[str, Any]:
    """The CreateTable request: on demand, every index with a copy of all attributes.

    Only attributes that some key uses may be defined.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html
    """
    indexes = wanted_indexes(table, config)
    attributes = dict.fromkeys([*table.keys, *(a for index in indexes for a in index.keys)])
    request = {
        "TableName": table_name(namespace),
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": _schema([table.keys.partition], [*table.keys][1:]),
        "AttributeDefinitions": [
            {"AttributeName": attribute.name, "AttributeType": attribute.type}
            for attribute in attributes
        ],
    }
    for kind, local in _KINDS:
        made = [
            {
                "IndexName": index.name,
                "KeySchema": _schema(index.partition, index.sort),
                "Projection": {"ProjectionType": "ALL"},
            }
            for index in indexes
            if index.local is local
        ]
        if made:  # an empty list is refused
            request[kind] = made
    return request


def _schema(partition: Iterable[Attribute], sort: Iterable[Attribute]) -> list[dict[str, str]]:
    kinds = (("HASH", partition), ("RANGE", sort))
    return [{"AttributeName": a.name, "KeyType": kind} for kind, some in kinds for a in some]
