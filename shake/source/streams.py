"""Asks DynamoDB Streams which shards there are, and writes the requests that read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from shake.errors import RefusedError, SourceError
from shake.schema import UNKNOWN, Origin
from shake.source.client import Client
from shake.source.tables import origin_of
from shake.stream.listing import Listed
from shake.stream.suspicion import Answer, Question

#: Codes of errors that say what is no longer there.
NOT_FOUND, TRIMMED = "ResourceNotFoundException", "TrimmedDataAccessException"

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
        if not find_stream(client, table).enabled:  # else a stale answer said that it was not
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


def look_at_stream(client: Client, table: str) -> Stream | None:
    """The table's latest stream, None where there is no such table."""
    try:
        return find_stream(client, table)
    except SourceError as error:
        if error.code != NOT_FOUND:
            raise
        return None


def stream_loss(stream: Stream | None, arn: str) -> str:
    """Why the stream ``arn``, which is followed, counts as gone, or ""."""
    if stream is None:
        return f"its stream {arn} is gone: there is no such table"
    if stream.arn != arn:
        return f"its stream {arn} was replaced by {stream.arn or 'none'}"
    if not stream.enabled:
        return f"its stream {arn} was disabled"
    return ""


def look_at_shards(client: Client, arn: str) -> list[Listed] | None:
    """All shards of a stream, None where there is no such stream."""
    try:
        return list_shards(client, arn)
    except SourceError as error:
        if error.code != NOT_FOUND:
            raise
        return None


def list_shards(client: Client, arn: str) -> list[Listed]:
    """All shards of a stream; pages are asked for until there is no more.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html
    """
    return _list(client, {"StreamArn": arn})


def list_children(client: Client, arn: str, parent: str) -> list[Listed] | None:
    """The children of a shard; None where the endpoint does not tell, or there is no stream."""
    shard_filter = {"Type": "CHILD_SHARDS", "ShardId": parent}
    try:
        listed = _list(client, {"StreamArn": arn, "ShardFilter": shard_filter})
    except SourceError as error:
        if error.code not in ("ValidationException", NOT_FOUND):
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


def ask(client: Client, arn: str, question: Question) -> Answer:
    """Ask directly whether a shard, and what follows a position in it, is there.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html
    """
    try:
        client.call("GetShardIterator", iterator_request(arn, *question))
    except SourceError as error:
        if error.code == TRIMMED:
            return Answer.TRIMMED
        if error.code == NOT_FOUND:
            return Answer.GONE
        raise
    return Answer.THERE


def is_lost(client: Client, table: str, arn: str, question: Question) -> bool:
    """Ask once more, directly, whether what was believed to be lost is."""
    if question.shard:
        return ask(client, arn, question) is not Answer.THERE
    return (
        bool(stream_loss(look_at_stream(client, table), arn)) or look_at_shards(client, arn) is None
    )


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
