"""Asks DynamoDB Streams which shards there are, and writes the requests that read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from shake.errors import GapError, RefusedError, SourceError
from shake.schema import UNKNOWN, Origin
from shake.source.client import Client
from shake.source.tables import origin_of
from shake.stream.listing import Listed

#: Streams with these carry what an item has become.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_StreamSpecification.html
_NEW_IMAGES = ("NEW_IMAGE", "NEW_AND_OLD_IMAGES")

#: Seconds between two looks at a stream that is being enabled, and how long that may take.
_ENABLE_EVERY, _ENABLE_SECONDS = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class Stream:
    """The stream of a table, and whether it takes changes; ``arn`` is empty where there is none."""

    arn: str = ""
    enabled: bool = False
    view: str = ""
    table: Origin = UNKNOWN


def find_stream(client: Client, table: str, *, attempts: int | None = None) -> Stream:
    """The table's latest stream.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html
    """
    answer = client.ask("DescribeTable", {"TableName": table}, attempts=attempts)["Table"]
    specification = answer.get("StreamSpecification", {})
    return Stream(
        answer.get("LatestStreamArn", ""),
        specification.get("StreamEnabled", False),
        specification.get("StreamViewType", ""),
        origin_of(answer),
    )


def table_arn(stream: str) -> str:
    """The ARN of the table of a stream's ARN, "" where that does not name it.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
    """
    table, found, _ = stream.partition("/stream/")
    return table if found else ""


def stream_problem(table: str, stream: Stream) -> str | None:
    """Why changes cannot be followed by this stream, or None."""
    if stream.enabled and stream.view not in _NEW_IMAGES:
        return (
            f"table {table}: its stream's view type is {stream.view}, which does not carry the new "
            "item: disable the stream, and shake enables one with NEW_AND_OLD_IMAGES"
        )
    return None


def enable_stream(
    client: Client, table: str, *, wait: Callable[[float], object] = time.sleep
) -> Stream:
    """Enable a stream with new and old images; return it once it takes changes.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html
    """
    wanted = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    try:
        client.ask("UpdateTable", {"TableName": table, "StreamSpecification": wanted})
    except SourceError as error:
        raise RefusedError(
            f"table {table}: its stream cannot be enabled: {error}",
            passes=error.code == "ResourceInUseException",  # the table is being changed
        ) from error
    waited = 0.0
    while waited < _ENABLE_SECONDS:
        stream = find_stream(client, table)
        if stream.enabled and stream.arn and _status(client, stream.arn) == "ENABLED":
            return stream
        wait(_ENABLE_EVERY)
        waited += _ENABLE_EVERY
    raise RefusedError(
        f"table {table}: its stream is not ready after {_ENABLE_SECONDS:g} s: start again later",
        passes=True,
    )


def check_stream(client: Client, table: str, arn: str) -> None:
    """Raise GapError where the table's stream is not the one that is followed, or has ended."""
    stream = find_stream(client, table)
    if stream.arn != arn:
        raise GapError(table, f"its stream {arn} was replaced by {stream.arn or 'none'}")
    if not stream.enabled:
        raise GapError(table, f"its stream {arn} was disabled")


def list_shards(client: Client, arn: str) -> list[Listed]:
    """All shards of a stream; pages are asked for until there is no more.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html
    """
    return _list(client, {"StreamArn": arn})


def list_children(client: Client, arn: str, parent: str) -> list[Listed] | None:
    """The children of a shard; None where the endpoint cannot be asked so."""
    shard_filter = {"Type": "CHILD_SHARDS", "ShardId": parent}
    try:
        listed = _list(client, {"StreamArn": arn, "ShardFilter": shard_filter})
    except SourceError as error:
        if error.code != "ValidationException":
            raise
        return None
    return [one for one in listed if one.parent == parent]  # some ignore the filter


def iterator_request(arn: str, shard: str, start: str, sequence: str) -> bytes:
    """The request for an iterator behind ``sequence``; without it at ``start``, or at the oldest.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html
    """
    request = {"StreamArn": arn, "ShardId": shard}
    if sequence:
        request |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": sequence}
    elif start:
        request |= {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": start}
    else:
        request["ShardIteratorType"] = "TRIM_HORIZON"
    return orjson.dumps(request)


def trimmed(client: Client, arn: str, shard: str, start: str, sequence: str) -> str:
    """What the stream says where it has trimmed what follows; "" where all of that is there.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html
    """
    try:
        client.call("GetShardIterator", iterator_request(arn, shard, start, sequence))
    except SourceError as error:
        if error.code == "TrimmedDataAccessException":
            return f"{error.code}: {error.message}"
        if error.code != "ResourceNotFoundException":  # listings tell whether it is gone
            raise
    return ""


def records_request(iterator: str, limit: int) -> bytes:
    """The request for the records at an iterator."""
    return orjson.dumps({"ShardIterator": iterator, "Limit": limit})


def _status(client: Client, arn: str) -> str:
    answer = client.ask("DescribeStream", {"StreamArn": arn, "Limit": 1})
    status: str = answer["StreamDescription"]["StreamStatus"]
    return status


def _list(client: Client, request: dict[str, Any]) -> list[Listed]:
    found: list[Listed] = []
    while True:
        description = client.ask("DescribeStream", request)["StreamDescription"]
        for shard in description.get("Shards", ()):
            numbers = shard["SequenceNumberRange"]
            found.append(
                Listed(
                    shard["ShardId"],
                    shard.get("ParentShardId", ""),
                    numbers["StartingSequenceNumber"],
                    numbers.get("EndingSequenceNumber") is not None,
                )
            )
        last = description.get("LastEvaluatedShardId")
        if not last:
            return found
        request = {**request, "ExclusiveStartShardId": last}
