"""A stream's shards: parents before children, each read once to its end, nothing lost unnoticed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shake.errors import GapError
from shake.schema import Question
from shake.stream.beginning import all_shards, first_shards
from shake.stream.listing import Listed
from shake.stream.shard import Shard, ShardState
from shake.stream.shard_children import SIBLING_AFTER
from shake.stream.shards import Shards
from shake.stream.suspicion import LOSS, ShardAnswer

NOW = 1_000_000.0
#: When three answers are enough.
AGREED = LOSS.seconds / 2, LOSS.seconds


def gone(*names: str) -> dict[str, ShardAnswer]:
    """The source is asked for these directly, and knows none of them."""
    return dict.fromkeys(names, ShardAnswer.GONE)


#: Where following begins.
Begin = Callable[[list[Listed], float], list[Shard]]


def listed(name: str, parent: str = "", *, closed: bool = False) -> Listed:
    return Listed(name, parent, str(10**21 + int(name.strip("s") or 0)), closed)


def states(shards: Shards) -> dict[str, ShardState]:
    return {shard.id: shard.state for shard in shards}


def apply(shards: Shards, name: str) -> None:
    """Read a shard to its end."""
    shards.lease(shards[name])
    shards.finish(shards[name])


#: s1 was split, one half has rolled over twice, one once; s7 has ended, and its child is late.
TREE = [
    listed("s1", closed=True),
    listed("s2", "s1", closed=True),
    listed("s3", "s1", closed=True),
    listed("s4", "s2", closed=True),
    listed("s5", "s4"),
    listed("s6", "s3"),
    listed("s7", closed=True),
]


def test_following_begins_with_open_shards_their_parents_and_ends_without_a_child() -> None:
    begun = Shards("t", first_shards(TREE, NOW))
    assert states(begun) == {
        "s3": ShardState.READY,
        "s4": ShardState.READY,
        "s5": ShardState.WAITING,
        "s6": ShardState.WAITING,
        "s7": ShardState.READY,
    }
    assert {shard.position for shard in begun} == {(one.start, "") for one in TREE[2:]}


def test_what_follows_a_shard_that_is_read_is_read_too() -> None:
    """s1 is the parent of an open shard; its other half has rolled over again and again."""
    tree = [
        listed("s1", closed=True),
        listed("s2", "s1"),
        listed("s3", "s1", closed=True),
        listed("s4", "s3", closed=True),
        listed("s5", "s4"),
    ]
    begun = Shards("t", first_shards(tree, NOW))
    assert {s for s, state in states(begun).items() if state is ShardState.READY} == {"s1"}
    assert len(begun) == len(tree)


def test_what_can_follow_a_shard_that_is_read_is_read_after_it() -> None:
    """s2 is not listed yet, so s1 seems to have no child; s3 is no parent of an open shard."""
    tree = [
        listed("s1", closed=True),
        listed("s3", "s2", closed=True),
        listed("s4", "s3", closed=True),
        listed("s5", "s4"),
    ]
    shards = Shards("t", first_shards(tree, NOW))
    assert {s for s, state in states(shards).items() if state is ShardState.READY} == {"s1"}
    shards.learn([listed("s2", "s1", closed=True), *tree], whole=True, now=NOW)
    for name in ("s1", "s2", "s3", "s4"):
        assert shards.first().id == name
        assert shards.waiting == 1
        apply(shards, name)
    assert shards.first().id == "s5"


def test_shards_older_than_all_that_are_read_are_not_read_where_their_parents_are_gone() -> None:
    tree = [
        listed("s2", "s1", closed=True),
        listed("s3", "s2", closed=True),
        listed("s4", "s3", closed=True),
        listed("s5", "s4"),
    ]
    assert states(Shards("t", first_shards(tree, NOW))).keys() == {"s4", "s5"}


def test_without_a_copy_all_that_is_there_is_read_parents_first() -> None:
    begun = Shards("t", all_shards(TREE, NOW))
    assert {s for s, state in states(begun).items() if state is ShardState.READY} == {"s1", "s7"}
    assert len(begun) == len(TREE)


def test_what_lies_before_the_beginning_is_never_read() -> None:
    shards = Shards("t", first_shards(TREE, NOW))
    assert shards.learn(TREE, whole=True, now=NOW) == []
    apply(shards, "s4")
    assert shards.learn(TREE, whole=True, now=NOW) == []


def test_what_lies_before_is_not_read_either_where_one_listing_lacks_what_links_it() -> None:
    tree = [
        listed("s1", closed=True),
        listed("s2", "s1", closed=True),
        listed("s3", "s2", closed=True),
        listed("s4", "s3"),
    ]
    shards = Shards("t", first_shards(tree, NOW))
    assert shards.learn(tree, whole=True, now=NOW) == []
    assert shards.learn([tree[0], *tree[2:]], whole=True, now=NOW) == []
    assert shards.learn(tree, whole=True, now=NOW) == []


def test_a_child_begins_when_its_parent_is_applied_or_is_so_already() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    [early] = shards.learn([listed("s2", "s1")], whole=False, now=NOW)
    assert early.state is ShardState.WAITING
    apply(shards, "s1")
    [late] = shards.learn([listed("s3", "s1")], whole=False, now=NOW)
    assert (early.state, late.state) == (ShardState.READY, ShardState.READY)
    assert early.position == (listed("s2").start, "")


def test_what_is_listed_before_its_parent_is_no_further_behind_than_that() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    new = shards.learn([listed("s3", "s2"), listed("s2", "s1")], whole=False, now=NOW)
    assert [shard.applied_through for shard in new] == [NOW, NOW]
    assert shards.applied_through() == NOW


def test_one_half_of_a_split_that_is_listed_late_is_not_claimed() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    shards.advance(shards["s1"], "", NOW + 1)
    apply(shards, "s1")
    half, late = listed("s2", "s1"), listed("s3", "s1")
    shards.learn([half], whole=False, now=NOW)
    shards.advance(shards["s2"], "", NOW + 9)
    assert (shards.offspring.siblings_may_be_missing, shards.applied_through()) == (True, NOW + 1)
    shards.learn([half], whole=False, now=NOW + SIBLING_AFTER - 1)
    assert (shards.offspring.siblings_may_be_missing, shards.applied_through()) == (True, NOW + 1)
    rolled_over = replace(shards["s1"]), replace(shards["s2"])  # and no split
    shards.learn([late], whole=False, now=NOW + SIBLING_AFTER - 1)
    assert (shards.offspring.siblings_may_be_missing, shards.applied_through()) == (False, NOW + 1)
    again = Shards("t", rolled_over)
    for moment in (0.0, SIBLING_AFTER):
        assert again.applied_through() == NOW + 1
        again.learn([half], whole=False, now=moment)
    assert (again.offspring.siblings_may_be_missing, again.applied_through()) == (False, NOW + 9)


def test_the_shard_that_is_furthest_behind_is_read_first() -> None:
    shards = Shards("t", first_shards([listed("s1"), listed("s2"), listed("s3")], NOW))
    order = []
    for step in range(9):
        shard = shards.first()
        order.append(shard.id)
        shards.lease(shard)
        shards.advance(shard, "", NOW + step + 1)
        shards.end_lease(shard)
    assert order == ["s1", "s2", "s3"] * 3
    assert shards.waiting == 3


def test_sequence_numbers_are_numbers() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    shards.advance(shards["s1"], "9" * 21, NOW)
    shards.advance(shards["s1"], "1" + "0" * 21, NOW)
    with pytest.raises(AssertionError):
        shards.advance(shards["s1"], "2" + "0" * 20, NOW)


def test_a_rewound_shard_is_read_from_its_oldest_record_until_it_moves() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    shards.advance(shards["s1"], "9" * 21, NOW)
    shards.rewind(shards["s1"])
    assert shards["s1"].position == ("", "9" * 21)  # what is saved stays
    shards.advance(shards["s1"], "1" + "0" * 21, NOW)
    assert shards["s1"].position[1] == "1" + "0" * 21


def test_an_unread_shard_that_vanishes_is_a_gap_and_an_applied_one_is_removed() -> None:
    shards = Shards("t", first_shards([listed("s1", closed=True), listed("s2", "s1")], NOW))
    rest, lost = [listed("s2", "s1")], gone("s1")
    shards.learn(rest, whole=True, now=NOW)
    assert shards.questions() == [Question("s1")]
    shards.learn(rest, whole=True, now=NOW + AGREED[0], answers=lost)
    with pytest.raises(GapError, match="shard s1 is not listed") as caught:
        shards.learn(rest, whole=True, now=NOW + AGREED[1], answers=lost)
    assert caught.value.question == Question("s1")
    apply(shards, "s1")
    for after in (61, 90, 121):
        assert shards.removed == []
        assert shards.learn(rest, whole=True, now=NOW + after) == []
        assert shards.suspicions == []
    assert shards.removed == ["s1"]
    assert list(states(shards)) == ["s2"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_shard_that_one_listing_lacks_is_no_gap_also_after_a_restart(restarted: bool) -> None:
    both, one = [listed("s1", closed=True), listed("s2", "s1")], [listed("s1", closed=True)]
    shards = Shards("t", first_shards([listed("s1")], NOW))
    shards.learn(both, whole=True, now=NOW)
    if restarted:
        shards = Shards("t", list(shards))
    for moment in (NOW + 1, NOW + 100):  # far from each other, and it is listed in between
        for after in (0, 20, 40, 59):
            shards.learn(one, whole=True, now=moment + after, answers=gone("s2"))
        assert "shard s2 is not listed" in shards.suspicions[0]
        shards.learn(both, whole=True, now=moment + 60)
        assert not shards.suspicions
    for after in (200, 230):
        shards.learn(one, whole=True, now=NOW + after, answers=gone("s2"))
    with pytest.raises(GapError, match="shard s2 is not listed"):
        shards.learn(one, whole=True, now=NOW + 260, answers=gone("s2"))


def test_a_shard_that_is_not_listed_but_there_is_no_gap_and_is_read() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    for after in range(0, 600, 30):
        there = {"s1": ShardAnswer.THERE} if after % 90 == 0 else gone("s1")
        shards.learn([], whole=True, now=NOW + after, answers=there)
    assert shards.first().id == "s1"


def test_a_shard_that_is_read_is_there_whatever_listings_and_iterators_say() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    shards.lease(shards["s1"])
    for after in range(0, 600, 30):
        shards.learn([], whole=True, now=NOW + after, answers=gone("s1"))
        shards.advance(shards["s1"], "", NOW + after)
    shards.learn([], whole=True, now=NOW + 630, answers=gone("s1"))
    shards.learn([], whole=True, now=NOW + 660, answers=gone("s1"))
    with pytest.raises(GapError):
        shards.learn([], whole=True, now=NOW + 690, answers=gone("s1"))


def test_without_a_direct_answer_nothing_counts_as_lost() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    for after in range(0, 600, 30):
        shards.learn([], whole=True, now=NOW + after)
    with pytest.raises(GapError):
        shards.learn([], whole=True, now=NOW + 600, answers=gone("s1"))


def test_a_shard_that_its_reader_finds_gone_is_read_again_once_it_answers() -> None:
    shards = Shards("t", first_shards([listed("s1"), listed("s2")], NOW))
    shards.suspect(shards["s1"], ShardAnswer.GONE, NOW)
    assert (shards.waiting, shards.first().id) == (1, "s2")
    assert shards.questions() == [Question("s1")]
    both = [listed("s1"), listed("s2")]
    shards.learn(both, whole=True, now=NOW + 5, answers=gone("s1"))
    shards.learn(both, whole=True, now=NOW + 10)  # it was not asked for
    assert shards.waiting == 1
    shards.learn(both, whole=True, now=NOW + 15, answers={"s1": ShardAnswer.THERE})
    assert (shards.waiting, shards.suspicions) == (2, [])


def test_what_is_trimmed_before_it_was_read_is_a_gap_when_the_source_says_so_twice() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    shards.advance(shards["s1"], listed("s7").start, NOW)
    shards.suspect(shards["s1"], ShardAnswer.TRIMMED, NOW)
    asked = Question("s1", listed("s1").start, listed("s7").start)
    assert shards.questions() == [asked]
    with pytest.raises(GapError, match="shard s1: TrimmedDataAccessException") as caught:
        shards.learn([listed("s1")], whole=True, now=NOW + 1, answers={"s1": ShardAnswer.TRIMMED})
    assert caught.value.question == asked


def test_a_stream_that_is_gone_is_a_gap_after_three_answers_in_a_minute() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    for after, loss in ((0, "gone"), (30, "gone"), (45, ""), (60, "gone"), (90, "gone")):
        shards.suspect_stream(loss, NOW + after)
        assert bool(shards.suspicions) == bool(loss)
        assert shards.waiting == 1  # what can still be read is
    with pytest.raises(GapError, match="gone"):
        shards.suspect_stream("gone", NOW + 120)


def test_an_applied_shard_that_one_listing_lacks_is_not_read_again() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    apply(shards, "s1")
    shards.learn([], whole=True, now=NOW)
    assert not shards.suspicions  # nothing more of it is needed
    assert shards.learn([listed("s1", closed=True)], whole=True, now=NOW + 30) == []


def test_a_shard_listed_before_its_parent_waits_for_it() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    early = [listed("s1", closed=True), listed("s3", "s2"), listed("s4", "s3")]
    assert shards.learn(early, whole=True, now=NOW) == []
    apply(shards, "s1")
    shards.learn([*early, listed("s2", "s1")], whole=True, now=NOW + 9)
    for name in ("s2", "s3", "s4"):
        assert [s for s, state in states(shards).items() if state is ShardState.READY] == [name]
        apply(shards, name)


def test_a_shard_whose_parent_stays_away_is_a_gap() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    orphan = [listed("s1"), listed("s3", "s2"), listed("s4", "s3")]
    shards.learn(orphan, whole=True, now=NOW)
    assert shards.questions() == [Question("s2")]
    shards.learn(orphan, whole=True, now=NOW + AGREED[0], answers=gone("s2"))
    with pytest.raises(GapError, match="shard s2, which others follow, is not listed"):
        shards.learn(orphan, whole=True, now=NOW + AGREED[1], answers=gone("s2"))


def test_a_shard_whose_parent_is_there_but_not_listed_waits_for_it() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    orphan = [listed("s1"), listed("s3", "s2")]
    for after in range(0, 600, 30):
        there = {"s2": ShardAnswer.THERE} if after % 90 == 0 else gone("s2")
        assert shards.learn(orphan, whole=True, now=NOW + after, answers=there) == []
        [text] = shards.suspicions
        assert ("is there, but not listed" in text) == (after % 90 == 0)
    shards.learn([listed("s1")], whole=True, now=NOW + 600)  # it is no longer listed itself
    assert shards.suspicions == []


def test_a_parent_that_is_listed_after_following_began_is_read_before_its_child() -> None:
    """s2 is the child of s1 and the parent of s3, and not listed when following begins."""
    first = [listed("s1", closed=True), listed("s3", "s2")]
    shards = Shards("t", first_shards(first, NOW))
    assert states(shards) == {"s1": ShardState.READY, "s3": ShardState.WAITING}
    shards.learn([*first, listed("s2", "s1", closed=True)], whole=True, now=NOW)
    for name in ("s1", "s2", "s3"):
        assert [s for s, state in states(shards).items() if state is ShardState.READY] == [name]
        apply(shards, name)


def test_what_lies_before_the_beginning_is_not_waited_for_by_its_other_child() -> None:
    """s1 is listed late: two generations follow it on one side, so it is in the copy."""
    late = listed("s1", closed=True)
    first = [
        listed("s2", "s1", closed=True),
        listed("s3", "s1"),
        listed("s4", "s2", closed=True),
        listed("s5", "s4"),
    ]
    shards = Shards("t", first_shards(first, NOW))
    assert states(shards)["s3"] is ShardState.WAITING
    for after in (0, 1, 60):
        shards.learn([late, *first], whole=True, now=NOW + after, answers={"s1": ShardAnswer.THERE})
    assert "s1" not in states(shards)
    assert states(shards)["s3"] is ShardState.READY
    assert not shards.beginning
    assert shards.suspicions == []


@pytest.mark.parametrize("begin", [first_shards, all_shards])
def test_a_parent_gone_before_following_began_is_not_waited_for_long(begin: Begin) -> None:
    first = [listed("s3", "s2")]
    shards = Shards("t", begin(first, NOW))
    assert shards.questions() == [Question("s2")]
    shards.learn(first, whole=True, now=NOW, answers=gone("s2"))
    shards.learn(first, whole=True, now=NOW + 1, answers=gone("s2"))
    assert (shards.waiting, shards.suspicions, shards.beginning) == (0, [], True)
    shards.learn(first, whole=True, now=NOW + 2, answers=gone("s2"))
    assert (shards.waiting, shards.beginning) == (1, False)


@pytest.mark.parametrize("begin", [first_shards, all_shards])
def test_a_child_is_never_read_before_a_parent_that_is_there_however_late_it_is_listed(
    begin: Begin,
) -> None:
    """s2 is there and not listed; what comes before it is gone."""
    first = [listed("s3", "s2"), listed("s4", "s2")]
    shards = Shards("t", begin(first, NOW))
    through, horizon = shards["s3"].applied_through, shards["s3"].horizon
    for after in range(100):
        there = {"s2": ShardAnswer.THERE} if after % 3 == 2 else gone("s2")
        shards.learn(first, whole=True, now=NOW + after, answers=there)
    assert shards.waiting == 0
    late = [listed("s2", "s1", closed=True), *first, listed("s5", "s2")]
    for after in (100, 101, 102):
        assert shards.waiting == 0
        shards.learn(late, whole=True, now=NOW + after, answers=gone("s1"))
    assert (shards["s2"].applied_through, shards["s2"].horizon) == (through, horizon)
    assert (shards.first().id, shards.waiting) == ("s2", 1)
    apply(shards, "s2")
    assert shards.waiting == 3
    assert shards.suspicions == []


def test_what_may_follow_an_end_counts_as_behind_until_it_is_settled() -> None:
    shards = Shards("t", first_shards([listed("s1")], NOW))
    apply(shards, "s1")
    ended = [listed("s1", closed=True)]
    shards.learn(ended, whole=True, now=NOW)
    for after in AGREED:
        assert (shards.offspring.may_be_missing, shards.applied_through()) == (True, NOW)
        shards.learn(ended, whole=True, now=NOW + after)
    assert (shards.offspring.may_be_missing, shards.applied_through()) == (False, None)
    shards.learn([*ended, listed("s2", "s1")], whole=True, now=NOW + 2 * LOSS.seconds)
    assert shards.applied_through() == NOW


def test_a_child_whose_parent_was_saved_as_applied_begins() -> None:
    saved = [
        Shard("s1", "", "1", "5", NOW, ShardState.APPLIED),
        Shard("s2", "s1", "6", "", NOW, ShardState.WAITING),
    ]
    assert states(Shards("t", saved))["s2"] is ShardState.READY


def test_what_follows_a_shard_that_was_not_saved_as_applied_begins_anew() -> None:
    """Its last records come again, and older images must not stay behind newer ones."""
    saved = [
        Shard("s3", "s2", "9", "9", NOW, ShardState.READY),
        Shard("s2", "s1", "6", "8", NOW, ShardState.APPLIED),
        Shard("s1", "", "1", "4", NOW, ShardState.READY),
    ]
    shards = Shards("t", saved)
    for name in ("s1", "s2", "s3"):
        found = shards.first()
        assert shards.waiting == 1
        assert (found.id, found.sequence) == (name, "4" if name == "s1" else "")
        apply(shards, name)


def test_ten_thousand_shards_are_learned_and_read_in_no_time() -> None:
    count = 10_000
    tree = [
        listed(f"s{n}", f"s{n - 500}" if n > 500 else "", closed=n <= count - 500)
        for n in range(1, count + 1)
    ]
    random.Random(0).shuffle(tree)
    began = time.process_time()
    shards = Shards("t", all_shards(tree, NOW))
    shards.learn(tree, whole=True, now=NOW)
    done = 0
    while shards.waiting:
        apply(shards, shards.first().id)
        done += 1
    assert done == count
    assert time.process_time() - began < 2.0


# ---- the journal


def journal(shards: Shards, name: str, *, over: bool = True) -> None:
    """Read a shard into the journal, to its end or not."""
    shards.begin_journaling(shards[name])
    shards.add_to_journal(shards[name], shards[name].start, 1, 100, NOW + 1)
    shards.end_journaling(shards[name], over=over)


def test_while_nothing_is_applied_shards_are_journaled_parents_first() -> None:
    shards = Shards("t", first_shards([listed("s1", closed=True), listed("s2", "s1")], NOW))
    assert (shards.first_journalable().id, shards.journalable) == ("s1", 1)
    journal(shards, "s1", over=False)
    assert (shards.first_journalable().id, shards.journalable) == ("s1", 1)
    journal(shards, "s1")
    assert (shards.first_journalable().id, shards.journalable) == ("s2", 1)
    assert shards.waiting == 1  # s1 is still to be applied


def test_once_changes_are_applied_only_what_must_wait_is_journaled() -> None:
    tree = [listed("s1", closed=True), listed("s2", "s1"), listed("s3")]
    shards = Shards("t", first_shards(tree, NOW))
    journal(shards, "s1")
    shards.begin_applying()
    assert (shards.first_journalable().id, shards.journalable) == ("s2", 1)
    shards.begin_journaling(shards["s2"])
    apply(shards, "s1")
    assert shards["s2"].state is ShardState.READY
    assert {shards.first().id, shards.waiting} == {"s3", 1}  # s2 is still read into the journal
    shards.end_journaling(shards["s2"], over=False)
    assert (shards.waiting, shards.journalable) == (2, 0)


def test_what_the_journal_holds_to_its_end_can_be_trimmed_by_the_stream() -> None:
    shards = Shards("t", first_shards([listed("s1", closed=True), listed("s2", "s1")], NOW))
    journal(shards, "s1")
    assert shards.learn([listed("s2", "s1")], whole=True, now=NOW) == []
    assert states(shards).keys() == {"s1", "s2"}
    apply(shards, "s1")
    assert shards.first().id == "s2"
    shards.learn([listed("s2", "s1")], whole=True, now=NOW)
    for after in AGREED:
        shards.learn([listed("s2", "s1")], whole=True, now=NOW + after)
    assert shards.removed == ["s1"]
    for after in AGREED:
        shards.learn([], whole=True, now=NOW + 60 + after, answers=gone("s2"))
    with pytest.raises(GapError, match="s2 is not listed"):
        shards.learn([], whole=True, now=NOW + 200, answers=gone("s2"))


def test_what_is_in_the_journal_is_behind_but_not_unread() -> None:
    shards = Shards("t", first_shards([listed("s1"), listed("s2")], NOW))
    journal(shards, "s1", over=False)
    assert (shards.applied_through(), shards.read_through()) == (NOW, NOW)
    journal(shards, "s2", over=False)
    assert (shards.applied_through(), shards.read_through()) == (NOW, NOW + 1)


# ---- a model


@dataclass
class Truth:
    """A shard of the model: ``late`` steps pass until it is listed, ``shown`` until its end is."""

    name: str
    parent: str
    late: int
    shown: int = 0
    closed: bool = False


@dataclass
class Model:
    """A stream that changes, a consumer of it, and what must hold whatever they do."""

    rng: random.Random
    shards: dict[str, Truth] = field(default_factory=dict)
    consumer: Shards = field(default_factory=lambda: Shards("t"))
    held: list[Shard] = field(default_factory=list)
    journaling: list[Shard] = field(default_factory=list)
    journaled: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    applying: bool = True
    finished: list[str] = field(default_factory=list)
    due: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    lacked: set[str] = field(default_factory=set)
    #: Of shards above one that was leased: that one. None of them is read any more.
    begun_below: dict[str, str] = field(default_factory=dict)
    now: float = NOW

    def open_shard(self, parent: str = "", late: int = 0) -> None:
        name = f"s{len(self.shards) + 1}"
        self.shards[name] = Truth(name, parent, late)
        if self.due:  # following has begun
            self.due.add(name)

    def reshape(self, *, apart: bool = True) -> None:
        """A shard splits, or rolls over. ``apart``: both halves are not listed at the same time."""
        shard = self.rng.choice([one for one in self.shards.values() if not one.closed])
        shard.closed, shard.shown = True, self.rng.randint(0, 3)
        late = self.rng.randint(0, 3)
        for _ in range(self.rng.choice([1, 1, 2])):
            self.open_shard(shard.name, self.rng.randint(0, 3) if apart else late)

    def trim(self) -> None:
        """The stream trims the oldest of what is applied, or in the journal.

        That is a day after it has ended: its children were listed by then.
        """
        late = {one.parent for one in self.shards.values() if one.name not in self.seen}
        for name, one in self.shards.items():
            done = name in self.finished or name in self.journaled
            old = one.parent in self.gone or one.parent not in self.due
            if done and old and not one.shown and name not in late and name not in self.gone:
                while name:  # what came before has ended earlier
                    self.gone.add(name)
                    name = self.shards[name].parent
                return

    def listing(self) -> list[Listed]:
        found = []
        for one in self.shards.values():
            if one.late or one.name in self.gone:
                one.late -= one.late > 0
                continue
            one.shown -= one.closed and one.shown > 0
            found.append(listed(one.name, one.parent, closed=one.closed and not one.shown))
        self.rng.shuffle(found)
        return found

    def begin(self) -> None:
        first = self.listing()
        self.seen = {one.id for one in first}
        self.consumer = Shards("t", first_shards(first, self.now))
        # By the contract's words, from what is so: every shard that can get a record from now on,
        # and the parent of each, whatever the listing shows.
        opened = {one.name for one in self.shards.values() if not one.closed}
        self.due = opened | {self.shards[one].parent for one in opened} - {""}
        # What follows a shard that is read is read: else an older change would be the last one.
        for one in self.shards.values():  # parents come first
            if one.parent in self.due:
                self.due.add(one.name)

    def learn(self) -> None:
        whole = self.rng.random() < 0.6
        listing = self.listing()
        if whole:  # any shard may be missing from one, but not from the next
            lacked = {one for one in self.due if self.rng.random() < 0.1} - self.lacked
            listing, self.lacked = [one for one in listing if one.id not in lacked], lacked
        else:
            parent = self.rng.choice(list(self.shards))
            listing = [one for one in listing if one.parent == parent]
        self.seen |= {one.id for one in listing}
        self.look(listing, whole=whole)

    def look(self, listing: list[Listed], *, whole: bool) -> None:
        """What a listing lacks is asked for directly; the answer is right, or there is none."""
        asked = self.consumer.questions() if whole and self.rng.random() < 0.7 else []
        known = {one.name for one in self.shards.values()} - self.gone
        answers = {
            one.shard: ShardAnswer.THERE if one.shard in known else ShardAnswer.GONE
            for one in asked
        }
        self.consumer.learn(listing, whole=whole, now=self.now, answers=answers)

    def journal(self) -> None:
        """A worker reads a shard into the journal; nothing above it is still to be read."""
        if not self.consumer.journalable:
            return
        shard = self.consumer.first_journalable()
        assert shard not in self.held
        assert shard.id not in self.journaled
        truth = self.shards[shard.id].parent
        while truth:
            assert truth in self.finished or truth in self.journaled or truth not in self.due
            truth = self.shards[truth].parent
        self.consumer.begin_journaling(shard)
        self.journaling.append(shard)

    def end_journaling(self) -> None:
        if not self.journaling:
            return
        shard = self.journaling.pop(self.rng.randrange(len(self.journaling)))
        over = self.shards[shard.id].closed and self.rng.random() < 0.7
        self.consumer.add_to_journal(shard, shard.start, 1, 100, self.now)
        self.consumer.end_journaling(shard, over=over)
        self.journaled |= {shard.id} if over else set()

    def begin_applying(self) -> None:
        self.applying = True
        self.consumer.begin_applying()

    def lease(self) -> None:
        if not self.consumer.waiting or not self.applying:
            return
        shard = self.consumer.first()
        assert shard not in self.journaling
        parent = self.consumer._shards.get(shard.parent)
        assert parent is None or parent.state is ShardState.APPLIED
        truth: str = self.shards[shard.id].parent
        while truth:  # nothing above it is still to be read
            assert truth in self.finished or truth not in self.due, (shard.id, truth)
            self.begun_below.setdefault(truth, shard.id)
            truth = self.shards[truth].parent
        assert shard.id not in self.begun_below, (shard.id, self.begun_below[shard.id])
        self.consumer.lease(shard)
        self.held.append(shard)

    def let_go(self) -> None:
        if not self.held:
            return
        shard = self.held.pop(self.rng.randrange(len(self.held)))
        if self.shards[shard.id].closed and self.rng.random() < 0.7:
            self.consumer.finish(shard)
            assert shard.id not in self.finished
            self.finished.append(shard.id)
        else:
            self.consumer.end_lease(shard)

    def restart(self) -> None:
        saved = []
        for shard in self.consumer:
            held = shard.state is ShardState.READING
            saved.append(
                replace(
                    shard,
                    state=ShardState.READY if held else shard.state,
                    journal=replace(shard.journal) if shard.journal else None,
                    journaling=False,
                )
            )
        self.held.clear()
        self.journaling.clear()
        self.consumer = Shards("t", saved)
        if self.applying:
            self.consumer.begin_applying()


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 12), st.booleans())
def test_whatever_the_stream_does_each_shard_is_applied_once_after_its_parent(
    seed: int, shards: int, late: int, journal: bool
) -> None:
    model = Model(random.Random(seed), applying=not journal)
    for _ in range(shards):
        model.open_shard()
    for _ in range(model.rng.randrange(8)):
        model.reshape()
        while any(one.late or one.shown for one in model.shards.values()):
            model.listing()
    for _ in range(late):  # the very first listing lacks something
        model.reshape(apart=late == 1)
    model.begin()
    actions: list[tuple[Callable[[], None], int]] = [
        (model.reshape, 2),
        (model.learn, 6),
        (model.lease, 8),
        (model.let_go, 8),
        (model.restart, 1),
        (model.trim, 1),
    ]
    if journal:
        actions += [(model.journal, 8), (model.end_journaling, 8), (model.begin_applying, 1)]
    for _ in range(60):
        [(action, _)] = model.rng.choices(actions, [weight for _, weight in actions])
        model.now += 1
        action()
    model.begin_applying()
    for one in model.shards.values():
        one.closed, one.late, one.shown = True, 0, 0
    for _ in range(4 * len(model.shards) + 10):
        model.look(model.listing(), whole=True)
        model.now += LOSS.seconds / 2
        while model.consumer.waiting:
            model.lease()
        while model.held:
            model.let_go()
        while model.journaling:
            model.end_journaling()
    missing = model.due - set(model.finished)
    assert not missing
    assert model.consumer.applied_through() is None


def test_a_parent_that_is_listed_late_is_not_suspected_any_more() -> None:
    parent, child = Listed("parent", "", "10", True), Listed("child", "parent", "20", False)
    shards = Shards("t", first_shards([child], 100.0), 100.0)
    shards.learn([child], whole=True, now=1.0, answers={"parent": ShardAnswer.THERE})
    assert shards.suspicions == ["shard parent is there, but not listed; waiting for that"]
    shards.learn([parent, child], whole=True, now=2.0)
    assert shards.suspicions == []
