"""Something counts as missing only when several answers, over a time, agree and none differs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shake.stream.suspicion import LOSS, STATEMENT, Proof, Suspicions

PROOFS = st.builds(Proof, st.integers(1, 4), st.sampled_from([0.0, 10.0, 60.0]), st.just(1.0))


def test_a_loss_takes_three_answers_over_a_minute_and_is_noticed_within_two() -> None:
    assert (LOSS.answers, LOSS.seconds) == (3, 60.0)
    assert LOSS.seconds + 2 * LOSS.every + 30 < 120  # streams are looked at every 30 s


@given(
    PROOFS,
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 9).map(lambda n: n > 0)), min_size=1),
)
def test_it_is_believed_exactly_when_enough_answers_in_a_row_agree_for_long_enough(
    proof: Proof, answers: list[tuple[float, bool]]
) -> None:
    suspicions, row, now = Suspicions(), list[float](), 0.0
    for pause, missing in answers:
        now += pause
        if not missing:
            suspicions.clear("shard")
            row.clear()
            continue
        if not row or now > row[-1]:
            row.append(now)
        enough = len(row) >= proof.answers and row[-1] - row[0] >= proof.seconds
        assert suspicions.add("shard", "it is gone", now, proof) == enough
    assert ("shard" in suspicions) == bool(row)


def test_names_do_not_share_answers() -> None:
    suspicions = Suspicions()
    for number in range(10):
        assert not suspicions.add(f"s{number}", "gone", 100.0 * number, LOSS)
    assert len(suspicions.texts()) == 10


def test_an_answer_that_was_asked_for_before_the_last_one_says_nothing_new() -> None:
    suspicions = Suspicions()
    for asked in (100.0, 100.0, 20.0, 100.0):
        assert not suspicions.add("s", "gone", asked, LOSS)
    assert not suspicions.add("s", "gone", 160.0, LOSS)
    assert suspicions.add("s", "gone", 160.5, LOSS)


def test_what_is_said_of_another_kind_begins_anew() -> None:
    suspicions = Suspicions()
    assert not suspicions.add("s", "gone", 0.0, LOSS)
    assert not suspicions.add("s", "trimmed", 1.0, STATEMENT)
    assert suspicions.add("s", "trimmed", 2.0, STATEMENT)
