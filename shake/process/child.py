"""A child process of the supervisor: started afresh, watched by the loop, replaced when it dies."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from typing import Any

from shake.process.channel import SupervisorChannel
from shake.process.loop import Loop
from shake.process.spawn import spawn

#: A child that dies so often without doing anything in between is not going to.
MOST_DEATHS = 10


class Child:
    """A running child. It exits by itself as soon as the supervisor's end of its channel closes.

    Raises OSError where the machine has no room for it.
    """

    def __init__(
        self,
        loop: Loop,
        module: str,
        setup: tuple[Any, ...],
        descriptors: tuple[int, ...],
        on_message: Callable[[Any], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._process, ours = spawn(module, descriptors=descriptors)
        self.pid = self._process.pid
        self.channel = SupervisorChannel(ours)
        self._loop = loop
        self._on_message = on_message
        self._on_death = on_death
        loop.watch(self)
        self.channel.send(setup)

    def send(self, message: tuple[Any, ...]) -> None:
        self.channel.send(message)

    def received(self, messages: list[Any]) -> None:
        for message in messages:
            self._on_message(message)

    def died(self) -> None:
        """Its end of the channel has closed: make sure that it is gone, and tell how it went."""
        self._process.kill()
        status = self._process.wait()
        self.channel.close()
        self._on_death(f"signal {-status}" if status < 0 else f"exit status {status}")

    def dismiss(self) -> None:
        """Close the channel: the child ends by itself; ``reap`` waits for that."""
        self._loop.forget(self)
        self.channel.close()

    def reap(self) -> None:
        """Wait for a dismissed child, not long."""
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def allow_many() -> None:
    """Let this process, and its children, have as many files open as the system allows.

    The supervisor has one for each child, and each followed table has a writer; the usual limit of
    1024 is for programs that call select(), which cannot take more.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def revival_delay(deaths: int) -> float:
    """Seconds to wait before a replacement, by how often in a row it died doing nothing."""
    return 0.0 if deaths <= 1 else min(0.1 * 2.0 ** (deaths - 2), 5.0)
