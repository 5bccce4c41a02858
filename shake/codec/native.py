"""The codec in C, some 100 times as fast as the reference, which stays the authority.

C transcodes the items and records of an answer that is in order, without the GIL. Whatever it does
not take, wrong or only rare, is read by the reference, so that there is one set of rules for
errors. So is what needs a second slot, which answers of 1 MB seldom do. The few members beside the
items and records are the reference's too.
"""

from __future__ import annotations

import contextlib
import logging
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from shake.codec import _transcoder, contract, reference
from shake.codec._transcoder import Changes, add_sums, batches, cut_reply
from shake.codec.contract import Body, ChangeOptions, Options, Reject, Statements

log = logging.getLogger("shake.codec")

__all__ = ["add_sums", "batches", "change_page", "cut_reply", "digests", "matcher", "scan_page"]

_CONVERTS = {"change": 0, "mchange": 1, "raw": 2}

matcher = _transcoder.Matcher
digests = _transcoder.Digests


def scan_page(body: Body, options: Options) -> contract.ScanPage:
    """See contract.Codec."""
    plan = _plan(options)
    return ScanPage(body, options, plan) if plan else reference.scan_page(body, options)


class ScanPage:
    """See contract.ScanPage. C makes one pass; the reference goes on where that stops."""

    def __init__(self, body: Body, options: Options, plan: _Plan) -> None:
        self.done = False
        self.count = self.scanned = 0
        self.capacity = 0.0
        self.last_key: bytes | None = None
        self._body = body
        self._options = options
        self._plan = plan
        self._other: reference.ScanPage | None = None

    def fill(self, out: memoryview, prefix: bytes, number: int) -> tuple[int, int]:
        used = documents = 0
        if self._other is None and not self.done:
            used, documents, place, refusal = _transcoder.documents(
                self._body, self._plan, out, prefix, number
            )
            if refusal is None and (rest := _rest(self._body, *place)):
                self._finish(reference.header(rest, documents))
            else:
                _log_refusal(self._body, refusal)
                self._other = reference.scan_page(self._body, self._options)
                self._other.skip(documents)
        if self._other is not None and not self.done:
            used, more = self._other.fill(out, prefix, number, used)
            documents += more
            if self._other.done:
                self._finish(self._other.header._replace(documents=self._other.count))
        return used, documents

    def take_rejects(self) -> list[Reject]:
        return self._other.take_rejects() if self._other else []

    def _finish(self, header: reference.Header) -> None:
        self.count, self.scanned, self.capacity, self.last_key = header
        self.done = True


def change_page(body: Body, options: ChangeOptions) -> contract.ChangePage:
    """See contract.Codec."""
    plan = _plan(options)
    if plan is None:
        return reference.change_page(body, options)
    try:
        changes = Changes(body, plan, *_change_plan(options))
    except ValueError as refusal:
        _log_refusal(body, refusal.args)
        return reference.change_page(body, options)
    rest = _rest(body, *changes.found[2])
    if rest is None:
        return reference.change_page(body, options)
    return ChangePage(body, options, changes, reference.next_iterator(rest))


class ChangePage:
    """See contract.ChangePage. C gives out statements once; the reference goes on behind them."""

    def __init__(
        self, body: Body, options: ChangeOptions, changes: Changes, next_iterator: str | None
    ) -> None:
        self.records, statements, _, self.sequence, created = changes.found
        self.created = float(created)
        self.next_iterator = next_iterator
        self._done = not statements
        self._body = body
        self._options = options
        self._changes = changes
        self._other: reference.ChangePage | None = None

    @property
    def done(self) -> bool:
        return self._done if self._other is None else self._other.done

    def fill(self, out: memoryview) -> Statements:
        filled = Statements()
        if not self._done and self._other is None:
            runs, refusal = self._changes.fill(out)
            filled = Statements(*runs)
            self._done = refusal is None
            if refusal:
                _log_refusal(self._body, refusal)
                self._other = reference.change_page(self._body, self._options)
                self._other.skip(sum(statements for _, statements in runs))
        return filled if self._other is None else self._other.fill(out, filled)

    def take_rejects(self) -> list[Reject]:
        return self._other.take_rejects() if self._other else []


def _rest(body: Body, start: int, end: int) -> dict[str, Any] | None:
    """The response with its array empty; None where it is not JSON."""
    around = bytes(body[:start]) + b"[]" + bytes(body[end:])
    if not isinstance(body, bytes):
        around = around[:-1]
    with contextlib.suppress(ValueError):
        rest: dict[str, Any] = orjson.loads(around)
        return rest
    return None


def _log_refusal(body: Body, refusal: object) -> None:
    log.debug("a page of %d bytes is left to the reference codec: %s", len(body), refusal)


class _Plan(NamedTuple):
    """The options as C takes them."""

    convert: int
    overflow_is_error: bool
    identity: int
    exact_keys: bool
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
        renamed = options.id_rule.name("_id").encode()
    except UnicodeEncodeError:
        return None
    most = 1 << 8 if isinstance(options, ChangeOptions) else 1 << 32
    if options.convert not in _CONVERTS or max(types) >= most:
        return None
    return _Plan(
        _CONVERTS[options.convert],
        options.overflow == "error",
        1 if options.id_rule.by_key else 2 * isinstance(options, ChangeOptions),
        options.id_rule.by_key or isinstance(options, ChangeOptions) or options.rejects,
        None if renamed == b"_id" or b"\0" in renamed else renamed,
        names[0],
        types[0],
        names[1] if len(keys) > 1 else None,
        types[1] if len(keys) > 1 else 0,
    )


@lru_cache
def _change_plan(options: ChangeOptions) -> tuple[bytes, bytes | None, bool, bool, bool]:
    paths = [options.id_rule.path(key).encode() for key in options.keys]
    return (
        paths[0],
        paths[1] if len(paths) > 1 else None,
        options.sharded,
        options.upsert,
        options.insert_only,
    )
