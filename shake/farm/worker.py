"""A worker: scans segments, several at a time, and turns their pages into documents in slots."""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from shake import codec
from shake.codec.objectid import segment_prefix
from shake.config import Config
from shake.errors import ItemError, Stopped
from shake.farm import child, messages
from shake.farm.arena import SLOTS_PER_LANE, Arena, Slots
from shake.farm.channel import ChildChannel
from shake.farm.reader import ApplyingReader, KeepingReader, OpenStream, Reader
from shake.schema import Keys
from shake.source.client import (
    Buffer,
    Call,
    Client,
    Credentials,
    Endpoint,
    Retry,
    longest_pause,
)
from shake.source.scan import ScanPlan
from shake.stream.journal import Journal

log = logging.getLogger("shake.worker")


@dataclass(slots=True)
class OpenTable:
    """What a worker knows of a table."""

    number: int
    name: str
    plan: ScanPlan
    options: codec.Options
    stamp: int
    allowance: Allowance


class Allowance:
    """Scan calls of one table that the supervisor has permitted; asks for more when used up."""

    def __init__(self, want: Callable[[], None], stop: threading.Event) -> None:
        self._want = want
        self._stop = stop
        self._calls = 0
        self._asked = False
        self._changed = threading.Condition()

    def take(self) -> None:
        """Wait for the right to make one call."""
        with self._changed:
            while not self._try():
                if self._stop.is_set():
                    raise Stopped
                self._changed.wait()

    def take_at_once(self) -> bool:
        """Take the right to make one call if it is there; have it asked for otherwise."""
        with self._changed:
            return self._try()

    def _try(self) -> bool:
        if self._calls:
            self._calls -= 1
            return True
        if not self._asked and not self._stop.is_set():
            self._asked = True
            self._want()
        return False

    def add(self, calls: int) -> None:
        with self._changed:
            self._calls += calls
            self._asked = False
            self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait notice the stop."""
        with self._changed:
            self._changed.notify_all()


class Worker:
    """The child's main thread: hands messages to lanes, one thread for each segment in flight."""

    def __init__(self, channel: ChildChannel, config: Config, details: dict[str, Any]) -> None:
        self.channel = channel
        self._config = config
        self._role = f"worker {details['number']}"
        self._tables: dict[int, OpenTable] = {}
        self._streams: dict[int, OpenStream] = {}
        self._readers: dict[int, Reader] = {}
        self._journal = Journal(config.journal_folder)
        self._about = threading.local()  # the table that a lane or reader reads
        self._credentials = Credentials(*details["credentials"])
        self.stop = threading.Event()
        self.client = Client(
            Endpoint(*details["endpoint"]),
            lambda: self._credentials,
            on_retry=self._retried,
            stop=self.stop,
            random=random.Random(),
        )
        self._arena = arena = Arena(details["arena"], writable=True)
        self._lanes = [Lane(self, number, arena) for number in range(details["lanes"])]
        self._reader_slots = Slots()
        for slot in details["free"]:
            self._free(slot)

    def serve(self, received: Iterator[Any]) -> None:
        """Handle the supervisor's messages until it closes the channel."""
        for lane in self._lanes:
            lane.start()
        self.channel.send(messages.Ready())
        for message in received:
            match message:
                case messages.Free(slot):
                    self._free(slot)
                case messages.ShardLease():
                    self._read(message)
                case messages.EndLease(lease):
                    if lease in self._readers:
                        self._readers[lease].ended.set()
                        self._reader_slots.wake()
                case messages.Permit(table, calls):
                    self._tables[table].allowance.add(calls)
                case messages.Lease():
                    self._lanes[message.lane].leases.put((message, self._tables[message.table]))
                case messages.OpenTable():
                    self._open(message)
                case messages.OpenStream():
                    self._open_stream(message)
                case messages.Credentials():
                    self._credentials = Credentials(*message)
                case messages.Drain():
                    self.stop.set()
                    for opened in self._tables.values():
                        opened.allowance.wake()
                    for reader in self._readers.values():
                        reader.ended.set()
                    self._reader_slots.wake()
                case messages.Report():
                    self.channel.send(child.diagnosis(self._role, self._queues()))

    def _free(self, slot: int) -> None:
        lane = slot // SLOTS_PER_LANE
        if lane < len(self._lanes):
            self._lanes[lane].free.put(slot)
        else:
            self._reader_slots.give(slot)

    def _open(self, message: messages.OpenTable) -> None:
        config = self._config
        self._tables[message.table] = OpenTable(
            number=message.table,
            name=message.name,
            plan=ScanPlan(
                table=message.name,
                total_segments=message.segments,
                limit=config.qps_full_batch_num,
                consistent=config.source_consistent_read,
                filter=config.scan_filter,
            ),
            options=codec.Options.of(config, Keys.of(message.keys)),
            stamp=message.stamp,
            allowance=Allowance(lambda: self.channel.send(messages.Want(message.table)), self.stop),
        )

    def _open_stream(self, message: messages.OpenStream) -> None:
        options = codec.ChangeOptions.of(
            self._config,
            Keys.of(message.keys),
            sharded=self._config.target_mongodb_type == "sharding",
            upsert=self._config.increase_executor_upsert,
            insert_only=message.strict,
        )
        if opened := self._streams.get(message.table):
            opened.options = options  # of what is read from now on
        else:
            self._streams[message.table] = OpenStream(
                message.table, message.name, message.arn, message.since, options
            )

    def _read(self, lease: messages.ShardLease) -> None:
        self._readers = {n: reader for n, reader in self._readers.items() if reader.is_alive()}
        kind = KeepingReader if lease.keep else ApplyingReader
        reader = self._readers[lease.lease] = kind(
            lease,
            self._streams[lease.table],
            self.client,
            self.channel,
            self._journal,
            self._arena,
            self._reader_slots,
            stop=self.stop,
            pace=1 / self._config.qps_incr,
            limit=self._config.qps_incr_batch_num,
            about=self.reads,
        )
        reader.start()

    def _retried(self, retry: Retry) -> None:
        table: int = self._about.table
        throttled = retry.kind == "throttle"
        self.channel.send(messages.Retried(table, throttled, retry.tries, retry.reason))
        if self._about.allowance is not None:
            self._about.allowance.take()  # each try is a call

    def reads(self, table: int, allowance: Allowance | None = None) -> None:
        """The calling thread reads this table from now on."""
        self._about.table, self._about.allowance = table, allowance

    def corrupt(self, table: OpenTable, tries: int, reason: str) -> None:
        """An answer came whole and is not a page: wait before it is asked for again."""
        self.channel.send(messages.Retried(table.number, False, tries, reason))
        self.stop.wait(random.uniform(0, longest_pause(tries)))

    def _queues(self) -> str:
        return "; ".join(
            f"lane {lane.number}: {lane.state}, {lane.free.qsize()} slots free"
            for lane in self._lanes
        )


class Lane(threading.Thread):
    """Scans one leased segment after another, through slots of its own.

    The next page is requested as soon as its start is known, before the page at hand is
    transcoded: the network's wait and the work overlap, in one thread.
    """

    def __init__(self, worker: Worker, number: int, arena: Arena) -> None:
        super().__init__(name=f"lane-{number}", daemon=True)
        self.number = number
        self.leases: queue.SimpleQueue[tuple[messages.Lease, OpenTable]] = queue.SimpleQueue()
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.state = "idle"
        self._worker = worker
        self._arena = arena
        self._used: dict[int, int] = {}
        self._buffer = Buffer()
        self._cut = False

    def run(self) -> None:
        with child.guarded(self._worker.channel):
            while True:
                self.state = "idle"
                lease, table = self.leases.get()
                self.state = f"segment {lease.segment} of {table.name}"
                self._worker.reads(table.number, table.allowance)
                try:
                    self._scan(lease, table)
                except ItemError as error:
                    raise error.of_table(table.name) from error
                except Stopped:
                    pass
                self._worker.channel.send(messages.Idle(self.number))

    def _scan(self, lease: messages.Lease, table: OpenTable) -> None:
        worker = self._worker
        documents, corrupt = lease.documents, 0  # answers in a row
        start = lease.start
        coming = self._ask(lease, table, start)
        while True:
            body: memoryview = coming.result()
            early = codec.next_start(body)
            ahead = self._ask_early(lease, table, early) if early else None
            try:
                page = self._publish(lease, table, codec.scan_page(body, table.options), documents)
                corrupt, start = 0, page.last_key
                documents += page.count
            except codec.CorruptPage as error:
                corrupt += 1
                worker.corrupt(table, corrupt, str(error))
            over = self._cut or worker.stop.is_set() or (start is None and not corrupt)
            if ahead and (over or start != early):
                ahead.cancel()
                ahead = None
            if over:
                return
            coming = ahead or self._ask(lease, table, start)

    def _ask(self, lease: messages.Lease, table: OpenTable, start: bytes | None) -> Call:
        """Send for the page at ``start``, as soon as a call is permitted."""
        table.allowance.take()
        return self._begin(lease, table, start)

    def _ask_early(self, lease: messages.Lease, table: OpenTable, start: bytes) -> Call | None:
        """Send for it if that is permitted now: the page at hand must not wait for a permit."""
        permitted = not self._worker.stop.is_set() and table.allowance.take_at_once()
        return self._begin(lease, table, start) if permitted else None

    def _begin(self, lease: messages.Lease, table: OpenTable, start: bytes | None) -> Call:
        request = table.plan.request(lease.segment, start)
        return self._worker.client.begin("Scan", request, self._buffer)

    def _publish(
        self, lease: messages.Lease, table: OpenTable, page: codec.ScanPage, number: int
    ) -> codec.ScanPage:
        """Transcode a page into as many slots as it needs; its position goes with the last.

        Raises CorruptPage; ``_cut`` says then whether some slots of it are published already, which
        the supervisor takes back when the lease ends.
        """
        prefix = segment_prefix(table.stamp, lease.segment)
        send = self._worker.channel.send
        self._cut = False
        while True:
            slot = self.free.get()
            self._arena.trim(slot, self._used.get(slot, 0))
            try:
                length, documents = page.fill(self._arena.slot(slot), prefix, number)
            except codec.CorruptPage:
                self.free.put(slot)
                raise
            self._used[slot] = length
            self._cut = not page.done
            if page.done:
                break
            send(messages.Page(lease.lease, slot, length, documents, False))
        if not documents:
            self.free.put(slot)
            slot = -1
        position = page.last_key, page.scanned, page.capacity
        send(messages.Page(lease.lease, slot, length, documents, True, *position))
        return page


def serve(
    channel: ChildChannel, config: Config, details: dict[str, Any], received: Iterator[Any]
) -> None:
    """Entry of the process; ``details``: endpoint, credentials, arena, lanes, free."""
    Worker(channel, config, details).serve(received)


if __name__ == "__main__":
    child.main(serve)
