"""DynamoDB tables in memory, and their streams: shards that open, split, close and trim.

What a test does to a table and its stream, it does here; ``streams`` serves both over HTTP.
"""

from __future__ import annotations

import base64
import hashlib
import random
import threading
import uuid
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice, pairwise
from typing import Any

import orjson

from tests.support.tables import REGION, Key

#: A typed item, binary values as base64 text: ``{"pk": {"S": "a"}}``.
Item = dict[str, Any]
#: Where an item is: the hash of its partition key, then its whole key.
Place = tuple[int, bytes]

#: Partition keys hash to whole numbers below this.
HASHES = 1 << 64
#: At most so many changes can be missing from an eventually consistent Scan.
PAST = 1000


class Refusal(Exception):
    """An error that DynamoDB answers with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Clock:
    """Seconds since 1970, which pass only by a call; on top of ``base``, such as ``time.time``."""

    def __init__(self, base: Callable[[], float] = lambda: 1_700_000_000.0) -> None:
        self._base = base
        self._passed = 0.0

    def __call__(self) -> float:
        return self._base() + self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += seconds


@dataclass
class Shared:
    """State that tables and streams share. A thread that reads or changes them holds the lock.

    ``account`` is that of the tables that are made from now on; ``made`` counts tables.
    """

    clock: Clock
    random: random.Random
    account: str = "000000000000"
    made: int = 0
    delay: float = 0.0  # see Simulator
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(eq=False)
class Shard:
    """A part of a stream: the records of the keys whose hashes lie from ``low`` up to ``high``.

    Sequence numbers are whole numbers, ``end`` is None while the shard is open.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Shard.html
    """

    id: str
    parent: str | None
    low: int
    high: int
    start: int
    end: int | None = None
    closed: float = 0.0  # when
    #: What is not trimmed, as (sequence number, time, record as answered).
    records: list[tuple[int, float, Item]] = field(default_factory=list)
    #: Those that can be read later than at once, in their order: (sequence number, from when on).
    late: deque[tuple[int, float]] = field(default_factory=deque)
    #: The highest sequence number that is gone.
    trimmed: int = 0
    #: So many answers of DescribeStream do not list the shard yet, or list it as open still.
    listed_after: int = 0
    closed_after: int = 0

    @property
    def last(self) -> int:
        """The last sequence number so far; below ``start`` without any."""
        return self.records[-1][0] if self.records else max(self.trimmed, self.start - 1)

    def readable(self, now: float) -> int:
        """The sequence number up to which records can be read."""
        while self.late and self.late[0][1] <= now:
            self.late.popleft()
        return self.late[0][0] - 1 if self.late else 10**41

    def from_number(self, number: int, count: int) -> list[tuple[int, float, Item]]:
        """At most ``count`` records with this sequence number and above."""
        first = bisect_left(self.records, number, key=lambda record: record[0])
        return self.records[first : first + count]


class Stream:
    """A table's changes. ``shards`` are all that may be listed, in the order of their names.

    Lineage is what AWS documents: shards split, or have just one child; a shard has one parent.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html

    ``listed_after`` and ``closed_after`` of the methods: how many answers of DescribeStream go by
    before the children are listed, and before the parent is shown to be closed.
    """

    def __init__(self, shared: Shared, table: str, view: str, shards: int, label: str) -> None:
        self._shared = shared
        self.table = table
        self.account = shared.account
        self.view = view
        self.label = label
        self.created = shared.clock()
        self.enabled = True
        self.enabling = 0  # so many answers still show it so
        self.shards: list[Shard] = []
        # 21 digits, soon 22: a consumer that compares them as strings goes wrong.
        self._number = 10**21 - 60
        edges = [HASHES * i // shards for i in range(shards + 1)]
        self._open: list[Shard] = []  # by hash, without a hole
        self._open = [self._new(None, *ends) for ends in pairwise(edges)]

    @property
    def arn(self) -> str:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html"""
        table = f"arn:aws:dynamodb:{REGION}:{self.account}:table/{self.table}"
        return f"{table}/stream/{self.label}"

    def open(self) -> list[Shard]:
        """The open shards, by hash range."""
        with self._shared.lock:
            return list(self._open)

    def owner(self, hashed: int) -> Shard:
        """The open shard of a hash."""
        return self._open[bisect_right(self._open, hashed, key=lambda shard: shard.low) - 1]

    def find(self, shard_id: str) -> Shard:
        """The shard of that name, listed or not."""
        at = bisect_left(self.shards, shard_id, key=lambda shard: shard.id)
        if at == len(self.shards) or self.shards[at].id != shard_id:
            raise Refusal("ResourceNotFoundException", "Shard does not exist")
        return self.shards[at]

    def split(
        self, shard: Shard, *, listed_after: int = 0, closed_after: int = 0
    ) -> tuple[Shard, Shard]:
        """Close a shard; two children share its hash range."""
        middle = (shard.low + shard.high) // 2
        ranges = (shard.low, middle), (middle, shard.high)
        left, right = self._replace([shard], ranges, listed_after, closed_after)
        return left, right

    def roll_over(self, shard: Shard, *, listed_after: int = 0, closed_after: int = 0) -> Shard:
        """Close a shard; one child goes on, as happens about every four hours."""
        ranges = ((shard.low, shard.high),)
        return self._replace([shard], ranges, listed_after, closed_after)[0]

    def merge(self, shard: Shard, other: Shard) -> Shard:
        """Close two neighbours; one child of the first goes on for both.

        AWS documents no merge, and its one ParentShardId could not express it: ``other`` ends as a
        leaf, and nothing shows a consumer that its records come before the child's.
        """
        ranges = ((min(shard.low, other.low), max(shard.high, other.high)),)
        return self._replace([shard, other], ranges)[0]

    def close(self) -> None:
        """No more records: open shards are closed, what they hold stays readable for 24 hours.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
        """
        with self._shared.lock:
            self.enabled = False
            for shard in self._open:
                self._end(shard)
            self._open = []

    def write(self, hashed: int, name: str, images: dict[str, Item], *, expired: bool) -> None:
        """Append a change to the shard that owns the hash. Images: Keys, NewImage, OldImage.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html
        and ``API_streams_StreamRecord.html`` beside it.
        """
        shard = self.owner(hashed)
        # The first record may have the shard's very first number, or one behind it.
        first = not shard.records and not shard.trimmed and self._shared.random.random() < 0.5
        number = shard.start if first else self._next_number()
        wanted = {"Keys", *_IMAGES[self.view]}
        images = {kind: image for kind, image in images.items() if kind in wanted}
        now = self._shared.clock()
        record = {
            "eventID": f"{self._shared.random.getrandbits(128):032x}",
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": REGION,
            "dynamodb": {
                "ApproximateCreationDateTime": float(int(now)),
                **images,
                "SequenceNumber": str(number),
                "SizeBytes": sum(map(size, images.values())),
                "StreamViewType": self.view,
            },
        }
        if expired:
            record["userIdentity"] = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
        shard.records.append((number, now, record))
        if self._shared.delay or shard.late:
            before = shard.late[-1][1] if shard.late else now
            after = now + self._shared.random.uniform(0, self._shared.delay)
            shard.late.append((number, max(before, after)))

    def trim(self, before: float) -> None:
        """Trim records older than a time, and shards closed before it."""
        with self._shared.lock:
            for shard in self.shards:
                gone = bisect_left(shard.records, before, key=lambda record: record[1])
                if gone:
                    shard.trimmed = shard.records[gone - 1][0]
                    del shard.records[:gone]
            self.shards = [s for s in self.shards if s.end is None or s.closed >= before]

    def not_ready(self) -> bool:
        """Whether one more answer shows the stream as being enabled."""
        self.enabling -= (waiting := self.enabling > 0)
        return waiting

    def listing(self) -> list[Shard]:
        """The shards that one more answer of DescribeStream may list, by name."""
        shown = []
        for shard in self.shards:
            if shard.listed_after:
                shard.listed_after -= 1
            else:
                shown.append(shard)
        return shown

    def describe(self, shard: Shard) -> Item:
        """A shard in one more answer of DescribeStream."""
        numbers = {"StartingSequenceNumber": str(shard.start)}
        if shard.end is not None and shard.closed_after:
            shard.closed_after -= 1
        elif shard.end is not None:
            numbers["EndingSequenceNumber"] = str(shard.end)
        parent = {"ParentShardId": shard.parent} if shard.parent else {}
        return {"ShardId": shard.id, "SequenceNumberRange": numbers, **parent}

    def _replace(
        self,
        old: list[Shard],
        ranges: tuple[tuple[int, int], ...],
        listed_after: int = 0,
        closed_after: int = 0,
    ) -> list[Shard]:
        with self._shared.lock:
            places = sorted(map(self._open.index, old))
            assert places == list(range(places[0], places[-1] + 1)), "not neighbours"
            for shard in old:
                self._end(shard)
                shard.closed_after = closed_after
            new = [self._new(old[0].id, low, high) for low, high in ranges]
            for shard in new:
                shard.listed_after = listed_after
            self._open[places[0] : places[-1] + 1] = new
            return new

    def _new(self, parent: str | None, low: int, high: int) -> Shard:
        # Named by time, and by chance within it: names show neither age nor lineage.
        stamp = int(self._shared.clock() * 1000)
        name = f"shardId-{stamp:020}-{self._shared.random.getrandbits(32):08x}"
        shard = Shard(name, parent, low, high, self._next_number())
        insort(self.shards, shard, key=lambda shard: shard.id)
        return shard

    def _end(self, shard: Shard) -> None:
        # The end may be the last record's number, or one behind it.
        exact = shard.last >= shard.start and self._shared.random.random() < 0.5
        shard.end = shard.last if exact else self._next_number()
        shard.closed = self._shared.clock()

    def _next_number(self) -> int:
        """Sequence numbers have 21 to 40 digits; here one may be longer than the one before.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html
        """
        rng = self._shared.random
        self._number += rng.randint(1, 9)
        if self._number < 10**38 and rng.random() < 1 / 64:
            soon = 10 ** len(str(self._number)) - rng.randint(1, 60)
            self._number = max(self._number, soon)
        return self._number


#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_StreamSpecification.html
_IMAGES = {
    "KEYS_ONLY": (),
    "NEW_IMAGE": ("NewImage",),
    "OLD_IMAGE": ("OldImage",),
    "NEW_AND_OLD_IMAGES": ("NewImage", "OldImage"),
}


class Table:
    """Items by key. ``streams`` are all streams it had and still has, the last one the latest.

    Values are kept and compared as they are given: spell numbers as DynamoDB would.
    ``stale``: so many of the last changes, at most, are missing from an eventually consistent Scan.
    """

    def __init__(self, shared: Shared, name: str, pk: Key, sk: Key | None) -> None:
        self._shared = shared
        self.name = name
        self.keys = [pk, *([sk] if sk else [])]
        self.created = shared.clock()
        self.arn = f"arn:aws:dynamodb:{REGION}:{shared.account}:table/{name}"
        shared.made += 1
        self.id = str(uuid.UUID(int=shared.made))
        self.stale = 0
        self.streams: list[Stream] = []
        self._items: dict[Place, Item] = {}
        self._order: list[Place] = []
        self._past: deque[tuple[Place, Item | None]] = deque(maxlen=PAST)

    @property
    def stream(self) -> Stream:
        """The latest stream."""
        return self.streams[-1]

    def enable_stream(self, view: str = "NEW_AND_OLD_IMAGES", shards: int = 1) -> Stream:
        """Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateTable.html"""
        with self._shared.lock:
            if self.streams and self.stream.enabled:
                raise Refusal("ValidationException", "Table already has an enabled stream")
            if view not in _IMAGES:
                raise Refusal("ValidationException", f"Invalid StreamViewType: {view}")
            # Streams of one instant differ too.
            moment = self._shared.clock() + len(self.streams) / 1000
            label = datetime.fromtimestamp(moment, timezone.utc).isoformat("T", "milliseconds")[:-6]
            self.streams.append(Stream(self._shared, self.name, view, shards, label))
            return self.stream

    def disable_stream(self) -> None:
        """The stream takes no more changes; it can still be read."""
        with self._shared.lock:
            if not self.streams or not self.stream.enabled:
                raise Refusal("ValidationException", "Table has no stream to disable")
            self.stream.close()

    def replace_stream(self) -> Stream:
        """Disable the stream and enable another at once, under a new ARN."""
        with self._shared.lock:
            self.disable_stream()
            return self.enable_stream()

    def put(self, item: Item) -> None:
        """Write an item; one that is there already, equal, makes no record.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
        """
        self._write(self._place(item), orjson.loads(orjson.dumps(item)))

    def delete(self, key: Item, *, expired: bool = False) -> None:
        """Delete the item of a key, which may be an item; ``expired``: by its time to live.

        Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html
        """
        self._write(self._place(key), None, expired=expired)

    def key_of(self, item: Item) -> Item:
        """The key attributes of an item."""
        return {name: item[name] for name, _ in self.keys}

    def get(self, key: Item) -> Item | None:
        """The item of a key."""
        with self._shared.lock:
            return self._items.get(self._place(key))

    def contents(self) -> list[Item]:
        """All items as they are now."""
        with self._shared.lock:
            return [self._items[place] for place in self._order]

    def shard_of(self, key: Item) -> Shard:
        """The open shard that a key's next change goes to."""
        with self._shared.lock:
            return self.stream.owner(self._place(key)[0])

    def scan(self, segment: int, segments: int, start: Item | None, behind: int) -> Iterator[Item]:
        """The items of a segment behind a key, as they were ``behind`` changes ago."""
        items: dict[Place, Item | None] = {}
        for place, old in islice(reversed(self._past), behind):
            items[place] = old
        order = sorted({*self._order, *items}) if items else self._order
        low, high = (-(-HASHES * i // segments) for i in (segment, segment + 1))
        first = bisect_left(order, (low, b""))
        if start is not None:
            first = max(first, bisect_right(order, self._place(start)))
        places = islice(order, first, bisect_left(order, (high, b"")))
        found = (items[place] if place in items else self._items[place] for place in places)
        return (item for item in found if item is not None)

    def _place(self, item: Item) -> Place:
        pk, *_ = self.keys
        for name, kind in self.keys:
            if list(item.get(name, ())) != [kind]:
                raise Refusal("ValidationException", "The provided key element does not match")
        digest = hashlib.blake2b(orjson.dumps(item[pk[0]]), digest_size=8).digest()
        return int.from_bytes(digest, "big"), orjson.dumps([item[name] for name, _ in self.keys])

    def _write(self, place: Place, new: Item | None, *, expired: bool = False) -> None:
        with self._shared.lock:
            old = self._items.get(place)
            if old == new:
                return
            self._past.append((place, old))
            if old is None:
                insort(self._order, place)
            if new is None:
                del self._order[bisect_left(self._order, place)], self._items[place]
            else:
                self._items[place] = new
            if self.streams and self.stream.enabled:
                name = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
                both = {"NewImage": new, "OldImage": old}
                images = {kind: image for kind, image in both.items() if image is not None}
                keys = self.key_of(next(iter(images.values())))
                self.stream.write(place[0], name, {"Keys": keys, **images}, expired=expired)


def size(item: Item) -> int:
    """The bytes that DynamoDB counts: names and values.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(typed: Item) -> int:
    tag: str
    value: Any
    [(tag, value)] = typed.items()
    match tag:
        case "M":
            return 3 + size(value) + len(value)
        case "L":
            return 3 + sum(1 + _value_size(element) for element in value)
        case "SS" | "NS" | "BS":
            return sum(_value_size({tag[0]: element}) for element in value)
        case "N":
            digits = str(value).lstrip("-").replace(".", "").strip("0")
            return (len(digits) + 1) // 2 + 1 + str(value).startswith("-")
        case "B":
            return len(base64.b64decode(value))
        case "S":
            return len(str(value).encode())
    return 1
