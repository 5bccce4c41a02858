"""Packs messages by msgpack, and makes them again, their nested types too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Any,
    Generic,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgpack

Message: TypeAlias = tuple[object, ...]

M = TypeVar("M", bound=Message)

# Text of a server can hold lone surrogates. It is sent as it is.
_ERRORS = "surrogatepass"
#: No message is larger.
_MAX_BYTES = 256 * 1024 * 1024


def unpacker() -> msgpack.Unpacker:
    """A streaming unpacker: feed it what the socket gives, iterate over packed messages."""
    return msgpack.Unpacker(max_buffer_size=_MAX_BYTES, unicode_errors=_ERRORS, use_list=False)


class Packing(Generic[M]):
    """Packs messages as (number of the type, fields ...). One thread encodes at a time."""

    def __init__(self, types: Iterable[Any]) -> None:
        self.types = tuple(dict.fromkeys(types))
        self._tags = {type_: tag for tag, type_ in enumerate(self.types)}
        self._makers = [_maker(type_) or type_._make for type_ in self.types]
        self._pack = msgpack.Packer(unicode_errors=_ERRORS, default=_plain).pack

    def encode(self, message: M) -> bytes:
        packed: bytes = self._pack((self._tags[type(message)], *message))
        return packed

    def decode(self, packed: Sequence[Any]) -> M:
        return cast(M, self._makers[packed[0]](packed[1:]))


def _plain(value: Any) -> Any:
    """What msgpack cannot pack, as plain data."""
    if is_dataclass(value):
        return tuple(getattr(value, field.name) for field in fields(value))
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is no part of a message")


def _maker(hint: Any) -> Callable[[Any], Any] | None:
    """Makes a value of this type of what msgpack gives; None where that is the value already."""
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        makers = [_maker(one) for one in get_type_hints(hint).values()]
        if any(makers):
            return lambda values: hint(
                *(make(one) if make else one for make, one in zip(makers, values, strict=True))
            )
        return getattr(hint, "_make", None) or (lambda values: hint(*values))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    inner = [one for one in get_args(hint) if one not in (Ellipsis, NoneType)]
    make = _maker(inner[0]) if len(inner) == 1 else None
    if make is None:
        return None
    if get_origin(hint) in (Union, UnionType):
        return lambda value: None if value is None else make(value)
    return lambda values: tuple(map(make, values))
