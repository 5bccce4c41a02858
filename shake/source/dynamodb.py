"""DynamoDB and its Streams as a source."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from shake.errors import RefusedError, SourceError
from shake.schema import Table
from shake.source.client import Buffer, Call, Client, Retry, parsed
from shake.source.contract import Stream
from shake.source.scan import ScanPlan
from shake.source.streams import iterator_request, latest_request, records_request, stream_loss
from shake.source.tables import origin_of, table_of
from shake.stream.listing import Listed
from shake.stream.suspicion import Answer, Question

if TYPE_CHECKING:
    from shake.config import ScanFilter

T = TypeVar("T")

#: Codes of errors that say what is no longer there.
NOT_FOUND, TRIMMED = "ResourceNotFoundException", "TrimmedDataAccessException"

#: Seconds between two looks at a stream that is being enabled, and how long that may take.
_ENABLE_EVERY, _ENABLE_SECONDS = 1.0, 300.0
#: Requests to enable a stream, where each finds the table busy, though it was described as active.
_ENABLE_TRIES = 5

#: Codes by which IAM refuses a request.
_DENIALS = frozenset({"AccessDeniedException", "AccessDenied"})
#: Codes by which a request passes IAM, and finds that there is nothing for it to work on.
_NOTHING_THERE = frozenset({NOT_FOUND, TRIMMED, "ExpiredIteratorException", "ValidationException"})
#: Names that no index, stream or shard has: a request for them changes nothing.
_NO_INDEX = "shake-tries-its-rights"
_NO_STREAM = "2000-01-01T00:00:00.000"
_NO_SHARD = "shardId-00000000000000000000-00000000"
#: Shards of a stream among which one is looked for that can be read.
TRIED_SHARDS = 10


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
        return table_of(name, answer["Table"])

    def holds_items(
        self, name: str, filter: ScanFilter | None = None, *, attempts: int | None = None
    ) -> bool:
        """See Source. It consumes half a unit."""
        request = {"TableName": name, "Limit": 1, **(filter.request() if filter else {})}
        answer = self.ask("Scan", request, attempts=attempts)
        return bool(answer.get("ScannedCount", answer.get("Items")))

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

    def try_changes(self, table: Table, stream: Stream, *, attempts: int | None = None) -> None:
        """See Source. IAM decides before DynamoDB looks whether there is such a stream or index.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/streams-iam.html
        """
        if stream.enabled:
            self.try_stream(stream.arn, attempts=attempts)
            return
        updates = [{"Delete": {"IndexName": _NO_INDEX}}]
        request = {"TableName": table.name, "GlobalSecondaryIndexUpdates": updates}
        try:
            self.ask("UpdateTable", request, attempts=attempts)
        except SourceError as error:
            if error.code in _DENIALS:
                raise
        if table.origin.arn:
            self.try_stream(f"{table.origin.arn}/stream/{_NO_STREAM}", attempts=attempts)

    def try_stream(self, arn: str, *, attempts: int | None = None) -> None:
        """Ask for one record of a stream, at the end of one of its first shards that is there."""
        first = {"StreamArn": arn, "Limit": TRIED_SHARDS}
        shards: list[str] = [_NO_SHARD]
        try:
            description = self.ask("DescribeStream", first, attempts=attempts)
            listed = description["StreamDescription"].get("Shards", ())
            shards = [one["ShardId"] for one in reversed(listed)]
        except SourceError as error:
            if error.code not in _NOTHING_THERE:
                raise
        for shard in shards:
            try:
                request = latest_request(arn, shard)
                answer = self.call("GetShardIterator", request, attempts=attempts)
                iterator = orjson.loads(answer)["ShardIterator"]
                self.call("GetRecords", records_request(iterator, 1), attempts=attempts)
            except SourceError as error:
                if error.code not in _NOTHING_THERE:
                    raise
            else:
                return

    def await_active(self, table: str) -> None:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html"""
        for tries in itertools.count(1):
            status = self.ask("DescribeTable", {"TableName": table})["Table"]["TableStatus"]
            if status not in ("CREATING", "UPDATING") or self.stop.is_set():
                return
            reason = f"table {table} is {status}, and a stream is to be enabled"
            self.on_retry(Retry("fault", "UpdateTable", reason, tries))
            self.pause(tries)

    def enable_stream(self, table: str) -> bool:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html"""
        wanted = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        request = {"TableName": table, "StreamSpecification": wanted}
        for _ in range(_ENABLE_TRIES):
            self.await_active(table)
            try:
                self.ask("UpdateTable", request)
            except SourceError as error:
                if self.find_stream(table).enabled:  # else a stale answer said that it was not
                    return False
                refusal = error
                if error.code != "ResourceInUseException":  # the table is being changed
                    break
                self.wait(_ENABLE_EVERY)
            else:
                return True
        raise RefusedError(
            f"table {table}: its stream cannot be enabled: {refusal}",
            passes=refusal.code == "ResourceInUseException",
        ) from refusal

    def await_stream(self, table: str) -> Stream:
        waited = 0.0
        while waited < _ENABLE_SECONDS:
            stream = self.find_stream(table)
            if stream.enabled and stream.arn and self._status(stream.arn) == "ENABLED":
                self.try_stream(stream.arn)
                return stream
            self.wait(_ENABLE_EVERY)
            waited += _ENABLE_EVERY
        raise RefusedError(
            f"table {table}: its stream is not ready after {_ENABLE_SECONDS:g} s: "
            "start again later",
            passes=True,
        )

    def disable_stream(self, table: str) -> None:
        self.await_active(table)
        self.ask(
            "UpdateTable",
            {"TableName": table, "StreamSpecification": {"StreamEnabled": False}},
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

    def answer(self, arn: str, question: Question, *, attempts: int | None = None) -> Answer:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html"""
        try:
            self.call("GetShardIterator", iterator_request(arn, *question), attempts=attempts)
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
