"""Memory for the pages of the source that a process holds at the same time: few, used again.

New memory for each page costs the kernel more time than all else that is done with a page.
"""

from __future__ import annotations

import contextlib
import mmap
import queue
from collections.abc import Callable, Iterator

from shake.check.documents import ROOM
from shake.source.connection import Buffer

#: Pages that all processes together hold at the same time; each holds one at least.
_PAGES = 8


class PageRoom:
    """Memory for one page: its ``answer``, and the ``documents`` made of that.

    Both keep what the largest page has needed.
    """

    def __init__(self) -> None:
        self.answer = Buffer()
        self.documents = memoryview(mmap.mmap(-1, ROOM))  # no memory until it is written


class PageRooms:
    """The rooms of one of so many processes. Thread-safe.

    Threads that have no room wait for one, or for their answer.
    """

    def __init__(self, processes: int) -> None:
        self._free: queue.LifoQueue[PageRoom] = queue.LifoQueue()
        for _ in range(max(1, _PAGES // processes)):
            self._free.put(PageRoom())

    def clear(self) -> None:
        """Give the memory of free rooms back to the system."""
        for _ in range(self._free.qsize()):
            with contextlib.suppress(queue.Empty):
                self._free.get_nowait()
                self._free.put(PageRoom())

    @contextlib.contextmanager
    def lease(self) -> Iterator[Callable[[], PageRoom]]:
        """Gives a room, for which the first call waits. It is free again after the block."""
        taken: list[PageRoom] = []

        def room() -> PageRoom:
            if not taken:
                taken.append(self._free.get())
            return taken[0]

        try:
            yield room
        finally:
            for one in taken:
                self._free.put(one)
