"""Reads a shard into its journal."""

from __future__ import annotations

import contextlib
import time

from shake import codec
from shake.errors import Stopped
from shake.farm import worker_messages as messages
from shake.private_files import held_too_long
from shake.stream.journal import Appender
from shake.stream.shard import as_number
from shake.worker.shard_reader import Reader

#: Seconds, and bytes, between two syncs of a journal that grows.
_SYNC_EVERY, _SYNC_BYTES = 1.0, 1_000_000
#: Seconds between two checks whether another process has released the journal's lock.
_LOCK_EVERY = 0.1
#: Seconds after which that counts as a journal that takes no more.
_LOCK_SECONDS = 30.0


class JournalingReader(Reader):
    """Puts a shard's answers into its journal, and reports them once they are durable."""

    _journal: Appender
    _records = _bytes = 0  # since the last report
    _created = _reported = _waited = 0.0

    def _serve(self) -> bool:
        lease = self._lease
        try:
            self._journal = Appender(self._file, lease.journaled or "", lease.size, self._wait)
            with contextlib.closing(self._journal):
                self._records, self._bytes, self._created = self._journal.found
                self._position = max(self._position, self._journal.sequence, key=as_number)
                if lease.start or self._records:  # a worker that crashed has read the oldest
                    self._sequence = max(self._sequence, self._journal.sequence, key=as_number)
                over = self._journal.ended or self._read()
                if over and not self._journal.ended:
                    self._bytes += self._journal.end()
                self._report()
                return over
        except OSError as error:
            self._send(messages.JournalFull(lease.lease, f"{self._file}: {error.strerror}"))
            return False

    def _wait(self) -> None:
        """Wait for the journal's lock: a worker of an earlier run can hold it for some seconds."""
        if self._ended.is_set():
            raise Stopped
        self._waited += _LOCK_EVERY
        if self._waited > _LOCK_SECONDS:
            raise held_too_long(_LOCK_SECONDS)
        self._rest(_LOCK_EVERY)

    def _take(self, page: codec.ChangePage, body: memoryview) -> None:
        if not self._left_out(page):
            self._validate(page)
        self._bytes += self._journal.append(page.records, page.created, page.sequence, body[:-1])
        self._records += page.records
        self._created = page.created
        if time.monotonic() - self._reported > _SYNC_EVERY or self._bytes > _SYNC_BYTES:
            self._report()

    def _pause(self) -> None:
        if self._bytes:
            self._report()

    def _tip(self, moment: float) -> None:
        self._send(messages.Journaled(self._lease.lease, "", 0, 0, moment))

    def _validate(self, page: codec.ChangePage) -> None:
        """Find records of which no statement can be made, while they can be fetched again."""
        slot = self._slots.borrow(self._ended.is_set)
        try:
            while not page.done:
                page.fill(self._arena.slot(slot))
        finally:
            self._slots.give(slot)

    def _report(self) -> None:
        self._journal.sync()
        self._reported = time.monotonic()
        sequence, created = self._journal.sequence, self._created
        self._send(
            messages.Journaled(self._lease.lease, sequence, self._records, self._bytes, created)
        )
        self._records = self._bytes = 0
