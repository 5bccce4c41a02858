"""An arena: one worker's slots in shared memory, made by the supervisor, read by the writers."""

from __future__ import annotations

import mmap
import os
import tempfile

#: The largest document that MongoDB stores is 16 MiB, so any document fits an empty slot.
#: Memory is committed as it is touched: a slot that only ever saw 1 MB pages holds about that.
#: https://www.mongodb.com/docs/manual/reference/limits/#mongodb-limit-BSON-Document-Size
SLOT_BYTES = 16 * 1024 * 1024

#: Slots of each lane: one being filled, one being written, one on its way.
SLOTS_PER_LANE = 3

#: Slots of each reader of a shard: one being applied, one on its way.
SLOTS_PER_READER = 2

#: What a slot keeps committed when it is freed; the rest of an unusually large page goes back.
_KEPT_BYTES = 4 * 1024 * 1024


def create(slots: int) -> int:
    """Make the memory for ``slots`` slots; return its file descriptor.

    It has no name, so it goes with the last process that holds it, however that one ends, and it
    does not count against the size of /dev/shm.
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
        """The whole of one slot."""
        return self._view[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]

    def trim(self, number: int, used: int) -> None:
        """Give the memory of a large page back to the system (the slot is free)."""
        if used > _KEPT_BYTES and hasattr(mmap, "MADV_REMOVE"):
            start = number * SLOT_BYTES + _KEPT_BYTES
            self._map.madvise(mmap.MADV_REMOVE, start, SLOT_BYTES - _KEPT_BYTES)
