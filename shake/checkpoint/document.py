"""Records that are stored as documents, and what is read from a document, field by field."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any, ClassVar, TypeVar, cast

from shake.checkpoint.contract import Document
from shake.errors import RefusedError

#: The format that this version writes, in the field ``Format``.
FORMAT = 1

T = TypeVar("T")
R = TypeVar("R", bound="Record")


class Fields:
    """The fields of one document; every method raises RefusedError naming document and field."""

    def __init__(self, collection: str, document: Document) -> None:
        self._where = f"checkpoint {collection}, document {document['_id']}"
        self.document = document
        written = self.number("Format")
        if written > FORMAT:
            raise RefusedError(
                f"{self._where} was written by a newer shake (format {written}, this one reads "
                f"{FORMAT}): go on with that version"
            )

    def text(self, name: str) -> str:
        return self._take(name, str)

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """One of some texts."""
        value = self.text(name)
        if value not in allowed:
            raise self.wrong(name, value)
        return value

    def data(self, name: str) -> bytes:
        return self._take(name, bytes)

    def number(self, name: str) -> int:
        """A whole number, 0 or more."""
        value = self._take(name, int)
        if isinstance(value, bool) or value < 0:
            raise self.wrong(name, value)
        return value

    def real(self, name: str) -> float:
        value = self.document.get(name)
        return float(value) if type(value) is int else self._take(name, float)

    def flag(self, name: str) -> bool:
        return self._take(name, bool)

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._take(name, list)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(name, values)
        return tuple(values)

    def pairs(self, name: str) -> dict[str, str]:
        """What :func:`pairs` wrote."""
        found = (line.partition("=") for line in self.texts(name))
        return {key: value for key, _, value in found}

    def wrong(self, name: str, value: Any) -> RefusedError:
        """The error for a field whose value makes no sense."""
        return RefusedError(
            f"{self._where}: field {name} cannot be {value!r}; restore the document, or move its "
            "collection away to begin again"
        )

    def _take(self, name: str, kind: type[T]) -> T:
        value = self.document.get(name)
        if not isinstance(value, kind):
            raise self.wrong(name, value)
        return value


def pairs(values: Mapping[str, object]) -> list[str]:
    """A mapping, not as fields: older servers take no dots in their names."""
    return [f"{key}={value}" for key, value in values.items()]


_READ: Mapping[str, Callable[[Fields, str], Any]] = {
    "str": Fields.text,
    "int": Fields.number,
    "float": Fields.real,
    "bool": Fields.flag,
    "tuple[str, ...]": Fields.texts,
}


class Record:
    """A dataclass that is stored as a document, with its ``ID``, each field by its name.

    The name of ``first_stamp`` is ``FirstStamp``, unless ``NAMES`` has another one; "" is a field
    that :meth:`own` stores. Fields in ``LATER`` are not stored while they are empty, and have their
    default where they are not stored, as by older versions.
    """

    __slots__ = ()

    ID: ClassVar[str] = ""
    NAMES: ClassVar[Mapping[str, str]] = {}
    LATER: ClassVar[Collection[str]] = ()

    def document(self) -> dict[str, Any]:
        kind: Any = type(self)
        document: dict[str, Any] = {"_id": self.ID, "Format": FORMAT}
        for field, name, _ in _stored(kind):
            value = getattr(self, field)
            if value not in ("", ()) or field not in self.LATER:
                document[name] = list(value) if isinstance(value, tuple) else value
        return document | self.own()

    @classmethod
    def of(cls: type[R], collection: str, document: Document) -> R:
        """The record that ``document()`` wrote. Raises RefusedError for any other."""
        kind: Any = cls
        found = Fields(collection, document)
        values = {
            field: _READ[type](found, name)
            for field, name, type in _stored(kind)
            if name in document or field not in cls.LATER
        }
        return cast(R, kind(**values, **cls.read_own(collection, found)))

    def own(self) -> dict[str, Any]:
        """Fields of the document that the class makes."""
        return {}

    @classmethod
    def read_own(cls, collection: str, found: Fields) -> dict[str, Any]:
        """The values that are made from those."""
        return {}


@functools.cache
def _stored(cls: Any) -> list[tuple[str, str, Any]]:
    """Name, stored name, and type of each field that is stored by its name."""
    named = ((one.name, cls.NAMES.get(one.name, _words(one.name)), one.type) for one in fields(cls))
    return [one for one in named if one[1]]


def _words(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
