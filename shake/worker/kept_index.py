"""Finds the keys of kept items among documents and statements, without a look at all others."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable

import orjson

from shake import codec
from shake.checkpoint.kept import entry_id
from shake.codec.contract import KeyForm
from shake.codec.siphash import SEED_LENGTH
from shake.schema import Item
from shake.targets.contract import Changes

#: Buckets of digests in which documents are looked up (see codec.Digests).
_BUCKETS = 1 << 18
#: Where the query of an update or a delete begins: behind length, type and name.
_QUERY_AT = 4 + 3


class KeptIndex:
    """Some typed keys, to be found again by their entry_id."""

    def __init__(self, options: codec.ChangeOptions, keys: Iterable[Item]) -> None:
        self._options = options
        self._digests = codec.digests(
            secrets.token_bytes(SEED_LENGTH), KeyForm.of(options.id_rule, options.keys)
        )
        self._by_query: dict[bytes, str] = {}
        self._by_digest: dict[bytes, str] = {}
        self._known: set[str] = set()
        marks = bytearray(_BUCKETS // 8)
        # ``options`` refuse a key that changes as a double: it is not found by that double.
        for key in keys:
            one = entry_id(key)
            self._known.add(one)
            if options.convert == "json":
                continue
            if (query := codec.query(options, key)) is not None:
                self._by_query[query] = one
            if (document := codec.key_document(options, key)) is not None:
                digest = self._digests.key(document)
                self._by_digest[digest] = one
                bucket = int.from_bytes(digest[8:], "little") % _BUCKETS
                marks[bucket // 8] |= 1 << bucket % 8
        self._marks = bytes(marks)

    def in_documents(self, documents: memoryview) -> set[str]:
        """The known keys of documents, one behind the other."""
        if not self._known:
            return set()
        if self._options.convert == "json":
            return self._known & set(map(self._of_json, codec.singly(documents)))
        found = self._digests.within(documents.tobytes(), self._marks)
        return {
            self._by_digest[digest]
            for document in found
            if (digest := self._digests.key(document)) in self._by_digest
        }

    def in_changes(self, changes: Changes) -> set[str]:
        """The known keys of statements."""
        if not self._known:
            return set()
        if self._options.convert == "json":
            return self._known & {
                self._of_json(one) for some in changes for one in codec.singly(some)
            }
        statements = *codec.singly(changes.updates), *codec.singly(changes.deletes)
        queries = set(map(_query, statements))
        found = {self._by_query[query] for query in queries & self._by_query.keys()}
        # Inserts are documents without an ``_id``, or with the key as theirs.
        return found | self.in_documents(changes.inserts)

    def _of_json(self, document: memoryview) -> str:
        item = orjson.loads(document[4:])
        with contextlib.suppress(KeyError):
            return entry_id({key.name: item[key.name] for key in self._options.keys})
        return ""


def _query(statement: memoryview) -> bytes:
    length = int.from_bytes(statement[_QUERY_AT : _QUERY_AT + 4], "little")
    return statement[_QUERY_AT : _QUERY_AT + length].tobytes()
