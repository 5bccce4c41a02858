"""DynamoDB and its Streams as a source."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from shake.backoff import Backoff
from shake.errors import RunError, SourceError
from shake.schema import Question, Table
from shake.source.agreement import agreed
from shake.source.answer import EXPIRED_ITERATOR, NOT_FOUND, TRIMMED
from shake.source.client import Call, Client, Retry, Unreachable, parsed
from shake.source.connection import Buffer
from shake.source.contract import Stream
from shake.source.endpoint import in_aws
from shake.source.scan import ScanPlan
from shake.source.streams import (
    iterator_request,
    latest_request,
    listed,
    records_request,
    stream_loss,
)
from shake.source.tables import origin_of, table_of
from shake.stream import suspicion
from shake.stream.listing import Listed
from shake.stream.suspicion import ShardAnswer

if TYPE_CHECKING:
    from shake.config import ScanFilter

T = TypeVar("T")

#: Waits between two looks at a table or stream that is being changed.
_LOOKS = Backoff(first=1.0, longest=20.0, least=0.5)

#: Codes by which IAM refuses a request.
_DENIALS = frozenset({"AccessDeniedException", "AccessDenied"})
#: Codes which say that a shard that was listed is gone.
_NOT_THERE = (NOT_FOUND, TRIMMED, EXPIRED_ITERATOR)
#: Names of no index, stream, shard or iterator: a request for them changes nothing.
_NO_INDEX = "shake-tries-its-rights"
_NO_STREAM = "2000-01-01T00:00:00.000"
_NO_SHARD = "shardId-00000000000000000000-00000000"
NO_ITERATOR = "|1|AAAAAAAAAAE="
#: Answers that there is no such stream, and seconds between them, until that is believed.
_STREAM_ANSWERS, _STREAM_SECONDS = 4, 1.0
#: Shards of a stream among which one is looked for that can be read.
TRIED_SHARDS = 10


class DynamoSource(Client):
    """See contract.Source, and contract.WorkerSource."""

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

    def list_tables(self, *, max_tries: int | None = None) -> list[str]:
        names: list[str] = []
        request: dict[str, Any] = {}
        while True:
            answer = self.ask("ListTables", request, max_tries=max_tries)
            names += answer["TableNames"]
            if "LastEvaluatedTableName" not in answer:
                return names
            request = {"ExclusiveStartTableName": answer["LastEvaluatedTableName"]}

    def describe(self, name: str, *, max_tries: int | None = None) -> Table:
        """See Source. Raises SourceError (ResourceNotFoundException) where there is none.

        Waits for a table that is being created.
        """

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.ask(
                "DescribeTable", {"TableName": name}, max_tries=max_tries
            )["Table"]
            return None if found.get("TableStatus") == "CREATING" else found

        answer = self._repeat(look, f"table {name} is being created", "DescribeTable")
        return table_of(name, answer, in_aws=in_aws(self.endpoint.url))

    def holds_items(
        self, name: str, filter: ScanFilter | None = None, *, max_tries: int | None = None
    ) -> bool:
        """See Source. It consumes half a unit."""
        request = {"TableName": name, "Limit": 1, **(filter.request() if filter else {})}
        answer = self.ask("Scan", request, max_tries=max_tries)
        return bool(answer.get("ScannedCount", answer.get("Items")))

    def sample(
        self,
        plan: ScanPlan,
        segment: int,
        start: bytes | None = None,
        *,
        max_tries: int | None = None,
    ) -> bytes:
        return self.call("Scan", plan.request(segment, start), max_tries=max_tries)

    def find_stream(self, table: str, *, max_tries: int | None = None) -> Stream:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html"""
        answer = self.ask("DescribeTable", {"TableName": table}, max_tries=max_tries)["Table"]
        return _stream_of(answer)

    def try_changes(self, table: Table, stream: Stream, *, max_tries: int | None = None) -> None:
        """See Source.

        Where there is no stream, the requests name an index, a stream and an iterator that do not
        exist: IAM decides first.
        Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/streams-iam.html
        """
        if stream.enabled:
            self._try_stream(stream.arn, max_tries)
            return
        updates = [{"Delete": {"IndexName": _NO_INDEX}}]
        update = {"TableName": table.name, "GlobalSecondaryIndexUpdates": updates}
        requests = [("UpdateTable", orjson.dumps(update))]
        if table.origin.arn:
            arn = f"{table.origin.arn}/stream/{_NO_STREAM}"
            first = {"StreamArn": arn, "Limit": TRIED_SHARDS}
            requests += [
                ("DescribeStream", orjson.dumps(first)),
                ("GetShardIterator", latest_request(arn, _NO_SHARD)),
                ("GetRecords", records_request(f"{arn}{NO_ITERATOR}", 1)),
            ]
        for operation, request in requests:
            try:
                self.call(operation, request, max_tries=max_tries)
            except SourceError as error:
                if error.code in _DENIALS:
                    raise
            except Unreachable:  # some emulators answer 500 where a name does not exist
                pass

    def _try_stream(self, arn: str, max_tries: int | None) -> None:
        """Ask for one record of a stream, at the end of one of its first shards that is there."""
        for shard in reversed(self._first_shards(arn, max_tries)):
            if _unless(_NOT_THERE, partial(self._read_end, arn, shard.id, max_tries)):
                return

    def _first_shards(self, arn: str, max_tries: int | None) -> list[Listed]:
        """Some shards of a stream, which its table names: several answers that it is not there
        mean that another server, region or account is asked."""
        first = {"StreamArn": arn, "Limit": TRIED_SHARDS}
        ask = partial(self.ask, "DescribeStream", first, max_tries=max_tries)
        for _ in range(_STREAM_ANSWERS - 1):
            if answer := _unless((NOT_FOUND,), ask):
                break
            self.wait(_STREAM_SECONDS)
        else:
            answer = ask()
        return list(map(listed, answer["StreamDescription"].get("Shards", ())))

    def _read_end(self, arn: str, shard: str, max_tries: int | None) -> bytes:
        answer = self.call("GetShardIterator", latest_request(arn, shard), max_tries=max_tries)
        iterator = orjson.loads(answer)["ShardIterator"]
        return self.call("GetRecords", records_request(iterator, 1), max_tries=max_tries)

    def await_active(self, table: str) -> None:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html"""

        def look() -> str | None:
            status: str = self._described(table)["TableStatus"]
            return None if status in ("CREATING", "UPDATING") else status

        self._repeat(look, f"table {table} is being updated, and its stream has to be enabled")

    def enable_stream(self, table: str) -> Stream:
        def look() -> Stream | None:
            stream = _stream_of(self._described(table))
            if not (stream.enabled and stream.arn):
                return None
            answer = self.ask("DescribeStream", {"StreamArn": stream.arn, "Limit": 1})
            return stream if answer["StreamDescription"]["StreamStatus"] == "ENABLED" else None

        self._repeat(partial(self._enable, table), f"table {table} is in use")
        stream = self._repeat(look, f"the new stream of table {table} is not ready")
        try:
            self._try_stream(stream.arn, None)
        except SourceError as error:
            raise RunError(f"table {table}: its new stream cannot be read: {error}") from error
        return stream

    def _enable(self, table: str) -> bool | None:
        """Whether the stream is enabled now; None where the table is in use.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html
        """
        self.await_active(table)
        wanted = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        try:
            self.ask("UpdateTable", {"TableName": table, "StreamSpecification": wanted})
        except SourceError as error:
            # An earlier answer that it is not enabled can be stale.
            if _stream_of(self._described(table)).enabled:
                return True
            if error.code == "ResourceInUseException":
                return None
            raise RunError(f"table {table}: its stream cannot be enabled: {error}") from error
        return True

    def _described(self, table: str) -> dict[str, Any]:
        """The description of a table that was there: one answer that it is not proves nothing."""

        def ask() -> dict[str, Any]:
            answer: dict[str, Any] = self.ask("DescribeTable", {"TableName": table})["Table"]
            return answer

        def problem(found: dict[str, Any] | None) -> str:
            return "" if found else f"there is no table {table}"

        look = partial(_unless, (NOT_FOUND,), ask)
        return agreed(self, look, problem, suspicion.START) or ask()

    def _repeat(
        self, ask: Callable[[], T | None], reason: str, operation: str = "UpdateTable"
    ) -> T:
        """The first result of ``ask`` that is not None; ``reason`` is logged until then."""
        tries = 0
        while (found := ask()) is None:
            tries += 1
            self.on_retry(Retry("fault", operation, reason, tries))
            self.wait(_LOOKS.pause(tries))
        return found

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

    def answer(self, arn: str, question: Question, *, max_tries: int | None = None) -> ShardAnswer:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html"""
        try:
            self.call("GetShardIterator", iterator_request(arn, *question), max_tries=max_tries)
        except SourceError as error:
            if error.code == TRIMMED:
                return ShardAnswer.TRIMMED
            if error.code == NOT_FOUND:
                return ShardAnswer.GONE
            raise
        return ShardAnswer.THERE

    def is_lost(self, table: str, arn: str, question: Question) -> bool:
        if question.shard:
            return self.answer(arn, question) is not ShardAnswer.THERE
        return (
            bool(stream_loss(self.look_at_stream(table), arn)) or self.look_at_shards(arn) is None
        )

    def _list(self, request: dict[str, Any]) -> list[Listed]:
        found: list[Listed] = []
        while True:
            description = self.ask("DescribeStream", request)["StreamDescription"]
            found += map(listed, description.get("Shards", ()))
            last = description.get("LastEvaluatedShardId")
            if not last:
                return found
            request = {**request, "ExclusiveStartShardId": last}


def _stream_of(description: dict[str, Any]) -> Stream:
    """The stream that a TableDescription names."""
    specification = description.get("StreamSpecification", {})
    return Stream(
        description.get("LatestStreamArn", ""),
        specification.get("StreamEnabled", False),
        specification.get("StreamViewType", ""),
        origin_of(description),
    )


def _unless(codes: tuple[str, ...], ask: Callable[[], T]) -> T | None:
    """What the source answers; None where it is an error of one of these codes."""
    try:
        return ask()
    except SourceError as error:
        if error.code not in codes:
            raise
        return None
