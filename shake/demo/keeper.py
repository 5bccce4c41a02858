"""Runs a server for as long as someone holds the other end of stdin, then stops it.

However the holder ends, SIGKILL included, the kernel closes the pipe; unlike a parent-death signal
this also works on macOS, and does not depend on which thread started the server. Each byte on
stdin is a signal number to pass on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

#: Seconds that a server has to end by itself before it is killed.
GRACE = 5.0


def obey(server: subprocess.Popen[bytes]) -> None:
    """Pass signals on until stdin ends; then end the server."""
    while order := os.read(0, 1):
        server.send_signal(order[0])
    server.terminate()
    try:
        server.wait(GRACE)
    except subprocess.TimeoutExpired:
        server.kill()


def main(command: list[str]) -> int:
    """Run the command to its end; its exit status is ours."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=obey, args=(server,), daemon=True).start()
    return abs(server.wait())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
