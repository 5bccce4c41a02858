"""Reads some items of each table, and says what they consist of and what becomes of them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.pool import ThreadPool
from typing import Any

import bson
from bson import json_util

from shake import codec
from shake.codec import bad_items
from shake.codec.number import DECIMAL128_DIGITS, parts, survives_as_double
from shake.config import Config
from shake.errors import ItemError, SourceError
from shake.plan.plan import TablePlan
from shake.plan.sample import transcode
from shake.schema import Item
from shake.source.client import Unreachable
from shake.source.contract import Source
from shake.source.item_size import item_bytes
from shake.source.scan import ScanPlan

#: The most items that are read of a table, and the segments that they are read from.
MAX_ITEMS, SEGMENTS = 10_000, 16
#: Tables that are read at the same time, and tries of each request.
_THREADS, _MAX_TRIES = 4, 5
#: Bad items that are shown of a table.
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class AttributeProfile:
    """A top-level attribute: in how many items, of which types, and its bytes in all of them."""

    name: str
    items: int
    types: Mapping[str, int]
    bytes: int


@dataclass(frozen=True, slots=True)
class BadItem:
    """An item of the profile that cannot be stored, by its key as DynamoDB JSON, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """What was read of a table, and what becomes of it.

    Counts are of items. ``item_bytes`` are as DynamoDB counts them. ``long_numbers`` hold a number
    of more than 34 digits; ``dotted``, ``dollars`` and ``ids`` a name with a dot, a name that
    begins with ``$``, and a top-level ``_id``. ``inexact_keys`` have a number in their key that a
    double does not hold, so that with ``mchange`` two of them could become one. ``before`` is an
    item as DynamoDB JSON, and ``after`` its document as MongoDB Extended JSON.
    """

    table: str
    items: int
    requests: int
    units: float
    item_bytes: int
    document_bytes: int
    attributes: tuple[AttributeProfile, ...]
    long_numbers: int
    dotted: int
    dollars: int
    ids: int
    inexact_keys: int
    before: str
    after: str
    bad_items: int
    bad: tuple[BadItem, ...]
    problem: str


@dataclass(slots=True)
class _Found:
    """What is known so far of the items of a table."""

    items: list[Item] = field(default_factory=list)
    good: Item | None = None  # of which the first document is
    documents: list[bytes] = field(default_factory=list)
    bad: list[BadItem] = field(default_factory=list)
    scanned: int = 0  # a scan filter leaves out some of them
    requests: int = 0
    units: float = 0.0
    problem: str = ""


def take_profiles(
    config: Config, source: Source, plans: Sequence[TablePlan], items: int
) -> tuple[ProfileReport, ...]:
    """A profile of each table. So many items are read of it at most."""
    with ThreadPool(_THREADS) as threads:
        return tuple(threads.map(lambda plan: _profile(config, source, plan, items), plans))


def _profile(config: Config, source: Source, plan: TablePlan, items: int) -> ProfileReport:
    table, found = plan.table, _Found()
    options = replace(codec.Options.of(config, table.keys), rejects=True)
    try:
        for body in _pages(config, source, plan, items, found):
            _add(found, body, options)
    except ItemError as error:
        found.problem = str(error.of_table(table.name))
    except (Unreachable, SourceError, codec.CorruptPage) as error:
        found.problem = f"table {table.name}: no whole profile: {error}"
    return ProfileReport(
        table=table.name,
        items=len(found.items),
        requests=found.requests,
        units=found.units,
        item_bytes=sum(map(item_bytes, found.items)),
        document_bytes=sum(map(len, found.documents)),
        attributes=_attributes(found.items),
        long_numbers=sum(any(map(_is_long, _numbers(item))) for item in found.items),
        dotted=sum(any("." in name for name, _ in _values(item)) for item in found.items),
        dollars=sum(any(n.startswith("$") for n, _ in _values(item)) for item in found.items),
        ids=sum("_id" in item for item in found.items),
        inexact_keys=sum(_is_inexact(options, item) for item in found.items),
        before=json.dumps(found.good) if found.good else "",
        after=_shown(options, found.documents[0]) if found.good else "",
        bad_items=len(found.bad),
        bad=tuple(found.bad[:_SHOWN]),
        problem=found.problem,
    )


def _pages(
    config: Config, source: Source, plan: TablePlan, items: int, found: _Found
) -> Iterator[bytes]:
    """Pages of all segments in turn, until enough items are scanned."""
    limit = -(-items // SEGMENTS)
    scan = ScanPlan(plan.table.name, SEGMENTS, limit, filter=config.scan_filter)
    visits: deque[tuple[int, bytes | None]] = deque((n, None) for n in range(SEGMENTS))
    while visits and (left := items - found.scanned) > 0:
        segment, start = visits.popleft()
        scan = replace(scan, limit=min(limit, left))
        body = source.sample(scan, segment, start, max_tries=_MAX_TRIES)
        if (following := codec.next_start(body)) is not None:
            visits.append((segment, following))
        yield body


def _add(found: _Found, body: bytes, options: codec.Options) -> None:
    page = codec.scan_page(body, options)
    documents, rejects = transcode(page)
    found.documents += documents
    found.scanned += page.scanned
    found.units += page.capacity
    found.requests += 1  # each costs half a unit at least
    items, bad = bad_items.every_item(body), {reject.number for reject in rejects}
    found.items += items
    if found.good is None:
        found.good = next((one for n, one in enumerate(items) if n not in bad), None)
    found.bad += [BadItem(one.key, one.reason) for one in bad_items.items(body, options, rejects)]


def _attributes(items: Sequence[Item]) -> tuple[AttributeProfile, ...]:
    types: dict[str, Counter[str]] = defaultdict(Counter)
    sizes: Counter[str] = Counter()
    for item in items:
        for name, typed in item.items():
            types[name].update(typed.keys())
            sizes[name] += item_bytes({name: typed})
    return tuple(
        AttributeProfile(name, found.total(), dict(found.most_common()), sizes[name])
        for name, found in sorted(types.items(), key=lambda pair: (-pair[1].total(), pair[0]))
    )


def _values(item: Any) -> Iterator[tuple[str, Any]]:
    """The names and typed values of an item, and of all within; "" for an element of a list."""
    left = list(item.items())
    while left:
        name, typed = left.pop()
        yield name, typed
        left += typed.get("M", {}).items()
        left += (("", inner) for inner in typed.get("L", ()))


def _numbers(item: Item) -> Iterator[str]:
    for _, typed in _values(item):
        yield from typed.get("NS", ())
        if "N" in typed:
            yield typed["N"]


def _is_long(text: str) -> bool:
    return len(parts(text).digits) > DECIMAL128_DIGITS


def _is_inexact(options: codec.Options, item: Item) -> bool:
    numbers = [item[key.name]["N"] for key in options.keys if key.type == "N"]
    return not all(map(survives_as_double, numbers))


def _shown(options: codec.Options, document: bytes) -> str:
    if options.convert == "json":
        return document[4:].decode()
    return json_util.dumps(bson.decode(document), json_options=json_util.RELAXED_JSON_OPTIONS)
