"""A child of the farm for tests: it does what the details of its setup say."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from shake.config import Config
from shake.errors import RunError
from shake.farm import messages
from shake.process import entry as child
from shake.process.channel import ChildChannel


def serve(
    channel: ChildChannel, config: Config, details: dict[str, Any], received: Iterator[Any]
) -> None:
    match details["do"]:
        case "echo":
            for message in received:
                channel.send(message)
        case "die":  # with its last words cut
            for number in range(1000):
                channel.send(messages.Idle(number))
            channel._socket.sendall(messages.encode(messages.Idle(1000))[:-1])
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            channel.send(messages.Ready())
            time.sleep(600)
        case "raise":
            raise ZeroDivisionError("no \ud800 way")
        case "refuse":
            raise RunError("the source said no")


if __name__ == "__main__":
    child.main(serve)
