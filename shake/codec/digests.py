"""Keyed digests of stored documents and of their keys, in plain Python.

What the C twin (``stored.c`` and ``digest.c`` in ``shake/codec/_native``) must do, byte for byte.
Documents may hold anything: where it is not certain what one says, it has no digest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shake.codec.contract import KeyForm
from shake.codec.siphash import SEED_LENGTH, siphash

#: What a digest is of.
(
    _ELEMENT,
    _NAME,
    _INTEGER,
    _DOCUMENT,
    _ARRAY,
    _KEY_TEXT,
    _KEY_BINARY,
    _KEY_NUMBER,
    _KEY_NOTHING,
    _KEY_OTHER,
    _KEY_BROKEN,
    _KEY_PAIR,
) = range(1, 13)

_DOUBLE, _STRING, MAP, LIST, _BINARY, _BOOL, _NULL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x0A
_INT32, _INT64, _DECIMAL128 = 0x10, 0x12, 0x13
_REGEX, _POINTER, _SCOPED_CODE = 0x0B, 0x0C, 0x0F

#: Bytes of a value, by its type. Source: https://bsonspec.org/spec.html
_FIXED = {0x06: 0, _NULL: 0, 0x7F: 0, 0xFF: 0, _BOOL: 1, _INT32: 4, 0x07: 12, _DECIMAL128: 16}
_FIXED |= dict.fromkeys((_DOUBLE, 0x09, 0x11, _INT64), 8)
_TEXTS = (_STRING, 0x0D, 0x0E, _POINTER)

#: Levels of documents and arrays: with convert.type = raw, each of an item is two.
_DEEPEST = 130

#: Types of which the bytes are the value.
_PLAIN = frozenset((_DOUBLE, _STRING, _BINARY, _BOOL, _NULL, _DECIMAL128))


class NotBson(ValueError):
    """These bytes are no BSON."""


class Field(NamedTuple):
    type: int
    name: bytes
    value: bytes


NOTHING = Field(0, b"", b"")


def documents_of(packed: bytes | memoryview) -> Iterator[bytes]:
    """Documents that stand one behind the other. Raises ValueError where they do not."""
    documents, at = bytes(packed), 0
    while at < len(documents):
        length = int.from_bytes(documents[at : at + 4], "little")
        if not 5 <= length <= len(documents) - at or documents[at + length - 1]:
            raise ValueError("these are no documents, one behind the other")
        yield documents[at : at + length]
        at += length


def fields_of(content: bytes) -> Iterator[Field]:
    """The fields in a document, its length and its last byte cut off. Raises NotBson."""
    at = 0
    while at < len(content):
        kind = content[at]
        name_end = content.find(0, at + 1)
        if not kind or name_end < 0:
            raise NotBson
        value = name_end + 1
        end = value + _size(kind, content[value:])
        if end > len(content):
            raise NotBson
        yield Field(kind, content[at + 1 : name_end], content[value:end])
        at = end


def _size(kind: int, rest: bytes) -> int:
    """Bytes of a value that ``rest`` begins with. Raises NotBson, or is larger than that."""
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == _REGEX:
        second = rest.find(0, rest.find(0) + 1)
        if second < 1 or rest.count(0) < 2:
            raise NotBson
        return second + 1
    count = int.from_bytes(rest[:4], "little")
    if len(rest) < 4:
        raise NotBson
    if kind in (MAP, LIST) and 5 <= count <= len(rest) and not rest[count - 1]:
        return count
    if kind in _TEXTS and 1 <= count <= len(rest) - 4 and not rest[3 + count]:
        return 4 + count + 12 * (kind == _POINTER)
    if kind == _BINARY:
        return 5 + count
    if kind == _SCOPED_CODE and count >= 4:
        return count
    raise NotBson


# -- keys ----------------------------------------------------------------------------------------


def id_of(content: bytes) -> Field:
    """The ``_id``, where it comes first."""
    try:
        first = next(fields_of(content), NOTHING)
    except NotBson:
        return NOTHING
    return first if first.name == b"_id" else NOTHING


def parts_of(form: KeyForm, content: bytes) -> list[Field]:
    """The values of the key attributes. Raises NotBson."""
    found = id_of(content)
    if form.by_id and len(form.names) == 1:
        parts = [found]
    elif form.by_id:
        parts = _parts_of_id(form, found)
    else:
        parts = _first_of_each(form, fields_of(content))
    if form.raw:
        return [_untyped(part, kind) for part, kind in zip(parts, form.types, strict=True)]
    return parts


def _first_of_each(form: KeyForm, fields: Iterator[Field]) -> list[Field]:
    found: dict[bytes, Field] = {}
    while len(found) < len(form.names) and (field := next(fields, None)):
        if field.name in form.names:
            found.setdefault(field.name, field)
    return [found.get(name, NOTHING) for name in form.names]


def _parts_of_id(form: KeyForm, found: Field) -> list[Field]:
    """Those of an ``_id``, which must hold them and nothing else."""
    nothing = [NOTHING] * len(form.names)
    if found.type != MAP:
        return nothing
    fields = fields_of(found.value[4:-1])
    parts = _first_of_each(form, fields)
    size = sum(2 + len(field.name) + len(field.value) for field in parts)
    return parts if NOTHING not in parts and size == len(found.value) - 5 else nothing


def _untyped(part: Field, kind: bytes) -> Field:
    """With raw, a value is a document that holds nothing but it, under its type."""
    if part.type != MAP:
        return NOTHING
    content = part.value[4:-1]
    try:
        field = next(fields_of(content), NOTHING)
    except NotBson:
        return NOTHING
    alone = 2 + len(field.name) + len(field.value) == len(content)
    return field if alone and field.name == kind else NOTHING


def key_digest(seed: bytes, form: KeyForm, content: bytes) -> bytes:
    """The digest of a key: numbers count by their values alone, null as nothing."""
    try:
        parts = parts_of(form, content)
    except NotBson:
        return siphash(seed, _KEY_BROKEN, content)
    digests = [_part(seed, part) for part in parts]
    return digests[0] if len(digests) == 1 else siphash(seed, _KEY_PAIR, b"".join(digests))


def _part(seed: bytes, part: Field) -> bytes:
    if part.type in (0, _NULL):
        return siphash(seed, _KEY_NOTHING, b"")
    if part.type == _STRING:
        return siphash(seed, _KEY_TEXT, part.value)
    if part.type == _BINARY:
        return siphash(seed, _KEY_BINARY, part.value)
    if (number := _number(part)) is not None:
        return siphash(seed, _KEY_NUMBER, _reduced(*number))
    return siphash(seed, _KEY_OTHER | part.type << 8, part.value)


def _number(part: Field) -> tuple[bool, int, int, int] | None:
    """Sign, coefficient, and exponents of 2 and 5; None for what has none, as infinity."""
    value = int.from_bytes(part.value, "little")
    if part.type in (_INT32, _INT64):
        signed = int.from_bytes(part.value, "little", signed=True)
        return signed < 0, abs(signed), 0, 0
    if part.type == _DOUBLE:
        exponent, fraction = value >> 52 & 0x7FF, value & ((1 << 52) - 1)
        if exponent == 0x7FF:
            return None
        if exponent:
            return bool(value >> 63), fraction | 1 << 52, exponent - 1075, 0
        return bool(value >> 63), fraction, -1074, 0
    if part.type == _DECIMAL128:
        exponent, coefficient = (value >> 113 & 0x3FFF) - 6176, value & ((1 << 113) - 1)
        if value >> 125 & 3 == 3 or coefficient >= 10**34:
            return None
        return bool(value >> 127), coefficient, exponent, exponent
    return None


def _reduced(negative: bool, coefficient: int, twos: int, fives: int) -> bytes:
    """One form for each value: neither 2 nor 5 divides the coefficient; zero is all 0."""
    if not coefficient:
        negative, twos, fives = False, 0, 0
    while coefficient and coefficient % 2 == 0:
        coefficient, twos = coefficient // 2, twos + 1
    while coefficient and coefficient % 5 == 0:
        coefficient, fives = coefficient // 5, fives + 1
    return bytes([negative]) + coefficient.to_bytes(16, "little") + struct.pack("<ii", twos, fives)


# -- fields --------------------------------------------------------------------------------------


def content_digest(seed: bytes, content: bytes, depth: int = 0, *, array: bool = False) -> bytes:
    """The digest of fields, in any order. Raises NotBson where they might not be what they seem."""
    if depth > _DEEPEST:
        raise NotBson
    total = 0
    names = set()
    for number, field in enumerate(fields_of(content)):
        if array and field.name != b"%d" % number:
            raise NotBson
        total += int.from_bytes(_field(seed, field, depth), "little")
        names.add(field.name)
        if len(names) <= number:
            raise NotBson
    return (total % (1 << 128)).to_bytes(16, "little")


def _field(seed: bytes, field: Field, depth: int) -> bytes:
    if field.type in _PLAIN:
        element = bytes([field.type]) + field.name + b"\0" + field.value
        return siphash(seed, _ELEMENT, element)
    if field.type in (MAP, LIST):
        array = field.type == LIST
        tag, value = _ARRAY if array else _DOCUMENT, field.value[4:-1]
        value = content_digest(seed, value, depth + 1, array=array)
    elif field.type in (_INT32, _INT64):
        tag = _INTEGER
        value = struct.pack("<q", int.from_bytes(field.value, "little", signed=True))
    else:
        raise NotBson
    return siphash(seed, tag, siphash(seed, _NAME, field.name) + value)


class Digests:
    """See contract.Digests."""

    def __init__(self, seed: bytes, form: KeyForm) -> None:
        if len(seed) != SEED_LENGTH:
            raise ValueError("a seed has 16 bytes")
        self._seed = seed
        self._form = form

    def add(self, documents: bytes | memoryview, sums: memoryview) -> int:
        keys = [self.key(document) for document in documents_of(documents)]
        add_keys(keys, sums)
        return len(keys)

    def within(self, documents: bytes | memoryview, marks: bytes) -> list[bytes]:
        found = []
        for document in documents_of(documents):
            number = _bucket(self.key(document), len(marks) * 8)
            if marks[number // 8] >> number % 8 & 1:
                found.append(document)
        return found

    def key(self, document: bytes) -> bytes:
        [one] = documents_of(document)
        return key_digest(self._seed, self._form, one[4:-1])

    def fields(self, document: bytes) -> bytes | None:
        [one] = documents_of(document)
        try:
            return content_digest(self._seed, one[4:-1])
        except NotBson:
            return None


def _bucket(digest: bytes, buckets: int) -> int:
    return int.from_bytes(digest[8:], "little") % buckets


def add_sums(sums: memoryview, more: bytes | memoryview) -> None:
    """See contract.Codec."""
    buckets = _buckets(sums)
    if memoryview(more).nbytes != buckets.nbytes:
        raise ValueError("there must be as many sums")
    for number, value in enumerate(memoryview(more).cast("B").cast("Q")):
        buckets[number] = (buckets[number] + value) % (1 << 64)


def _buckets(sums: memoryview) -> memoryview:
    size = sums.nbytes
    if size < 8 or size & (size - 1):
        raise ValueError("there must be 2**n buckets of 8 bytes")
    return sums.cast("B").cast("Q")


def add_keys(digests: Sequence[bytes], sums: memoryview) -> None:
    """Count keys into their buckets."""
    buckets = _buckets(sums)
    for digest in digests:
        number = _bucket(digest, len(buckets))
        value = int.from_bytes(digest[:8], "little")
        buckets[number] = (buckets[number] + value) % (1 << 64)
