"""Shards as DescribeStream lists them, and which of them descend from which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


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


def ancestors(
    parents: Iterable[str], listed: Mapping[str, Listed], known: Collection[str]
) -> set[str]:
    """These parents and what they descend from, as far as it is listed and not known."""
    found: set[str] = set()
    for parent in parents:
        while parent not in found and parent not in known and parent in listed:
            found.add(parent)
            parent = listed[parent].parent
    return found


def listed_late(unlisted: Mapping[str, T], found: Mapping[str, Listed]) -> dict[str, T]:
    """Which of ``unlisted`` are found now, and what they descend from, with the value of each."""
    late: dict[str, T] = {}
    for parent, value in unlisted.items():
        while parent in found and parent not in late:
            late[parent] = value
            parent = found[parent].parent
    return late


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
