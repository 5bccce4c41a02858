"""A DynamoDB with Streams that does on command what AWS does at any time.

A simulator of the protocol, held to DynamoDB Local where that can show the same thing. Tests write
to the tables and reshape the streams through ``streams_table``; a client reads both over HTTP, and
meets what ``faults`` says. By default nothing depends on the wall clock.
"""

from __future__ import annotations

import base64
import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import orjson
from typing_extensions import Self

from shake.source.dynamodb import NO_ITERATOR, TRIED_SHARDS
from tests.support.faulty import Faulty, Reply, Request, error
from tests.support.streams_faults import Call, Faults
from tests.support.streams_table import Clock, Item, Refusal, Shard, Shared, Stream, Table, size
from tests.support.tables import Key

__all__ = ["Call", "Clock", "Journal", "Shard", "Simulator", "Stream", "Table"]

#: Seconds for which records and closed shards are kept.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
RETENTION = 24 * 3600.0
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html
ITERATOR_AGE = 15 * 60.0
#: Sources: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
#: and ``API_streams_DescribeStream.html``, ``API_streams_ListStreams.html``, ``API_Scan.html``
MAX_RECORDS, MAX_SHARDS, MAX_STREAMS, PAGE_BYTES = 1000, 100, 100, 1 << 20


class Journal(list[Call]):
    """All calls in the order in which they arrived."""

    def of(self, *operations: str, table: str = "", shard: str = "") -> list[Call]:
        """The calls of these operations, of any without a name."""
        return [
            call
            for call in list(self)
            if (not operations or call.operation in operations)
            and table in ("", call.table)
            and shard in ("", call.shard)
        ]

    def readers(self, shard: str) -> int:
        """The most calls of GetRecords that were under way for a shard at once."""
        calls = self.of("GetRecords", shard=shard)
        edges = sorted([(c.began, 1) for c in calls] + [(c.ended, -1) for c in calls])
        now = most = 0
        for _, step in edges:
            now += step
            most = max(most, now)
        return most

    def iterators(self) -> set[str]:
        """The types of shard iterators that were asked for."""
        return {call.request["ShardIteratorType"] for call in self.of("GetShardIterator")}


class Simulator:
    """The server, a context manager; ``url`` serves tables and streams.

    Everything that it does by chance comes from ``seed``. Attributes may be changed at any time:

    ``child_filter``: the ShardFilter of DescribeStream is ``served``, ``refused``, as by endpoints
    that do not know it, or ``ignored``, as by DynamoDB Local.
    ``empty_pages``: the share of GetRecords answers that hold nothing without being the end.
    ``cold_pages``: so many answers of GetRecords hold nothing after each GetShardIterator.
    ``most_shards``: a page of DescribeStream.
    ``enabling``: how many answers show a stream that was enabled over HTTP as not ready yet.
    ``table_ids``: tables have a TableId, which DynamoDB Local does not give.
    ``iterator_age``: seconds, by ``clock``, for which an iterator is valid.

    ``trials`` are the calls that a check before the start makes, to learn whether they are allowed;
    they are not in the ``journal``.
    ``clock`` is also that of the ``Date`` of each answer, which is empty where not ``dated``, and
    of records' creation times.
    """

    def __init__(self, seed: int = 0, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.tables: dict[str, Table] = {}
        self.journal, self.trials = Journal(), Journal()
        self.faults = Faults(random.Random(f"{seed} faults"))
        self.child_filter: Literal["served", "refused", "ignored"] = "served"
        self.empty_pages = 0.0
        self.cold_pages = 0
        self.most_shards = MAX_SHARDS
        self.enabling = 0
        self.table_ids = True
        self.iterator_age = ITERATOR_AGE
        self._shared = Shared(self.clock, random.Random(f"{seed} world"))
        self._rng = random.Random(f"{seed} answers")
        self.dated = True
        self._http = Faulty(otherwise=self._serve, clock=lambda: self.dated and self.clock())
        self._closing = threading.Event()
        self._latest: set[str] = set()  # iterators of the type LATEST

    @property
    def delay(self) -> float:
        """Seconds after which a record can be read, at most; each waits for a part of that."""
        return self._shared.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self._shared.delay = seconds

    @property
    def url(self) -> str:
        """The endpoint."""
        return self._http.url

    def table(
        self,
        name: str,
        pk: Key = ("pk", "S"),
        sk: Key | None = None,
        stream: str | None = "NEW_AND_OLD_IMAGES",
        shards: int = 1,
        account: str = "000000000000",
    ) -> Table:
        """Create a table, with a stream of this view type unless it is None.

        A table of the same name is gone then, and its streams with it.
        """
        with self._shared.lock:
            self._shared.account = account
            table = self.tables[name] = Table(self._shared, name, pk, sk)
            if stream:
                table.enable_stream(stream, shards)
            return table

    def advance(self, seconds: float) -> None:
        """Let time pass: what is older than 24 hours goes."""
        self.clock.advance(seconds)
        self.trim(self.clock() - RETENTION)

    def trim(self, before: float) -> None:
        """Trim records older than a time, shards closed before it, and streams without shards."""
        with self._shared.lock:
            for table in self.tables.values():
                for stream in table.streams:
                    stream.trim(before)
                table.streams = [s for s in table.streams if s.shards]

    def __enter__(self) -> Self:
        self._http.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.__exit__()

    # -- one call --------------------------------------------------------------------------------

    def _serve(self, http: Request) -> Reply:
        call = Call(http.operation, orjson.loads(http.body or b"{}"), time.monotonic())
        call.table, call.shard = self._about(call.request)
        call.trial = self._is_trial(call)
        with self._shared.lock:
            (self.trials if call.trial else self.journal).append(call)
            fault = self.faults.take(call)
        reply = fault(call, lambda: self._answer(call)) if fault else self._answer(call)
        self._closing.wait(reply.slow)
        call.ended = time.monotonic()
        call.status = reply.status
        if reply.status != 200:
            call.error = orjson.loads(reply.body)["__type"].rpartition("#")[2]
        return replace(reply, slow=0.0)

    def _is_trial(self, call: Call) -> bool:
        """Whether a check before the start sends this call, to learn whether it is allowed."""
        match call.operation:
            case "UpdateTable":
                return "GlobalSecondaryIndexUpdates" in call.request
            case "DescribeStream":
                return bool(call.request.get("Limit") == TRIED_SHARDS)
            case "GetShardIterator":
                return bool(call.request["ShardIteratorType"] == "LATEST")
            case "GetRecords":
                iterator: str = call.request["ShardIterator"]
                return iterator in self._latest or iterator.endswith(NO_ITERATOR)
        return False

    def _about(self, request: Item) -> tuple[str, str]:
        """Table and shard, empty where there is none."""
        place: str = request.get("ShardIterator") or request.get("StreamArn", "")
        arn, _, token = place.partition("|")
        shard = request.get("ShardId", "")
        if token:
            with contextlib.suppress(Refusal):
                shard = read_token(token)[0]
        return request.get("TableName") or [*arn.split("/"), ""][1], shard

    def _answer(self, call: Call) -> Reply:
        handler: Callable[[Item], Item] | None = getattr(self, f"_do_{call.operation}", None)
        if handler is None:
            return error("UnknownOperationException", "An unknown operation was requested.")
        try:
            with self._shared.lock:
                answer = handler(call.request)
                body = orjson.dumps(answer)
        except Refusal as refusal:
            return error(refusal.code, str(refusal))
        return Reply(body)

    # -- tables ----------------------------------------------------------------------------------

    def _do_ListTables(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ListTables.html"""
        names = sorted(n for n in self.tables if n > request.get("ExclusiveStartTableName", ""))
        limit = request.get("Limit", 100)
        more = {"LastEvaluatedTableName": names[limit - 1]} if len(names) > limit else {}
        return {"TableNames": names[:limit], **more}

    def _do_DescribeTable(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TableDescription.html

        Of a disabled stream the ARN stays, and the specification goes.
        """
        return {"Table": self._description(self._table(request))}

    def _do_UpdateTable(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html"""
        table = self._table(request)
        if "GlobalSecondaryIndexUpdates" in request:
            raise Refusal("ResourceNotFoundException", "Requested resource not found")
        wanted = request["StreamSpecification"]
        if wanted["StreamEnabled"]:
            table.enable_stream(wanted.get("StreamViewType", "")).enabling = self.enabling
        else:
            table.disable_stream()
        return {"TableDescription": self._description(table)}

    def _do_Scan(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html

        A LastEvaluatedKey does not mean that there is more.
        """
        table = self._table(request)
        if "FilterExpression" in request or ("Segment" in request) != ("TotalSegments" in request):
            raise Refusal("ValidationException", "such a Scan is not simulated")
        consistent = request.get("ConsistentRead", False)
        behind = 0 if consistent else self._rng.randint(0, table.stale)
        part = request.get("Segment", 0), request.get("TotalSegments", 1)
        limit = request.get("Limit")
        items: list[Item] = []
        scanned, last = 0, {}
        for item in table.scan(*part, request.get("ExclusiveStartKey"), behind):
            items.append(item)
            scanned += size(item)
            if len(items) == limit or scanned >= PAGE_BYTES:
                last = {"LastEvaluatedKey": table.key_of(item)}
                break
        shown = [projected(item, request) for item in items]
        answer = {"Items": shown, "Count": len(items), "ScannedCount": len(items), **last}
        if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
            units = max(1, -(-scanned // 4096)) * (1.0 if consistent else 0.5)
            answer["ConsumedCapacity"] = {"TableName": table.name, "CapacityUnits": units}
        return answer

    def _do_BatchGetItem(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""
        found = {}
        for name, wanted in request["RequestItems"].items():
            items = map(self._table({"TableName": name}).get, wanted["Keys"])
            found[name] = [projected(item, wanted) for item in items if item is not None]
        return {"Responses": found, "UnprocessedKeys": {}}

    def _table(self, request: Item) -> Table:
        if request.get("TableName") not in self.tables:
            raise Refusal(
                "ResourceNotFoundException", "Cannot do operations on a non-existent table"
            )
        return self.tables[request["TableName"]]

    def _description(self, table: Table) -> Item:
        items = table.contents()
        description: Item = {
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind} for name, kind in table.keys
            ],
            "TableName": table.name,
            "KeySchema": key_schema(table),
            "TableStatus": "ACTIVE",
            "CreationDateTime": table.created,
            "ProvisionedThroughput": {
                "NumberOfDecreasesToday": 0,
                "ReadCapacityUnits": 0,
                "WriteCapacityUnits": 0,
            },
            "TableSizeBytes": sum(map(size, items)),
            "ItemCount": len(items),
            "TableArn": table.arn,
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        }
        if self.table_ids:
            description["TableId"] = table.id
        if table.streams:
            stream = table.stream
            if stream.enabled:
                kind = {"StreamEnabled": True, "StreamViewType": stream.view}
                description["StreamSpecification"] = kind
            if stream.not_ready():
                description["TableStatus"] = "UPDATING"
            description["LatestStreamLabel"] = stream.label
            description["LatestStreamArn"] = stream.arn
        return description

    # -- streams ---------------------------------------------------------------------------------

    def _do_ListStreams(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_ListStreams.html"""
        streams = [stream for table in self.tables.values() for stream in table.streams]
        streams.sort(key=lambda stream: stream.arn)
        after, name = request.get("ExclusiveStartStreamArn", ""), request.get("TableName")
        streams = [s for s in streams if s.arn > after and name in (None, s.table)]
        limit = checked_limit(request, MAX_STREAMS)
        more = {"LastEvaluatedStreamArn": streams[limit - 1].arn} if len(streams) > limit else {}
        shown = [
            {"StreamArn": s.arn, "TableName": s.table, "StreamLabel": s.label}
            for s in streams[:limit]
        ]
        return {"Streams": shown, **more}

    def _do_DescribeStream(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html

        A LastEvaluatedShardId does not mean that there is more (``API_streams_StreamDescription``).
        """
        stream, limit = self._stream(request["StreamArn"]), checked_limit(request, MAX_SHARDS)
        limit = min(limit, self.most_shards)
        waiting = stream.not_ready()
        shards = [] if waiting else stream.listing()
        if "ShardFilter" in request and self.child_filter == "refused":
            raise Refusal("ValidationException", "Unknown parameter: ShardFilter")
        if "ShardFilter" in request and self.child_filter == "served":
            if request["ShardFilter"].get("Type") != "CHILD_SHARDS":
                raise Refusal("ValidationException", "ShardFilter: Type must be CHILD_SHARDS")
            shards = [s for s in shards if s.parent == request["ShardFilter"].get("ShardId")]
        shards = [s for s in shards if s.id > request.get("ExclusiveStartShardId", "")]
        more = len(shards) > limit or (len(shards) == limit and self._rng.random() < 0.5)
        status = "ENABLING" if waiting else "ENABLED" if stream.enabled else "DISABLED"
        description = {
            "StreamArn": stream.arn,
            "StreamLabel": stream.label,
            "StreamStatus": status,
            "StreamViewType": stream.view,
            "CreationRequestDateTime": stream.created,
            "TableName": stream.table,
            "KeySchema": key_schema(self.tables[stream.table]),
            "Shards": [stream.describe(shard) for shard in shards[:limit]],
        }
        if more:
            description["LastEvaluatedShardId"] = shards[limit - 1].id
        return {"StreamDescription": description}

    def _do_GetShardIterator(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html

        A number below the shard's first is refused as DynamoDB Local does; one that was trimmed, as
        AWS documents. TRIM_HORIZON means the oldest record at this moment.
        """
        stream = self._stream(request["StreamArn"])
        shard, kind = stream.find(request["ShardId"]), request["ShardIteratorType"]
        text = request.get("SequenceNumber")
        if kind in ("TRIM_HORIZON", "LATEST"):
            if text is not None:
                raise Refusal("ValidationException", "SequenceNumber should not be passed")
            position = shard.last + 1 if kind == "LATEST" else max(shard.trimmed + 1, shard.start)
        elif kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            if text is None or not (21 <= len(text) <= 40 and text.isdigit()):
                raise Refusal("ValidationException", "Invalid SequenceNumber")
            if int(text) < shard.start:
                raise Refusal("ValidationException", "Invalid SequenceNumber for the shard")
            check_trimmed(shard, int(text))
            position = int(text) + (kind == "AFTER_SEQUENCE_NUMBER")
        else:
            raise Refusal("ValidationException", "Invalid ShardIteratorType.")
        iterator = self._iterator(stream, shard, position, self.cold_pages)
        if kind == "LATEST":
            self._latest.add(iterator)
        return {"ShardIterator": iterator}

    def _do_GetRecords(self, request: Item) -> Item:
        """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html

        NextShardIterator is missing where a closed shard is read to its end; that may be said with
        its last record, or by one more answer.
        """
        arn, _, token = request["ShardIterator"].partition("|")
        shard_id, position, issued, cold = read_token(token)
        stream, limit = self._stream(arn), checked_limit(request, MAX_RECORDS)
        shard = stream.find(shard_id)
        if self.clock() - issued > self.iterator_age:
            raise Refusal("ExpiredIteratorException", "The iterator is too old.")
        check_trimmed(shard, position)
        records: list[Item] = []
        total = 0
        quiet = cold > 0 or self._rng.random() < self.empty_pages
        ready = shard.readable(self.clock())
        for number, _, record in [] if quiet else shard.from_number(position, limit):
            if number > ready:
                break
            total += record["dynamodb"]["SizeBytes"]
            if records and total > PAGE_BYTES:
                break
            records.append(record)
            position = number + 1
        answer: Item = {"Records": records}
        read = shard.end is not None and position > shard.last and shard.last <= ready
        over = read and not quiet
        if not over or (records and self._rng.random() < 0.5):
            after = max(0, cold - 1)
            answer["NextShardIterator"] = self._iterator(stream, shard, position, after)
        return answer

    def _stream(self, arn: str) -> Stream:
        for table in self.tables.values():
            for stream in table.streams:
                if stream.arn == arn:
                    return stream
        raise Refusal("ResourceNotFoundException", f"Requested resource not found: Stream: {arn}")

    def _iterator(self, stream: Stream, shard: Shard, position: int, cold: int) -> str:
        token = base64.b64encode(f"{shard.id}|{position}|{self.clock()!r}|{cold}".encode())
        return f"{stream.arn}|1|{token.decode()}"


def read_token(rest: str) -> tuple[str, int, float, int]:
    """Shard, position, time, and empty answers left, of an iterator whose ARN is cut off."""
    try:
        text = base64.b64decode(rest.removeprefix("1|")).decode()
        shard, position, issued, cold = text.split("|")
        return shard, int(position), float(issued), int(cold)
    except ValueError:
        raise Refusal("ValidationException", "Invalid ShardIterator") from None


def check_trimmed(shard: Shard, number: int) -> None:
    """Refuse what is older than the trim point.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
    """
    if number <= shard.trimmed:
        message = "The data you are trying to access has been trimmed."
        raise Refusal("TrimmedDataAccessException", message)


def projected(item: Item, request: Item) -> Item:
    """The top-level attributes that a read asks for; all of them without a projection.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ProjectionExpressions.html
    """
    if "ProjectionExpression" not in request:
        return item
    names = request.get("ExpressionAttributeNames", {})
    wanted = {names.get(one, one) for one in request["ProjectionExpression"].split(",")}
    return {name: value for name, value in item.items() if name in wanted}


def checked_limit(request: Item, most: int) -> int:
    """The request's Limit, or the most."""
    limit: int = request.get("Limit", most)
    if not 1 <= limit <= most:
        raise Refusal("ValidationException", f"Limit must be between 1 and {most}")
    return limit


def key_schema(table: Table) -> list[Item]:
    """The table's key, as described."""
    kinds = ("HASH", "RANGE")
    return [
        {"AttributeName": name, "KeyType": kind}
        for (name, _), kind in zip(table.keys, kinds, strict=False)
    ]
