"""The ObjectIds that shake gives: they name a position in the copy, so a restart can undo a tail.

4 bytes start of the copy (Unix seconds) plus the number of the run, 3 bytes segment, 5 bytes
running number in the segment. They rise along each segment, so the ``_id`` index grows at one
point for each, the cheapest way to load a B-tree. A run that resumes a copy gives none that an
earlier run may have given: whatever of that one still arrives, a delete above all, hits nothing.
"""

from __future__ import annotations

from math import inf
from typing import Any

from bson.objectid import ObjectId


def segment_prefix(stamp: int, segment: int) -> bytes:
    """The 7 bytes that every ObjectId of a segment starts with; ``stamp`` is that of the run."""
    return stamp.to_bytes(4, "big") + segment.to_bytes(3, "big")


def segment_tail(stamp: int, segment: int, documents: int) -> tuple[bytes, bytes]:
    """The range [from, to) of what one run may have given behind a segment's first documents."""
    start = segment_prefix(stamp, segment)
    following = (int.from_bytes(start, "big") + 1).to_bytes(7, "big")
    return start + documents.to_bytes(5, "big"), following + bytes(5)


def segment_of(identity: Any) -> float:
    """The segment of an ``_id``; infinity if it is not an ObjectId."""
    return int.from_bytes(identity.binary[4:7], "big") if isinstance(identity, ObjectId) else inf


def position_of(identity: ObjectId) -> bytes:
    """The segment and the running number in it, whichever run gave the ObjectId."""
    return identity.binary[4:]
