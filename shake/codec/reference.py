"""The codec in plain Python: what every other implementation must do, byte for byte."""

from __future__ import annotations

import contextlib
import json
from typing import Any, NamedTuple, NoReturn

import orjson

from shake.codec import digests as digesting
from shake.codec import matching
from shake.codec.contract import (
    Body,
    ChangeOptions,
    CorruptPage,
    Options,
    Reject,
    Statements,
)
from shake.codec.items import dump, encoder, has_key, key_text
from shake.codec.statements import Change, NoImage, maker
from shake.errors import ItemError
from shake.schema import Item, Typed

#: Bytes at the end of a page in which its LastEvaluatedKey is looked for; the largest key, of 3 KB
#: at most, may be six times as long as JSON.
_TAIL = 20 * 1024
_LAST_KEY = b'"LastEvaluatedKey":'


def scan_page(body: Body, options: Options) -> ScanPage:
    """Parse a Scan response body. Raises CorruptPage when it is not one.

    Items are converted as they are filled in, so that an item that cannot be stored is noticed
    (ItemError) only then.
    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
    """
    return ScanPage(_parse(text(body)), options)


class ScanPage:
    """See contract.ScanPage."""

    def __init__(self, page: Any, options: Options) -> None:
        self._items: list[Item] = _field(_object(page, "the response"), "Items", list)
        for item in self._items:
            _object(item, "an item of the response")
        self.header = header(page, len(self._items))
        _, self.scanned, self.capacity, self.last_key = self.header
        self._encode = encoder(options)
        self._options = options
        self._next = 0  # of the items
        self.count = 0  # documents that are given out
        self._rejects: list[Reject] = []

    @property
    def done(self) -> bool:
        return self._next == len(self._items)

    def skip(self, documents: int) -> None:
        """Go on behind this many documents, each of an item."""
        self._next += documents
        self.count += documents

    def take_rejects(self) -> list[Reject]:
        """See contract.ScanPage."""
        taken, self._rejects = self._rejects, []
        return taken

    def fill(self, out: memoryview, prefix: bytes, number: int, used: int = 0) -> tuple[int, int]:
        """See contract.ScanPage; ``used`` bytes of ``out`` are taken already, and count."""
        first = self.count
        while not self.done:
            item = self._items[self._next]
            object_id = prefix + (number + self.count).to_bytes(5, "big")
            try:
                document = self._encode(item, object_id)
                if not _put(out, used, document):
                    break
                used += len(document)
                self.count += 1
            except (ValueError, RecursionError) as error:
                self._rejects.append(_reject(self._options, self._next, item, error))
            self._next += 1
        return used, self.count - first


def change_page(body: Body, options: ChangeOptions) -> ChangePage:
    """Parse a GetRecords response body. See contract.Codec.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
    """
    return ChangePage(_parse(text(body)), options)


#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html
_EVENTS = ("INSERT", "MODIFY", "REMOVE")

_NOTHING = Statements()


class ChangePage:
    """See contract.ChangePage."""

    def __init__(self, page: Any, options: ChangeOptions) -> None:
        page = _object(page, "the response")
        records = [_record(record) for record in _field(page, "Records", list)]
        self.records = len(records)
        self.next_iterator = next_iterator(page)
        self.sequence, self.created = (
            (records[-1].sequence, records[-1].created) if records else ("", 0.0)
        )
        self._options = options
        self._query, self._make = maker(options)
        self._rejects: list[Reject] = []
        changes: dict[bytes, Change] = {}
        for number, record in enumerate(records):
            self._add(changes, number, record)
        self._changes = sorted(changes.values(), key=lambda change: change.kind(options))
        self._next = 0

    def _add(self, changes: dict[bytes, Change], number: int, record: Record) -> None:
        try:
            if record.event not in _EVENTS:
                raise ValueError(f"its change {record.event!a} is none of {', '.join(_EVENTS)}")
            query = self._query(record.keys)
        except (ValueError, RecursionError) as error:
            self._rejects.append(_reject(self._options, number, record.keys, error))
            return
        before = changes.get(query)
        changes[query] = Change(
            number,
            record.keys,
            query,
            first=before.first if before else record.event,
            last=record.event,
            modifies=record.event == "MODIFY" and (before is None or before.modifies),
            image=record.image,
        )

    @property
    def done(self) -> bool:
        return self._next == len(self._changes)

    def skip(self, statements: int) -> None:
        """Go on behind this many statements, each of a change."""
        self._next += statements

    def take_rejects(self) -> list[Reject]:
        """See contract.ChangePage."""
        taken, self._rejects = self._rejects, []
        return taken

    def number_of(self, statement: bytes) -> int | None:
        """The number of the record that this statement was made of."""
        for change in self._changes:
            with contextlib.suppress(ValueError, RecursionError):
                if self._make(change) == statement:
                    return change.number
        return None

    def fill(self, out: memoryview, filled: Statements = _NOTHING) -> Statements:
        """See contract.ChangePage; what is ``filled`` of ``out`` already counts."""
        runs = list(filled)
        while not self.done:
            change = self._changes[self._next]
            try:
                statement = self._make(change)
                used = sum(size for size, _ in runs)
                if not _put(out, used, statement):
                    break
                size, count = runs[kind := change.kind(self._options)]
                runs[kind] = (size + len(statement), count + 1)
            except NoImage as error:
                raise ItemError(key_text(self._options, change.key), str(error)) from error
            except (ValueError, RecursionError) as error:
                self._rejects.append(_reject(self._options, change.number, change.key, error))
            self._next += 1
        return Statements(*runs)


class Record(NamedTuple):
    """One change as GetRecords gives it."""

    event: str
    keys: Item
    image: Item | None
    sequence: str
    created: float


def _record(record: Any) -> Record:
    change = _field(_object(record, "a record"), "dynamodb", dict)
    return Record(
        event=_field(record, "eventName", str),
        keys=_field(change, "Keys", dict),
        image=_field(change, "NewImage", dict) if change.get("NewImage") is not None else None,
        sequence=sequence(_field(change, "SequenceNumber", str)),
        created=float(_field(change, "ApproximateCreationDateTime", (int, float), 0.0)),
    )


def sequence(text: str) -> str:
    """A SequenceNumber, which is one. Raises CorruptPage."""
    if not (text.isascii() and text.isdigit()):
        raise CorruptPage(f"{text!a} is no SequenceNumber")
    return text


def next_iterator(page: Typed) -> str | None:
    """The response's NextShardIterator. Raises CorruptPage."""
    if page.get("NextShardIterator") is None:
        return None
    iterator: str = _field(page, "NextShardIterator", str)
    return iterator


def _reject(options: Options, number: int, item: Item, error: Exception) -> Reject:
    """Report an item that cannot be stored. Raises ItemError unless it can be kept by its key."""
    keyed = has_key(options, item)
    if options.rejects and keyed:
        return Reject(number, str(error))
    raise ItemError(key_text(options, item), str(error), can_be_kept=keyed) from error


def _put(out: memoryview, used: int, document: bytes) -> bool:
    """Write a document into ``out``; False where that holds something, and no more.

    Raises ValueError where it is larger than an empty ``out``.
    """
    end = used + len(document)
    if end > len(out):
        if used:
            return False
        size = f"its document of {len(document)} bytes is larger than the {len(out)} of"
        raise ValueError(f"{size} an empty slot")
    out[used:end] = document
    return True


def batches(documents: memoryview, most: int, most_bytes: int) -> list[tuple[int, int, int]]:
    """See contract.Codec."""
    cuts = []
    start = at = count = 0
    while at < len(documents):
        length = int.from_bytes(documents[at : at + 4], "little")
        if not 4 < length <= len(documents) - at:
            raise ValueError(f"a document of {length} bytes at {at} of {len(documents)}")
        if count and (count == most or at + length - start > most_bytes):
            cuts.append((start, at, count))
            start, count = at, 0
        at += length
        count += 1
    return cuts + [(start, at, count)] * bool(count)


matcher = matching.Matcher
digests = digesting.Digests
add_sums = digesting.add_sums
cut_reply = matching.cut_reply


def next_start(body: Body) -> bytes | None:
    """The response's ``last_key``, found at its end without a look at its items, or None.

    What follows the last ``"LastEvaluatedKey":`` up to the end makes an object, with a brace in
    front. So it closes the page and nothing else: it is the page's own member, not one of an item,
    whose end would leave a bracket too many.
    """
    end = bytes(body[-_TAIL:]).rstrip(b"\0")
    at = end.rfind(_LAST_KEY)
    if at < 1 or end[at - 1 : at] not in b", \n\r\t":
        return None
    try:
        key = orjson.loads(b"{" + end[at:])["LastEvaluatedKey"]
    except ValueError:
        return None
    return dump(key) if key else None


def parsed(body: Body) -> Any:
    """A response as JSON says it. Raises CorruptPage."""
    return _parse(text(body))


def text(body: Body) -> bytes:
    """A response as bytes, without the 0 behind it."""
    if isinstance(body, bytes):
        return body
    if not len(body) or body[-1]:
        raise ValueError("the response is not followed by a 0")
    return bytes(body[:-1])


class Header(NamedTuple):
    """What a Scan response says beside its items: see contract.ScanPage."""

    documents: int
    scanned: int
    capacity: float
    last_key: bytes | None


def header(page: Typed, held: int) -> Header:
    """The header of a response that holds so many items. Raises CorruptPage."""
    count: int = _field(page, "Count", int)
    if count != held:
        raise CorruptPage(f"the response says {count} items and holds {held}")
    scanned: int = _field(page, "ScannedCount", int)
    consumed = _field(page, "ConsumedCapacity", dict, {})
    capacity = float(_field(consumed, "CapacityUnits", (int, float), 0.0))
    last_key = _field(page, "LastEvaluatedKey", dict, {})
    return Header(count, scanned, capacity, dump(last_key) if last_key else None)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # orjson refuses the whole page for one lone surrogate; json lets it through, so that the
        # item is named when it is encoded.
        try:
            text = body.decode("utf-8", "surrogatepass")
            return json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise CorruptPage(f"the response is not JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(value: Any, what: str) -> Any:
    if type(value) is not dict:
        raise CorruptPage(f"{what} is not a JSON object")
    return value


def _field(holder: Typed, name: str, kind: type | tuple[type, ...], default: object = None) -> Any:
    """A field of the wanted type; the default where it is absent or null."""
    value = holder.get(name)
    if value is None:
        value = default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CorruptPage(f"the response has no proper {name}")
    return value
