"""Finds in a response what was received of an item, for the few that cannot be stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from shake.codec import reference
from shake.codec.contract import Body, ChangeOptions, Options, Reject
from shake.codec.items import dump, encoder
from shake.schema import Item

#: In front of what an item decides of a document with an ObjectId: length, type, name, ObjectId.
_OBJECT_ID_END = 4 + 1 + 4 + 12


class UnstoredItem(NamedTuple):
    """An item as it was received, or a change: ``item`` is None where that removes the item.

    ``key`` and ``item`` are DynamoDB JSON; ``sequence`` is that of a change.
    """

    key: str
    item: str | None
    reason: str
    sequence: str = ""


def items(body: Body, options: Options, rejects: Iterable[Reject]) -> list[UnstoredItem]:
    """The items of a Scan response that the codec has left out."""
    found = reference.parsed(body)["Items"] if rejects else []
    return [_item(options, found[reject.number], reject.reason) for reject in rejects]


def every_item(body: Body) -> list[Item]:
    """All items of a Scan response, as they were received."""
    found: list[Item] = reference.parsed(body)["Items"]
    return found


def refused_items(
    body: Body, options: Options, documents: Iterable[tuple[bytes, str]]
) -> list[UnstoredItem]:
    """The items of a Scan response whose documents, as the codec makes them, were refused."""
    start = 0 if options.convert == "json" or options.id_rule.by_key else _OBJECT_ID_END
    reasons = {document[start:]: reason for document, reason in documents}
    encode = encoder(options)
    refused = []
    for item in reference.parsed(body)["Items"]:
        with contextlib.suppress(ValueError, RecursionError):
            reason = reasons.pop(encode(item, bytes(12))[start:], None)
            if reason is not None:
                refused.append(_item(options, item, reason))
    _expect_none(reasons.values())
    return refused


def changes(body: Body, options: ChangeOptions, rejects: Iterable[Reject]) -> list[UnstoredItem]:
    """The changes of a GetRecords response that the codec has left out."""
    found = reference.parsed(body)["Records"] if rejects else []
    return [_change(options, found[reject.number], reject.reason) for reject in rejects]


def refused_changes(
    body: Body, options: ChangeOptions, statements: Iterable[tuple[bytes, str]]
) -> list[UnstoredItem]:
    """The changes of a GetRecords response whose statements were refused."""
    records = reference.parsed(body)["Records"]
    pages = [
        reference.change_page(body, replace(options, rejects=True, insert_only=insert_only))
        for insert_only in (options.insert_only, not options.insert_only)
    ]
    refused = []
    for statement, reason in statements:
        numbers = [number for one in pages if (number := one.number_of(statement)) is not None]
        if not numbers:
            _expect_none([reason])
        refused.append(_change(options, records[numbers[0]], reason))
    return refused


def _expect_none(reasons: Iterable[str]) -> None:
    for reason in reasons:
        raise ValueError(f"what the target has refused is not in the response: {reason}")


def _item(options: Options, item: Item, reason: str) -> UnstoredItem:
    return UnstoredItem(_key(options, item), dump(item).decode(), reason)


def _change(options: Options, record: Item, reason: str) -> UnstoredItem:
    change = record["dynamodb"]
    image = change.get("NewImage") if str(record["eventName"]) != "REMOVE" else None
    return UnstoredItem(
        _key(options, change["Keys"]),
        None if image is None else dump(image).decode(),
        reason,
        str(change["SequenceNumber"]),
    )


def _key(options: Options, item: Item) -> str:
    return dump({key.name: item[key.name] for key in options.keys}).decode()
