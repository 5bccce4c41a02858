"""A writer process: prepares collections, fills them, builds their indexes, applies changes."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from setproctitle import setproctitle

from shake.checkpoint.kept import KeptItems
from shake.checkpoint.store import Store, attach_store
from shake.config import Config
from shake.errors import IndexRefused, RunError
from shake.farm import writer_messages as messages
from shake.process import entry as child
from shake.process.arena import Arena
from shake.process.diagnosis import diagnose
from shake.process.messages import Ready, Report, unhandled
from shake.targets.choice import open_target
from shake.targets.contract import (
    BuildProgress,
    Changes,
    Fence,
    Location,
    OnExisting,
    Staging,
    Target,
    Writer,
)
from shake.targets.deadline import Deadline
from shake.targets.same_collection import mismatch
from shake.worker.keeping import Keeper

log = logging.getLogger("shake.writer")

#: Seconds between two reports on an index build.
_PROGRESS_SECONDS = 2.0


class WriterMain:
    """The child's main thread: hands slots to ``full.document.concurrency`` inserting threads."""

    def __init__(
        self, channel: messages.WriterChannel, config: Config, set_up: messages.WriterSetup
    ) -> None:
        self._channel = channel
        self._config = config
        self._arenas = [Arena(descriptor, writable=False) for descriptor in set_up.arenas]
        self._deadline = Deadline(set_up.until)
        self._target = open_target(
            config, stop=threading.Event(), on_retry=self._retried, deadline=self._deadline
        )
        self._number, self._process = set_up.number, set_up.process
        self._writers: dict[int, CollectionWriter] = {}
        self._about = threading.local()
        self._waiting: queue.SimpleQueue[messages.Write | messages.Apply] = queue.SimpleQueue()
        #: Orders that come again and again, and are being carried out: kind and table.
        self._repeated: set[tuple[type[messages.Aside], int]] = set()

    def serve(self, received: Iterator[messages.ToWriter]) -> None:
        """Handle the supervisor's messages until it closes the channel."""
        for number in range(self._config.full_document_concurrency):
            threading.Thread(target=self._insert, name=f"insert-{number}", daemon=True).start()
        self._channel.send(Ready())
        for message in received:
            match message:
                case messages.Write() | messages.Apply():
                    self._waiting.put(message)
                case messages.OpenCollection():
                    self._open(message)
                case messages.WriteUntil(moment):
                    self._deadline.extend(moment)
                case Report():
                    queued = f"{self._waiting.qsize()} pages wait for an inserting thread"
                    self._channel.send(diagnose(self._role, queued))
                case messages.Verify() | messages.KeepFences():
                    # In an outage each takes as long as that: threads must not pile up.
                    order = type(message), message.table
                    if order not in self._repeated:
                        self._repeated.add(order)
                        self._begin_order(message)
                case _:
                    self._begin_order(message)

    def _begin_order(self, message: messages.Order | messages.Aside) -> None:
        """Carry it out in a thread: the main thread stays free to notice the end."""
        threading.Thread(target=self._run_order, args=(message,), daemon=True).start()

    def _open(self, message: messages.OpenCollection) -> None:
        keeper = None  # nothing is kept, or is to be kept
        if message.kept or self._config.bad_items == "keep":
            name, wait = message.description.name, self._deadline.wait
            kept = KeptItems(self._store, name, writes=True, wait=wait)
            keeper = Keeper(self._config, message, kept, self._channel.send)
        writer = CollectionWriter(self._target, self._config, message, self._process, keeper)
        self._writers[message.table] = writer
        setproctitle(f"shake: {self._role}")

    @cached_property
    def _store(self) -> Store:
        return attach_store(self._config)

    @property
    def _role(self) -> str:
        namespaces = [writer.namespace for writer in self._writers.values()]
        return messages.writer_name(self._number, namespaces)

    def _insert(self) -> None:
        with child.guarded(self._channel):
            while True:
                message = self._waiting.get()
                slot = self._arenas[message.arena].slot(message.slot)
                writer = self._writer(message.table)
                if isinstance(message, messages.Write):
                    writer.write(slot, message)
                    self._channel.send(messages.Wrote(message.table, message.publication))
                else:
                    skipped = writer.apply(slot, message)
                    self._channel.send(
                        messages.Applied(message.table, message.publication, skipped)
                    )

    def _run_order(self, message: messages.Order | messages.Aside) -> None:
        with child.guarded(self._channel), self._reporting_progress(message):
            if done := self._writer(message.table).carry_out(message):
                self._channel.send(done)
            self._repeated.discard((type(message), message.table))

    @contextlib.contextmanager
    def _reporting_progress(self, message: messages.Order | messages.Aside) -> Iterator[None]:
        """While indexes are built, send the progress."""
        over = threading.Event()

        def report() -> None:
            with contextlib.suppress(OSError):  # the supervisor is gone
                while not over.wait(_PROGRESS_SECONDS):
                    if progress := self._writers[message.table].build_progress():
                        self._channel.send(messages.Building(message.table, *progress))

        if isinstance(message, messages.BuildIndexes):
            threading.Thread(target=report, name="build progress", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _writer(self, table: int) -> CollectionWriter:
        """The writer of a table, as soon as it is allowed to write."""
        self._about.table = table
        self._deadline.wait()
        return self._writers[table]

    def _retried(self, reason: str) -> None:
        self._channel.send(messages.WriteRetried(self._about.table, reason))


class CollectionWriter:
    """Writes one collection, wherever it is stored by now."""

    def __init__(
        self,
        target: Target,
        config: Config,
        opened: messages.OpenCollection,
        process: int,
        keeper: Keeper | None,
    ) -> None:
        if opened.resumed:  # what is there already is our own, maybe older than the item now
            config = replace(config, full_executor_insert_on_dup_update=True)
        self._config = config
        self._target = target
        self._table = opened.description
        self.namespace = opened.namespace
        self._copy = opened.copy
        self._staged = opened.staged
        self._keeper = keeper
        self._numbers = opened.run, process
        self._move_to(opened.location)

    def write(self, slot: memoryview, message: messages.Write) -> None:
        """Store the documents of a slot, and keep what cannot be stored."""
        if self._keeper:
            self._keeper.write(self._writer, slot, message)
        else:
            self._writer.write(slot[: message.length])

    def apply(self, slot: memoryview, message: messages.Apply) -> int:
        """See Writer. Where the collection is another one by now, the error says that."""
        changes = _changes(slot, message.statement_sizes)
        try:
            if self._keeper:
                return self._keeper.apply(self._writer, changes, slot, message)
            return self._writer.apply(changes, message.shard)
        except RunError:
            self._verify()
            raise

    def build_progress(self) -> BuildProgress | None:
        return self._writer.build_progress()

    def carry_out(self, message: messages.Order | messages.Aside) -> messages.Done | None:
        """Carry out an order, or what is not answered: then return None."""
        match message:
            case messages.Sweep():
                if self._keeper:
                    self._keeper.begin()
                if staging := self._staging():
                    staging.sweep(published=True)
            case messages.Verify():
                self._verify()
            case messages.KeepFences(_, shards):
                self._writer.keep_fences(shards)
            case _:
                return self._carry_out(message)
        return None

    def _carry_out(self, order: messages.Order) -> messages.Done:
        """Carry out an order. It can be the second try, after a process that crashed."""
        done = messages.Done(order.table)
        staging = self._staging() if self._staged else None
        match order:
            case messages.Prepare(_, on_existing):
                self._move_to(staging.begin() if staging else self._create(on_existing))
            case messages.Resume(_, collection_uuid, ranges):
                if staging:
                    self._move_to(staging.resume(collection_uuid))
                self._delete_ranges(ranges)
            case messages.DeleteRanges(_, ranges):
                self._delete_ranges(ranges)
            case messages.BuildIndexes(table, documents, segments):
                done = self._build_indexes(table, documents, segments)
            case messages.Publish(_, collection_uuid, on_existing, backup, drops):
                if staging:
                    self._move_to(staging.publish(collection_uuid, on_existing, backup, drops))
                if self._keeper:
                    self._keeper.end_copy()
            case _:
                unhandled(order)
        return done._replace(
            namespace=self._location.namespace, collection_uuid=self._location.collection_uuid
        )

    def _move_to(self, location: Location) -> None:
        """Write there from now on."""
        self._location = location
        fence = Fence(location.collection_uuid, *self._numbers)
        self._writer: Writer = self._target.writer(location.namespace, self._table, fence)

    def _staging(self) -> Staging | None:
        return self._target.staging(self.namespace, self._table, self._copy, log.info)

    def _create(self, on_existing: OnExisting) -> Location:
        """Where the target cannot rename, an existing collection goes before the copy begins."""
        if on_existing in ("drop", "resync"):
            self._target.drop(self.namespace)
        return self._found()

    def _delete_ranges(self, ranges: Sequence[tuple[bytes, bytes]]) -> None:
        if deleted := self._writer.delete_ranges(ranges):
            log.info(
                "%s: %d documents behind the checkpoint removed, to be copied again",
                self.namespace,
                deleted,
            )

    def _build_indexes(self, table: int, documents: int, segments: int) -> messages.Done:
        if not self._location.collection_uuid:
            self._move_to(self._found())
        self._expect(documents)
        error, has_key_index = "", True
        try:
            self._writer.build_indexes(log.info, segments)
        except RunError as refused:
            error, has_key_index = str(refused), isinstance(refused, IndexRefused)
        return messages.Done(table, error, has_key_index)

    def _found(self) -> Location:
        """The collection, made where it is missing, so that all commands can name its UUID."""
        namespace = self._location.namespace
        if self._target.find(namespace, self._table) is None:
            self._target.create(namespace, self._table)
        found = self._target.find(namespace, self._table)
        return Location(namespace, found.collection_uuid if found else "")

    def _expect(self, documents: int) -> None:
        """Raises RunError where documents that were acknowledged are missing."""
        if self._keeper:
            documents -= self._keeper.counted
        if missing := self._writer.missing(documents):
            raise RunError(
                f"{self._location.namespace}: {missing} of the {documents} documents that were "
                f"stored for table {self._table.name} are not there any more: something else has "
                f"removed them; {self._config.start_over(self._table.name)}"
            )

    def _verify(self) -> None:
        if not self._location.collection_uuid:
            return
        found = self._target.find(self._location.namespace, self._table)
        if problem := mismatch(self._config, self._table.name, self._location, found):
            raise RunError(problem)


def _changes(slot: memoryview, sizes: Sequence[tuple[int, int]]) -> Changes:
    """The statements of each kind, which stand one behind the other."""
    ends = list(itertools.accumulate((size for size, _ in sizes), initial=0))
    return Changes(*(slot[start:end] for start, end in itertools.pairwise(ends)))


if __name__ == "__main__":
    child.main(messages.WRITER, WriterMain)
