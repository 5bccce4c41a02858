"""Resources shared by a worker's threads: client, channel, slots, journal, stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shake.config import Config
from shake.farm import worker_messages as messages
from shake.process.arena import Arena, Slots
from shake.source.client import Retry
from shake.source.clock import Bounds, SourceClock
from shake.source.dynamodb import DynamoSource
from shake.stream.journal import Journal


class WorkerContext:
    """Made once in a process. ``slots`` are those of the shard readers."""

    def __init__(
        self, channel: messages.WorkerChannel, config: Config, set_up: messages.WorkerSetup
    ) -> None:
        self.channel = channel
        self.config = config
        self.stop = threading.Event()
        self.arena = Arena(set_up.arena, writable=True)
        self.slots = Slots()
        self.journal = Journal(config.journal_folder)
        self.credentials = set_up.credentials
        self.clock = SourceClock(channel.send, self._set_back)
        self.clock_set_back = False  # whether that was seen since the process began
        self.source = DynamoSource(
            set_up.endpoint,
            lambda: self.credentials,
            on_retry=self._retried,
            stop=self.stop,
            clock=self.clock,
        )
        self.quick_until = 0.0  # seconds of the boot clock; see messages.PollQuickly
        self._about = threading.local()

    def reads(self, table: int, permit: Callable[[], None] | None = None) -> None:
        """The calling thread reads this table from now on; each try takes a ``permit``."""
        self._about.table, self._about.permit = table, permit

    def _set_back(self, *bounds: Bounds) -> None:
        self.clock_set_back = True
        self.channel.send(messages.ClockSetBack())

    def _retried(self, retry: Retry) -> None:
        throttled, permit = retry.kind == "throttle", self._about.permit
        self.channel.send(
            messages.ReadRetried(
                self._about.table, throttled, retry.tries, retry.reason, scan=permit is not None
            )
        )
        if permit is not None:
            permit()
