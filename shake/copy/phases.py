"""Takes each table through its phases, from the existing collection's fate to the last index."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from shake.checkpoint.records import TableState
from shake.config import Config
from shake.copy.table import CopiedTable, Phase
from shake.farm import messages
from shake.farm.checkpointer import Checkpointer
from shake.farm.lock_guard import LockGuard
from shake.farm.writer import TableWriter
from shake.plan.plan import TablePlan
from shake.targets.capabilities import capabilities

log = logging.getLogger("shake.farm")


class CopyPhases:
    """Starts as many tables at once as allowed; each phase sends one order to the table's writer.

    A phase that changes the target begins only when the state before it is durable. So a restart
    always knows what was intended. ``start_writer`` starts the writer of a table and adds it to
    ``writers``. ``copying`` is called when a table's segments can be leased. ``verify`` is called
    when its scan has ended, with the function to call if the source table is still the same.
    ``done`` is called when a table is done or broken.
    """

    def __init__(
        self,
        config: Config,
        copies: list[CopiedTable],
        writers: dict[int, TableWriter],
        checkpointer: Checkpointer,
        fence: LockGuard,
        *,
        clock: Callable[[], float],
        start_writer: Callable[[CopiedTable], TableWriter],
        copying: Callable[[], None],
        verify: Callable[[TablePlan, Callable[[], None]], None],
        done: Callable[[CopiedTable], None],
    ) -> None:
        self._config = config
        self._copies = copies
        self._writers = writers
        self._checkpointer = checkpointer
        self._fence = fence
        self._clock = clock
        self._start_writer = start_writer
        self._copying = copying
        self._verify = verify
        self._done = done
        self._draining = False
        self._left = len(copies)
        # With id.mode = key, and on DynamoDB, what is written twice is the same document.
        self._by_position = capabilities(config).deletes_ranges and not config.id_rule.by_key

    @property
    def over(self) -> bool:
        return self._left == 0

    def drain(self) -> None:
        """Begin no table more."""
        self._draining = True

    def begin_tables(self) -> None:
        """Begin tables until ``full.concurrency`` are at work."""
        for copy in self._copies if not self._draining else ():
            if copy.phase is not Phase.WAITING or copy.number in self._writers:
                continue  # it has begun, or does when its first state is durable
            if not copy.plan.copies:
                self._show(copy, Phase.DONE)
                self._done(copy)
            elif len(self._writers) < self._config.full_concurrency:
                self._begin(copy)

    def done(self, copy: CopiedTable, done: messages.Done) -> None:
        """The writer has carried out the order of the table's phase.

        ``done.error`` names the indexes that the target refused: that does not undo the copy. Only
        a collection that keeps each key to one document gets its final name.
        """
        self.note(copy, done.collection)
        match copy.phase:
            case Phase.PREPARING if self._config.sync_schema_only:
                self._advance(copy, TableState.INDEXING, Phase.INDEXING)
            case Phase.PREPARING:
                self._advance(copy, TableState.COPYING, Phase.COPYING)
            case Phase.CLEANING if copy.record.state is TableState.INDEXING:
                self._enter(copy, Phase.INDEXING)
            case Phase.CLEANING:
                copy.cleaned()
                self._enter(copy, Phase.COPYING)
            case Phase.SETTLING:
                self._advance(copy, TableState.INDEXING, Phase.INDEXING)
            case Phase.INDEXING:
                self._indexed(copy, done)
            case Phase.PUBLISHING if copy.error:
                self._advance(copy, TableState.UNINDEXED, Phase.BROKEN)
            case Phase.PUBLISHING:
                self._advance(copy, TableState.DONE, Phase.DONE)

    def _indexed(self, copy: CopiedTable, done: messages.Done) -> None:
        copy.error, copy.keyed = done.error, done.keyed
        if done.error:
            log.error("%s", done.error)
        published = copy.record.state is TableState.UNINDEXED
        if not done.keyed or (published and done.error):
            self._enter(copy, Phase.BROKEN)
        elif published:
            self._advance(copy, TableState.DONE, Phase.DONE)
        else:
            self._enter(copy, Phase.PUBLISHING)

    def note(self, copy: CopiedTable, collection: str) -> None:
        """Save which collection the table is stored in, before anything rests on it."""
        if collection and collection != copy.identity.collection:
            before, copy.identity = copy.identity, replace(copy.identity, collection=collection)
            self._checkpointer.save_identity(copy.record, before, copy.identity)

    def copied(self, copy: CopiedTable) -> None:
        """The target has every page of a table."""
        if copy.phase is Phase.COPYING:
            self._verify(copy.plan, lambda: self._verified(copy))

    def _verified(self, copy: CopiedTable) -> None:
        """The source table is still the one that was copied."""
        if not self._draining:
            self._enter(copy, Phase.SETTLING)

    def _begin(self, copy: CopiedTable) -> None:
        self._writers[copy.number] = self._start_writer(copy)
        first = {
            TableState.PREPARING: Phase.PREPARING,
            TableState.COPYING: Phase.CLEANING,
            TableState.INDEXING: Phase.CLEANING,
            TableState.UNINDEXED: Phase.INDEXING,
        }[copy.record.state]
        self._checkpointer.save_run(copy, lambda: self._enter(copy, first))

    def _advance(self, copy: CopiedTable, state: TableState, phase: Phase) -> None:
        """Enter a phase once the table's new state is durable."""
        self._checkpointer.save_segments([copy])
        self._checkpointer.save_table(copy.record_as(state), lambda: self._enter(copy, phase))

    def _enter(self, copy: CopiedTable, phase: Phase) -> None:
        self._show(copy, phase)
        match phase:
            case Phase.COPYING if copy.copied:
                self.copied(copy)
            case Phase.COPYING:
                self._copying()
            case Phase.DONE | Phase.BROKEN:
                if writer := self._writers.pop(copy.number, None):
                    writer.close()
                self.begin_tables()
                if not self._draining:
                    self._done(copy)
            case _:
                order = self._order(copy, phase)
                self._fence.run(lambda: self._writers[copy.number].order(order))

    def _show(self, copy: CopiedTable, phase: Phase) -> None:
        copy.enter(phase, self._clock())
        self._left -= copy.over
        log.info("table %s: %s", copy.plan.table.name, phase.name.lower())

    def _order(self, copy: CopiedTable, phase: Phase) -> messages.Order:
        table = copy.number
        match phase:
            case Phase.PREPARING:
                return messages.Prepare(table, copy.record.fate)
            case Phase.CLEANING:
                # What earlier runs have left behind the positions that are saved.
                indexing = copy.record.state is TableState.INDEXING
                tails = [] if indexing else self._tails(copy, copy.record.run)
                return messages.Resume(table, copy.identity.collection, tails)
            case Phase.INDEXING:
                documents = sum(one.documents for one in copy.stored())
                if copy.record.state is TableState.UNINDEXED:
                    documents = 0  # changes may have removed what was copied
                return messages.BuildIndexes(table, documents, copy.record.segments)
            case Phase.PUBLISHING:
                record = copy.record
                return messages.Publish(
                    table,
                    copy.identity.collection,
                    record.fate,
                    record.backup,
                    list(record.drops),
                )
            case _:  # at the end of the copy, what this run has left too
                return messages.Forget(table, self._tails(copy, copy.record.run + 1))

    def _tails(self, copy: CopiedTable, before: int) -> list[tuple[bytes, bytes]]:
        return copy.tails(before=before) if self._by_position else []
