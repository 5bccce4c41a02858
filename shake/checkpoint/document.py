"""Reads a stored document field by field, and says which one is wrong."""

from __future__ import annotations

from typing import Any, TypeVar

from shake.checkpoint.contract import Document
from shake.errors import RefusedError

#: The format that this version writes, in the field ``Format``.
FORMAT = 1

T = TypeVar("T")


class Fields:
    """The fields of one document; every method raises RefusedError naming document and field."""

    def __init__(self, collection: str, document: Document) -> None:
        self._where = f"checkpoint {collection}, document {document['_id']}"
        self._document = document
        written = self.number("Format")
        if written > FORMAT:
            raise RefusedError(
                f"{self._where} was written by a newer shake (format {written}, this one reads "
                f"{FORMAT}): go on with that version"
            )

    def text(self, name: str) -> str:
        return self._take(name, str)

    def data(self, name: str) -> bytes:
        return self._take(name, bytes)

    def number(self, name: str) -> int:
        """A whole number, 0 or more."""
        value = self._take(name, int)
        if isinstance(value, bool) or value < 0:
            raise self.wrong(name, value)
        return value

    def real(self, name: str) -> float:
        value = self._document.get(name)
        return float(value) if type(value) is int else self._take(name, float)

    def flag(self, name: str) -> bool:
        return self._take(name, bool)

    def texts(self, name: str) -> list[str]:
        values = self._take(name, list)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(name, values)
        return values

    def wrong(self, name: str, value: Any) -> RefusedError:
        """The error for a field whose value makes no sense."""
        return RefusedError(
            f"{self._where}: field {name} cannot be {value!r}; restore the document, or move its "
            "collection away to begin again"
        )

    def _take(self, name: str, kind: type[T]) -> T:
        value = self._document.get(name)
        if not isinstance(value, kind):
            raise self.wrong(name, value)
        return value
