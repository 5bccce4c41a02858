"""One table of the source, as documents: page by page, or by key."""

from __future__ import annotations

import contextlib
import json
import mmap
import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import bson
import orjson

from shake import codec
from shake.check.documents import DECODED, ROOM, cut
from shake.check.keys import SourceKey, StoredKeys, typed_identity
from shake.check.meaning import Item
from shake.check.pace import Pace
from shake.codec.objectid import segment_prefix
from shake.config import Config
from shake.errors import ItemError, RunError
from shake.schema import Table
from shake.source.client import Client
from shake.source.scan import ScanPlan

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_KEYS_AT_ONCE = 100
#: Of a page whose answers come whole and are no pages.
_TRIES = 5
#: Pages that are turned into documents at the same time, each in room for the largest document.
_AT_ONCE = 2


@dataclass
class SourcePage:
    """Items as the source sent them, and the document of each (see StoredKeys.ours).

    ``packed`` has the ``count`` documents one behind the other. ``unfit`` are items that the codec
    cannot turn into documents, and why; they are in none of the others.
    """

    body: bytes
    stored_keys: StoredKeys
    packed: bytes = b""
    count: int = 0
    unfit: list[tuple[Item, str]] = field(default_factory=list)
    scanned: int = 0
    capacity: float = 0.0
    last_key: bytes | None = None

    @cached_property
    def documents(self) -> list[bytes]:
        """The documents, each alone."""
        return cut(self.packed)

    @cached_property
    def keys(self) -> list[SourceKey]:
        """The keys of the documents."""
        return self.stored_keys.read(self.documents)

    @cached_property
    def items(self) -> list[Item]:
        """The typed items, in the order of their documents."""
        return _items(self.body)


class SourceTable:
    """Reads a table; thread-safe."""

    def __init__(self, client: Client, table: Table, config: Config, pace: Pace) -> None:
        self._client = client
        self._table = table
        self._config = config
        self._pace = pace
        self._keys = StoredKeys(table, config).ours
        self._rooms: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(_AT_ONCE):
            self._rooms.put(memoryview(mmap.mmap(-1, ROOM)))  # no memory until it is written
        self._options = codec.Options.of(self._keys.config, table.keys)

    def page(
        self,
        segment: int,
        segments: int,
        start: bytes | None,
        limit: int | None = None,
        *,
        filtered: bool = True,
    ) -> SourcePage:
        """One page of a segment, through the scan filter of the configuration or without."""
        config = self._config
        plan = ScanPlan(
            table=self._table.name,
            total_segments=segments,
            limit=limit or config.qps_full_batch_num,
            consistent=config.source_consistent_read,
            filter=config.scan_filter if filtered else None,
        )
        request = plan.request(segment, start)
        for left in reversed(range(_TRIES)):
            self._pace.take()
            try:
                page = self._read(self._client.call("Scan", request))
                break
            except codec.CorruptPage as error:
                self._pace.failed()
                if not left:
                    raise RunError(f"table {self._table.name}: {error}, {_TRIES} times") from error
        self._pace.used(page.capacity)
        return page

    def pages(
        self, segment: int, segments: int, start: bytes | None = None, *, filtered: bool = True
    ) -> Iterator[SourcePage]:
        """All pages of a segment from ``start`` on."""
        while True:
            page = self.page(segment, segments, start, filtered=filtered)
            yield page
            start = page.last_key
            if start is None:
                return

    def get(self, keys: list[Item], *, whole: bool = True) -> SourcePage:
        """The items that exist of these keys, read consistently; or their keys alone."""
        left = list({typed_identity(key): key for key in keys}.values())
        found: list[Item] = []
        while left:
            answered, unprocessed = self._ask(left[:_KEYS_AT_ONCE], whole)
            found += answered
            left = left[_KEYS_AT_ONCE:] + unprocessed
        return self._read(_page_of(found))

    def stored_keys(self, keys: list[Item]) -> list[dict[str, Any]]:
        """Typed keys as documents have them: the ``_id``, or the key attributes.

        Without those that no document can have.
        """
        stored = StoredKeys(self._table, self._config)
        options = codec.Options.of(self._config, self._table.keys)
        names = ["_id"] if stored.by_id else stored.fields
        read = SourcePage(b"", stored)
        for key in keys:
            with contextlib.suppress(ItemError):
                self._fill(codec.scan_page(_page_of([key]), options), read)
        decoded = bson.decode_all(read.packed, DECODED)
        return [{name: one[name] for name in names} for one in decoded]

    def moment(self) -> float:
        """The time on the source's clock, or a later one."""
        return self._client.clock.latest()

    def _ask(self, keys: list[Item], whole: bool) -> tuple[list[Item], list[Item]]:
        """The items of one BatchGetItem, and the keys that it did not come to."""
        name = self._table.name
        wanted: dict[str, Any] = {"Keys": keys, "ConsistentRead": True}
        if not whole:
            names = {f"#k{i}": key.name for i, key in enumerate(self._table.keys)}
            wanted |= {"ProjectionExpression": ",".join(names), "ExpressionAttributeNames": names}
        request = {"RequestItems": {name: wanted}, "ReturnConsumedCapacity": "TOTAL"}
        self._pace.take()
        # json, not orjson: an item may hold a lone surrogate.
        answer = json.loads(self._client.call("BatchGetItem", orjson.dumps(request)))
        self._pace.used(sum(used["CapacityUnits"] for used in answer.get("ConsumedCapacity", [])))
        left = answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])
        return answer["Responses"][name], left

    def _read(self, body: bytes) -> SourcePage:
        page = codec.scan_page(body, self._options)
        read = SourcePage(body, self._keys)
        try:
            self._fill(page, read)
        except ItemError:
            page = self._read_singly(read)
        read.scanned, read.capacity, read.last_key = page.scanned, page.capacity, page.last_key
        return read

    def _read_singly(self, read: SourcePage) -> codec.ScanPage:
        """Tell fit items from unfit ones; return the page without its items."""
        fit = []
        read.packed, read.count = b"", 0
        for item in _items(read.body):
            try:
                self._fill(codec.scan_page(_page_of([item]), self._options), read)
                fit.append(item)
            except ItemError as error:
                read.unfit.append((item, error.reason))
        rest = json.loads(read.body.decode("utf-8", "surrogatepass")) | {"Items": [], "Count": 0}
        page = codec.scan_page(json.dumps(rest).encode(), self._options)
        self._fill(page, read)
        read.body = _page_of(fit)
        return page

    def _fill(self, page: codec.ScanPage, read: SourcePage) -> None:
        """Add the documents of a page."""
        room = self._rooms.get()
        try:
            while not page.done:
                length, count = page.fill(room, segment_prefix(0, 0), 0)
                read.packed += room[:length]
                read.count += count
        finally:
            self._rooms.put(room)


def _items(body: bytes) -> list[Item]:
    try:
        items: list[Item] = orjson.loads(body)["Items"]
    except orjson.JSONDecodeError:  # a lone surrogate, which orjson does not take
        items = json.loads(body.decode("utf-8", "surrogatepass"))["Items"]
    return items


def _page_of(items: list[Item]) -> bytes:
    count = len(items)
    return json.dumps({"Items": items, "Count": count, "ScannedCount": count}).encode()
