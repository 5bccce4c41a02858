"""The report file of a check: lines of JSON, none of which is lost once it is written."""

from __future__ import annotations

import os
import stat

from shake.errors import RunError, UsageError


class Report:
    """A file, or a pipe. ``keeps``: what is in the file stays, as of an earlier repair.

    Otherwise the first line empties it. So a check that is refused beside another one, before it
    writes a line, leaves the report of that one as it is. Raises UsageError.
    """

    def __init__(self, path: str, *, keeps: bool) -> None:
        self._path = path
        try:
            self._file = open(path, "ab", 0, opener=_private)  # noqa: SIM115  # see close
            self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
            self._before = b"\n" if self._regular and keeps and _cut_off(path) else b""
        except OSError as error:
            raise UsageError(self._problem(error)) from error
        self._empties = self._regular and not keeps
        self._error: OSError | None = None

    def write(self, line: str) -> None:
        """Write one line. Raises RunError where that fails, and for all lines after it."""
        left, self._before = self._before + f"{line}\n".encode(), b""
        try:
            if self._error:  # the last line can be cut off
                raise self._error
            if self._empties:
                self._file.truncate(0)
                self._empties = False
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._error = error
            raise RunError(self._problem(error)) from error

    def settle(self) -> None:
        """Return when the lines so far outlast a crash of the machine. Raises RunError."""
        if self._regular:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise RunError(self._problem(error)) from error

    def close(self) -> None:
        self._file.close()

    def _problem(self, error: OSError) -> str:
        return f"--report {self._path} cannot be written: {error.strerror}"


def _private(path: str, flags: int) -> int:
    """Open a file that only this user can read: it has items in it."""
    return os.open(path, flags, 0o600)


def _cut_off(path: str) -> bool:
    """Whether a file ends in the middle of a line, as on a disk that was full."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        return file.read() not in (b"", b"\n")
