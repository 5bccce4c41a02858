"""What the status page shows of a task, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shake.status.monitor import Watched
from shake.status.snapshot import Snapshot
from shake.status.view import view


def shown(snapshot: Snapshot, **watched: Any) -> dict[str, Any]:
    """What the page loads; ``watched`` is what was learnt by watching the task."""
    return view(Watched(snapshot, **watched))


def texts(part: Any) -> list[str]:
    """All words of a part of it, in their order."""
    return list(_texts(part))


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        yield from _texts(list(part.values()))
    elif isinstance(part, (list, tuple)):
        for one in part:
            yield from _texts(one)
