"""The journal: stream records that were read during the copy, kept on disk until applied.

Each shard has one file, with the compressed answers of GetRecords in order. Only one process at a
time appends to a file. It continues after the last complete entry. So the file alone defines its
content, even after a process has crashed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zlib_ng import zlib_ng

from shake import private_files
from shake.config.names import stored_name
from shake.errors import RunError
from shake.stream.shard import as_number

#: CRC-32 of the rest of the entry, bytes of the answer, records in it, the time of the last one in
#: Unix seconds, its sequence number (21 to 40 digits). The end of a shard is an entry of 0 bytes.
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html
_HEAD = struct.Struct("<IIId40s")
_LEVEL = 1

#: Bytes of the disk that the journal leaves free, or so much of a small disk: whatever else is on
#: it, as checkpoints and the log, goes on when the journal takes no more.
_RESERVE, _RESERVE_SHARE = 256 * 10**6, 0.1


class Damaged(ValueError):
    """The journal does not hold what it held: the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer; at the shard's end, nothing: ``body`` is empty then."""

    records: int
    created: float
    sequence: str
    body: bytes


class Journal:
    """The folder of a task's journal: a folder for each table, and in it a file for each shard.

    The source chooses the names of both: what cannot be the name of a file gets another one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, table: str, shard: str) -> Path:
        """Where a shard's answers are."""
        return self._folder(table) / f"{stored_name(shard)}.journal"

    def drop(self, table: str, shard: str) -> None:
        """Delete a shard's file, if it has one. Raises OSError."""
        self.file(table, shard).unlink(missing_ok=True)

    def clear(self, table: str, *, but: Collection[str] = ()) -> None:
        """Delete a table's files, but those of some shards. Raises RunError."""
        needed = {self.file(table, shard) for shard in but}
        try:
            for file in self._folder(table).glob("*.journal"):
                if file not in needed:
                    file.unlink()
            if not needed:
                shutil.rmtree(self._folder(table), ignore_errors=True)
        except OSError as error:
            raise RunError(f"journal.path: {error.filename}: {error.strerror}") from error

    def _folder(self, table: str) -> Path:
        return self.folder / stored_name(table)


class Appender:
    """Appends to a shard's file: ``sequence`` is the last number in it, ``ended`` its end.

    ``wait`` is called while another process holds the file. What stood in it up to the number
    ``durable``, ``size`` bytes, was synced; of what comes after it, only whole entries stay:
    ``found`` is how many records, in how many bytes, and the time of the last one. Raises Damaged
    where the file is shorter.
    """

    def __init__(self, file: Path, durable: str, size: int, wait: Callable[[], None]) -> None:
        self.sequence, self.ended = durable, False
        file.parent.parent.parent.mkdir(parents=True, exist_ok=True)
        for folder in (file.parent.parent, file.parent):
            private_files.make_folder(folder)
            private_files.remove_access_of_others(folder)
        self._file = private_files.open_own(file)
        try:
            self._lock(wait)
            if not os.fstat(self._file).st_size:
                for folder in file.parents[:3]:
                    private_files.sync_folder(folder)
            self._recover(file, size)
        except BaseException:
            self.close()
            raise

    def append(self, records: int, created: float, sequence: str, body: memoryview) -> int:
        """Add an answer; return its bytes in the file. Raises OSError where the disk is full."""
        self.sequence = sequence
        return self._write(records, created, zlib_ng.compress(body, _LEVEL))

    def end(self) -> int:
        """The shard has no more."""
        self.ended = True
        return self._write(0, 0.0, b"")

    def sync(self) -> None:
        """All that was added is durable on return."""
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _lock(self, wait: Callable[[], None]) -> None:
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                wait()

    def _recover(self, file: Path, size: int) -> None:
        """Find the end of what is whole, and cut off what a crash has left behind it."""
        if os.fstat(self._file).st_size < size:
            raise Damaged(f"{file} ends before record {self.sequence}, which it held")
        records, created, end = 0, 0.0, size
        for entry, offset in _walk(file, size, ""):
            self.sequence, self.ended, end = entry.sequence, not entry.body, offset
            records, created = records + entry.records, max(created, entry.created)
        self.found = (records, end - size, created)
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        self._end = end

    def _check_disk(self) -> None:
        disk = os.fstatvfs(self._file)
        free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        reserve = min(_RESERVE, size * _RESERVE_SHARE)
        if free < reserve:
            raise OSError(
                errno.ENOSPC,
                f"its disk has {free / 1e6:.1f} MB free, and the last {reserve / 1e6:.1f} MB are "
                "left to checkpoints and logs",
            )

    def _write(self, records: int, created: float, blob: bytes) -> int:
        self._check_disk()
        head = _HEAD.pack(0, len(blob), records, created, self.sequence.encode())[4:]
        entry = zlib_ng.crc32(blob, zlib_ng.crc32(head)).to_bytes(4, "little") + head + blob
        try:
            left = memoryview(entry)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:  # a disk that is full: what is half written must not stand there
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise
        self._end += len(entry)
        return len(entry)


def entries(file: Path, after: str, durable: str) -> Iterator[Entry]:
    """What a shard's file holds behind the number ``after``, in order.

    Raises Damaged where it does not reach ``durable``, which it did.
    """
    last = after
    for entry, _ in _walk(file, 0, after):
        last = entry.sequence or last
        # It is whole: its CRC said so.
        yield replace(entry, body=zlib_ng.decompress(entry.body)) if entry.body else entry
    if as_number(durable) > as_number(last):
        raise Damaged(f"{file} ends before record {durable}, which it held")


def _walk(file: Path, start: int, after: str) -> Iterator[tuple[Entry, int]]:
    """Whole entries from an offset on, behind a number, still packed, and where each ends."""
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return
    with stream:
        if os.fstat(stream.fileno()).st_size <= start:
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            while start + _HEAD.size <= len(data):
                crc, length, records, created, number = _HEAD.unpack_from(data, start)
                first, end = start + _HEAD.size, start + _HEAD.size + length
                sequence = number.rstrip(b"\0").decode("ascii", "replace")
                if end > len(data) or (sequence and not sequence.isdecimal()):
                    return
                if not length or as_number(sequence) > as_number(after):
                    blob = data[first:end]
                    if zlib_ng.crc32(blob, zlib_ng.crc32(data[start + 4 : first])) != crc:
                        return
                    yield Entry(records, created, sequence, blob), end
                start = end
