"""Writes items to a DynamoDB table by BatchWriteItem, and sends again what was not processed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from shake import codec
from shake.codec.typed import meaning
from shake.config import Config
from shake.errors import IndexRefused, ItemError, RunError, SourceError
from shake.schema import Item, Table
from shake.source.client import Client
from shake.targets.contract import BuildProgress, Changes, Refusal
from shake.targets.dynamodb.schema import missing_indexes, table_name

#: Items in one request, and their bytes; DynamoDB takes 16 MB, what goes around them included.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
MAX_ITEMS = 25
MAX_BYTES = 15_000_000

#: Bytes of the length in front of each item.
HEADER = 4

#: The refusals that may be for the sake of one item.
ITEM_FAULTS = frozenset({"ValidationException", "ItemCollectionSizeLimitExceededException"})


def refusal(namespace: str, error: SourceError) -> RunError:
    """The client's error, worded for a target."""
    reason = f"{error.code}: {error.message}"
    return RunError(f"{namespace}: the target refused {error.operation}: {reason}")


def batches(documents: memoryview, most: int) -> Iterator[list[bytes]]:
    """Cut a slot (see codec.contract) into lists of at most ``most`` items and MAX_BYTES.

    The items are copies: an exception may hold them for longer than the slot is ours.
    """
    for start, end, _ in codec.batches(documents, most, MAX_BYTES):
        yield [one[HEADER:].tobytes() for one in codec.singly(documents[start:end])]


class DynamoWriter:
    """The Writer of one table (see targets.contract)."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        table: Table,
        config: Config,
        on_retry: Callable[[str], None],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = table_name(namespace)
        self._table = table
        self._config = config
        self._on_retry = on_retry
        self._most = min(config.full_document_write_batch, MAX_ITEMS)

    def write(self, documents: memoryview, refused: list[Refusal] | None = None) -> int:
        """See Writer. DynamoDB does not report what was replaced: 0, whatever happened."""
        replace = self._config.full_executor_insert_on_dup_update
        put = self._put_batch if replace else self._put_new
        with self._worded():
            for batch in batches(documents, self._most):
                put(batch, refused)
        return 0

    def apply(self, changes: Changes, shard: str, refused: list[Refusal] | None = None) -> int:
        """See Writer. Each statement is an item, or the key of one to delete.

        Requests carry no number by which the target could refuse a late one.
        """
        with self._worded():
            for batch in batches(changes.inserts, self._most):
                self._put_new(batch, refused)
            for batch in batches(changes.updates, self._most):
                self._put_batch(batch, refused)
            for batch in batches(changes.deletes, self._most):
                self._send([{"DeleteRequest": {"Key": orjson.Fragment(key)}} for key in batch])
        return 0

    def holds(self, key: Item) -> bool:
        request = {"TableName": self._name, "Key": key, "ConsistentRead": True}
        with self._worded():
            return "Item" in self._client.ask("GetItem", request)

    def delete_ranges(self, ranges: Sequence[tuple[bytes, bytes]]) -> int:
        """See Writer: an item written again takes its own place, so nothing is to be done."""
        return 0

    def missing(self, documents: int) -> int:
        """See Writer: DynamoDB's own count is up to six hours old, so nothing can be counted."""
        return 0

    def keep_fences(self, shards: Sequence[str]) -> None:
        """See Writer: the protocol has no fence."""

    def end_shards(self, shards: list[str]) -> None:
        """See Writer: DynamoDB numbers no commands."""

    def build_indexes(self, notice: Callable[[str], None], segments: int = 0) -> None:
        """See Writer: they were made with the table, and fill with it. Says which are not there."""
        with self._worded():
            answer = self._client.ask("DescribeTable", {"TableName": self._name})
        if missing := missing_indexes(self._table, self._config, answer["Table"]):
            raise IndexRefused(
                f"{self._namespace}: the target has no {', '.join(missing)}: add what is missing "
                "to the table, or set full.enable_index.user = false"
            )

    def build_progress(self) -> BuildProgress | None:
        return None

    @contextlib.contextmanager
    def _worded(self) -> Iterator[None]:
        """Word the client's errors for a target."""
        try:
            yield
        except SourceError as error:
            raise refusal(self._namespace, error) from error

    def _put_batch(self, batch: list[bytes], refused: list[Refusal] | None) -> None:
        try:
            self._send([{"PutRequest": {"Item": orjson.Fragment(item)}} for item in batch])
        except SourceError as error:
            if error.code not in ITEM_FAULTS:
                raise
            self._on_retry(f"{self._namespace}: a batch is sent item by item: {error.message}")
            for item in batch:
                self._put(item, refused)

    def _send(self, requests: list[Any]) -> None:
        """Send what the target leaves unprocessed again, for as long as it does."""
        fruitless = 0
        while True:
            answer = self._client.ask("BatchWriteItem", {"RequestItems": {self._name: requests}})
            unprocessed = (answer.get("UnprocessedItems") or {}).values()
            left = [one for of_table in unprocessed for one in of_table]
            if not left:
                return
            fruitless = 1 if len(left) < len(requests) else fruitless + 1
            requests = left
            self._on_retry(f"{self._namespace}: the target is throttled, it left items unprocessed")
            self._client.pause(fruitless)

    def _put(self, item: bytes, refused: list[Refusal] | None, **condition: Any) -> None:
        request = {"TableName": self._name, "Item": orjson.Fragment(item), **condition}
        try:
            self._client.ask("PutItem", request)
        except SourceError as error:
            if error.code not in ITEM_FAULTS:
                raise
            if refused is None:
                raise self._item_error(item, error.message) from error
            document = (HEADER + len(item)).to_bytes(HEADER, "little") + item
            refused.append(Refusal(document, f"{self._namespace}: {error.message}"))

    def _put_new(self, batch: list[bytes], refused: list[Refusal] | None) -> None:
        for item in batch:
            self._put_where_free(item, refused)

    def _put_where_free(self, item: bytes, refused: list[Refusal] | None) -> None:
        """Put an item whose key is free, or is taken by the item itself: a repeat."""
        try:
            self._put(
                item,
                refused,
                ConditionExpression="attribute_not_exists(#key)",
                ExpressionAttributeNames={"#key": self._table.keys.partition.name},
            )
        except SourceError as error:
            if error.code != "ConditionalCheckFailedException":
                raise
            request = {"TableName": self._name, "Key": self._key(item), "ConsistentRead": True}
            stored = self._client.ask("GetItem", request).get("Item", {})
            if meaning({"M": stored}) != meaning({"M": orjson.loads(item)}):
                reason = "the target already holds this key, with other content"
                raise self._item_error(item, reason) from error

    def _key(self, item: bytes) -> dict[str, Any]:
        typed = orjson.loads(item)
        return {key.name: typed[key.name] for key in self._table.keys if key.name in typed}

    def _item_error(self, item: bytes, reason: str) -> ItemError:
        key = orjson.dumps(self._key(item)).decode()
        return ItemError(key, f"{self._namespace}: {reason}", self._table.name)
