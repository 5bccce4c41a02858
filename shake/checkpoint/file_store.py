"""Checkpoints in a folder: one JSON file for each collection, replaced as a whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shake import private_files
from shake.checkpoint.contract import Document, StoreUnavailable, Superseded
from shake.checkpoint.order import is_later
from shake.errors import RefusedError, RunError, as_refusal

log = logging.getLogger("shake.checkpoint")

#: System errors that no waiting cures; a full disk is not among them.
PERMANENT = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR}
)


#: The one field of an object that stands for bytes, in Base64.
_BINARY = "$binary"


class FileStore:
    """A store in ``folder/database/``, for the machines that see the folder.

    ``rename`` and ``sync`` are os.replace and os.fsync, or what a test puts in their place.
    Exclusion is by flock(2) on ``.lock`` there, so it is as good as the file system's. Other users
    can open none of the files, so they cannot hold that lock.
    """

    def __init__(
        self,
        folder: str | Path,
        database: str,
        *,
        rename: Callable[[Path, Path], None] = os.replace,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        self._folder = Path(folder).absolute() / database
        self._rename = rename
        self._sync = sync
        self._private = False

    @classmethod
    def open(cls, folder: str | Path, database: str, *, writable: bool = True) -> FileStore:
        """A store that, if ``writable``, can be written to; else raises RefusedError.

        Where another program keeps the lock of the folder, nothing can be written.
        """
        store = cls(folder, database)
        if writable and (near := private_files.unwritable_ancestor(store._folder)):
            raise RefusedError(
                f"checkpoint folder {store._folder}: {near} is not a folder that this user may "
                "write to; change its rights or checkpoint.address"
            )
        if writable and private_files.is_full(private_files.existing(store._folder)):
            raise RefusedError(
                f"checkpoint folder {store._folder}: no space is left on its disk: free some, or "
                "change checkpoint.address"
            )
        if writable:
            with as_refusal(RunError):
                _try_lock(store._folder / ".lock")
        return store

    def collections(self) -> list[str]:
        with _errors(self._folder):
            return [one.name.removesuffix(".json") for one in self._folder.glob("*.json")]

    def read(self, collection: str, ids: Collection[str] | None = None) -> list[dict[str, Any]]:
        found = self._load(collection)
        return [one for key, one in found.items() if ids is None or key in ids]

    def write(self, collection: str, documents: Sequence[Document]) -> None:
        if documents:
            with self._locked():
                stored = self._load(collection)
                for one in documents:
                    if not _may_replace(stored.get(one["_id"], {}), one):
                        raise Superseded(
                            f"{self._path(collection)}: a later run has written there, or it was "
                            "removed"
                        )
                self._replace(collection, stored | {one["_id"]: dict(one) for one in documents})

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        either = old if old is not None else new
        if either is None:
            raise ValueError("nothing to swap")
        key = either["_id"]
        if old is not None and not self._path(collection).exists():
            return False
        with self._locked():
            stored = self._load(collection)
            current = stored.pop(key, None)
            if not _is(current, old):
                return False
            self._replace(collection, stored if new is None else stored | {key: dict(new)})
        return True

    def discard(self, collection: str, document: Document) -> None:
        if not self._path(collection).exists():
            return
        with self._locked() as lock:
            stored = list(self._load(collection).values())
            if len(stored) == 1 and _is(stored[0], document):
                with _errors(self._folder):
                    self._path(collection).unlink()
                    if os.listdir(self._folder) == [lock.name]:
                        lock.unlink()
                        self._folder.rmdir()

    def others(self) -> str:
        """NimoShake's files are in another folder."""
        return ""

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _path(self, collection: str) -> Path:
        return self._folder / f"{collection}.json"

    def _load(self, collection: str) -> dict[str, dict[str, Any]]:
        path = self._path(collection)
        with _errors(path):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return {}
        try:
            documents = json.loads(content, object_hook=_bytes)
        except (ValueError, RecursionError):
            documents = None
        if isinstance(documents, list) and all(
            isinstance(one, dict) and isinstance(one.get("_id"), str) for one in documents
        ):
            return {one["_id"]: one for one in documents}
        raise RefusedError(
            f"checkpoint file {path} is damaged or not shake's: put back a whole copy of it, "
            "or move it away to begin again"
        )

    def _replace(self, collection: str, documents: Mapping[str, Document]) -> None:
        path = self._path(collection)
        lines = ",\n".join(
            json.dumps(one, allow_nan=False, default=_text) for one in documents.values()
        )
        fresh = path.with_name(f"{path.name}.tmp")
        with _errors(path):
            handle = private_files.open_own(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(f"[\n{lines}\n]\n")
                file.flush()
                self._sync(file.fileno())
            self._rename(fresh, path)
            private_files.sync_folder(self._folder, self._sync)

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        path = self._folder / ".lock"
        lock = self._lock(path)
        try:
            yield path
        finally:
            os.close(lock)

    def _lock(self, path: Path) -> int:
        """Make and lock the file; again where another process has removed it meanwhile."""
        with _errors(path):
            while True:
                self._make(self._folder)
                self._make_private()
                with suppress(FileNotFoundError):
                    lock = private_files.open_own(path)
                    try:
                        private_files.lock(lock)
                        if os.path.samestat(os.fstat(lock), path.stat()):
                            return lock
                    except OSError:
                        os.close(lock)
                        raise
                    os.close(lock)

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            self._make(folder.parent)
            private_files.make_folder(folder)
            private_files.sync_folder(folder.parent, self._sync)

    def _make_private(self) -> None:
        """Once: take what an earlier version has left open to other users away from them."""
        if self._private:
            return
        self._private = True
        for path in (self._folder, *self._folder.glob("*.json")):
            with suppress(FileNotFoundError):
                private_files.remove_access_of_others(path)
                if private_files.is_open_to_others(path):
                    log.warning(
                        "%s holds checkpoints, and other users can read or change it: take their "
                        "rights away (chmod go= %s)",
                        path,
                        path,
                    )


def _try_lock(path: Path) -> None:
    """Lock the file for a moment, where it is there."""
    with _errors(path), suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            private_files.lock(handle)
        finally:
            os.close(handle)


def _may_replace(current: Document, new: Document) -> bool:
    return not is_later(current, new) and ("Life" not in new or current.get("Life") == new["Life"])


def _is(current: Document | None, old: Document | None) -> bool:
    if current is None or old is None:
        return current is old
    return all(name in current and current[name] == value for name, value in old.items())


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = RunError if error.errno in PERMANENT else StoreUnavailable
        way_out = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise kind(f"checkpoint file {path}: {error.strerror}{way_out}") from error


def _text(value: object) -> dict[str, str]:
    """Bytes as JSON has them."""
    if not isinstance(value, bytes):
        raise TypeError(f"a checkpoint cannot hold {value!r}")
    return {_BINARY: b64encode(value).decode()}


def _bytes(found: dict[str, Any]) -> Any:
    return b64decode(found[_BINARY]) if found.keys() == {_BINARY} else found
