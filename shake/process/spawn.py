"""Starts a module of shake in a child process, with a socket to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def spawn(
    module: str, *arguments: str, descriptors: tuple[int, ...] = ()
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process, and our end of the socket: the number of its own is its first argument.

    By exec, never by fork alone: whoever starts it holds clients and threads. In a session of its
    own, so that Ctrl-C at the terminal reaches its parent only. ``descriptors`` are inherited.
    Raises OSError where the machine has no room for it.
    """
    # It finds shake where this process found it, be it installed or a checkout; and a file of the
    # user's current folder must not stand in for a module (Python 3.11).
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), *arguments],
                pass_fds=(theirs.fileno(), *descriptors),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            )
        except OSError:
            ours.close()
            raise
    return process, ours
