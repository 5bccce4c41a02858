"""One table of a target that speaks DynamoDB: its items by key, all keys, and their repair."""

from __future__ import annotations

import contextlib
import json
import math
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from shake import codec
from shake.check.keys import Identity, SourceKey, key_of_item
from shake.check.meaning import Item
from shake.check.rooms import PageRoom, PageRooms
from shake.check.source import Pace, SourcePage, SourceTable, dumped, loaded
from shake.check.stored import DocumentRefused, Key, KeyRange, Stored, T
from shake.codec.typed import meaning
from shake.config import Config
from shake.errors import RunError, SourceError
from shake.schema import Table
from shake.targets.dynamodb.schema import missing_indexes, table_name
from shake.targets.dynamodb.target import DynamoTarget
from shake.targets.dynamodb.writing import ITEM_FAULTS, refusal

#: Items in each random visit of a sample.
_VISIT = 50
#: Attributes that are compared before a write; an expression has at most 300 operators.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
_COMPARED = 100

_CHANGED = "ConditionalCheckFailedException"


class ItemTable(SourceTable, Stored):
    """The Stored of a table, read as one of the source: consistently, without a limit.

    A document is an item as JSON. The protocol has no fence: what a process of a repair that was
    killed has sent can land later, if the item is still as it was.
    """

    def __init__(
        self,
        target: DynamoTarget,
        namespace: str,
        table: Table,
        config: Config,
        seed: bytes,
        stop: threading.Event,
        rooms: PageRooms,
    ) -> None:
        named = replace(table, name=table_name(namespace))
        whole = replace(config, source_consistent_read=True, qps_full_batch_num=None)
        super().__init__(target.client, named, whole, Pace(math.inf, None, stop), rooms)
        self.namespace = namespace
        self._target = target
        self._seed = seed
        self.keys = self.stored
        self._form = self.keys.ours.form
        self.digests = codec.digests(seed, self._form)

    def _scan(self, request: bytes, room: Callable[[], PageRoom]) -> SourcePage:
        with self._refusals():
            return super()._scan(request, room)

    def _ask(self, keys: list[Item], whole: bool) -> tuple[list[Item], list[Item]]:
        with self._refusals():
            return super()._ask(keys, whole)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Have errors say which of the target's tables refused."""
        try:
            yield
        except SourceError as error:
            raise refusal(self.namespace, error) from error

    # ---- reading

    def match(self, page: SourcePage, *, scanned: bool) -> codec.Matcher:
        matcher = codec.matcher(page.packed, self._seed, self._form, self._form)
        if len(matcher):
            matcher.match(self.packed([self._key(item) for item in page.items]))
        return matcher

    def copies(
        self, documents: list[bytes], keys: list[SourceKey]
    ) -> tuple[list[list[bytes]], set[int]]:
        """What says the same can have sets in another order, and other numerals."""
        copies: list[list[bytes]] = [[] for _ in documents]
        by_key: dict[Identity, list[int]] = defaultdict(list)
        for number, key in enumerate(keys):
            by_key[self.keys.identity_of(key)].append(number)
        page = self.get([typed for typed, _ in keys])
        for document, key in zip(page.documents, page.keys, strict=True):
            for number in by_key[self.keys.identity_of(key)]:
                copies[number].append(document)
        equal = {
            number
            for number, (document, some) in enumerate(zip(documents, copies, strict=True))
            if any(not _differing(loaded(document), copy) for copy in some)
        }
        return copies, equal

    def differing(self, item: Item, ours: bytes, theirs: bytes) -> list[str]:
        """Each attribute by its type and value, sets in any order."""
        return _differing(item, theirs)

    def shown(self, document: bytes) -> str:
        """As DynamoDB JSON."""
        return json.dumps(loaded(document))

    def ranges(self, count: int) -> list[KeyRange]:
        return [KeyRange(segment=number, segments=count) for number in range(count)]

    def batches(self, part: KeyRange) -> Iterator[bytes | memoryview]:
        for page in self.pages(part.segment, part.segments, only_keys=True):
            for item, reason in page.unfit:
                key = json.dumps(self._key(item))
                raise RunError(f"{self.namespace}: the key {key} cannot be compared: {reason}")
            yield page.packed

    def key(self, document: bytes) -> Key:
        return self.decoded(document)

    def some_keys(self, count: int) -> list[Key]:
        segments = max(1, self._table.items // _VISIT)
        found: list[Item] = []
        for segment in random.sample(range(segments), min(segments, -(-count // _VISIT))):
            page = self.page(segment, segments, None, _VISIT, only_keys=True)
            found += map(self._key, page.items)
        return self.stored_keys(found[:count])

    def documents_of(self, keys: list[Key]) -> list[Key]:
        return self.stored_keys(self.get(self._typed(keys), whole=False).items)

    def whole(self, key: Mapping[str, Any]) -> list[bytes]:
        return self.get(self._typed([key])).documents

    def missing_indexes(self) -> list[str]:
        described = self._target.describe(self.namespace) or {}
        return missing_indexes(self._table, self._config, described)

    def patiently(self, call: Callable[[], T]) -> T:
        """The client does that."""
        return call()

    # ---- repair

    def add(self, document: bytes) -> bytes:
        names = {"#k": self._table.keys.partition.name}
        condition = {"ConditionExpression": "attribute_not_exists(#k)"}
        self._put(document, condition | {"ExpressionAttributeNames": names})
        return document

    def replace(self, old: bytes, document: bytes) -> None:
        self._put(document, _unchanged(old))

    def delete_unchanged(self, document: bytes) -> None:
        request = {"TableName": self._table.name, "Key": self._key(loaded(document))}
        self._write("DeleteItem", request | _unchanged(document))

    def build_indexes(self) -> None:
        """They are made with the table alone."""
        self._target.writer(self.namespace, self._table).build_indexes(lambda line: None)

    def _put(self, document: bytes, condition: dict[str, Any]) -> None:
        request = {"TableName": self._table.name, "Item": orjson.Fragment(document)}
        self._write("PutItem", request | condition)

    def _write(self, operation: str, request: dict[str, Any]) -> None:
        """Write, unless the condition of the request does not hold."""
        try:
            self._client.call(operation, dumped(request))
        except SourceError as error:
            if error.code in ITEM_FAULTS:
                raise DocumentRefused(f"{self.namespace}: {error.message}") from error
            if error.code != _CHANGED:
                raise refusal(self.namespace, error) from error

    def _typed(self, keys: Iterable[Mapping[str, Any]]) -> list[Item]:
        return [typed for typed in map(self.keys.typed, keys) if typed is not None]

    def _key(self, item: Item) -> Item:
        return key_of_item(self._table, item)


def _differing(item: Item, document: bytes) -> list[str]:
    stored: Item = loaded(document)
    return [
        name
        for name in dict.fromkeys((*item, *stored))
        if name not in item or name not in stored or meaning(item[name]) != meaning(stored[name])
    ]


def _unchanged(document: bytes) -> dict[str, Any]:
    """The condition that an item is as it was, as far as a condition can say so."""
    item = dict(list(loaded(document).items())[:_COMPARED])
    names = {f"#a{number}": name for number, name in enumerate(item)}
    values = {f":v{number}": value for number, value in enumerate(item.values())}
    condition = " AND ".join(f"#a{number} = :v{number}" for number in range(len(item)))
    return {
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }
