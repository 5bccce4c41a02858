"""Matches stored documents with those of a page, by keyed digests, in plain Python.

What the C twin (``matcher.c``, ``filter.c`` and ``reply.c`` in ``shake/codec/_native``) must do,
byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from shake.codec.contract import KeyForm
from shake.codec.digests import (
    LIST,
    MAP,
    NOTHING,
    Field,
    NotBson,
    add_keys,
    content_digest,
    documents_of,
    fields_of,
    id_of,
    key_digest,
    parts_of,
)


class Matcher:
    """See contract.Matcher."""

    def __init__(
        self, documents: bytes | memoryview, seed: bytes, ours: KeyForm, stored: KeyForm
    ) -> None:
        self._documents = list(documents_of(documents))
        self._seed = seed
        self._ours = ours
        self._stored = stored
        self._keys = [key_digest(seed, ours, document[4:-1]) for document in self._documents]
        self._copies = [0] * len(self._documents)
        self._equal = [False] * len(self._documents)
        self._table: dict[bytes, int] = {}
        for number, key in enumerate(self._keys):
            first = self._table.setdefault(key, number)
            if first != number:  # two of one key: neither can be matched with certainty
                self._copies[first] = self._copies[number] = 2

    def __len__(self) -> int:
        return len(self._documents)

    def match(self, stored: bytes | memoryview) -> None:
        for document in documents_of(stored):
            number = self._table.get(key_digest(self._seed, self._stored, document[4:-1]))
            if number is None:
                continue
            if not self._copies[number]:
                self._equal[number] = self._say_the_same(self._documents[number], document)
            self._copies[number] = min(2, self._copies[number] + 1)

    def unmatched(self) -> list[int]:
        return [number for number in range(len(self)) if not self._is_matched(number)]

    def add(self, sums: memoryview) -> int:
        keys = [key for number, key in enumerate(self._keys) if self._is_matched(number)]
        add_keys(keys, sums)
        return len(keys)

    def filter(self, first: int, last: int, scanned: bool) -> bytes:
        if not 0 <= first < last <= len(self):
            raise IndexError("there are no such documents")
        contents = [document[4:-1] for document in self._documents[first:last]]
        if self._stored.by_id:
            return _map(_in(b"_id", [id_of(content) for content in contents]))
        keys = [parts_of(self._ours, content) for content in contents]
        if len(self._stored.names) == 1:
            return _map(_in(self._path(0), [key[0] for key in keys]))
        groups = [list(group) for _, group in groupby(keys, lambda key: (key[0][0], key[0][2]))]
        clauses = [self._some(group) for group in groups]
        if scanned and len(groups) > 2:
            clauses[1:-1] = [_in(self._path(0), [group[0][0] for group in groups[1:-1]])]
        if len(clauses) == 1:
            return _map(clauses[0])
        return _map(_element(LIST, b"$or", _array(map(_map, clauses), MAP)))

    def _some(self, group: list[list[Field]]) -> bytes:
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
        """Whether they do; the ``_id`` counts only where it is the key, and then byte for byte."""
        (our_id, our_content), (their_id, their_content) = map(_behind_id, (ours, theirs))
        if self._stored.by_id and our_id != their_id:
            return False
        if our_content == their_content:
            return True
        try:
            digests = [content_digest(self._seed, one) for one in (our_content, their_content)]
        except NotBson:
            return False
        return digests[0] == digests[1]


def _behind_id(document: bytes) -> tuple[bytes, bytes]:
    """The fields of a document, cut behind its ``_id``, if that comes first."""
    content = document[4:-1]
    found = id_of(content)
    end = 2 + len(found.name) + len(found.value) if found.type else 0
    return content[:end], content[end:]


def _element(kind: int, name: bytes, value: bytes) -> bytes:
    return bytes([kind]) + name + b"\0" + value


def _map(elements: bytes) -> bytes:
    return (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"


def _array(values: Iterable[bytes], kind: int) -> bytes:
    return _map(b"".join(_element(kind, b"%d" % n, value) for n, value in enumerate(values)))


def _in(path: bytes, values: list[Field]) -> bytes:
    """The element that selects documents with one of these values."""
    elements = [_element(one.type, b"%d" % n, one.value) for n, one in enumerate(values)]
    array = _map(b"".join(elements))
    return _element(MAP, path, _map(_element(LIST, b"$in", array)))


def cut_reply(reply: bytes | memoryview) -> tuple[bytes, bytes]:
    """See contract.Codec."""
    whole = bytes(reply)
    try:
        [document] = documents_of(whole)
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
        fields = list(fields_of(whole[start + 4 : end - 1]))
    except NotBson:
        fields = [NOTHING]
    if any(field.type != MAP for field in fields):
        raise ValueError("a batch that holds something else than documents")
    return bytes(rest), b"".join(field.value for field in fields)


def _batch(document: bytes) -> tuple[int, int, int] | None:
    """Where the value of the cursor begins, and that of its batch begins and ends."""
    found = None
    at = 4
    for field in fields_of(document[4:-1]):
        start = at + 2 + len(field.name)
        at = start + len(field.value)
        if field.type != MAP or field.name != b"cursor":
            continue
        found = None
        inner = start + 4
        for one in fields_of(field.value[4:-1]):
            value = inner + 2 + len(one.name)
            inner = value + len(one.value)
            if one.type == LIST and one.name in (b"firstBatch", b"nextBatch"):
                found = start, value, inner
    return found
