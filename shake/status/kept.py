"""What is said of items that cannot be stored, and are kept, so that every view says the same."""

from __future__ import annotations

from collections.abc import Sequence

from shake.status.figures import count, in_short, many
from shake.status.snapshot import TableStatus

#: How they are shown.
_LIST = "shake bad --conf FILE lists them, with the reasons"


def but_for_kept(table: TableStatus) -> str:
    """What follows a word such as "equal"; empty where nothing is kept."""
    return f" but for {many(table.kept, 'kept item')}" if table.kept else ""


def kept(table: TableStatus) -> str:
    """How many items of a table are kept, and what to do."""
    older = f", of {count(table.kept_older)} the target has an older document"
    return f"{many(table.kept, 'item')}{older if table.kept_older else ''}: {_LIST}"


def too_many_kept(number: int, most: int, tables: Sequence[str]) -> str:
    """Why the task ends where more items are kept than is allowed."""
    return (
        f"{many(number, 'item')} cannot be stored, of table {in_short(list(tables))}, and "
        f"bad.items.max = {most}: {_LIST}; fix them at the source, or raise bad.items.max, and "
        "start again"
    )
