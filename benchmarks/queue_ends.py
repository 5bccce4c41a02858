"""The three processes of the queue's benchmark: a farm's channels and arena, and nothing else.

As in the farm, the main thread of each child takes messages, and another one does the work.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from setproctitle import setproctitle

from shake.config import Config
from shake.farm import worker_messages, writer_messages
from shake.process import arena
from shake.process import entry as child
from shake.process.arena import Arena
from shake.process.channel import ChildChannel
from shake.process.child import Child
from shake.process.loop import Loop
from shake.process.messages import Failed, Ready, Start
from shake.process.role import Role
from shake.process.site import HERE


class EndSetup(NamedTuple):
    """Descriptor of the memory, bytes of a page, and whether its bytes are touched."""

    arena: int
    length: int
    touch: bool


ToEnd: TypeAlias = worker_messages.Free | writer_messages.Write
FromEnd: TypeAlias = worker_messages.Page | writer_messages.Wrote
ROLE = Role[EndSetup, ToEnd, FromEnd]("benchmarks.queue_ends", EndSetup, ToEnd, FromEnd)
EndChannel: TypeAlias = ChildChannel[EndSetup, ToEnd, FromEnd]


class Hub:
    """The supervisor's end: passes each page on to the writer, each free slot to the worker."""

    def __init__(self, slots: int, pages: int, length: int, *, touch: bool) -> None:
        self.loop = Loop()
        self.wrote = self._published = 0
        self._pages = pages
        self._slot_of: dict[int, int] = {}
        self._free = list(range(slots))
        memory = arena.create(slots)
        end = EndSetup(memory, length, touch)
        self._worker = self._child("worker 0", end, self._page)
        self._writer = self._child("writer 0", end, self._answer)
        self._ready = 0

    def run(self) -> None:
        """Until every page is written."""
        self.loop.run(lambda: self._ready == 2 and self.wrote == self._pages)
        for each in (self._worker, self._writer):
            each.dismiss()
            each.reap()

    def _child(
        self, role: str, end: EndSetup, handle: Callable[[Any], None]
    ) -> Child[EndSetup, ToEnd, FromEnd]:
        settings = Config(id="bench", target_address="mongodb://nowhere").as_settings()
        return Child(
            self.loop,
            HERE.launch(ROLE, (end.arena,)),
            Start(role, settings),
            end,
            on_message=lambda message: self._receive(message, handle),
            on_exit=lambda how: sys.exit(f"{role} died: {how}"),
        )

    def _receive(self, message: Any, handle: Any) -> None:
        if isinstance(message, Failed):
            sys.exit(message.text)
        if not isinstance(message, Ready):
            handle(message)
            return
        self._ready += 1
        while self._ready == 2 and self._free:
            self._publish(self._free.pop())

    def _publish(self, slot: int) -> None:
        """Have the worker fill a slot, if a page is left."""
        if self._published < self._pages:
            self._slot_of[self._published] = slot
            self._published += 1
            self._worker.send(worker_messages.Free(slot))

    def _page(self, page: worker_messages.Page) -> None:
        self._writer.send(writer_messages.Write(0, page.lease, 0, page.slot, page.length))

    def _answer(self, wrote: writer_messages.Wrote) -> None:
        self.wrote += 1
        self._publish(self._slot_of.pop(wrote.publication))


class End:
    """A worker that only fills slots, or a writer that only reads them, in its own thread."""

    def __init__(self, channel: EndChannel, config: Config, set_up: EndSetup) -> None:
        self._waiting: queue.SimpleQueue[ToEnd] = queue.SimpleQueue()
        self._channel = channel
        self._arena = Arena(set_up.arena, writable=True)
        self._page = bytearray(set_up.length)
        self._touch = set_up.touch
        threading.Thread(target=self._run, daemon=True).start()

    def serve(self, received: Iterator[ToEnd]) -> None:
        self._channel.send(Ready())
        for message in received:
            self._waiting.put(message)

    def _run(self) -> None:
        pages = 0
        with child.guarded(self._channel):
            while True:
                match self._waiting.get():
                    case worker_messages.Free(slot):
                        if self._touch:
                            self._arena.slot(slot)[: len(self._page)] = self._page
                        fields = (pages, slot, len(self._page), 1000, True, b'{"pk":{"S":""}}')
                        pages += 1
                        self._channel.send(worker_messages.Page(*fields, 1000, 128.0))
                    case writer_messages.Write(_, page, _, slot, length):
                        if self._touch:
                            self._page[:] = self._arena.slot(slot)[:length]
                        self._channel.send(writer_messages.Wrote(0, page))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_ends", description=__doc__)
    parser.add_argument("--slots", type=int, default=6)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--length", type=int, default=1 << 20, help="bytes of a page")
    parser.add_argument("--touch", action="store_true", help="write and read them")
    options = parser.parse_args()
    setproctitle("shake: supervisor")
    Hub(options.slots, options.pages, options.length, touch=options.touch).run()


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].isdigit():  # the file descriptor that a child is given
        child.main(ROLE, End)
    else:
        main()
