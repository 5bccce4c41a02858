"""A writer: the one process that writes a collection: prepares it, fills it, builds its indexes."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from shake.config import Config
from shake.errors import IndexRefused, RunError
from shake.farm import child, messages
from shake.farm.arena import Arena
from shake.farm.channel import ChildChannel
from shake.schema import Table
from shake.target import open_target
from shake.target.contract import Changes

log = logging.getLogger("shake.writer")


class CollectionWriter:
    """The child's main thread: hands slots to ``full.document.concurrency`` inserting threads."""

    def __init__(self, channel: ChildChannel, config: Config, details: dict[str, Any]) -> None:
        self._channel = channel
        if details["resumed"]:  # what is there already is our own, maybe older than the item now
            config = replace(config, full_executor_insert_on_dup_update=True)
        self._table = Table.of(details["table"])
        self._place: str = details["place"]
        self._arenas = [Arena(descriptor, writable=False) for descriptor in details["arenas"]]
        self._target = open_target(config, stop=threading.Event(), on_retry=self._retried)
        self._writer = self._target.writer(self._place, self._table, details["epoch"])
        self._waiting: queue.SimpleQueue[messages.Write | messages.Apply] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._insert, name=f"insert-{number}", daemon=True)
            for number in range(config.full_document_concurrency)
        ]

    def serve(self, received: Iterator[Any]) -> None:
        """Handle the supervisor's messages until it closes the channel."""
        for thread in self._threads:
            thread.start()
        self._channel.send(messages.Ready())
        for message in received:
            match message:
                case messages.Write() | messages.Apply():
                    self._waiting.put(message)
                case messages.Report():
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
                if isinstance(message, messages.Write):
                    self._writer.write(slot[: message.length])
                    self._channel.send(messages.Wrote(message.page))
                else:
                    skipped = self._writer.apply(_changes(slot, message.runs), message.shard)
                    self._channel.send(messages.Applied(message.page, skipped))

    def _once(self, message: Any) -> None:
        error, keyed = "", True
        with child.guarded(self._channel):
            match message:
                case messages.Prepare(fate, backup):
                    self._prepare(fate, backup)
                case messages.Forget(ranges):
                    forgotten = self._writer.forget([(low, high) for low, high in ranges])
                    if forgotten:
                        log.info(
                            "%s: %d documents behind the checkpoint removed, to be copied again",
                            self._place,
                            forgotten,
                        )
                case messages.BuildIndexes(documents, segments):
                    self._expect(documents)
                    try:
                        self._writer.build_indexes(log.info, segments)
                    except RunError as refused:
                        error, keyed = str(refused), isinstance(refused, IndexRefused)
            self._channel.send(messages.Done(error, keyed))

    def _prepare(self, fate: str, backup: str) -> None:
        """Every step may be the second try of a writer that died: each is harmless then."""
        if fate == "rename" and not self._target.exists(backup):
            if self._target.exists(self._place):
                self._target.rename(self._place, backup)
        elif fate in ("drop", "resync"):
            self._target.drop(self._place)
        self._target.create(self._place, self._table)

    def _expect(self, documents: int) -> None:
        """Nothing that was acknowledged may be missing, whoever took it away."""
        if missing := self._writer.missing(documents):
            raise RunError(
                f"{self._place}: {missing} of the {documents} documents that were stored for table "
                f"{self._table.name} are not there any more: something else has removed them. "
                "shake-check --repair brings them back; or remove the table's checkpoint and the "
                "collection, to copy it anew"
            )

    def _retried(self, reason: str) -> None:
        self._channel.send(messages.Retried(-1, False, 1, reason))


def _changes(slot: memoryview, runs: list[tuple[int, int]]) -> Changes:
    """The statements of each kind, which stand one behind the other."""
    ends = list(itertools.accumulate((size for size, _ in runs), initial=0))
    return Changes(*(slot[start:end] for start, end in itertools.pairwise(ends)))


def serve(
    channel: ChildChannel, config: Config, details: dict[str, Any], received: Iterator[Any]
) -> None:
    """Entry of the process; ``details``: table, place, epoch, resumed, arenas."""
    CollectionWriter(channel, config, details).serve(received)


if __name__ == "__main__":
    child.main(serve)
