"""One table of an endpoint that speaks DynamoDB, as documents: page by page, or by key."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import bson
import orjson

from shake import codec
from shake.check.documents import DECODED, cut
from shake.check.keys import SourceKey, StoredKeys, stored_keys, typed_identity
from shake.check.meaning import Item
from shake.check.rooms import PageRoom, PageRooms
from shake.codec.objectid import segment_prefix
from shake.config import Config
from shake.errors import ItemError, RunError, Stopped
from shake.limits import Limiter
from shake.schema import Table
from shake.source.client import Client
from shake.source.scan import ScanPlan

#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_KEYS_AT_ONCE = 100
#: Values of a key that is asked for before a check, by type.
_TRIED = {"S": "shake", "N": "0", "B": "AA=="}
#: Tries to get a page where each answer is received completely and is not a valid page.
_TRIES = 5


@dataclass
class SourcePage:
    """Items as they were sent, and the document of each (see StoredKeys.ours).

    ``packed`` has the ``count`` documents one behind the other. It lies in the room of the page,
    as ``body`` does: both are good until that is free again. ``unfit`` are items that the codec
    cannot turn into documents, and why; they are in none of the others. ``holds_all``: the target
    can hold these, too.
    """

    holds_all: ClassVar[bool] = False

    body: codec.Body
    stored_keys: StoredKeys
    packed: bytes | memoryview = b""
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


class ItemPage(SourcePage):
    """A page for a target that holds items: the documents are their JSON, but for ``packed``."""

    holds_all = True

    @cached_property
    def documents(self) -> list[bytes]:
        return [dumped(item) for item in self.items]

    @cached_property
    def keys(self) -> list[SourceKey]:
        return [self.stored_keys.key_of(item) for item in self.items]


class Pace:
    """Holds the reading of one table to ``calls`` and ``capacity`` units a second.

    ``spent`` is called with the units that calls have consumed.

    Each of several processes has its share of both (see CheckPart), and its own reservations.
    """

    def __init__(
        self,
        calls: float,
        capacity: float | None,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[float], None] = lambda units: None,
    ) -> None:
        self._limiter = Limiter(calls, capacity, clock(), burst=1.0)
        self._stop = stop
        self._spent = spent
        self._clock = clock
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait until one call may go out. Raises Stopped when the check ends."""
        while wait := self._try():
            if self._stop.wait(wait):
                raise Stopped

    def used(self, capacity: float) -> None:
        """A call has consumed so many units."""
        with self._lock:
            self._limiter.used(capacity)
        self._spent(capacity)

    def failed(self) -> None:
        """A call has no answer that says what it has consumed."""
        with self._lock:
            self._limiter.failed(throttled=False)

    def _try(self) -> float:
        with self._lock:
            wait = self._limiter.wait(self._clock())
            if not wait:
                self._limiter.take()
            return wait


class SourceTable:
    """Reads a table, of the source, or of a target that holds items; thread-safe."""

    def __init__(
        self, client: Client, table: Table, config: Config, pace: Pace, rooms: PageRooms
    ) -> None:
        self._client = client
        self._table = table
        self._config = config
        self._pace = pace
        self._rooms = rooms
        self.stored = stored_keys(table, config)
        self._keys = self.stored.ours
        self._kind = SourcePage if config.capabilities.documents == "bson" else ItemPage
        self._options = self._keys.options

    def page(
        self,
        segment: int,
        segments: int,
        start: bytes | None,
        limit: int | None = None,
        *,
        only_keys: bool = False,
        room: Callable[[], PageRoom] = PageRoom,
    ) -> SourcePage:
        """One page of a segment, through the scan filter; or all of its keys.

        It lies in ``room``, which is called when the request is on its way.
        """
        config = self._config
        plan = ScanPlan(
            table=self._table.name,
            total_segments=segments,
            limit=limit or config.qps_full_batch_num,
            consistent=config.source_consistent_read,
            filter=None if only_keys else config.scan_filter,
            attributes=tuple(key.name for key in self._table.keys) if only_keys else (),
        )
        request = plan.request(segment, start)
        for left in reversed(range(_TRIES)):
            self._pace.take()
            try:
                page = self._scan(request, room)
                break
            except codec.CorruptPage as error:
                self._pace.failed()
                if not left:
                    raise RunError(f"table {self._table.name}: {error}, {_TRIES} times") from error
        self._pace.used(page.capacity)
        return page

    def _scan(self, request: bytes, room: Callable[[], PageRoom]) -> SourcePage:
        body = self._client.receive("Scan", request, lambda: room().answer)
        return self._read(body, room())

    def pages(
        self, segment: int, segments: int, start: bytes | None = None, *, only_keys: bool = False
    ) -> Iterator[SourcePage]:
        """All pages of a segment from ``start`` on, each until the next one is asked for."""
        while True:
            with self._rooms.lease() as room:
                page = self.page(segment, segments, start, only_keys=only_keys, room=room)
                yield page
            start = page.last_key
            if start is None:
                return

    def get(self, keys: list[Item], *, whole: bool = True) -> SourcePage:
        """The items that exist of these keys, read consistently; or their keys alone."""
        found = self._get(keys, whole)
        if self._kind is ItemPage:  # all of them can be compared, packed or not
            return ItemPage(_page_of(found), self._keys, count=len(found))
        return self._read(_page_of(found), PageRoom())

    def packed(self, keys: list[Item]) -> bytes | memoryview:
        """The documents of these keys one behind the other, without those of unfit items."""
        return self._read(_page_of(self._get(keys, whole=True)), PageRoom()).packed

    def _get(self, keys: list[Item], whole: bool) -> list[Item]:
        left = list({typed_identity(key): key for key in keys}.values())
        found: list[Item] = []
        fruitless = 0
        while left:
            answered, unprocessed = self._ask(left[:_KEYS_AT_ONCE], whole)
            found += answered
            left = left[_KEYS_AT_ONCE:] + unprocessed
            fruitless = 0 if answered or not unprocessed else fruitless + 1
            if fruitless:
                self._client.pause(fruitless)
        return found

    def stored_keys(self, keys: list[Item]) -> list[dict[str, Any]]:
        """Typed keys as documents have them: the ``_id``, or the key attributes.

        Without those that no document can have.
        """
        options = self.stored.options
        read, room = SourcePage(b"", self.stored), PageRoom()
        for key in keys:
            with contextlib.suppress(ItemError):
                _fill(codec.scan_page(_page_of([key]), options), read, room)
        return [self.decoded(one) for one in read.documents]

    def decoded(self, document: bytes) -> dict[str, Any]:
        """The key of such a document, without an ``_id`` that means nothing."""
        names = ["_id"] if self.stored.by_id else self.stored.fields
        decoded = bson.decode(document, DECODED)
        return {name: decoded[name] for name in names}

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
        answer = loaded(self._client.call("BatchGetItem", dumped(request)))
        self._pace.used(sum(used["CapacityUnits"] for used in answer.get("ConsumedCapacity", [])))
        left = answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])
        return answer["Responses"][name], left

    def _read(self, body: codec.Body, room: PageRoom) -> SourcePage:
        page = codec.scan_page(body, self._options)
        read = self._kind(body, self._keys)
        try:
            _fill(page, read, room)
        except ItemError:
            page = self._read_singly(read, room)
        read.scanned, read.capacity, read.last_key = page.scanned, page.capacity, page.last_key
        return read

    def _read_singly(self, read: SourcePage, room: PageRoom) -> codec.ScanPage:
        """Separate fit items from unfit ones; return the page without its items."""
        fit = []
        read.packed, read.count = b"", 0
        for item in _items(read.body):
            try:
                _fill(codec.scan_page(_page_of([item]), self._options), read, room)
                fit.append(item)
            except ItemError as error:
                read.unfit.append((item, error.reason))
        rest = loaded(read.body) | {"Items": [], "Count": 0}
        page = codec.scan_page(dumped(rest), self._options)
        _fill(page, read, room)
        read.body = _page_of(fit)
        return page


def _fill(page: codec.ScanPage, read: SourcePage, room: PageRoom) -> None:
    """Add the documents of a page. They are copied where they need the room more than once."""
    while not page.done:
        before = read.packed = bytes(read.packed)  # a fill that fails leaves its half in the room
        length, count = page.fill(room.documents, segment_prefix(0, 0), 0)
        documents = room.documents[:length]
        read.packed = before + documents if before else documents
        read.count += count


def _items(body: codec.Body) -> list[Item]:
    items: list[Item] = loaded(body)["Items"]
    return items


def _page_of(items: list[Item]) -> bytes:
    count = len(items)
    return dumped({"Items": items, "Count": count, "ScannedCount": count})


def try_reading(client: Client, table: Table) -> None:
    """Ask for an item by its key. Raises SourceError where that is denied.

    Else only the first item that seems to differ would show it, hours later.
    """
    key = {one.name: {one.type: _TRIED[one.type]} for one in table.keys}
    asked = {table.name: {"Keys": [key], "ConsistentRead": True}}
    client.call("BatchGetItem", dumped({"RequestItems": asked}))


def loaded(body: codec.Body) -> dict[str, Any]:
    if isinstance(body, memoryview):
        body = body[:-1]
    try:
        found: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError:  # a lone surrogate, which orjson does not take
        found = json.loads(bytes(body).decode("utf-8", "surrogatepass"))
    return found


def dumped(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate
        return json.dumps(value).encode()
