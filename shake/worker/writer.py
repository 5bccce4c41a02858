"""A writer: the one process that writes a collection: prepares it, fills it, builds its indexes."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from shake.checkpoint.records import Fate
from shake.config import Config
from shake.errors import IndexRefused, RunError
from shake.farm import messages
from shake.process import entry as child
from shake.process.arena import Arena
from shake.process.messages import Ready, Report, unhandled
from shake.targets import open_target
from shake.targets.contract import Changes, Fence, Held, Staging, Writer
from shake.targets.deadline import Deadline
from shake.targets.identity import mismatch

log = logging.getLogger("shake.writer")


class CollectionWriter:
    """The child's main thread: hands slots to ``full.document.concurrency`` inserting threads."""

    def __init__(
        self, channel: messages.WriterChannel, config: Config, set_up: messages.WriterSetup
    ) -> None:
        self._channel = channel
        if set_up.resumed:  # what is there already is our own, maybe older than the item now
            config = replace(config, full_executor_insert_on_dup_update=True)
        self._config = config
        self._table = set_up.table
        self._place = set_up.place
        self._arenas = [Arena(descriptor, writable=False) for descriptor in set_up.arenas]
        self._deadline = Deadline(set_up.until)
        self._target = open_target(
            config, stop=threading.Event(), on_retry=self._retried, deadline=self._deadline
        )
        self._copy = set_up.copy
        self._staged = set_up.staged
        self._numbers = set_up.run, set_up.process
        self._hold(set_up.held)
        self._waiting: queue.SimpleQueue[messages.Write | messages.Apply] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._insert, name=f"insert-{number}", daemon=True)
            for number in range(config.full_document_concurrency)
        ]

    def serve(self, received: Iterator[messages.ToWriter]) -> None:
        """Handle the supervisor's messages until it closes the channel."""
        for thread in self._threads:
            thread.start()
        self._channel.send(Ready())
        for message in received:
            match message:
                case messages.Write() | messages.Apply():
                    self._waiting.put(message)
                case messages.WriteUntil(moment):
                    self._deadline.extend(moment)
                case Report():
                    queued = f"{self._waiting.qsize()} pages wait for an inserting thread"
                    self._channel.send(child.diagnosis(f"writer {self._place}", queued))
                case _:
                    # These take their time; the main thread stays free to notice the end.
                    threading.Thread(target=self._once, args=(message,), daemon=True).start()

    def _insert(self) -> None:
        with child.guarded(self._channel):
            while True:
                message = self._waiting.get()
                slot = self._arenas[message.arena].slot(message.slot)
                self._deadline.wait()
                if isinstance(message, messages.Write):
                    self._writer.write(slot[: message.length])
                    self._channel.send(messages.Wrote(message.page))
                else:
                    skipped = self._writer.apply(_changes(slot, message.runs), message.shard)
                    self._channel.send(messages.Applied(message.page, skipped))

    def _once(self, message: messages.Order | messages.Aside) -> None:
        with child.guarded(self._channel):
            self._deadline.wait()
            match message:
                case messages.Sweep():
                    if staging := self._staging():
                        staging.sweep(published=True)
                case messages.Verify():
                    self._verify()
                case messages.KeepFences(shards):
                    self._writer.keep_fences(shards)
                case _:
                    self._channel.send(self._carry_out(message))

    def _carry_out(self, order: messages.Order) -> messages.Done:
        """Carry out an order. It can be the second try of a process that died."""
        done = messages.Done()
        staging = self._staging() if self._staged else None
        match order:
            case messages.Prepare(fate):
                self._hold(staging.begin() if staging else self._create(fate))
            case messages.Resume(collection, ranges):
                if staging:
                    self._hold(staging.resume(collection))
                self._forget(ranges)
            case messages.Forget(ranges):
                self._forget(ranges)
            case messages.BuildIndexes(documents, segments):
                done = self._build_indexes(documents, segments)
            case messages.Publish(collection, fate, backup, replaces):
                if staging:
                    self._hold(staging.publish(collection, fate, backup, replaces))
            case _:
                unhandled(order)
        return done._replace(place=self._held.place, collection=self._held.collection)

    def _hold(self, held: Held) -> None:
        """Write there from now on."""
        self._held = held
        fence = Fence(held.collection, *self._numbers)
        self._writer: Writer = self._target.writer(held.place, self._table, fence)

    def _staging(self) -> Staging | None:
        return self._target.staging(self._place, self._table, self._copy, log.info)

    def _create(self, fate: Fate) -> Held:
        """Where the target cannot rename, an existing collection goes before the copy begins."""
        if fate in ("drop", "resync"):
            self._target.drop(self._place)
        return self._found()

    def _forget(self, ranges: Sequence[tuple[bytes, bytes]]) -> None:
        if forgotten := self._writer.forget(ranges):
            log.info(
                "%s: %d documents behind the checkpoint removed, to be copied again",
                self._place,
                forgotten,
            )

    def _build_indexes(self, documents: int, segments: int) -> messages.Done:
        if not self._held.collection:
            self._hold(self._found())
        self._expect(documents)
        error, keyed = "", True
        try:
            self._writer.build_indexes(log.info, segments)
        except RunError as refused:
            error, keyed = str(refused), isinstance(refused, IndexRefused)
        return messages.Done(error, keyed)

    def _found(self) -> Held:
        """The collection, made where it is missing, so that all commands can name its UUID."""
        place = self._held.place
        if self._target.find(place, self._table) is None:
            self._target.create(place, self._table)
        found = self._target.find(place, self._table)
        return Held(place, found.collection if found else "")

    def _expect(self, documents: int) -> None:
        """Raises RunError where documents that were acknowledged are missing."""
        checkpoint = self._config.checkpoint_of(self._table.name)
        if missing := self._writer.missing(documents):
            raise RunError(
                f"{self._held.place}: {missing} of the {documents} documents that were stored for "
                f"table {self._table.name} are not there any more: something else has removed "
                f"them; remove the table's checkpoint ({checkpoint}) to copy it anew"
            )

    def _verify(self) -> None:
        if not self._held.collection:
            return
        found = self._target.find(self._held.place, self._table)
        if problem := mismatch(self._config, self._table.name, self._held, found):
            raise RunError(problem)

    def _retried(self, reason: str) -> None:
        self._channel.send(messages.Retried(-1, False, 1, reason))


def _changes(slot: memoryview, runs: Sequence[tuple[int, int]]) -> Changes:
    """The statements of each kind, which stand one behind the other."""
    ends = list(itertools.accumulate((size for size, _ in runs), initial=0))
    return Changes(*(slot[start:end] for start, end in itertools.pairwise(ends)))


def serve(
    channel: messages.WriterChannel,
    config: Config,
    set_up: messages.WriterSetup,
    received: Iterator[messages.ToWriter],
) -> None:
    """Entry of the process."""
    CollectionWriter(channel, config, set_up).serve(received)


if __name__ == "__main__":
    child.main(messages.WRITER, serve)
