"""An arena: one worker's slots in shared memory, made by the supervisor, read by the writers."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections.abc import Callable

from shake.errors import Stopped

#: The largest document that MongoDB stores is 16 MiB, so any document fits an empty slot.
#: Memory is committed as it is touched: a slot that only ever saw 1 MB pages holds about that.
#: https://www.mongodb.com/docs/manual/reference/limits/#mongodb-limit-BSON-Document-Size
SLOT_BYTES = 16 * 1024 * 1024

#: Slots of each scanner: one being filled, one being written, one on its way.
SLOTS_PER_SCANNER = 3

#: Slots that each reader of a shard may hold: one being applied, one on its way.
SLOTS_PER_READER = 2

#: What a slot keeps committed when it is freed; the rest of an unusually large page goes back.
_KEPT_BYTES = 4 * 1024 * 1024


def create(slots: int) -> int:
    """Make the memory for ``slots`` slots; return its file descriptor.

    The memory has no name. So the system frees it when the last process that uses it ends, even
    after a crash. It does not count against the size of /dev/shm.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("shake-arena")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, slots * SLOT_BYTES)
    return descriptor


class Arena:
    """A mapping of an arena. Who may touch which slot is agreed by messages, never by locks."""

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        self._map = mmap.mmap(
            descriptor,
            os.fstat(descriptor).st_size,
            flags=mmap.MAP_SHARED,
            prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0),
        )
        self._view = memoryview(self._map)

    def slot(self, number: int) -> memoryview:
        return self._view[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]

    def trim(self, number: int, used: int) -> None:
        """Give the memory of a large page back to the system (the slot is free)."""
        if used > _KEPT_BYTES and hasattr(mmap, "MADV_REMOVE"):
            start = number * SLOT_BYTES + _KEPT_BYTES
            self._map.madvise(mmap.MADV_REMOVE, start, SLOT_BYTES - _KEPT_BYTES)


class Slots:
    """The free slots that the shard readers of a worker share.

    While the target of a table does not answer, the slots of its readers stay filled. The readers
    of other tables must continue. So a table holds at most as many slots as are free: of 32 slots
    the first table gets 16, the next one 8. One slot is kept for a reader that needs it for a
    moment only.
    Source: Choudhury, Hahne, "Dynamic queue length thresholds for shared-memory packet switches"
    """

    def __init__(self) -> None:
        self._free: list[int] = []  # the last is the next: its memory is committed already
        self._held: dict[int, tuple[int, int]] = {}  # by slot: for which table and lease
        self._changed = threading.Condition()

    def give(self, slot: int) -> None:
        """A slot is free."""
        with self._changed:
            self._held.pop(slot, None)
            self._free.append(slot)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait notice that they are to leave."""
        with self._changed:
            self._changed.notify_all()

    def take(self, table: int, lease: int, leaving: Callable[[], bool]) -> int:
        """A slot that will be held until it is applied, as soon as there is one; or Stopped."""
        with self._changed:
            slot = self._wait(lambda: self._may_hold(table, lease), leaving)
            self._held[slot] = table, lease
            return slot

    def borrow(self, leaving: Callable[[], bool]) -> int:
        """A slot for a moment."""
        with self._changed:
            return self._wait(lambda: bool(self._free), leaving)

    def _may_hold(self, table: int, lease: int) -> bool:
        held = self._held.values()
        of_table = sum(one == table for one, _ in held)
        of_lease = sum(one == lease for _, one in held)
        return of_lease < SLOTS_PER_READER and of_table + 1 < len(self._free)

    def _wait(self, ready: Callable[[], bool], leaving: Callable[[], bool]) -> int:
        self._changed.wait_for(lambda: ready() or leaving())
        if not ready():
            raise Stopped
        return self._free.pop()
