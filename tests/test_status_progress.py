"""Progress on a terminal and off it, and the closing summary."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from shake.status.bars import picture
from shake.status.progress import make_reporter
from shake.status.snapshot import Snapshot
from shake.status.summary import summary
from tests.support.snapshots import table, task


def drawn(snapshot: Snapshot, width: int = 80, room: int = 20) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(picture(snapshot, 0.0, room, width))
    return capture.get().splitlines()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "shake")
    return caplog


def test_off_a_terminal_each_active_table_has_a_line_every_interval(
    lines: pytest.LogCaptureFixture,
) -> None:
    reporter = make_reporter(io.StringIO(), interval=5.0)
    snapshot = task(
        table(items=250, rate=50.0, seconds_left=15.0, segments_done=1, throttles=2),
        table("later", "waiting"),
        table("before", "done", items=1000),
    )
    for now in range(100, 112):
        reporter.tick(snapshot, float(now))
    assert len(lines.messages) == 4
    assert lines.messages[0] == (
        "table orders: copying, 25.0%, 250 items, 50 items/s, 15s left, 1/4 segments, "
        "2 throttles, 0 retries"
    )
    assert lines.messages[1].startswith("total: running, 41.6%, 1,250 items")


def test_the_only_table_of_a_task_has_one_line(lines: pytest.LogCaptureFixture) -> None:
    reporter = make_reporter(io.StringIO(), interval=0.0)
    reporter.tick(task(table(items=250)), 0.0)
    [line] = lines.messages
    assert line.startswith("table orders: copying, 25.0%, 250 items")
    lines.clear()
    for state in ("paused", "degraded"):  # the line of the table does not say that
        reporter.tick(task(table(items=250), state=state), 0.0)
        assert lines.messages[-1].startswith(f"total: {state}")
    reporter.tick(task(table(lag=1.0, unread=13 * 3600.0)), 0.0)
    assert lines.messages[-1].endswith("oldest unread change 13h 00m (table orders)")
    reporter.tick(task(table(state="done")), 0.0)
    assert lines.messages[-1].startswith("total: running")


SMALL = table("small", "following", items=10, scanned=10, lag=3.0, changes=7, change_rate=2.0)
LARGE = table("large", items=250, rate=50.0, seconds_left=15.0)


def test_a_small_table_that_is_followed_does_not_hide_a_large_one_that_is_copied(
    lines: pytest.LogCaptureFixture,
) -> None:
    for large in (LARGE, replace(LARGE, rate=0.0, seconds_left=None)):  # which stands still
        make_reporter(io.StringIO(), interval=0.0).tick(task(SMALL, large), 0.0)
        assert lines.messages[-1].startswith("total: running, 25.7%, 260 items, ")
        assert "lag" not in lines.messages[-1]
    assert "15s left" in lines.messages[2]
    *_, everything, _ = drawn(task(SMALL, LARGE))
    assert everything.split()[2:] == ["25.7%", "260", "50/s", "0", "15s"]


def test_the_total_shows_the_greatest_lag_once_all_tables_are_copied(
    lines: pytest.LogCaptureFixture,
) -> None:
    late = replace(SMALL, name="late", lag=60.0)
    broken = table("broken", "broken")
    make_reporter(io.StringIO(), interval=0.0).tick(task(SMALL, late, broken), 0.0)
    assert lines.messages[-1].startswith(
        "total: running, 14 changes applied, 4 changes/s, 0 pending, lag 1m 00s"
    )
    *_, everything, _ = drawn(task(SMALL, late))
    assert everything.split()[-4:] == ["4/s", "lag", "1m", "00s"]


def test_the_oldest_change_that_only_a_stream_holds_is_shown_with_its_table(
    lines: pytest.LogCaptureFixture,
) -> None:
    waiting = table("waiting", "waiting", unread=13 * 3600.0)
    snapshot = task(replace(SMALL, unread=3.0), replace(LARGE, unread=60.0), waiting)
    make_reporter(io.StringIO(), interval=0.0).tick(snapshot, 0.0)
    assert "unread" not in lines.messages[0]  # its lag says it
    assert ", oldest unread change 1m 00s" in lines.messages[1]
    assert lines.messages[2].endswith(", oldest unread change 13h 00m (table waiting)")
    *_, foot = drawn(snapshot, width=100)
    assert foot.endswith("1 of 3 tables done, oldest unread change 13h 00m (table waiting)")
    assert foot_style(snapshot) == "red"
    assert foot_style(task(replace(LARGE, unread=60.0))) == "dim"


def foot_style(snapshot: Snapshot) -> str:
    foot = picture(snapshot, 0.0, 20, 80).renderables[-1]
    assert isinstance(foot, Text)
    return str(foot.style)


def test_off_a_terminal_a_scan_filter_is_loud(lines: pytest.LogCaptureFixture) -> None:
    reporter = make_reporter(io.StringIO(), interval=0.0)
    reporter.tick(task(table(items=2, scanned=500, filtered=True)), 0.0)
    assert "scan filter kept 2 of 500" in lines.messages[0]


def test_a_line_for_the_person_does_not_depend_on_the_log() -> None:
    out = io.StringIO()
    make_reporter(out).print("full sync done!")
    assert out.getvalue() == "full sync done!\n"


def test_an_error_that_quotes_bad_text_is_still_printed() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    make_reporter(out).print("item \ud800: \x1b[2J")
    out.seek(0)
    assert out.read() == "item \\ud800: \\x1b[2J\n"


def test_a_bar_shows_rate_units_and_time_left_and_the_foot_the_rest() -> None:
    orders = table(
        items=420, bytes=20_400_000, rate=1234.0, seconds_left=75.0, throttles=7,
        byte_rate=12.3e6, unit_rate=480.0, budget=500.0,
    )  # fmt: skip
    head, row, everything, *foot = drawn(task(orders, seconds=723.0, time=1_562_000_000.0))
    assert head.split() == ["done", "items", "rate", "units/s", "left"]
    assert row.split()[0] == "orders"
    assert row.split()[2:] == ["42.0%", "420", "12.3", "MB/s", "480/500", "1m", "15s"]
    assert everything.startswith("total")
    words = "running for 12m 03s, 0 of 1 table done, 20.4 MB, copied at 16:54:35 UTC, 7 throttles"
    assert " ".join(foot).split() == words.split()


def test_the_bars_fit_80_columns() -> None:
    large: dict[str, Any] = {
        "items": 10**9,
        "byte_rate": 123e6,
        "unit_rate": 39_900.0,
        "budget": 40_000.0,
    }
    busy = table("orders-of-the-year", seconds_left=37_000.0, segments_done=1, **large)
    shown = drawn(task(busy, busy, seconds=86_400.0, time=1_562_000_000.0))
    assert max(map(len, shown)) <= 80
    for line in shown[1:3]:
        assert line.split()[-6:] == ["1.00G", "123", "MB/s", "39.9k/40.0k", "10h", "16m"]


def test_the_busiest_tables_come_first_and_what_is_broken_before_them() -> None:
    tables = (
        table("slow", byte_rate=1e3),
        table("broken", "broken"),
        table("fast", byte_rate=2e6),
        table("faster", byte_rate=9e6),  # of the same magnitude: rows must stay where they are
    )
    shown = [line.split()[0] for line in drawn(task(*tables))[1:5]]
    assert shown == ["broken", "fast", "faster", "slow"]


def test_the_bars_fit_a_narrow_terminal() -> None:
    long = table("a-table-with-a-name-of-many-words", "indexing", items=10**10, rate=1.5e6)
    assert max(map(len, drawn(task(long), width=60))) <= 60
    orders = table(items=420, byte_rate=12.3e6, unit_rate=480.0, budget=500.0, seconds_left=75.0)
    _, row, everything, *_ = drawn(task(orders), width=40)
    assert row.split() == ["orders", "42.0%", "420", "12.3", "MB/s", "1m", "15s"]
    assert everything.split()[0] == "total"


def test_more_tables_than_lines_are_counted_not_drawn() -> None:
    shown = drawn(task(*(table(f"t{i:02}") for i in range(30)), table("x", "done")), room=3)
    assert [line.split()[0] for line in shown[1:-1]] == ["t00", "t01", "t02", "total"]
    assert shown[-1] == "running for 10s, 1 of 31 tables done, 27 more under way"


def test_an_error_stands_below_the_bars_in_full() -> None:
    broken = table("orders", "broken", error="index {email: 1} was refused")
    shown = "\n".join(drawn(task(broken, state="failed", reason="no way on")))
    assert "orders broken: index {email: 1} was refused" in shown
    assert "total failed: no way on" in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_lines_stand_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    reporter = make_reporter(terminal)
    reporter.tick(task(table(items=100)), 0.0)
    reporter.print("a [red]plain[/red] line")
    reporter.close(task(table(state="done", items=1000), state="finished"))
    seen = terminal.getvalue()
    line, last = seen.index("a [red]plain[/red] line\n"), seen.rindex("total")
    assert seen.index("total") < line < last
    assert "finished after 10s, 1 of 1 table done" in seen[last:]


class HungUp(Terminal):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_lost_terminal_does_not_stop_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for term in ("xterm", "dumb"):
        monkeypatch.setenv("TERM", term)
        reporter = make_reporter(HungUp())
        for _ in range(2):
            reporter.tick(task(table(items=100)), 0.0)
            reporter.print("full sync done!")
        reporter.close(task(state="finished"))


def test_a_terminal_without_a_cursor_gets_log_lines(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    make_reporter(terminal, interval=0.0).tick(task(table(items=100)), 0.0)
    assert terminal.getvalue() == ""
    assert len(lines.messages) == 1


def test_the_summary_tells_totals_rates_and_costs() -> None:
    lines = summary(
        task(
            table("orders", "done", items=1000, bytes=5_000_000, seconds=4.0, capacity=130.5),
            table("users", "done", items=60, seconds=2.0, retries=3, throttles=9),
            state="finished",
            seconds=5.0,
        )
    )
    assert lines[0] == "moving finished after 5s: 2 of 2 tables done, 1,060 items, 5.00 MB"
    rows = [line.split() for line in lines[2:]]
    assert rows == [
        ["orders", "done", "1,000", "5.00", "MB", "4s", "250", "1.2", "0", "0", "130"],
        ["users", "done", "60", "0", "B", "2s", "30", "0.0", "3", "9", "0"],
        ["total", "finished", "1,060", "5.00", "MB", "5s", "212", "1.0", "3", "9", "130"],
    ]


def test_the_summary_has_no_rate_of_a_time_in_which_changes_were_followed() -> None:
    followed = {"lag": 11.0, "applied_through": 50.0}
    copied = table("orders", "following", items=1000, bytes=5_000_000, seconds=4.0, **followed)
    lines = summary(task(copied, seconds=90_000.0))
    rows = [line.split() for line in lines[2:4]]
    assert [row[-5:-3] for row in rows] == [["250", "1.2"], ["-", "-"]]


def test_the_summary_fits_80_columns() -> None:
    large = {"items": 10**8, "bytes": 10**11, "seconds": 3600.0, "capacity": 1e8}
    costs = {"retries": 12_345, "throttles": 123_456}
    lines = summary(task(table("orders", "following", **large, **costs), seconds=3600.0))
    assert max(map(len, lines[1:4])) <= 80


@pytest.mark.parametrize(
    "name", ["a-long-name-eu-central-1", "customers-with-a-long-name-eu-west-1"]
)
def test_the_summary_of_a_long_name_has_its_figures_in_several_rows(name: str) -> None:
    moment = task(table(name, "done", items=1000, retries=3), table("b", "done"), seconds=5.0)
    lines = summary(moment, 80)
    assert max(map(len, lines)) <= 80
    first, *others = [line.split() for line in lines if line.startswith(name)]
    [wide] = [line.split() for line in summary(moment) if line.startswith(name)]
    assert others
    assert [*first, *(cell for other in others for cell in other[1:])] == wide


def test_the_bars_leave_a_good_end_to_the_summary() -> None:
    reason = "consistent: all is applied"
    for state in ("finished", "stopped"):
        assert reason not in " ".join(drawn(task(table(), state=state, reason=reason)))


def test_the_summary_of_a_resumed_run_does_not_credit_it_with_earlier_work() -> None:
    resumed = table(items=1000, items_before=900, bytes=10**9, bytes_before=10**9, seconds=10.0)
    row = summary(task(resumed))[2].split()
    assert row[6:8] == ["10", "0.0"]


def test_the_summary_says_of_which_runs_its_figures_are() -> None:
    following = table("orders", "following", items=900, lag=1.0, changes=7, skipped=2)
    words = "7 changes applied in this run, 2 left out in all runs (nothing to modify), "
    first = summary(task(following))
    assert words in first[-1]
    assert first[0].endswith("900 items, 0 B")
    assert not any("all other figures" in line for line in first)
    second = summary(task(replace(following, items_before=900)))
    assert words in second[-1]
    assert second[0].endswith("900 items, 0 B in all runs")
    assert second[-2].startswith("items, size and read units are those of all runs")


def test_the_summary_says_loudly_what_a_scan_filter_kept() -> None:
    lines = summary(task(table(state="done", items=12, scanned=1_234_567, filtered=True)))
    assert lines[-1].startswith(
        "SCAN FILTER ON: table orders: 12 of 1,234,567 scanned items were kept (0.0%)"
    )


def test_the_summary_names_what_failed() -> None:
    lines = summary(task(table(error="index refused"), state="failed", reason="one table broken"))
    assert lines[0].endswith(": one table broken")
    assert lines[-1] == "table orders: index refused"
