"""What a checkpoint store promises: named collections of small documents that survive any crash."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from shake.errors import RunError

#: JSON values, and bytes, at most 16 MB in all; integers of at most 64 bits; ``_id`` is a str.
Document = Mapping[str, Any]


class StoreUnavailable(RunError):
    """The store did not confirm the call: it may have happened or not. Waiting may cure it."""

    passes = True


class Superseded(RunError):
    """A later run of the task is at work: nothing more may be written."""


class Store(Protocol):
    """Collections of documents, each known by its ``_id``. Thread-safe.

    Every method raises StoreUnavailable for what may pass, RunError for what will not, and
    RefusedError for content that shake cannot have written.
    """

    def collections(self) -> list[str]:
        """The names of all collections, in any order; others may have put some there."""

    def read(self, collection: str, ids: Collection[str] | None = None) -> list[dict[str, Any]]:
        """All documents, or those of some ``_id``; none, where the collection does not exist."""

    def write(self, collection: str, documents: Sequence[Document]) -> None:
        """Replace or insert each document by ``_id``; all of them are durable on return.

        A document with a number ``Write``, or ``Run``, replaces none with a greater one:
        Superseded. So what arrives late undoes nothing (see shake.checkpoint.order). A document
        with a ``Life`` is never inserted, and replaces only one with the same: Superseded. So it
        also undoes nothing where the collection was removed and begun anew.
        """

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        """Put ``new`` in the place of ``old`` if that is what is stored; return whether it was.

        ``old`` None: no document has the ``_id`` of ``new``. ``new`` None: delete. The stored
        document is ``old`` when it has each field of ``old``. Atomic between threads, processes
        and machines, and durable on return.
        """

    def discard(self, collection: str, document: Document) -> None:
        """Remove the collection, and the database or folder, if there is nothing but ``document``.

        Where this happens late, another process that has taken over the collection finds it gone.
        """

    def others(self) -> str:
        """The program that keeps its own checkpoints in the same place, "" where there is none."""

    def close(self) -> None: ...


def read_one(store: Store, collection: str, id: str) -> dict[str, Any] | None:
    """The document of this ``_id``, None where there is none."""
    return next(iter(store.read(collection, [id])), None)
