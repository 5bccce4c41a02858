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
    """Start a child process; return it, and the parent's end of a socket to it.

    The child's first argument is the descriptor of its end of the socket. The child is started by
    exec, never by fork alone, because the parent has clients and threads. It runs in a new session,
    so that Ctrl-C at the terminal reaches only the parent. ``descriptors`` are inherited. Raises
    OSError if the machine lacks the resources for another process.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        try:
            process = execute(module, str(end), *arguments, descriptors=(end, *descriptors))
        except OSError:
            ours.close()
            raise
    return process, ours


def execute(module: str, *arguments: str, descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start a module of shake; see :func:`spawn`."""
    # The child imports shake from the same place as this process: installed, or a checkout. A file
    # in the user's current folder must not replace a module (Python 3.11).
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
    )
