"""Reads descriptions of streams, and writes the requests that read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from shake.errors import RunError
from shake.source.contract import Stream
from shake.stream.listing import Listed

#: Streams with these carry what an item has become.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_StreamSpecification.html
_NEW_IMAGES = ("NEW_IMAGE", "NEW_AND_OLD_IMAGES")

#: AWS's own have 28 to 65 characters; those of other sources look otherwise.
_SHARD_ID = re.compile(r"[a-zA-Z0-9_:-][a-zA-Z0-9_.:-]{0,127}")


def table_arn(stream: str) -> str:
    """The ARN of the table of a stream's ARN, "" where that does not name it.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
    """
    table, found, _ = stream.partition("/stream/")
    return table if found else ""


def shard_id(text: str) -> str:
    """The id of a shard. Raises RunError for one that no stream of DynamoDB has.

    It becomes a part of file names and of checkpoints.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Shard.html
    """
    if not (isinstance(text, str) and _SHARD_ID.fullmatch(text)):
        raise RunError(
            f"the source lists a shard {str(text)[:100]!r}, which is not the id of a shard: check "
            "source.endpoint_url"
        )
    return text


def listed(shard: Mapping[str, Any]) -> Listed:
    """A shard of a description of a stream. Raises RunError for one that cannot be of DynamoDB."""
    name = shard_id(shard.get("ShardId", ""))
    numbers = shard.get("SequenceNumberRange") or {}
    first, last = numbers.get("StartingSequenceNumber"), numbers.get("EndingSequenceNumber")
    if not (str(first).isdecimal() and (last is None or str(last).isdecimal())):
        raise RunError(
            f"the source lists shard {name} without sequence numbers: check source.endpoint_url"
        )
    return Listed(name, shard.get("ParentShardId") or "", str(first), last is not None)


def stream_problem(table: str, stream: Stream) -> str | None:
    """Why changes cannot be followed by this stream, or None."""
    if stream.enabled and stream.view not in _NEW_IMAGES:
        return (
            f"table {table}: its stream's view type is {stream.view}, which does not carry the new "
            "item: disable the stream, and shake enables one with NEW_AND_OLD_IMAGES"
        )
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


def latest_request(arn: str, shard: str) -> bytes:
    """The request for an iterator behind all records, which reads none: for trials alone."""
    request = {"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "LATEST"}
    return orjson.dumps(request)


def records_request(iterator: str, limit: int) -> bytes:
    return orjson.dumps({"ShardIterator": iterator, "Limit": limit})
