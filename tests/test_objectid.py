"""ObjectIds that name a position: they rise along a segment, and a tail is one range."""

from __future__ import annotations

from bson.objectid import ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shake.codec.objectid import segment_prefix, segment_tail

STAMPS = st.integers(1, 2**32 - 1)
#: What three bytes can number; DynamoDB allows 1,000,000.
MAX_SEGMENTS = 1 << 24
SEGMENTS = st.integers(0, MAX_SEGMENTS - 1)
NUMBERS = st.integers(0, 2**40 - 1)


def object_id(stamp: int, segment: int, number: int) -> ObjectId:
    return ObjectId(segment_prefix(stamp, segment) + number.to_bytes(5, "big"))


@given(STAMPS, SEGMENTS, st.lists(NUMBERS, min_size=2, max_size=5, unique=True))
@settings(max_examples=40)
def test_they_rise_along_a_segment(stamp: int, segment: int, numbers: list[int]) -> None:
    ids = [object_id(stamp, segment, number) for number in sorted(numbers)]
    assert ids == sorted(ids)
    assert int(ids[0].generation_time.timestamp()) == stamp


@given(STAMPS.filter(lambda stamp: stamp < 2**32 - 1), SEGMENTS, NUMBERS, SEGMENTS, NUMBERS)
@example(1, MAX_SEGMENTS - 1, 5, 0, 0)  # the range ends where the next second begins
@example(1, 7, 5, 7, 5)
@example(1, 7, 5, 7, 4)
@example(1, 7, 0, 8, 0)
@settings(max_examples=40)
def test_a_tail_holds_what_its_segment_may_hold_behind_a_number_and_nothing_else(
    stamp: int, segment: int, documents: int, other: int, number: int
) -> None:
    low, high = (ObjectId(end) for end in segment_tail(stamp, segment, documents))
    inside = low <= object_id(stamp, other, number) < high
    assert inside == (other == segment and number >= documents)
    assert not low <= object_id(stamp + 1, other, number) < high
