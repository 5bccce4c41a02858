"""Takes each table through its phases, from the staging collection to its final name."""

from __future__ import annotations

import logging
from dataclasses import replace

from shake.copy.scheduler import CopyScheduler, CopyWriters
from shake.copy.table import CopiedTable
from shake.farm import writer_messages as messages
from shake.farm.farm import Farm
from shake.phase import Phase

log = logging.getLogger("shake.farm")


class CopyPhases:
    """Copies as many tables at once as allowed; a phase sends one order to a table's first writer.

    A phase that changes the target begins only when the phase before it is durable. So a restart
    always finds what was intended. ``writers`` are the running writers by table number.
    """

    def __init__(
        self,
        farm: Farm,
        copies: list[CopiedTable],
        writers: dict[int, CopyWriters],
        scheduler: CopyScheduler,
    ) -> None:
        self._config, self._loop, self._task = farm.config, farm.loop, farm.task
        self._checkpointer = farm.checkpointer
        self._copies = copies
        self._writers = writers
        self._scheduler = scheduler
        self._left = len(copies)
        # With id.mode = key, and on DynamoDB, what is written twice is the same document.
        self._by_position = (
            self._config.capabilities.deletes_ranges and not self._config.id_rule.by_key
        )

    @property
    def over(self) -> bool:
        return self._left == 0

    def begin_tables(self) -> None:
        """Begin tables until ``full.concurrency`` are at work."""
        for copy in self._copies if not self._task.draining else ():
            if copy.phase is not Phase.WAITING or copy.number in self._writers:
                continue  # it has begun, or does when its first state is durable
            if not copy.plan.copies:
                self._set_phase(copy, Phase.DONE)
                self._task.copied(copy.number)
            elif len(self._writers) < self._config.full_concurrency:
                self._begin(copy)

    def carried_out(self, table: int, done: messages.Done) -> None:
        """The writer has carried out the order of the table's phase.

        ``done.error`` names the indexes that the target refused: that does not undo the copy. Only
        a collection that keeps each key to one document gets its final name. A rename can give the
        collection another UUID. Then the order is repeated with that, once it is saved.
        """
        if self._task.draining:
            return
        copy = self._copies[table]
        changed = self.save_collection(copy, done.collection_uuid)
        match copy.phase:
            case Phase.CLEANING | Phase.PUBLISHING if changed:
                self._checkpointer.save_table(copy.record, lambda: self._repeat(copy))
            case Phase.PREPARING if self._config.sync_schema_only:
                self._advance(copy, Phase.INDEXING)
            case Phase.PREPARING:
                self._advance(copy, Phase.COPYING)
            case Phase.CLEANING if copy.saved_phase is Phase.INDEXING:
                self._enter(copy, Phase.INDEXING)
            case Phase.CLEANING:
                copy.cleaned()
                self._enter(copy, Phase.COPYING)
            case Phase.TRIMMING:
                self._advance(copy, Phase.INDEXING)
            case Phase.INDEXING:
                self._indexed(copy, done)
            case Phase.PUBLISHING if copy.error:
                self._advance(copy, Phase.BROKEN)
            case Phase.PUBLISHING:
                self._advance(copy, Phase.DONE)

    def _indexed(self, copy: CopiedTable, done: messages.Done) -> None:
        copy.error, copy.has_key_index = done.error, done.has_key_index
        if done.error:
            log.error("%s", done.error)
        published = copy.saved_phase is Phase.BROKEN
        if not done.has_key_index or (published and done.error):
            self._enter(copy, Phase.BROKEN)
        elif published:
            self._advance(copy, Phase.DONE)
        else:
            self._enter(copy, Phase.PUBLISHING)

    def save_collection(self, copy: CopiedTable, collection_uuid: str) -> bool:
        """Save which collection the table is stored in; return whether it has changed.

        What is saved after it is durable later.
        """
        if not collection_uuid or collection_uuid == copy.identity.collection_uuid:
            return False
        before = copy.identity
        copy.identity = replace(before, collection_uuid=collection_uuid)
        self._checkpointer.save_identity(copy.record, before, copy.identity)
        return True

    def _repeat(self, copy: CopiedTable) -> None:
        """Give the order of the table's phase once more."""
        if not self._task.draining:
            self._order(copy)

    def all_stored(self, copy: CopiedTable) -> None:
        """The target has every page of a table."""
        if copy.phase is Phase.COPYING:
            self._writers[copy.number].end_others()
            self._task.verify(copy.plan, lambda: self._verified(copy))

    def _verified(self, copy: CopiedTable) -> None:
        """The source table is still the one that was copied."""
        if not self._task.draining:
            self._enter(copy, Phase.TRIMMING)

    def _begin(self, copy: CopiedTable) -> None:
        staged = copy.record.staged and not copy.record.published
        first = self._task.start_writer(copy.number, copy.record.run, staged, self)
        self._writers[copy.number] = CopyWriters(first, self._task.start_another_writer)
        phase = {
            Phase.PREPARING: Phase.PREPARING,
            Phase.COPYING: Phase.CLEANING,
            Phase.INDEXING: Phase.CLEANING,
            Phase.BROKEN: Phase.INDEXING,
        }[copy.saved_phase]
        self._checkpointer.save_run(copy, lambda: self._enter(copy, phase))

    def _advance(self, copy: CopiedTable, phase: Phase) -> None:
        """Enter a phase once it is durable that the table has come so far."""
        self._checkpointer.save_segments([copy])
        copy.record = copy.record.moved(phase)
        self._checkpointer.save_table(copy.record, lambda: self._enter(copy, phase))

    def _enter(self, copy: CopiedTable, phase: Phase) -> None:
        self._set_phase(copy, phase)
        match phase:
            case Phase.COPYING if copy.copied:
                self.all_stored(copy)
            case Phase.COPYING:
                self._scheduler.assign()
            case Phase.DONE | Phase.BROKEN:
                if writers := self._writers.pop(copy.number, None):
                    writers.close()
                self.begin_tables()
                if not self._task.draining:
                    self._task.copied(copy.number)
            case _:
                self._order(copy)

    def _set_phase(self, copy: CopiedTable, phase: Phase) -> None:
        copy.enter(phase, self._loop.clock())
        self._left -= copy.over
        log.info("table %s: %s", copy.plan.table.name, phase.value)

    def _order(self, copy: CopiedTable) -> None:
        """Give the order of the table's phase."""
        self._writers[copy.number].first_writer.order(self._order_of(copy))

    def _order_of(self, copy: CopiedTable) -> messages.Order:
        table = copy.number
        match copy.phase:
            case Phase.PREPARING:
                return messages.Prepare(table, copy.record.on_existing)
            case Phase.CLEANING:
                # What earlier runs have left behind the positions that are saved.
                indexing = copy.saved_phase is Phase.INDEXING
                tails = [] if indexing else self._tails(copy, copy.record.run)
                return messages.Resume(table, copy.identity.collection_uuid, tails)
            case Phase.INDEXING:
                documents = sum(one.documents for one in copy.acknowledged())
                if copy.saved_phase is Phase.BROKEN:
                    documents = 0  # changes may have removed what was copied
                return messages.BuildIndexes(table, documents, copy.record.segments)
            case Phase.PUBLISHING:
                record = copy.record
                return messages.Publish(
                    table,
                    copy.identity.collection_uuid,
                    record.on_existing,
                    record.backup,
                    list(record.drops),
                )
            case Phase.TRIMMING:  # what this run has left too
                return messages.DeleteRanges(table, self._tails(copy, copy.record.run + 1))
            case _:
                raise AssertionError(f"phase {copy.phase.name} needs no order")

    def _tails(self, copy: CopiedTable, before: int) -> list[tuple[bytes, bytes]]:
        return copy.tails(before=before) if self._by_position else []
