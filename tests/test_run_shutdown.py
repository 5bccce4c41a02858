"""A run ends as what ended it first says; a signal only makes it sooner."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from shake.checkpoint.task_lock import TaskLockLost
from shake.errors import GapError, RunError, ShakeError
from shake.run.shutdown import DRAIN_SECONDS, FAIL_SECONDS, FINISH_SECONDS, Shutdown

GAP = GapError("orders", "shard 1: it is gone")


class Run:
    """A course, by a clock that a test moves; ``drained`` are the seconds that each end left."""

    def __init__(self, *, resyncs: bool = False) -> None:
        self.now = 100.0
        self.drained: list[float] = []
        self.course = Shutdown(lambda: self.now, resyncs=resyncs, drain=self.drained.append)

    @property
    def left(self) -> float:
        return self.course.ending.deadline - self.now

    def state(self, *, complete: bool = False) -> str:
        return self.course.state("", complete=complete)[0]


@pytest.mark.parametrize(
    ("error", "status", "seconds"),
    [
        (RunError("broken"), 1, FAIL_SECONDS),
        (TaskLockLost("lost"), 1, 0.0),
        (GAP, 4, FAIL_SECONDS),
    ],
)
def test_the_first_error_counts_and_its_status_stays(
    error: ShakeError, status: int, seconds: float
) -> None:
    run = Run()
    run.course.fail(error)
    run.course.fail(RunError("a later one"))
    run.course.finish("consistent")
    run.course.signalled(signal.SIGTERM)
    assert (run.course.ending.status, run.course.ending.line) == (status, str(error))
    assert run.left == seconds
    assert run.state() == "failed"


def test_that_another_run_has_the_task_explains_every_other_end() -> None:
    ends: list[Callable[[Run], None]] = [
        lambda run: run.course.fail(RunError("refused")),
        lambda run: run.course.fail(GAP),
        lambda run: run.course.signalled(signal.SIGTERM),
    ]
    for end in ends:
        run = Run(resyncs=True)
        end(run)
        run.course.fail(TaskLockLost("lost"))
        assert (run.course.ending.status, run.course.ending.line) == (1, "lost")
        assert run.course.late
        run.course.end("")
        run.course.fail(TaskLockLost("lost again"))
        assert run.course.ending.line == "lost"


def test_the_first_signal_leaves_time_and_the_second_none() -> None:
    run = Run()
    run.course.signalled(signal.SIGTERM)
    assert (run.state(), run.left, run.course.late) == ("stopping", DRAIN_SECONDS, False)
    run.now += 1.0
    run.course.signalled(signal.SIGINT)
    assert run.course.late
    assert run.drained == [DRAIN_SECONDS, 0.0]
    run.course.end("")
    assert (run.state(), run.course.ending.status) == ("stopped", 0)
    assert "SIGTERM" in run.course.ending.line


def test_a_signal_at_the_consistent_point_ends_it_sooner_and_no_worse() -> None:
    run = Run()
    run.course.finish("consistent: all is applied")
    assert run.left == FINISH_SECONDS
    run.course.signalled(signal.SIGTERM)
    assert run.left == DRAIN_SECONDS
    assert run.course.ending.status == 0
    assert run.course.ending.line == "consistent: all is applied"


@pytest.mark.parametrize("begun", [False, True])
def test_a_gap_that_is_mended_gives_way_to_a_signal(begun: bool) -> None:
    run = Run(resyncs=True)
    run.course.fail(GAP)
    assert (run.state(), run.left) == ("degraded", DRAIN_SECONDS)
    if begun:
        run.course.end("")
        run.course.stop_instead(signal.SIGTERM)
    else:
        run.course.signalled(signal.SIGTERM)
    assert run.course.ending.gap is None
    assert run.course.ending.status == 0


def test_who_does_not_answer_in_time_is_named_unless_it_has_failed_already() -> None:
    late, failed = Run(), Run()
    late.course.signalled(signal.SIGTERM)
    failed.course.fail(RunError("broken"))
    for run in (late, failed):
        run.course.missed("the target")
        assert run.course.ending.status == 1
    assert "the target did not answer in time" in late.course.ending.line
    assert failed.course.ending.line == "broken"


def test_a_refused_index_is_the_end_of_what_else_went_well() -> None:
    run = Run()
    assert run.course.running
    run.course.end("index a_1 was refused")
    assert (run.course.ending.status, run.state(complete=True)) == (1, "failed")
    well = Run()
    well.course.end("")
    assert (well.course.ending.status, well.state(complete=True)) == (0, "finished")
