"""The script that shake is compared with: each shard by boto3, bulk_write by pymongo."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pymongo import DeleteOne, MongoClient, ReplaceOne

from benchmarks import script
from benchmarks.baseline import convert


def follow(source: str, target: str, table: str, lineage: list[str]) -> int:
    """Apply the changes of a shard, then of its descendants; return their number."""
    streams = script.connect("dynamodbstreams", source)
    arn = _arn(streams, table)
    changes = 0
    with MongoClient[dict[str, Any]](target) as client:
        collection = client["follower"][table]
        for shard in lineage:
            for records in _pages(streams, arn, shard):
                collection.bulk_write(_statements(records), ordered=False)
                changes += len(records)
    return changes


def _pages(streams: Any, arn: str, shard: str) -> Iterator[list[dict[str, Any]]]:
    """Read to the end of a closed shard, or to the first empty answer of an open one."""
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    while iterator:
        answer = streams.get_records(ShardIterator=iterator)
        if not answer["Records"]:
            return
        yield answer["Records"]
        iterator = answer.get("NextShardIterator")


def _statements(records: list[dict[str, Any]]) -> list[ReplaceOne[dict[str, Any]] | DeleteOne]:
    """The last change of each key, so that their order is free."""
    last: dict[tuple[Any, ...], ReplaceOne[dict[str, Any]] | DeleteOne] = {}
    for record in records:
        change = record["dynamodb"]
        keys = {name: convert(value) for name, value in change["Keys"].items()}
        if record["eventName"] == "REMOVE":
            last[tuple(keys.values())] = DeleteOne(keys)
        else:
            image = {name: convert(value) for name, value in change["NewImage"].items()}
            last[tuple(keys.values())] = ReplaceOne(keys, image, upsert=True)
    return list(last.values())


def _lineages(source: str, table: str) -> list[list[str]]:
    """Each shard without a parent, followed by its descendants."""
    streams = script.connect("dynamodbstreams", source)
    arn = _arn(streams, table)
    children: dict[str | None, list[str]] = {}
    page: dict[str, str] = {}
    while True:
        description = streams.describe_stream(StreamArn=arn, **page)["StreamDescription"]
        for shard in description["Shards"]:
            children.setdefault(shard.get("ParentShardId"), []).append(shard["ShardId"])
        if "LastEvaluatedShardId" not in description:
            break
        page = {"ExclusiveStartShardId": description["LastEvaluatedShardId"]}

    def descent(shard: str) -> list[str]:
        return [shard, *(each for child in children.get(shard, []) for each in descent(child))]

    return [descent(shard) for shard in children[None]]


def _arn(streams: Any, table: str) -> str:
    [stream] = streams.list_streams(TableName=table)["Streams"]
    arn: str = stream["StreamArn"]
    return arn


def main() -> None:
    options = script.command_line("follower", __doc__).parse_args()
    apply = partial(follow, options.source, options.target, options.table)
    script.run(options.processes, apply, lambda: _lineages(options.source, options.table))


if __name__ == "__main__":
    main()
