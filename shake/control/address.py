"""The socket beside the pid file: where it is, how it is made, and who is at its other end."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Bytes that the path of a socket can have. Source: unix(7)
_MAX_BYTES = 107
_BACKLOG = 128
#: Seconds between two tries to connect while as many others wait.
_PAUSE = 0.02


class NotASocket(OSError):
    """There is a file of that name, which is not a socket: it is not touched."""


def socket_path(folder: str | Path, task: str) -> Path:
    """Where a task listens for commands."""
    return Path(folder) / f"{task}.sock"


def listen(path: Path) -> socket.socket:
    """A socket that only this user can connect to, in the place of one that an earlier run left.

    No other run of the task is alive: the pid file is held. Raises OSError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise NotASocket(0, "a file of that name exists, which is not a socket")
            path.unlink()
        # Linux gives the file the mode of the socket: it never has another one.
        os.fchmod(listener.fileno(), 0o600)
        with _short(path) as address:
            listener.bind(address)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def connect(path: Path, seconds: float) -> socket.socket:
    """A connection to a task of this user. Raises OSError; its calls wait ``seconds`` at most.

    Root also reaches the task of the user who owns the folder, as that of a systemd service.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    until = time.monotonic() + seconds
    try:
        with _short(path) as address:
            # EAGAIN: too many others are about to be accepted.
            while (error := connection.connect_ex(address)) == errno.EAGAIN and (
                time.monotonic() < until
            ):
                time.sleep(_PAUSE)
        if error:
            raise OSError(error, os.strerror(error))
        owner = path.parent.stat().st_uid
        if not (is_trusted(connection) or (os.geteuid() == 0 and _user(connection) == owner)):
            raise PermissionError(0, "the process that listens there is another user's")
    except BaseException:
        connection.close()
        raise
    return connection


def is_trusted(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's, or root's."""
    return _user(connection) in (0, os.geteuid())


def _user(connection: socket.socket) -> int:
    """The user of the process at the other end. Source: unix(7)"""
    size = struct.calcsize("3i")
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    user: int = struct.unpack("3i", peer)[1]
    return user


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address that the system takes, of a path of any length."""
    if len(os.fsencode(path)) <= _MAX_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
