"""What the log says of a degraded task: all of it, soon, and not again and again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shake.farm.diagnostics import Diagnostics
from shake.farm.health import Health
from shake.process.messages import Diagnosis


def diagnosis(pid: int, queue: str = "") -> Diagnosis:
    return Diagnosis(f"worker {pid}", pid, 1, 0.0, "", queue)


def gather(ask: Callable[[Diagnostics], int]) -> list[Any]:
    diagnostics: Diagnostics
    diagnostics = Diagnostics(lambda call: call(), lambda: ask(diagnostics))
    return [(report.role, report.queue) for report in diagnostics.gather()]


def test_all_processes_are_listed_as_soon_as_the_last_has_answered() -> None:
    def ask(diagnostics: Diagnostics) -> int:
        for pid in (3, 1, 2):
            threading.Thread(target=diagnostics.add, args=(diagnosis(pid),)).start()
        return 3

    start = time.monotonic()
    roles = [role for role, _ in gather(ask)]
    assert roles == ["supervisor", "worker 1", "worker 2", "worker 3"]
    assert time.monotonic() - start < 1.5


def test_a_process_that_hangs_does_not_hang_the_page() -> None:
    def ask(diagnostics: Diagnostics) -> int:
        diagnostics.add(diagnosis(1))
        return 2

    start = time.monotonic()
    assert [role for role, _ in gather(ask)] == ["supervisor", "worker 1"]
    assert time.monotonic() - start < 10


def test_an_answer_to_an_earlier_question_stands_for_no_other_process() -> None:
    def ask(diagnostics: Diagnostics) -> int:
        diagnostics.add(diagnosis(1, "late"))
        diagnostics.add(diagnosis(1, "now"))
        diagnostics.add(diagnosis(2, "now"))
        return 2

    assert gather(ask)[1:] == [("worker 1", "now"), ("worker 2", "now")]


def test_processes_of_two_machines_can_have_the_same_number() -> None:
    def ask(diagnostics: Diagnostics) -> int:
        diagnostics.add(Diagnosis("worker 0 on a", 7, 1, 0.0, ""))
        diagnostics.add(Diagnosis("worker 1 on b", 7, 1, 0.0, ""))
        return 2

    assert [role for role, _ in gather(ask)[1:]] == ["worker 0 on a", "worker 1 on b"]


def test_a_repeated_failure_is_told_once_and_shown_while_it_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    health = Health(lambda: now)
    assert health.text == ""
    with caplog.at_level(logging.WARNING, "shake.farm"):
        for _ in range(10):
            now += 10.0
            health.failed_again("the source is throttled")
            assert health.text == "the source is throttled"
        assert len(caplog.records) == 1
        now += 31.0
        assert health.text == ""
        health.failed_again("the source is throttled")
        assert len(caplog.records) == 2


def test_an_uncertainty_that_is_over_is_not_shown_and_leaves_the_others() -> None:
    health = Health(lambda: 1.0)
    health.failed_again("the source is throttled")
    health.uncertain("worker 0 has not answered for 30 s")
    health.resolve("worker 0 has not answered for 30 s")
    assert health.text == "the source is throttled"
    health.resolve("the source is throttled")
    assert health.text == ""


def test_two_failures_that_take_turns_are_told_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = Health(lambda: 1.0)
    with caplog.at_level(logging.WARNING, "shake.farm"):
        for text in ["table a: throttled", "table b: throttled"] * 50:
            health.failed_again(text)
    assert len(caplog.records) == 2
