"""What the system allows a process: open files, further processes and threads."""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator

from shake.errors import RefusedError, ShakeError

#: Files that a supervisor has open beside those of its children: logs, connections, pages.
_OWN_FILES = 32
#: Files that it has open for a worker (its channel and its arena), and for a writer.
_FILES_OF_WORKER, _FILES_OF_WRITER = 2, 1

_FILES = "this process cannot open more files: raise ulimit -n (LimitNOFILE of a systemd service)"
_PROCESSES = (
    "the system allows no more processes and threads: raise ulimit -u, pids.max of the control "
    "group, TasksMax of a systemd service, or ulimit -v, or lower --workers"
)
_SPACE = "no space is left on a disk, or in /dev/shm, which semaphores need: free some space"
#: What the system did not give, by the number of the error.
_MISSING = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EAGAIN: _PROCESSES,
    errno.EFBIG: "this process cannot have shared memory of the size that it needs: raise ulimit "
    "-f (LimitFSIZE of a systemd service)",
    errno.ENOSPC: _SPACE,
    errno.EROFS: "/dev/shm cannot be written, and semaphores need it: mount it writable",
    errno.EDQUOT: _SPACE,
    errno.ENOMEM: "the system has no memory for another process: lower --workers",
}


def allow_many() -> None:
    """Let this process, and its children, have as many files open as the system allows.

    The supervisor has one for each child, and each followed table has a writer; the usual limit of
    1024 is for programs that call select(), which cannot take more.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def files_problem(workers: int, writers: int) -> str:
    """Why so many children cannot be had at once, or ""."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OWN_FILES + workers * _FILES_OF_WORKER + writers * _FILES_OF_WRITER
    if most == resource.RLIM_INFINITY or needed <= most:
        return ""
    return (
        f"this process may open {most} files, and needs {needed} with {workers} workers: raise the "
        "hard limit of ulimit -n (LimitNOFILE of a systemd service), or lower --workers"
    )


def check_files(workers: int, writers: int) -> None:
    """Raise RefusedError where so many children cannot be had at once."""
    if problem := files_problem(workers, writers):
        raise RefusedError(problem)


@contextlib.contextmanager
def refused_where_short() -> Iterator[None]:
    """Raise RefusedError where the system does not give enough: nothing was changed yet."""
    try:
        yield
    except ShakeError:  # it says what is missing, whatever lies behind it
        raise
    except Exception as error:
        if problem := shortage(error):
            raise RefusedError(problem) from error
        raise


def shortage(error: BaseException) -> str:
    """What the system did not give, and what to do, or "" where the error is another one.

    The error can have come while another one was handled: a ThreadPool that gets too few threads
    fails once more when it ends those that it has.
    """
    while error.__context__ and not isinstance(error, (OSError, RuntimeError, MemoryError)):
        error = error.__context__
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _PROCESSES
    if isinstance(error, MemoryError):
        return _MISSING[errno.ENOMEM]
    return _MISSING.get(error.errno or 0, "") if isinstance(error, OSError) else ""
