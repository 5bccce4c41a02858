"""Reads DynamoDB's descriptions of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shake.errors import RefusedError
from shake.schema import Attribute, Keys, Origin, SecondaryIndex, Table

#: The states in which a table can be read.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
_READABLE = frozenset({"ACTIVE", "UPDATING"})

_WAYS_OUT = {
    "ARCHIVED": "restore it from its backup",
    "INACCESSIBLE_ENCRYPTION_CREDENTIALS": "let DynamoDB use the table's KMS key again",
}

#: The table class whose storage is cheaper, and whose units are dearer.
_INFREQUENT = "STANDARD_INFREQUENT_ACCESS"

#: The parts of a description that are copied, or that say nothing about the data.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
_TABLE_PARTS = """
    ArchivalSummary AttributeDefinitions BillingModeSummary CreationDateTime
    DeletionProtectionEnabled DisassociationProtectionEnabled GlobalSecondaryIndexes
    GlobalTableSettingsReplicationMode GlobalTableVersion GlobalTableWitnesses ItemCount KeySchema
    LatestStreamArn LatestStreamLabel LocalSecondaryIndexes MultiRegionConsistency
    OnDemandThroughput ProvisionedThroughput Replicas RestoreSummary SSEDescription
    StreamSpecification TableArn TableClassSummary TableId TableName TableSizeBytes TableStatus
    WarmThroughput
"""
_INDEX_PARTS = """
    Backfilling IndexArn IndexName IndexSizeBytes IndexStatus ItemCount KeySchema
    OnDemandThroughput Projection ProvisionedThroughput WarmThroughput
"""
#: Lists of indexes, and whether those are local.
_INDEXES = (("GlobalSecondaryIndexes", False), ("LocalSecondaryIndexes", True))


def table_of(name: str, answer: Mapping[str, Any], *, in_aws: bool = False) -> Table:
    """The table that a TableDescription is of; ``in_aws``: an endpoint of AWS has given it.

    Raises RefusedError when its state does not allow reads, when shake does not support its key, or
    when its description is not one of DynamoDB.
    """
    try:
        return _table_of(name, answer, in_aws)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"table {name}: its description cannot be read ({type(error).__name__}: {error}): "
            "check that source.endpoint_url is an endpoint of DynamoDB"
        ) from error


def _table_of(name: str, answer: Mapping[str, Any], in_aws: bool) -> Table:
    status = answer.get("TableStatus", "unknown")
    if status not in _READABLE:
        way_out = _WAYS_OUT.get(status, "it can be copied when it is ACTIVE")
        raise RefusedError(
            f"table {name} is {status}: {way_out}, or leave it out with filter.collection.black"
        )
    types = {a["AttributeName"]: a["AttributeType"] for a in answer["AttributeDefinitions"]}
    described = [(one, local) for kind, local in _INDEXES for one in answer.get(kind) or ()]
    indexes = [_index(one, types, local) for one, local in described]
    return Table(
        name=name,
        keys=_keys(name, answer["KeySchema"], types),
        indexes=tuple(index for index in indexes if index is not None),
        items=int(answer.get("ItemCount") or 0),
        bytes=int(answer.get("TableSizeBytes") or 0),
        read_capacity=0 if _on_demand(answer) else _read_capacity(answer),
        read_maximum=_read_maximum(answer) if _on_demand(answer) else 0,
        infrequent_access=(answer.get("TableClassSummary") or {}).get("TableClass") == _INFREQUENT,
        key_arn=(answer.get("SSEDescription") or {}).get("KMSMasterKeyArn", ""),
        in_aws=in_aws,
        origin=origin_of(answer),
        left_out=(*_unknown_parts(answer), *_unknown_indexes(described, types)),
    )


def origin_of(description: Mapping[str, Any]) -> Origin:
    """Which table a TableDescription is of."""
    return Origin(
        description.get("TableArn") or "",
        description.get("TableId") or "",
        float(description.get("CreationDateTime") or 0.0),
    )


def _keys(name: str, schema: list[dict[str, str]], types: Mapping[str, str]) -> Keys:
    partition, sort = _parts(schema, types) or ((), ())
    if len(partition) != 1 or len(sort) > 1:
        raise RefusedError(
            f"table {name}: this version of shake does not support a key like {_shown(schema)}: "
            "leave the table out by filter.collection.black, or use a later version"
        )
    return Keys(partition[0], *sort)


def _index(
    index: Mapping[str, Any], types: Mapping[str, str], local: bool
) -> SecondaryIndex | None:
    """The index; None where shake does not support a key like this."""
    parts = _parts(index.get("KeySchema") or [], types)
    return None if parts is None else SecondaryIndex(index.get("IndexName", ""), *parts, local)


def _parts(
    schema: list[dict[str, str]], types: Mapping[str, str]
) -> tuple[tuple[Attribute, ...], tuple[Attribute, ...]] | None:
    """The partition and the sort attributes; None where any part of the schema is unknown."""
    parts: dict[str, list[Attribute]] = {"HASH": [], "RANGE": []}
    for part in schema:
        name = part.get("AttributeName", "")
        if part.keys() != {"AttributeName", "KeyType"} or types.get(name) not in ("S", "N", "B"):
            return None
        if part["KeyType"] not in parts:
            return None
        parts[part["KeyType"]].append(Attribute(name, types[name]))
    return (tuple(parts["HASH"]), tuple(parts["RANGE"])) if parts["HASH"] else None


def _shown(schema: list[dict[str, str]]) -> str:
    return ", ".join(f"{one.get('AttributeName')} {one.get('KeyType')}" for one in schema)


def _unknown_parts(answer: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(answer.keys() - _TABLE_PARTS.split()):
        if answer[name] not in (None, [], {}):
            yield f"{name} of its description"


def _unknown_indexes(
    described: list[tuple[Mapping[str, Any], bool]], types: Mapping[str, str]
) -> Iterator[str]:
    for index, local in described:
        where = f"secondary index {index.get('IndexName', 'without a name')}"
        if _index(index, types, local) is None:
            yield f"{where}, whose key is {_shown(index.get('KeySchema') or []) or 'not described'}"
        for name in sorted(index.keys() - _INDEX_PARTS.split()):
            yield f"{name} of {where}"


def _on_demand(answer: Mapping[str, Any]) -> bool:
    mode = (answer.get("BillingModeSummary") or {}).get("BillingMode")
    return mode == "PAY_PER_REQUEST" or not _read_capacity(answer)


def _read_capacity(answer: Mapping[str, Any]) -> int:
    return int((answer.get("ProvisionedThroughput") or {}).get("ReadCapacityUnits", 0))


def _read_maximum(answer: Mapping[str, Any]) -> int:
    """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_OnDemandThroughput.html"""
    most = int((answer.get("OnDemandThroughput") or {}).get("MaxReadRequestUnits", 0))
    return max(most, 0)  # -1 removes it
