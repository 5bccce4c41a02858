"""The life of a table: checkpoints of every version name its phases alike."""

from __future__ import annotations

from shake.phase import COMPLETE, COPIED, IDLE, NEXT, SAVED, Phase, next_saved


def test_a_checkpoint_has_the_words_that_it_always_had() -> None:
    assert list(SAVED) == ["preparing", "copying", "indexing", "unindexed", "done"]


def test_what_is_saved_goes_on_step_by_step_and_never_back() -> None:
    assert {one: set(next_saved(one)) for one in SAVED.values()} == {
        Phase.PREPARING: {Phase.COPYING, Phase.INDEXING},
        Phase.COPYING: {Phase.INDEXING},
        Phase.INDEXING: {Phase.BROKEN, Phase.DONE},
        Phase.BROKEN: {Phase.DONE},
        Phase.DONE: set(),
    }


def test_each_phase_can_be_reached_and_is_shown_as_one_kind() -> None:
    assert set(NEXT) == set(Phase)
    reached = {Phase.WAITING}.union(*NEXT.values())
    assert reached == set(Phase)
    assert not COPIED & COMPLETE
    assert {Phase.WAITING, Phase.BROKEN} == IDLE - COMPLETE
