"""DynamoDB and its Streams as a source."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from shake.errors import RefusedError, SourceError
from shake.schema import Table
from shake.source.client import Buffer, Call, Client, parsed
from shake.source.contract import Stream
from shake.source.endpoint import in_aws
from shake.source.scan import ScanPlan
from shake.source.streams import iterator_request, records_request, stream_loss
from shake.source.tables import origin_of, table_of
from shake.stream.listing import Listed
from shake.stream.suspicion import Answer, Question

T = TypeVar("T")

#: Codes of errors that say what is no longer there.
NOT_FOUND, TRIMMED = "ResourceNotFoundException", "TrimmedDataAccessException"

#: Seconds between two looks at a stream that is being enabled, and how long that may take.
_ENABLE_EVERY, _ENABLE_SECONDS = 1.0, 300.0


class DynamoSource(Client):
    """See contract.Source, and contract.Pages."""

    # ---- for workers

    def scan(self, plan: ScanPlan, segment: int, start: bytes | None, buffer: Buffer) -> Call:
        return self.begin("Scan", plan.request(segment, start), buffer)

    def iterator(self, arn: str, shard: str, start: str, sequence: str, buffer: Buffer) -> str:
        request = iterator_request(arn, shard, start, sequence)
        answer = self.begin("GetShardIterator", request, buffer).result(parsed)
        iterator: str = answer["ShardIterator"]
        return iterator

    def records(self, iterator: str, limit: int, buffer: Buffer) -> memoryview:
        return self.begin("GetRecords", records_request(iterator, limit), buffer).result()

    # ---- for plan and supervisor

    def wait(self, seconds: float) -> None:
        self.stop.wait(seconds)

    def list_tables(self, *, attempts: int | None = None) -> list[str]:
        names: list[str] = []
        request: dict[str, Any] = {}
        while True:
            answer = self.ask("ListTables", request, attempts=attempts)
            names += answer["TableNames"]
            if "LastEvaluatedTableName" not in answer:
                return names
            request = {"ExclusiveStartTableName": answer["LastEvaluatedTableName"]}

    def describe(self, name: str, *, attempts: int | None = None) -> Table:
        """See Source. Raises SourceError (ResourceNotFoundException) where there is none."""
        answer = self.ask("DescribeTable", {"TableName": name}, attempts=attempts)
        return table_of(name, answer["Table"], in_aws=in_aws(self.endpoint.url))

    def holds_items(self, name: str, *, attempts: int | None = None) -> bool:
        """See Source. It consumes half a unit."""
        answer = self.ask("Scan", {"TableName": name, "Limit": 1}, attempts=attempts)
        return bool(answer.get("Items"))

    def sample(self, plan: ScanPlan, segment: int, *, attempts: int | None = None) -> bytes:
        return self.call("Scan", plan.request(segment, None), attempts=attempts)

    def find_stream(self, table: str, *, attempts: int | None = None) -> Stream:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html"""
        answer = self.ask("DescribeTable", {"TableName": table}, attempts=attempts)["Table"]
        specification = answer.get("StreamSpecification", {})
        return Stream(
            answer.get("LatestStreamArn", ""),
            specification.get("StreamEnabled", False),
            specification.get("StreamViewType", ""),
            origin_of(answer),
        )

    def enable_stream(self, table: str, *, wait: Callable[[float], object] = time.sleep) -> Stream:
        """Enable a stream with new and old images; return it once it takes changes.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html
        """
        wanted = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        try:
            self.ask("UpdateTable", {"TableName": table, "StreamSpecification": wanted})
        except SourceError as error:
            if not self.find_stream(table).enabled:  # else a stale answer said that it was not
                raise RefusedError(
                    f"table {table}: its stream cannot be enabled: {error}",
                    passes=error.code == "ResourceInUseException",  # the table is being changed
                ) from error
        waited = 0.0
        while waited < _ENABLE_SECONDS:
            stream = self.find_stream(table)
            if stream.enabled and stream.arn and self._status(stream.arn) == "ENABLED":
                return stream
            wait(_ENABLE_EVERY)
            waited += _ENABLE_EVERY
        raise RefusedError(
            f"table {table}: its stream is not ready after {_ENABLE_SECONDS:g} s: "
            "start again later",
            passes=True,
        )

    def look_at_stream(self, table: str) -> Stream | None:
        return _unless((NOT_FOUND,), lambda: self.find_stream(table))

    def look_at_shards(self, arn: str) -> list[Listed] | None:
        return _unless((NOT_FOUND,), lambda: self.list_shards(arn))

    def list_shards(self, arn: str) -> list[Listed]:
        """Pages are asked for until there is no more.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html
        """
        return self._list({"StreamArn": arn})

    def list_children(self, arn: str, parent: str) -> list[Listed] | None:
        shard_filter = {"Type": "CHILD_SHARDS", "ShardId": parent}
        request = {"StreamArn": arn, "ShardFilter": shard_filter}
        listed = _unless(("ValidationException", NOT_FOUND), lambda: self._list(request))
        # Some sources ignore the filter.
        return None if listed is None else [one for one in listed if one.parent == parent]

    def answer(self, arn: str, question: Question) -> Answer:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html"""
        try:
            self.call("GetShardIterator", iterator_request(arn, *question))
        except SourceError as error:
            if error.code == TRIMMED:
                return Answer.TRIMMED
            if error.code == NOT_FOUND:
                return Answer.GONE
            raise
        return Answer.THERE

    def is_lost(self, table: str, arn: str, question: Question) -> bool:
        if question.shard:
            return self.answer(arn, question) is not Answer.THERE
        return (
            bool(stream_loss(self.look_at_stream(table), arn)) or self.look_at_shards(arn) is None
        )

    def _status(self, arn: str) -> str:
        answer = self.ask("DescribeStream", {"StreamArn": arn, "Limit": 1})
        status: str = answer["StreamDescription"]["StreamStatus"]
        return status

    def _list(self, request: dict[str, Any]) -> list[Listed]:
        found: list[Listed] = []
        while True:
            description = self.ask("DescribeStream", request)["StreamDescription"]
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


def _unless(codes: tuple[str, ...], ask: Callable[[], T]) -> T | None:
    """What the source answers; None where it is an error of one of these codes."""
    try:
        return ask()
    except SourceError as error:
        if error.code not in codes:
            raise
        return None
