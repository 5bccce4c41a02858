"""Reads DynamoDB's descriptions of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shake.errors import RefusedError
from shake.schema import Attribute, Keys, Origin, SecondaryIndex, Table

#: The states in which a table can be read.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
_READABLE = frozenset({"ACTIVE", "UPDATING"})


def table_of(name: str, answer: Mapping[str, Any]) -> Table:
    """The table that a TableDescription is of.

    Raises RefusedError when the table is in a state that cannot be read.
    """
    status = answer.get("TableStatus", "unknown")
    if status not in _READABLE:
        raise RefusedError(
            f"table {name} is {status}: it can be copied when it is ACTIVE, or leave it out with"
            " filter.collection.black"
        )
    types = {a["AttributeName"]: a["AttributeType"] for a in answer["AttributeDefinitions"]}
    return Table(
        name=name,
        keys=_keys(answer["KeySchema"], types),
        indexes=tuple(
            SecondaryIndex(index["IndexName"], _keys(index["KeySchema"], types), local)
            for kind, local in (("GlobalSecondaryIndexes", False), ("LocalSecondaryIndexes", True))
            for index in answer.get(kind, [])
        ),
        items=answer.get("ItemCount", 0),
        bytes=answer.get("TableSizeBytes", 0),
        read_capacity=_read_capacity(answer),
        origin=origin_of(answer),
    )


def origin_of(description: Mapping[str, Any]) -> Origin:
    """Which table a TableDescription is of."""
    return Origin(
        description.get("TableArn", ""),
        description.get("TableId", ""),
        float(description.get("CreationDateTime", 0.0)),
    )


def _keys(schema: list[dict[str, str]], types: dict[str, str]) -> Keys:
    names = {part["KeyType"]: part["AttributeName"] for part in schema}
    partition, sort = names["HASH"], names.get("RANGE")
    return Keys(
        Attribute(partition, types[partition]),
        None if sort is None else Attribute(sort, types[sort]),
    )


def _read_capacity(answer: Mapping[str, Any]) -> int:
    if answer.get("BillingModeSummary", {}).get("BillingMode") == "PAY_PER_REQUEST":
        return 0
    return int(answer.get("ProvisionedThroughput", {}).get("ReadCapacityUnits", 0))
