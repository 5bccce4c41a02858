"""Puts a response into the slot beside what was made of it, where bad items are to be kept."""

from __future__ import annotations

from collections.abc import Sequence

from shake import codec
from shake.farm import worker_messages as messages


def room_beside(slot: memoryview, response: memoryview | None) -> memoryview:
    """What remains of a slot for documents or statements."""
    return slot if response is None else slot[: len(slot) - len(response)]


def put_beside(
    slot: memoryview, used: int, response: memoryview | None, rejects: Sequence[codec.Reject]
) -> messages.RawAnswer:
    """Put a response behind what is used of a slot; None: bad items are not to be kept."""
    if response is None:
        return messages.NO_RAW_ANSWER
    slot[used : used + len(response)] = response
    return messages.RawAnswer(len(response), rejects)
