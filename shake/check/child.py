"""The main function of a child process of the check: does pieces of work, several at a time."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from itertools import count

from shake.check import messages
from shake.check.findings import Difference
from shake.check.gate import Unfinished
from shake.check.part import CheckPart, connect
from shake.check.sides import Advanced
from shake.check.state import messages_of
from shake.config import Config
from shake.process import entry as child
from shake.process.allocator import release_free_memory
from shake.source.endpoint import Credentials

#: Seconds between two messages about the progress of this process.
_EVERY = 0.25


class Parent:
    """Sends what is found to the parent, and how far the work is: a Listener."""

    def __init__(self, channel: messages.CheckChannel) -> None:
        self._channel = channel
        self._counting = threading.Lock()
        self._unsent = Advanced()
        self._sent = 0.0
        self._numbers = count()
        self._settling: dict[int, threading.Event] = {}

    def differs(self, difference: Difference) -> None:
        self._channel.send(difference)

    def write_line(self, line: str) -> None:
        self._channel.send(messages.WriteLine(line))

    def settle(self) -> None:
        number, event = next(self._numbers), threading.Event()
        self._settling[number] = event
        self._channel.send(messages.Settle(number))
        event.wait()

    def settled(self, number: int) -> None:
        """What was sent before the Settle of this number is in the report."""
        self._settling.pop(number).set()

    def advanced(self, more: Advanced) -> None:
        with self._counting:
            self._unsent = self._unsent.plus(more)
        if time.monotonic() > self._sent + _EVERY:
            self.flush()

    def flush(self) -> None:
        """Send what is not sent yet."""
        with self._counting:
            self._sent = time.monotonic()
            unsent, self._unsent = self._unsent, Advanced()
        if any(unsent):
            self._channel.send(unsent)


class Checker:
    """The child's main thread: hands pieces of work to its other threads."""

    def __init__(
        self, channel: messages.CheckChannel, config: Config, set_up: messages.CheckSetup
    ) -> None:
        self._channel = channel
        self._parent = Parent(channel)
        self._threads = config.full_document_parser
        self._saving = threading.Lock()
        self._credentials = set_up.credentials
        self._opened = connect(config, set_up.endpoint, lambda: self._credentials, set_up.repair)
        self._work: queue.SimpleQueue[tuple[CheckPart, messages.Work]] = queue.SimpleQueue()

    def serve(self, received: Iterator[messages.ToChecker]) -> None:
        """Handle the parent's messages until it closes the channel."""
        for _ in range(self._threads):
            threading.Thread(target=self._run, daemon=True).start()
        part: CheckPart | None = None
        for message in received:
            match message:
                case Credentials():
                    self._credentials = message
                case messages.Settled(number):
                    self._parent.settled(number)
                case messages.Save(durable):
                    assert part is not None
                    # Not in this thread, which must go on answering.
                    threading.Thread(target=self._save, args=(part, durable), daemon=True).start()
                case messages.Open():
                    part = None
                    part = CheckPart(self._opened, message, self._parent)
                case _:
                    assert part is not None
                    self._work.put((part, message))

    def _save(self, part: CheckPart, durable: int) -> None:
        release_free_memory()  # the parent needs some meanwhile
        with child.guarded(self._channel), contextlib.suppress(Unfinished), self._saving:
            for message in messages_of(part.snapshot(durable)):
                self._channel.send(message)

    def _run(self) -> None:
        """A thread that does one piece of work after the other."""
        with child.guarded(self._channel):
            while True:
                self._do(*self._work.get())

    def _do(self, part: CheckPart, work: messages.Work) -> None:
        result = part.do(work)
        self._parent.flush()
        self._channel.send(result)


def main() -> None:
    """Run a child of the check."""
    child.main(messages.CHECKER, Checker)


if __name__ == "__main__":
    main()
