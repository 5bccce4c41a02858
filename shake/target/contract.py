"""What a target promises to the farm, whatever it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from shake.schema import Table


class Changes(NamedTuple):
    """Statements of one batch of changes (see codec.contract.Statements), each of another key."""

    updates: memoryview
    inserts: memoryview
    deletes: memoryview


class Writer(Protocol):
    """Writes one collection. Thread-safe: several ``write`` calls run at the same time."""

    def write(self, documents: memoryview) -> int:
        """Store the documents of one slot (see codec.contract); return how many replaced others.

        Returns only when the target has acknowledged every one. Writing the same documents again
        is harmless. Transient errors are retried for as long as they last. Raises ItemError for a
        document that the target refuses, Stopped when the task stops while it waits.
        """
        ...

    def apply(self, changes: Changes, shard: str) -> int:
        """Carry out changes; return how many found nothing to modify, and were to leave it so.

        Those of a ``shard`` are applied one after the other: what was sent and never answered is
        not to land behind a later change of its shard, if the target can be kept from it.

        Returns when the target has acknowledged all of them. Doing it again is harmless. Raises
        as ``write`` does, and ItemError for an insert of a key that is there with other content.
        """
        ...

    def missing(self, documents: int) -> int:
        """How many of so many written documents are not there any more, where that can be told."""
        ...

    def forget(self, ranges: list[tuple[bytes, bytes]]) -> int:
        """Delete what lies in the ``_id`` ranges [from, to), 12 raw bytes each; return how many."""
        ...

    def build_indexes(self, notice: Callable[[str], None], segments: int = 0) -> None:
        """Build every index that is missing.

        Where a copy in so many ``segments`` was interrupted it may have left an item twice: one of
        its documents is kept. Of documents that it cannot have stored none is removed.

        Raises RunError that names each refused one: IndexRefused, where changes can be applied
        nevertheless.
        """
        ...


class Target(Protocol):
    """A place that holds collections; ``place`` is ``database.collection``."""

    def probe(self, places: list[str]) -> None:
        """Raise RefusedError unless the target answers and can be written to."""
        ...

    def exists(self, place: str) -> bool: ...

    def drop(self, place: str) -> None: ...

    def rename(self, place: str, backup: str) -> None: ...

    def create(self, place: str, table: Table) -> None:
        """Create the collection (sharded, where so configured). Harmless when it is there."""
        ...

    def writer(self, place: str, table: Table, epoch: int = 0) -> Writer:
        """``epoch``: when its process began, in milliseconds since 1970; each is above the last."""
        ...

    def close(self) -> None: ...
