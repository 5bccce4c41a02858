"""What shake-check shows of its progress: rates of what it reads now, and the state at the end."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from shake.check.findings import Findings
from shake.check.progress import CheckProgress, showing
from shake.check.sides import Advanced
from shake.errors import RunError
from shake.schema import Attribute, Keys, Table
from shake.status.bars import Bars, picture
from shake.status.figures import fraction, total

TABLE = Table("t", Keys(Attribute("pk", "S")), items=1000)
#: Seconds that no test takes.
NEVER = 600.0


def checked(progress: CheckProgress, name: str, items: int) -> None:
    with progress.table(replace(TABLE, name=name), f"check.{name}"):
        progress.advanced(Advanced(compared=items, scanned=items))


@pytest.fixture
def progress() -> CheckProgress:
    return CheckProgress("check", Findings(lambda line: None, None), filtered=False)


def test_the_total_rate_counts_no_table_that_is_done(progress: CheckProgress) -> None:
    checked(progress, "first", 1000)
    assert total(progress.snapshot()).rate == 0.0
    with progress.table(TABLE, "check.second"):
        progress.advanced(Advanced(compared=10, scanned=10))
        snapshot = progress.snapshot()
        assert snapshot.tables[1].rate > 0.0
        assert total(snapshot).rate == snapshot.tables[1].rate


def last_picture(progress: CheckProgress, *, fails: bool = False) -> list[str]:
    """The line of all tables, and the foot."""
    file = io.StringIO()
    bars = Bars(Console(file=file, width=80, force_terminal=True, color_system=None))
    try:
        with showing(progress, bars, NEVER):
            checked(progress, "first", 990)  # the source's estimate was too high
            if fails:
                raise RunError("the source is gone")
    except RunError:
        assert fails
    return [line for line in file.getvalue().splitlines() if "total" in line or " done" in line][
        -2:
    ]


def test_the_last_picture_of_a_whole_check_says_100_percent(progress: CheckProgress) -> None:
    sums, foot = last_picture(progress)
    assert "100.0%" in sums
    assert "finished after 0s, 1 of 1 table done" in foot


def test_the_last_picture_of_a_check_that_failed_says_less(progress: CheckProgress) -> None:
    sums, foot = last_picture(progress, fails=True)
    assert "99.9%" in sums
    assert "stopped after 0s, 1 of 1 table done" in foot


def test_what_is_left_of_a_part_of_a_table_is_not_guessed(progress: CheckProgress) -> None:
    with progress.table(TABLE, "check.t", whole=False):
        progress.advanced(Advanced(compared=900, scanned=900))
        snapshot = progress.snapshot()
        for one in (snapshot.tables[0], total(snapshot)):
            assert (fraction(one), one.seconds_left) == (None, None)


@pytest.mark.parametrize("keys", [False, True])
def test_where_no_documents_are_read_the_bars_show_items_and_no_bytes(
    progress: CheckProgress, keys: bool
) -> None:
    name = "customer-orders-by-region-2024-production"
    with progress.table(replace(TABLE, name=name), "check.t", whole=keys):
        if keys:
            progress.reading_keys(1000)
        progress.advanced(Advanced(compared=500, scanned=500, keys=500))
        file = io.StringIO()
        console = Console(file=file, width=80, force_terminal=True, color_system=None)
        console.print(picture(progress.snapshot(), 0.0, 10, 80))
    lines = file.getvalue().splitlines()
    assert " B" not in file.getvalue()
    assert name[:9] in lines[1]
    assert "500" in lines[1]
    assert max(map(len, lines)) <= 80
