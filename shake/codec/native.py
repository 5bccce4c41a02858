"""The codec in C, some 60 times as fast as the reference, which stays the authority.

C transcodes the items of a page that is in order, in one pass and without the GIL. Whatever it
does not take, wrong or only rare, is read by the reference, so that there is one set of rules for
errors. The few members beside the items are the reference's too.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import NamedTuple

import orjson

from shake.codec import contract, reference
from shake.codec._transcoder import Documents
from shake.codec.contract import Options

log = logging.getLogger("shake.codec")

_CONVERTS = {"change": 0, "mchange": 1, "raw": 2}


def scan_page(body: bytes, options: Options) -> contract.ScanPage:
    """Parse a Scan response body. Raises CorruptPage when it is not one."""
    plan = _plan(options)
    if plan is None:
        return reference.scan_page(body, options)
    try:
        documents = Documents(body, *plan)
        start, end = documents.items
        header = reference.header(orjson.loads(body[:start] + b"[]" + body[end:]), documents.count)
    except ValueError as refusal:
        log.debug("a page of %d bytes is left to the reference codec: %s", len(body), refusal)
        return reference.scan_page(body, options)
    return ScanPage(body, options, documents, header)


class ScanPage:
    """See contract.ScanPage."""

    def __init__(
        self, body: bytes, options: Options, documents: Documents, header: reference.Header
    ) -> None:
        self.count, self.scanned, self.capacity, self.last_key = header
        self._body = body
        self._options = options
        self._documents = documents
        self._filled = 0

    def fill(self, out: memoryview, prefix: bytes, number: int) -> tuple[int, int]:
        used, documents = self._documents.fill(out, prefix, number)
        if not documents and self._filled < self.count:
            return self._refuse(out, prefix, number)
        self._filled += documents
        return used, documents

    def _refuse(self, out: memoryview, prefix: bytes, number: int) -> tuple[int, int]:
        """Let the reference say that the next document is larger than an empty slot."""
        page = reference.scan_page(self._body, self._options)
        page.skip(self._filled)
        return page.fill(out, prefix, number)


class _Plan(NamedTuple):
    """The options as C takes them."""

    convert: int
    overflow_is_error: bool
    id_is_key: bool
    renamed: bytes | None
    partition: bytes
    partition_type: int
    sort: bytes | None
    sort_type: int


@lru_cache
def _plan(options: Options) -> _Plan | None:
    """None where the reference does all the work: ``json``, and what no table has."""
    keys = list(options.keys)
    try:
        names = [key.name.encode() for key in keys]
        types = [int.from_bytes(key.type.encode(), "big") for key in keys]
        renamed = f"{options.id_prefix}_id".encode()
    except UnicodeEncodeError:
        return None
    if options.convert not in _CONVERTS or max(types) >= 1 << 32:
        return None
    return _Plan(
        _CONVERTS[options.convert],
        options.overflow == "error",
        options.id_mode == "key",
        None if renamed == b"_id" or b"\0" in renamed else renamed,
        names[0],
        types[0],
        names[1] if len(keys) > 1 else None,
        types[1] if len(keys) > 1 else 0,
    )
