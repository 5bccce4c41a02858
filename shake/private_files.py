"""Files and folders that only this user can open, and locks on them that have a deadline.

They hold keys of items. A process that can open a file can also lock it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Seconds for which the lock of a file is waited for. Its holders need it for moments only.
LOCK_SECONDS = 8.0
_LOCK_EVERY = 0.02


def make_folder(folder: Path) -> None:
    """Create a folder of this user's own where there is none. Raises OSError."""
    with suppress(FileExistsError):
        folder.mkdir(0o700)


def open_own(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file, which is created for this user only; return its descriptor. Raises OSError."""
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    remove_access_of_others(handle)
    return handle


def remove_access_of_others(file: int | Path) -> None:
    """Take a file or folder away from other users, if it is this user's."""
    mode = os.stat(file).st_mode
    if mode & 0o077:
        with suppress(PermissionError):
            os.chmod(file, mode & 0o700)


def sync_folder(folder: Path, sync: Callable[[int], None] = os.fsync) -> None:
    """Make durable which files are in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def existing(folder: Path) -> Path:
    """The folder itself, or its nearest ancestor that exists, be it a link to nowhere."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def unwritable_ancestor(folder: Path) -> Path | None:
    """The nearest ancestor that exists, or the folder itself; None where it can be written to."""
    folder = existing(folder)
    allowed = os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
    return None if allowed and not _is_of_the_kernel(folder) else folder


def _is_of_the_kernel(folder: Path) -> bool:
    """Whether even root can create nothing in it, which its rights do not show."""
    mounts = filter(os.path.ismount, ("/proc", "/sys"))
    return folder.stat().st_dev in [os.stat(mount).st_dev for mount in mounts]


def is_full(folder: Path) -> bool:
    """Whether this user can write nothing more to the file system of a folder that exists."""
    found = os.statvfs(folder)
    blocks = found.f_bavail if os.geteuid() else found.f_bfree  # the rest is reserved for root
    return not blocks and found.f_blocks > 0


def is_open_to_others(path: Path) -> bool:
    """Whether other users can read a file or folder."""
    return bool(path.stat().st_mode & 0o077)


def held_too_long(seconds: float) -> TimeoutError:
    """Another process has kept a lock for so many seconds."""
    text = f"another process has held its lock for {seconds:g} s; end it (see lslocks)"
    return TimeoutError(0, text)


def lock(handle: int) -> None:
    """Lock an open file for this process. Raises TimeoutError where another one keeps the lock."""
    last = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > last:
                raise held_too_long(LOCK_SECONDS) from None
        time.sleep(_LOCK_EVERY)
