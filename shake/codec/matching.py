"""Matches stored documents with those of a page, by keyed digests, in plain Python.

What the C twin (``shake/codec/_native``: stored, digest, matcher, filter) must do, byte for byte.
Stored documents may hold anything: where it is not sure what one says, it says nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
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

_DOUBLE, _STRING, _MAP, _LIST, _BINARY, _BOOL, _NULL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x0A
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


class _Broken(ValueError):
    """These bytes are no BSON."""


class _Field(NamedTuple):
    type: int
    name: bytes
    value: bytes


_NOTHING = _Field(0, b"", b"")


def _documents(documents: bytes) -> Iterator[bytes]:
    """Documents that stand one behind the other. Raises ValueError where they do not."""
    at = 0
    while at < len(documents):
        length = int.from_bytes(documents[at : at + 4], "little")
        if not 5 <= length <= len(documents) - at or documents[at + length - 1]:
            raise ValueError("these are no documents, one behind the other")
        yield documents[at : at + length]
        at += length


def _fields(content: bytes) -> Iterator[_Field]:
    """The fields in a document, its length and its last byte cut off. Raises _Broken."""
    at = 0
    while at < len(content):
        kind = content[at]
        name_end = content.find(0, at + 1)
        if not kind or name_end < 0:
            raise _Broken
        value = name_end + 1
        end = value + _size(kind, content[value:])
        if end > len(content):
            raise _Broken
        yield _Field(kind, content[at + 1 : name_end], content[value:end])
        at = end


def _size(kind: int, rest: bytes) -> int:
    """Bytes of a value that ``rest`` begins with. Raises _Broken, or is larger than that."""
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == _REGEX:
        second = rest.find(0, rest.find(0) + 1)
        if second < 1 or rest.count(0) < 2:
            raise _Broken
        return second + 1
    count = int.from_bytes(rest[:4], "little")
    if len(rest) < 4:
        raise _Broken
    if kind in (_MAP, _LIST) and 5 <= count <= len(rest) and not rest[count - 1]:
        return count
    if kind in _TEXTS and 1 <= count <= len(rest) - 4 and not rest[3 + count]:
        return 4 + count + 12 * (kind == _POINTER)
    if kind == _BINARY:
        return 5 + count
    if kind == _SCOPED_CODE and count >= 4:
        return count
    raise _Broken


# -- keys ----------------------------------------------------------------------------------------


def _id(content: bytes) -> _Field:
    """The _id, where it comes first."""
    try:
        first = next(_fields(content), _NOTHING)
    except _Broken:
        return _NOTHING
    return first if first.name == b"_id" else _NOTHING


def _parts(form: KeyForm, content: bytes) -> list[_Field]:
    """The values of the key attributes. Raises _Broken."""
    found = _id(content)
    if form.by_id and len(form.names) == 1:
        parts = [found]
    elif form.by_id:
        parts = _parts_of_id(form, found)
    else:
        parts = _first_of_each(form, _fields(content))
    if form.raw:
        return [_untyped(part, kind) for part, kind in zip(parts, form.types, strict=True)]
    return parts


def _first_of_each(form: KeyForm, fields: Iterator[_Field]) -> list[_Field]:
    found: dict[bytes, _Field] = {}
    while len(found) < len(form.names) and (field := next(fields, None)):
        if field.name in form.names:
            found.setdefault(field.name, field)
    return [found.get(name, _NOTHING) for name in form.names]


def _parts_of_id(form: KeyForm, found: _Field) -> list[_Field]:
    """Those of an _id, which must hold them and nothing else."""
    nothing = [_NOTHING] * len(form.names)
    if found.type != _MAP:
        return nothing
    fields = _fields(found.value[4:-1])
    parts = _first_of_each(form, fields)
    size = sum(2 + len(field.name) + len(field.value) for field in parts)
    return parts if _NOTHING not in parts and size == len(found.value) - 5 else nothing


def _untyped(part: _Field, kind: bytes) -> _Field:
    """With raw, a value is a document that holds nothing but it, under its type."""
    if part.type != _MAP:
        return _NOTHING
    content = part.value[4:-1]
    try:
        field = next(_fields(content), _NOTHING)
    except _Broken:
        return _NOTHING
    alone = 2 + len(field.name) + len(field.value) == len(content)
    return field if alone and field.name == kind else _NOTHING


def _key(seed: bytes, form: KeyForm, content: bytes) -> bytes:
    """The digest of a key: numbers count by their values alone, null as nothing."""
    try:
        parts = _parts(form, content)
    except _Broken:
        return siphash(seed, _KEY_BROKEN, content)
    digests = [_part(seed, part) for part in parts]
    return digests[0] if len(digests) == 1 else siphash(seed, _KEY_PAIR, b"".join(digests))


def _part(seed: bytes, part: _Field) -> bytes:
    if part.type in (0, _NULL):
        return siphash(seed, _KEY_NOTHING, b"")
    if part.type == _STRING:
        return siphash(seed, _KEY_TEXT, part.value)
    if part.type == _BINARY:
        return siphash(seed, _KEY_BINARY, part.value)
    if (number := _number(part)) is not None:
        return siphash(seed, _KEY_NUMBER, _reduced(*number))
    return siphash(seed, _KEY_OTHER | part.type << 8, part.value)


def _number(part: _Field) -> tuple[bool, int, int, int] | None:
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


def _content(seed: bytes, content: bytes, depth: int = 0, *, array: bool = False) -> bytes:
    """The digest of fields, in any order. Raises _Broken where they might not be what they seem."""
    if depth > _DEEPEST:
        raise _Broken
    total = 0
    names = set()
    for number, field in enumerate(_fields(content)):
        if array and field.name != b"%d" % number:
            raise _Broken
        total += int.from_bytes(_field(seed, field, depth), "little")
        names.add(field.name)
        if len(names) <= number:
            raise _Broken
    return (total % (1 << 128)).to_bytes(16, "little")


def _field(seed: bytes, field: _Field, depth: int) -> bytes:
    if field.type in _PLAIN:
        element = bytes([field.type]) + field.name + b"\0" + field.value
        return siphash(seed, _ELEMENT, element)
    if field.type in (_MAP, _LIST):
        array = field.type == _LIST
        tag, value = _ARRAY if array else _DOCUMENT, field.value[4:-1]
        value = _content(seed, value, depth + 1, array=array)
    elif field.type in (_INT32, _INT64):
        tag = _INTEGER
        value = struct.pack("<q", int.from_bytes(field.value, "little", signed=True))
    else:
        raise _Broken
    return siphash(seed, tag, siphash(seed, _NAME, field.name) + value)


class Digests:
    """See contract.Digests."""

    def __init__(self, seed: bytes, form: KeyForm) -> None:
        if len(seed) != SEED_LENGTH:
            raise ValueError("a seed has 16 bytes")
        self._seed = seed
        self._form = form

    def add(self, documents: bytes, sums: memoryview) -> int:
        keys = [self.key(document) for document in _documents(documents)]
        _add(keys, sums)
        return len(keys)

    def within(self, documents: bytes, marks: bytes) -> list[bytes]:
        found = []
        for document in _documents(documents):
            number = _bucket(self.key(document), len(marks) * 8)
            if marks[number // 8] >> number % 8 & 1:
                found.append(document)
        return found

    def key(self, document: bytes) -> bytes:
        [one] = _documents(document)
        return _key(self._seed, self._form, one[4:-1])

    def fields(self, document: bytes) -> bytes | None:
        [one] = _documents(document)
        try:
            return _content(self._seed, one[4:-1])
        except _Broken:
            return None


def _bucket(digest: bytes, buckets: int) -> int:
    return int.from_bytes(digest[8:], "little") % buckets


def cut_reply(reply: bytes | memoryview) -> tuple[bytes, bytes]:
    """See contract.Codec."""
    whole = bytes(reply)
    try:
        [document] = _documents(whole)
        places = _batch(document)
    except ValueError as error:
        raise ValueError("a broken answer") from error
    if places is None:
        return whole, b""
    cursor, start, end = places
    less = end - start - 5
    rest = bytearray(whole[:start] + _map(b"") + whole[end:])
    for at in (0, cursor):
        length = int.from_bytes(rest[at : at + 4], "little") - less
        rest[at : at + 4] = length.to_bytes(4, "little")
    try:
        fields = list(_fields(whole[start + 4 : end - 1]))
    except _Broken:
        fields = [_NOTHING]
    if any(field.type != _MAP for field in fields):
        raise ValueError("a batch that holds something else than documents")
    return bytes(rest), b"".join(field.value for field in fields)


def _batch(document: bytes) -> tuple[int, int, int] | None:
    """Where the value of the cursor begins, and that of its batch begins and ends."""
    found = None
    at = 4
    for field in _fields(document[4:-1]):
        start = at + 2 + len(field.name)
        at = start + len(field.value)
        if field.type != _MAP or field.name != b"cursor":
            continue
        found = None
        inner = start + 4
        for one in _fields(field.value[4:-1]):
            value = inner + 2 + len(one.name)
            inner = value + len(one.value)
            if one.type == _LIST and one.name in (b"firstBatch", b"nextBatch"):
                found = start, value, inner
    return found


def add_sums(sums: memoryview, more: bytes) -> None:
    """See contract.Codec."""
    buckets = _buckets(sums)
    if len(more) != buckets.nbytes:
        raise ValueError("there must be as many sums")
    for number, value in enumerate(memoryview(more).cast("Q")):
        buckets[number] = (buckets[number] + value) % (1 << 64)


def _buckets(sums: memoryview) -> memoryview:
    size = sums.nbytes
    if size < 8 or size & (size - 1):
        raise ValueError("there must be 2**n buckets of 8 bytes")
    return sums.cast("B").cast("Q")


def _add(digests: Sequence[bytes], sums: memoryview) -> None:
    """Count keys into their buckets."""
    buckets = _buckets(sums)
    for digest in digests:
        number = _bucket(digest, len(buckets))
        value = int.from_bytes(digest[:8], "little")
        buckets[number] = (buckets[number] + value) % (1 << 64)


# -- pages ---------------------------------------------------------------------------------------


class Matcher:
    """See contract.Matcher."""

    def __init__(self, documents: bytes, seed: bytes, ours: KeyForm, stored: KeyForm) -> None:
        self._documents = list(_documents(documents))
        self._seed = seed
        self._ours = ours
        self._stored = stored
        self._keys = [_key(seed, ours, document[4:-1]) for document in self._documents]
        self._copies = [0] * len(self._documents)
        self._equal = [False] * len(self._documents)
        self._table: dict[bytes, int] = {}
        for number, key in enumerate(self._keys):
            first = self._table.setdefault(key, number)
            if first != number:  # two of one key: neither can be matched with certainty
                self._copies[first] = self._copies[number] = 2

    def __len__(self) -> int:
        return len(self._documents)

    def match(self, stored: bytes) -> None:
        for document in _documents(stored):
            number = self._table.get(_key(self._seed, self._stored, document[4:-1]))
            if number is None:
                continue
            if not self._copies[number]:
                self._equal[number] = self._say_the_same(self._documents[number], document)
            self._copies[number] = min(2, self._copies[number] + 1)

    def doubtful(self) -> list[int]:
        return [number for number in range(len(self)) if not self._is_matched(number)]

    def add(self, sums: memoryview) -> int:
        keys = [key for number, key in enumerate(self._keys) if self._is_matched(number)]
        _add(keys, sums)
        return len(keys)

    def filter(self, first: int, last: int, scanned: bool) -> bytes:
        if not 0 <= first < last <= len(self):
            raise IndexError("there are no such documents")
        contents = [document[4:-1] for document in self._documents[first:last]]
        if self._stored.by_id:
            return _map(_in(b"_id", [_id(content) for content in contents]))
        keys = [_parts(self._ours, content) for content in contents]
        if len(self._stored.names) == 1:
            return _map(_in(self._path(0), [key[0] for key in keys]))
        groups = [list(group) for _, group in groupby(keys, lambda key: (key[0][0], key[0][2]))]
        clauses = [self._some(group) for group in groups]
        if scanned and len(groups) > 2:
            clauses[1:-1] = [_in(self._path(0), [group[0][0] for group in groups[1:-1]])]
        if len(clauses) == 1:
            return _map(clauses[0])
        return _map(_element(_LIST, b"$or", _array(map(_map, clauses), _MAP)))

    def _some(self, group: list[list[_Field]]) -> bytes:
        """Some documents of one partition."""
        partition = group[0][0]
        sorts = _in(self._path(1), [key[1] for key in group])
        return _element(partition.type, self._path(0), partition.value) + sorts

    def _path(self, number: int) -> bytes:
        name = self._stored.names[number]
        return name + b"." + self._stored.types[number] if self._stored.raw else name

    def _is_matched(self, number: int) -> bool:
        return self._copies[number] == 1 and self._equal[number]

    def _say_the_same(self, ours: bytes, theirs: bytes) -> bool:
        """Whether they do; the _id counts only where it is the key, and then byte for byte."""
        (our_id, our_content), (their_id, their_content) = map(_behind_id, (ours, theirs))
        if self._stored.by_id and our_id != their_id:
            return False
        if our_content == their_content:
            return True
        try:
            digests = [_content(self._seed, one) for one in (our_content, their_content)]
        except _Broken:
            return False
        return digests[0] == digests[1]


def _behind_id(document: bytes) -> tuple[bytes, bytes]:
    """The fields of a document, cut behind its _id, if that comes first."""
    content = document[4:-1]
    found = _id(content)
    end = 2 + len(found.name) + len(found.value) if found.type else 0
    return content[:end], content[end:]


def _element(kind: int, name: bytes, value: bytes) -> bytes:
    return bytes([kind]) + name + b"\0" + value


def _map(elements: bytes) -> bytes:
    return (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"


def _array(values: Iterable[bytes], kind: int) -> bytes:
    return _map(b"".join(_element(kind, b"%d" % n, value) for n, value in enumerate(values)))


def _in(path: bytes, values: list[_Field]) -> bytes:
    """The element that selects documents with one of these values."""
    elements = [_element(one.type, b"%d" % n, one.value) for n, one in enumerate(values)]
    array = _map(b"".join(elements))
    return _element(_MAP, path, _map(_element(_LIST, b"$in", array)))
