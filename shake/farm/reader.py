"""Reads one shard of a stream: fetches its records, makes statements of them in slots, in order."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from shake import codec
from shake.errors import ItemError, SourceError, Stopped
from shake.farm import child, messages
from shake.farm.arena import Arena
from shake.farm.channel import ChildChannel
from shake.source.client import Buffer, Client, longest_pause
from shake.source.streams import iterator_request, records_request

#: Seconds between two looks at a shard without news: at first, doubling, and at most. Each look
#: costs half a read unit or so; a change is to arrive in a fraction of a second.
FIRST_IDLE, LONGEST_IDLE = 0.05, 0.25

#: Records of an answer from which on the next is asked for at once.
_BUSY = 0.5

#: An answer without records may only mean that there is a hole in the shard, so it takes so many
#: in a row to say that its tip is reached.
TIP_AFTER = 8

_TRIMMED, _GONE = "TrimmedDataAccessException", "ResourceNotFoundException"

#: A shard that was just listed may not be known everywhere yet: tries until it is gone.
_GONE_AFTER = 5


@dataclass(slots=True)
class OpenStream:
    """What a worker knows of a table's stream; ``options`` may change while it is read."""

    number: int
    name: str
    arn: str
    since: float
    options: codec.ChangeOptions


class Reader(threading.Thread):
    """Reads a leased shard until it ends, is told to stop, or meets a gap.

    ``free`` gives slots of the arena, which all readers of a worker share: without one, it waits.
    ``pace`` is seconds between two GetRecords at least.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
    """

    def __init__(
        self,
        lease: messages.ShardLease,
        stream: OpenStream,
        client: Client,
        channel: ChildChannel,
        arena: Arena,
        free: queue.SimpleQueue[int | None],
        *,
        stop: threading.Event,
        pace: float,
        limit: int,
        about: Callable[[int], None],
    ) -> None:
        super().__init__(name=f"shard-{lease.shard}", daemon=True)
        self.ended = threading.Event()  # set from outside: read no further
        self._lease = lease
        self._stream = stream
        self._client = client
        self._send = channel.send
        self._channel = channel
        self._arena = arena
        self._free = free
        self._stopping = stop
        self._pace = pace
        self._limit = limit
        self._about = about
        self._buffer = Buffer()

    def run(self) -> None:
        with child.guarded(self._channel):
            self._about(self._stream.number)
            over = False
            try:
                over = self._read()
            except ItemError as error:
                raise error.of_table(self._stream.name) from error
            except SourceError as error:
                if error.code not in (_TRIMMED, _GONE):
                    raise
                reason = f"{error.code}: {error.message}"
                self._send(messages.ShardGap(self._lease.lease, error.code == _TRIMMED, reason))
                return
            except Stopped:
                pass
            self._send(messages.ShardEnd(self._lease.lease, over))

    def _read(self) -> bool:
        """Whether the shard is read to its end."""
        sequence, iterator = self._lease.sequence, ""
        idle, corrupt, gone, empty, moment = FIRST_IDLE, 0, 0, 0, 0.0
        while not self._leaving:
            began = time.monotonic()
            moment = moment if empty else time.time()
            try:
                iterator = iterator or self._iterator(sequence)
                page = self._page(iterator)
                if page.records and page.created >= self._stream.since:
                    self._publish(page)
                elif page.records:  # all too old: but they are behind us
                    self._skip(page)
            except SourceError as error:
                gone += error.code == _GONE
                if error.code != "ExpiredIteratorException" and not 0 < gone < _GONE_AFTER:
                    raise
                iterator = ""  # another one, from behind what was published
                self._rest(1.0 if gone else FIRST_IDLE)
                continue
            except codec.CorruptPage as error:
                corrupt += 1
                table, reason = self._stream.number, str(error)
                self._send(messages.Retried(table, False, corrupt, reason))
                self._rest(random.uniform(0, longest_pause(corrupt)))
                continue
            corrupt = gone = 0
            sequence = page.sequence or sequence
            if page.next_iterator is None:
                return True
            iterator = page.next_iterator
            empty = 0 if page.records else empty + 1
            if empty == TIP_AFTER:
                self._send(messages.Tip(self._lease.lease, moment))
                empty = 0
            if page.records < self._limit * _BUSY:
                idle = FIRST_IDLE if page.records else min(2 * idle, LONGEST_IDLE)
                self._rest(idle)
            self._rest(began + self._pace - time.monotonic())
        return False

    @property
    def _leaving(self) -> bool:
        return self.ended.is_set() or self._stopping.is_set()

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            self.ended.wait(seconds)

    def _iterator(self, sequence: str) -> str:
        request = iterator_request(self._stream.arn, self._lease.shard, self._lease.start, sequence)
        answer = self._client.begin("GetShardIterator", request, self._buffer).result(_parse)
        iterator: str = answer["ShardIterator"]
        return iterator

    def _page(self, iterator: str) -> codec.ChangePage:
        request = records_request(iterator, self._limit)
        body: memoryview = self._client.begin("GetRecords", request, self._buffer).result()
        return codec.change_page(body, self._stream.options)

    def _publish(self, page: codec.ChangePage) -> None:
        """Statements into as many slots as they need; the position goes with the last one."""
        while True:
            slot = self._free.get()
            if slot is None:
                raise Stopped
            try:
                runs = [tuple(run) for run in page.fill(self._arena.slot(slot))]
            except codec.CorruptPage:
                self._free.put(slot)
                raise
            complete = page.done
            position: tuple[int, str, float] = (
                (page.records, page.sequence, page.created) if complete else (0, "", 0.0)
            )
            self._send(messages.Batch(self._lease.lease, slot, runs, complete, *position))  # type: ignore[arg-type]
            if complete:
                return

    def _skip(self, page: codec.ChangePage) -> None:
        nothing = [(0, 0)] * 3
        self._send(
            messages.Batch(self._lease.lease, -1, nothing, True, 0, page.sequence, page.created)
        )


def _parse(body: memoryview) -> Any:
    return orjson.loads(body[:-1])
