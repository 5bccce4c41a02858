"""A child of the farm for tests: it does what its set-up says."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from shake.config import Config
from shake.errors import RunError
from shake.farm.worker_messages import Drain, Free, Idle
from shake.process import entry as child
from shake.process import heartbeat
from shake.process.channel import ChildChannel
from shake.process.messages import Ready
from shake.process.role import Role


class Deed(NamedTuple):
    """What the child does."""

    do: str


Said: TypeAlias = Drain | Free | Idle | Ready

ROLE = Role[Deed, Said, Said]("tests.support.children", Deed, Said, Said)


class Doer:
    """The main thread of the child."""

    def __init__(self, channel: ChildChannel[Deed, Said, Said], config: Config, deed: Deed) -> None:
        self._channel = channel
        self._deed = deed

    def serve(self, received: Iterator[Said]) -> None:
        channel = self._channel
        match self._deed.do:
            case "echo":
                for message in received:
                    channel.send(message)
            case "end if frozen":
                heartbeat.FROZEN_AFTER = 5.0
                heartbeat.end_if_frozen()
                for message in received:
                    channel.send(message)
            case "die":  # with its last words cut
                for number in range(1000):
                    channel.send(Idle(number))
                channel._socket.sendall(ROLE.sent.encode(Idle(1000))[:-1])
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                channel.send(Ready())
                time.sleep(600)
            case "raise":
                raise ZeroDivisionError("no \ud800 way")
            case "refuse":
                raise RunError("the source said no")


if __name__ == "__main__":
    child.main(ROLE, Doer)
