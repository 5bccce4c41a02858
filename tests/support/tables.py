"""DynamoDB tables for tests: a client, a table, its items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import boto3

#: Credentials for DynamoDB Local, which accepts any.
REGION, ACCESS_KEY, SECRET_KEY = "us-east-1", "test", "test"

Key = tuple[str, str]


def connect(url: str, service: str = "dynamodb", *, verify: str | None = None) -> Any:
    """A boto3 client for ``dynamodb`` or ``dynamodbstreams``; ``verify`` is a CA to trust."""
    return boto3.client(
        service,
        endpoint_url=url,
        verify=verify,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def create_table(
    client: Any,
    name: str,
    pk: Key = ("pk", "S"),
    sk: Key | None = None,
    indexes: Mapping[str, tuple[Key, Key | None]] | None = None,
    stream: str | None = None,
) -> None:
    """Create a table and wait for it.

    A key is (name, type); ``indexes`` are global, {index name: (partition key, sort key or None)};
    ``stream`` is a view type, such as ``NEW_AND_OLD_IMAGES``.
    """
    types = dict([pk] + ([sk] if sk else []))
    request: dict[str, Any] = {"BillingMode": "PAY_PER_REQUEST"}
    if indexes:
        types |= dict(key for pair in indexes.values() for key in pair if key)
        request["GlobalSecondaryIndexes"] = [
            {"IndexName": i, "KeySchema": _schema(*keys), "Projection": {"ProjectionType": "ALL"}}
            for i, keys in indexes.items()
        ]
    if stream:
        request["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": stream}
    client.create_table(
        TableName=name,
        KeySchema=_schema(pk, sk),
        AttributeDefinitions=[{"AttributeName": k, "AttributeType": t} for k, t in types.items()],
        **request,
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})


def _schema(pk: Key, sk: Key | None) -> list[dict[str, str]]:
    keys = [{"AttributeName": pk[0], "KeyType": "HASH"}]
    return keys + ([{"AttributeName": sk[0], "KeyType": "RANGE"}] if sk else [])


def put_items(client: Any, name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Put typed items (``{"pk": {"S": "a"}}``), 25 in a request."""
    rest = iter(items)
    while batch := list(islice(rest, 25)):
        request = {name: [{"PutRequest": {"Item": item}} for item in batch]}
        while request:
            request = client.batch_write_item(RequestItems=request)["UnprocessedItems"]
