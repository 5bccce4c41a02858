"""What the check asks of the target of one table, whatever that speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from shake import codec
from shake.check.keys import SourceKey, StoredKeys
from shake.check.meaning import Item
from shake.check.source import SourcePage
from shake.errors import RunError

T = TypeVar("T")

#: A key of the target, and its ``_id`` where that is known.
Key = dict[str, Any]


class DocumentRefused(RunError):
    """The target refuses a document for its own sake."""


class KeyRange(NamedTuple):
    """A part of the target.

    Of a collection: the documents from ``low`` to before ``high`` (None: all), in the ``order`` of
    an index. That of the key holds all that is needed, so that no document is read for it. Without
    an order it is the whole collection, in any order. Bounds are of any type, unlike those of a
    query, which selects one type alone: each is a BSON array, as the value of the field "".
    Source: https://www.mongodb.com/docs/manual/reference/method/cursor.min/

    Of a table: one of ``segments``.
    """

    order: tuple[str, ...] | None = None
    low: bytes | None = None
    high: bytes | None = None
    segment: int = 0
    segments: int = 1


class Stored(Protocol):
    """Reads and repairs what the target holds of a table; thread-safe.

    ``keys`` and ``digests`` are of documents as :meth:`batches` gives them. Other documents are
    bytes that only these methods understand.
    """

    namespace: str
    keys: StoredKeys
    digests: codec.Digests

    def match(self, page: SourcePage, *, scanned: bool) -> codec.Matcher:
        """Match the documents of a page with the stored ones of their keys; see codec.Matcher."""

    def copies(
        self, documents: list[bytes], keys: list[SourceKey]
    ) -> tuple[list[list[bytes]], set[int]]:
        """For each document of a page, the stored ones of the same key.

        And the namespaces of those for which there is one that says the same.
        """

    def differing(self, item: Item, ours: bytes, theirs: bytes) -> list[str]:
        """The names of what differs between an item, or its document, and a stored document."""

    def shown(self, document: bytes) -> str:
        """A stored document as JSON, each value with its exact type."""

    def ranges(self, count: int) -> list[KeyRange]:
        """All that is stored, in about so many parts of about one size."""

    def batches(self, part: KeyRange) -> Iterator[bytes | memoryview]:
        """The key of each stored document, some at a time, as BSON documents in a row.

        To be gone through by :meth:`patiently`.
        """

    def key(self, document: bytes) -> Key:
        """One of these keys, decoded."""

    def some_keys(self, count: int) -> list[Key]:
        """Keys chosen at random."""

    def documents_of(self, keys: list[Key]) -> list[Key]:
        """The key of each stored document that has one of these keys."""

    def whole(self, key: Mapping[str, Any]) -> list[bytes]:
        """The stored documents of a key."""

    def missing_indexes(self) -> list[str]:
        """The wanted indexes that the collection lacks."""

    def patiently(self, call: Callable[[], T]) -> T:
        """Try again while the target does not answer."""

    # ---- repair

    def add(self, document: bytes) -> bytes:
        """Store a document of a page, unless its key is there, perhaps with newer content.

        Returns it as it is stored.
        """

    def replace(self, old: bytes, document: bytes) -> None:
        """Replace a stored document of the same key, if it is unchanged."""

    def delete_unchanged(self, document: bytes) -> None:
        """Delete a stored document, if it is unchanged."""

    def build_indexes(self) -> None:
        """Build what is missing. Raises RunError that names each refused index."""
