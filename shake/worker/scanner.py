"""A scanner scans segments, one after the other, and turns their pages into documents in slots."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from shake import codec
from shake.codec.objectid import segment_prefix
from shake.errors import ItemError, SourceError, Stopped
from shake.farm import worker_messages as messages
from shake.process import entry as child
from shake.source.answer import NOT_FOUND
from shake.source.connection import Buffer
from shake.source.contract import Pending, WorkerSource
from shake.source.scan import ScanPlan
from shake.stream import suspicion
from shake.worker.context import WorkerContext


@dataclass(slots=True)
class ScannedTable:
    """A table as a worker needs it."""

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

    def revoke(self) -> None:
        """Permits that are left do not count any more: others are asked for when needed."""
        with self._changed:
            self._calls = 0
            self._asked = False
            self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait notice the stop."""
        with self._changed:
            self._changed.notify_all()


class Scanner(threading.Thread):
    """Scans one leased segment after another, through slots that no other scanner uses.

    The scanner requests the next page as soon as it has its position, before it transcodes the
    current page. So waiting for the network and transcoding overlap, in one thread.
    """

    _lease: messages.LeaseSegment
    _table: ScannedTable

    def __init__(self, context: WorkerContext, number: int) -> None:
        super().__init__(name=f"scanner-{number}", daemon=True)
        self.number = number
        self.leases: queue.SimpleQueue[tuple[messages.LeaseSegment, ScannedTable]] = (
            queue.SimpleQueue()
        )
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.state = "idle"
        self._context = context
        self._source: WorkerSource = context.source
        self._send = context.channel.send
        self._arena = context.arena
        self._used: dict[int, int] = {}
        self._buffer = Buffer()
        self._cut = False

    def run(self) -> None:
        with child.guarded(self._context.channel):
            while True:
                self.state = "idle"
                self._lease, self._table = self.leases.get()
                self.state = f"segment {self._lease.segment} of {self._table.plan.table}"
                self._context.reads(self._lease.table, self._table.allowance.take)
                try:
                    self._scan()
                except (ItemError, SourceError) as error:
                    raise error.of_table(self._table.plan.table) from error
                except Stopped:
                    pass
                self._send(messages.Idle(self.number))

    def _scan(self) -> None:
        documents, corrupt = self._lease.documents, 0  # answers in a row
        start = self._lease.start
        coming = self._ask(start)
        while True:
            body = self._answer(coming, start)
            early = codec.next_start(body)
            ahead = self._ask_early(early) if early else None
            try:
                page = self._publish(body, documents)
                corrupt, start = 0, page.last_key
                documents += page.count
            except codec.CorruptPage as error:
                corrupt += 1
                self._report_retry(corrupt, error)
                self._source.pause(corrupt)
            over = self._cut or self._context.stop.is_set() or (start is None and not corrupt)
            if ahead and (over or start != early):
                ahead.cancel()
                ahead = None
            if over:
                return
            coming = ahead or self._ask(start)

    def _answer(self, coming: Pending, start: bytes | None) -> memoryview:
        """The answer for the page at ``start``. One that there is no such table is asked again."""
        for missing in range(1, suspicion.START.answers):
            try:
                return coming.result()
            except SourceError as error:
                if error.code != NOT_FOUND:
                    raise
                self._report_retry(missing, error)
            self._context.stop.wait(suspicion.START.every)
            coming = self._ask(start)
        return coming.result()

    def _report_retry(self, tries: int, error: Exception) -> None:
        table = self._lease.table
        self._send(messages.ReadRetried(table, False, tries, str(error), scan=True))

    def _ask(self, start: bytes | None) -> Pending:
        """Send for the page at ``start``, as soon as a call is permitted."""
        self._table.allowance.take()
        return self._begin(start)

    def _ask_early(self, start: bytes) -> Pending | None:
        """Send for it if that is permitted now: the page at hand must not wait for a permit."""
        permitted = not self._context.stop.is_set() and self._table.allowance.take_at_once()
        return self._begin(start) if permitted else None

    def _begin(self, start: bytes | None) -> Pending:
        return self._source.scan(self._table.plan, self._lease.segment, start, self._buffer)

    def _publish(self, body: memoryview, number: int) -> codec.ScanPage:
        """Transcode a page into as many slots as it needs; its position goes with the last.

        Raises CorruptPage; ``_cut`` says then whether some slots of it are published already, which
        the supervisor takes back when the lease ends.
        """
        lease, options = self._lease.lease, self._table.options
        page = codec.scan_page(body, options)
        kept = body[:-1] if options.rejects else body[:0]  # the answer, for bad items
        prefix = segment_prefix(self._table.stamp, self._lease.segment)
        self._cut = False
        while True:
            slot = self.free.get()
            self._arena.trim(slot, self._used.get(slot, 0))
            out = self._arena.slot(slot)
            try:
                length, documents = page.fill(out[: len(out) - len(kept)], prefix, number)
            except codec.CorruptPage:
                self.free.put(slot)
                raise
            self._used[slot] = used = length + len(kept)
            out[length:used] = kept
            raw_answer = messages.RawAnswer(len(kept), page.take_rejects())
            self._cut = not page.done
            if page.done:
                break
            self._send(messages.Page(lease, slot, length, documents, False, raw_answer=raw_answer))
        if not documents and not raw_answer.rejects:
            self.free.put(slot)
            slot = -1
        position = page.last_key, page.scanned, page.capacity, raw_answer
        self._send(messages.Page(lease, slot, length, documents, True, *position))
        return page
