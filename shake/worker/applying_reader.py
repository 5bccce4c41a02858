"""Reads a shard to apply it: its records become statements in slots, those of its journal first."""

from __future__ import annotations

from shake import codec
from shake.errors import Stopped
from shake.farm import worker_messages as messages
from shake.stream.journal import entries
from shake.worker.shard_reader import Reader


class ApplyingReader(Reader):
    """Publishes statements, those of the journal first."""

    def _serve(self) -> bool:
        return self._replay() or self._read()

    def _replay(self) -> bool:
        """Whether the journal holds the shard to its end."""
        if self._lease.journaled is None:
            return False
        for entry in entries(self._file, self._lease.sequence, self._lease.journaled):
            if not entry.body:
                return True
            self._next = ""  # of a position before this one
            page = codec.change_page(entry.body, self._stream.options)
            kept = entry.body + b"\0" if self._stream.options.rejects else b""
            self._take(page, memoryview(kept))
            self._position = entry.sequence
            if self._lease.start:
                self._sequence = entry.sequence
            if self._ended.is_set():
                raise Stopped
        return False

    def _take(self, page: codec.ChangePage, body: memoryview) -> None:
        if self._left_out(page):  # only the position moves on
            self._skip(page)
        else:
            self._publish(page, body[:-1] if self._stream.options.rejects else body[:0])

    def _tip(self, moment: float) -> None:
        self._send(messages.Tip(self._lease.lease, moment))

    def _publish(self, page: codec.ChangePage, kept: memoryview) -> None:
        """Statements into as many slots as they need; the position goes with the last one.

        ``kept`` is the answer where bad items are to be kept, else empty.
        """
        while True:
            slot = self._slots.take(self._lease.table, self._lease.lease, self._ended.is_set)
            out = self._arena.slot(slot)
            try:
                statement_sizes = list(page.fill(out[: len(out) - len(kept)]))
            except codec.CorruptPage:
                self._slots.give(slot)
                raise
            used = sum(size for size, _ in statement_sizes)
            out[used : used + len(kept)] = kept
            raw_answer = messages.RawAnswer(len(kept), page.take_rejects())
            if page.done:
                break
            self._send(
                messages.Batch(
                    self._lease.lease, slot, statement_sizes, False, raw_answer=raw_answer
                )
            )
        position = page.records, page.sequence, page.created, raw_answer
        self._send(messages.Batch(self._lease.lease, slot, statement_sizes, True, *position))

    def _skip(self, page: codec.ChangePage) -> None:
        nothing = [(0, 0)] * 3
        self._send(
            messages.Batch(self._lease.lease, -1, nothing, True, 0, page.sequence, page.created)
        )
