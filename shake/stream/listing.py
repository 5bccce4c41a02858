"""What DescribeStream lists, and what of it hangs on what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listed:
    """A shard as DescribeStream lists it; ``closed``: no record comes any more."""

    id: str
    parent: str
    start: str  # sequence number
    closed: bool


def orphans_of(found: dict[str, Listed], known: Collection[str]) -> set[str]:
    """Shards of ``found`` whose parent is neither in it nor known, and what descends from them."""
    orphans = {
        one.id
        for one in found.values()
        if one.parent and one.parent not in found and one.parent not in known
    }
    return orphans | below(orphans, found)


def below(tops: Collection[str], found: dict[str, Listed]) -> set[str]:
    """What descends from these shards."""
    children: dict[str, list[str]] = {}
    for one in found.values():
        children.setdefault(one.parent, []).append(one.id)
    found_below: set[str] = set()
    left = list(tops)
    while left:
        more = children.pop(left.pop(), [])
        found_below.update(more)
        left += more
    return found_below
