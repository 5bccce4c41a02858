"""The profile of a table as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from shake.plan.profile import ProfileReport
from shake.status.figures import count, many, size

#: Characters of an item that are shown, and attributes.
_SHOWN, _ATTRIBUTES = 400, 40


def profile_lines(profile: ProfileReport) -> Iterator[str]:
    """What was read, and what becomes of it."""
    read = f"profile of table {profile.table}: {many(profile.items, 'item')}"
    yield f"{read} read, for {many(profile.units, 'read capacity unit')}"
    if profile.problem:
        yield f"  {profile.problem}"
    if not profile.items:
        return
    yield (
        f"  size: {size(profile.item_bytes)} in DynamoDB, {size(profile.document_bytes)} as "
        "documents"
    )
    for one in profile.attributes[:_ATTRIBUTES]:
        types = ", ".join(
            name if number == one.items else f"{name} ({count(number)})"
            for name, number in one.types.items()
        )
        each = one.bytes / one.items
        yield f"  attribute {one.name!a}: {types}; in {count(one.items)}; {size(each)} each"
    if (more := len(profile.attributes) - _ATTRIBUTES) > 0:
        yield f"  {many(more, 'more attribute')}: --json shows all"
    for text, number in _oddities(profile):
        yield f"  {text}: {many(number, 'item')}"
    if profile.before:
        yield f"  an item:      {_short(profile.before)}"
        yield f"  its document: {_short(profile.after)}"
    yield f"  bad items (they stop the task, or are kept, by bad.items): {count(profile.bad_items)}"
    for bad in profile.bad:
        yield f"    {_short(bad.key)}: {_short(bad.reason)}"


def _oddities(profile: ProfileReport) -> Iterator[tuple[str, int]]:
    found = {
        "numbers of more than 34 digits (convert.number.overflow)": profile.long_numbers,
        "names with a dot": profile.dotted,
        "names that begin with $": profile.dollars,
        "an attribute _id (convert._id)": profile.ids,
        "number keys that are no doubles (convert.type = mchange could merge them)": (
            profile.inexact_keys
        ),
    }
    for text, number in found.items():
        if number:
            yield text, number


def _short(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
