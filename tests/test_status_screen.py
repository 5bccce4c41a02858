"""What a run shows, while the terminal takes nothing and after."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from shake.process.outlet import Outlet
from shake.status.progress import Screen, make_reporter
from tests.support.snapshots import table, task


class StalledTerminal(io.StringIO):
    """A terminal that takes nothing while it is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.open.wait(60)
        return super().write(text)


@contextmanager
def at_once() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StalledTerminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return StalledTerminal()


def test_of_the_pictures_that_wait_only_the_last_is_drawn_and_lines_keep_their_order(
    terminal: StalledTerminal,
) -> None:
    with Screen(make_reporter(terminal)) as screen:
        with at_once():
            for number in range(1000):
                screen.tick(task(table(f"t{number}")), float(number))
            screen.print("full sync done!")
            screen.print("the summary")
            screen.close(task(table("last", "done"), state="finished"))
        terminal.open.set()
    seen = terminal.getvalue()
    assert sum(f"t{number} " in seen for number in range(1000)) <= 2  # the first had begun
    assert "t999 " in seen
    places = [seen.index(text) for text in ("t999 ", "full sync done!", "the summary")]
    assert places == sorted(places)
    assert "finished after 10s, 1 of 1 table done" in seen


def test_a_terminal_that_never_takes_anything_keeps_no_run_from_its_end(
    terminal: StalledTerminal,
) -> None:
    with at_once(), Screen(make_reporter(terminal)) as screen:
        screen.tick(task(table()), 0.0)
        for _ in range(20_000):
            screen.log("a line of the log")
        screen.print("full sync done!")
    terminal.open.set()


def test_progress_is_logged_while_a_pipe_takes_no_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "shake")
    reading, writing = os.pipe()
    with open(reading, "rb") as reader:
        rest = threading.Thread(target=reader.read)
        with open(writing, "w") as full, Screen(make_reporter(full, interval=0.0)) as screen:
            screen.print("x" * 100_000)  # more than a pipe holds
            screen.tick(task(table()), 0.0)
            assert caplog.messages[-1].startswith("table orders: copying")
            rest.start()
        rest.join()


def test_jobs_run_in_order_and_one_that_fails_is_reported_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[int] = []

    def job(number: int) -> None:
        if number % 2:
            raise OSError("no room")
        done.append(number)

    outlet = Outlet("the file")
    for number in range(10):
        outlet.put(partial(job, number))
    outlet.close(10)
    assert done == [0, 2, 4, 6, 8]
    assert capsys.readouterr().err.count("shake: the file cannot be written: no room\n") == 1
