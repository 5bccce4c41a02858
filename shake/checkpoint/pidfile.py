"""The file ``<id>.pid``: names the supervisor of this machine, and keeps a second one out."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shake.errors import RefusedError, TaskRunning, UsageError
from shake.private_files import open_own

#: Seconds that the holder of the file has to write its number.
_WRITE_SECONDS = 1.0


def pid_path(folder: str | Path, id: str) -> Path:
    """Where the file is, while a run of the task holds it."""
    return Path(folder) / f"{id}.pid"


@contextmanager
def hold(folder: str | Path, id: str) -> Iterator[Path]:
    """Keep ``folder/<id>.pid`` locked, with this process's number in it; removed at the end.

    The lock is flock(2)'s: the kernel releases it however the process ends, and programs that it
    starts do not inherit it. Raises TaskRunning while another process holds the file, UsageError
    where it cannot be written.
    """
    path = pid_path(folder, id)
    try:
        handle = _lock(path)
        try:
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        except OSError:  # of a full disk
            path.unlink()
            os.close(handle)
            raise
    except OSError as error:
        other = "make room there, or set pid_path to another folder"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            other = "set pid_path to a folder that this user may write to"
        raise UsageError(f"pid file {path}: {error.strerror}; {other}") from error
    try:
        yield path
    finally:
        with suppress(OSError):
            if _names(path, handle):
                path.unlink()
        os.close(handle)


def _lock(path: Path) -> int:
    while True:
        handle = open_own(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _names(path, handle):  # else its last holder has just removed it
                _expect_pid(path, handle)
                return handle
        except BlockingIOError:
            pid = _pid_of_holder(handle)
            os.close(handle)
            if pid.isdigit():
                raise TaskRunning(
                    f"this task already runs as process {pid} (pid file {path}): stop that one "
                    "first, or give this task another id; shake run --standby waits for its end",
                    f"process {pid} on this host",
                ) from None
            raise RefusedError(
                f"pid file {path} is locked by another process: end that one, set another "
                "pid_path, or choose another id"
            ) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _expect_pid(path: Path, handle: int) -> None:
    content = _content(handle)
    if content and not content.isdigit():
        raise RefusedError(
            f"pid file {path} exists and is something else: move it, or set another pid_path"
        )


def _pid_of_holder(handle: int) -> str:
    """What its holder has written there, which it does directly after it has locked the file."""
    until = time.monotonic() + _WRITE_SECONDS
    while not (pid := _content(handle)) and time.monotonic() < until:
        time.sleep(0.05)
    return pid


def _content(handle: int) -> str:
    return os.pread(handle, 64, 0).decode(errors="replace").strip()


def _names(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
