"""Keeps the items of a table that cannot be stored, and lets them go when they are stored."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable

from shake import codec
from shake.checkpoint.kept import KeptItem, KeptItems, entry_id
from shake.clock import boot_clock
from shake.codec import bad_items
from shake.codec.bad_items import UnstoredItem
from shake.config import Config
from shake.farm import writer_messages as messages
from shake.status.figures import many, utc
from shake.targets.contract import Changes, Refusal, Writer
from shake.worker.kept_index import KeptIndex

log = logging.getLogger("shake.writer")


class Keeper:
    """Keeps bad items of one table beside the checkpoints, from pages and changes in a slot.

    What is kept is durable before the slot counts as acknowledged. Doing it again is harmless.
    Where ``bad.items`` is ``stop``, kept items are only removed, never added. Thread-safe.
    """

    def __init__(
        self,
        config: Config,
        opened: messages.OpenCollection,
        kept: KeptItems,
        report: Callable[[messages.Kept], None],
    ) -> None:
        self._table = opened.table
        self._name = opened.description.name
        self._stamp = opened.copy.stamp
        self._by_key = config.id_mode == "key"
        keys = opened.description.keys
        self._options = codec.Options.of(config, keys)
        self._change_options = codec.ChangeOptions.of(
            config,
            keys,
            sharded=config.sharded,
            upsert=config.increase_executor_upsert,
        )
        # Else a number that changes as a double can be stored under the key of a kept item.
        self._shares_keys = not (
            self._by_key or self._options.rejects or self._options.convert != "mchange"
        ) and any(key.type == "N" for key in keys)
        self._kept = kept
        self._place = config.bad_of(self._name)
        self._report = report
        self._index: KeptIndex | None = None
        self._lock = threading.Lock()

    @property
    def counted(self) -> int:
        """How many items of this copy the target has refused."""
        self._kept.reload()  # other writers of this copy have kept items, too
        return sum(item.counted and item.stamp == self._stamp for item in self._kept.items())

    def begin(self) -> None:
        """Void what an earlier process has sent, and what is still to arrive."""
        self._kept.sweep()

    # ---- pages and changes

    def write(self, writer: Writer, slot: memoryview, message: messages.Write) -> None:
        """Store the documents of a slot, and keep what cannot be stored."""
        if message.first:
            self._forget()
        options, size = self._options, message.raw_answer.size
        documents = slot[: message.length]
        body = slot[message.length : message.length + size].tobytes()
        origin = f"segment {message.segment}"
        older = writer if self._by_key else None  # else there is no index on the key yet
        kept = self._keep(bad_items.items(body, options, _rejects(message)), origin, older)
        refused: list[Refusal] | None = [] if size else None
        writer.write(documents, refused)
        if refused:
            bad = bad_items.refused_items(body, options, refused)
            kept |= self._keep(bad, origin, older, counted=True)
        if not self._shares_keys:
            self._let_go(self._known().in_documents(documents) - kept)

    def apply(
        self, writer: Writer, changes: Changes, slot: memoryview, message: messages.Apply
    ) -> int:
        """Carry out the statements of a slot, and keep what cannot be stored."""
        options, size = self._change_options, message.raw_answer.size
        used = sum(map(len, changes))
        body = slot[used : used + size].tobytes()
        origin = f"shard {message.shard}"
        kept = self._keep(bad_items.changes(body, options, _rejects(message)), origin, writer)
        refused: list[Refusal] | None = [] if size else None
        skipped = writer.apply(changes, message.shard, refused)
        if refused:
            kept |= self._keep(bad_items.refused_changes(body, options, refused), origin, writer)
        found = self._known().in_changes(changes) - kept
        if skipped:
            found -= self._left_out(writer, found, changes)
        self._let_go(found)
        return skipped

    def _left_out(self, writer: Writer, found: set[str], changes: Changes) -> set[str]:
        """Which were not stored: a MODIFY of what the target lacks (increase.executor.upsert)."""
        updates = Changes(changes.updates, memoryview(b""), memoryview(b""))
        modified = found & self._known().in_changes(updates)
        keys = {one.id: json.loads(one.key) for one in self._kept.items() if one.id in modified}
        return {one for one, key in keys.items() if not writer.holds(key)}

    def end_copy(self) -> None:
        """The copy has the final name: what was kept of an earlier one is void."""
        self._kept.reload()
        earlier = (item.id for item in self._kept.items() if item.stamp != self._stamp)
        self._let_go(earlier, "of an earlier copy")
        self._kept.sweep()

    # ---- what is kept

    def _keep(
        self, bad: list[UnstoredItem], origin: str, older: Writer | None, *, counted: bool = False
    ) -> set[str]:
        """Keep items, in their order; return their entry_ids.

        ``older`` is asked whether the target has an older document.
        """
        for one in bad:
            key = json.loads(one.key)
            if one.item is None:  # the removal of an item that cannot be stored either
                self._let_go([entry_id(key)], "deleted at the source")
                continue
            number = f", sequence number {one.sequence}" if one.sequence else ""
            self._kept.put(
                KeptItem(
                    table=self._name,
                    key=one.key,
                    item=one.item,
                    reason=one.reason,
                    origin=f"{origin}{number}",
                    time=utc(time.time()),
                    older=older.holds(key) if older else False,
                    stamp=self._stamp,
                    counted=counted,
                )
            )
            what = f"table {self._name}: item {one.key}"
            log.warning("%s cannot be stored, and is kept in %s: %s", what, self._place, one.reason)
        if bad:
            self._changed()
        return {entry_id(json.loads(one.key)) for one in bad if one.item is not None}

    def _let_go(self, keys: Iterable[str], why: str = "stored now") -> None:
        gone = [key for key in keys if key in self._kept]
        for key in gone:
            self._kept.remove(key)
        if gone:
            items = many(len(gone), "kept item")
            log.info("table %s: removed %s from %s: %s", self._name, items, self._place, why)
            self._changed()

    def _forget(self) -> None:
        """Others can have changed what is kept."""
        self._kept.reload()
        with self._lock:
            self._index = None

    def _changed(self) -> None:
        moment = boot_clock()
        self._forget()
        self._report(messages.Kept(self._table, self._kept.tally, moment))

    def _known(self) -> KeptIndex:
        """An index of the kept items, made again when they have changed."""
        with self._lock:
            if self._index is None:
                keys = [json.loads(item.key) for item in self._kept.items()]
                self._index = KeptIndex(self._change_options, keys)
            return self._index


def _rejects(message: messages.Write | messages.Apply) -> list[codec.Reject]:
    return [codec.Reject(*one) for one in message.raw_answer.rejects]
