"""What shake-check shows of its progress: rates are of what it reads now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shake.check.findings import Findings
from shake.check.progress import Progress
from shake.check.sides import Advanced
from shake.schema import Attribute, Keys, Table
from shake.status.figures import total

TABLE = Table("t", Keys(Attribute("pk", "S")), items=1000)


def checked(progress: Progress, name: str, items: int) -> None:
    with progress.table(replace(TABLE, name=name), f"check.{name}"):
        progress.advanced(Advanced(compared=items, scanned=items))


@pytest.fixture
def progress() -> Progress:
    return Progress("check", Findings(lambda line: None, None), filtered=False)


def test_the_total_rate_counts_no_table_that_is_done(progress: Progress) -> None:
    checked(progress, "first", 1000)
    assert total(progress.snapshot()).rate == 0.0
    with progress.table(TABLE, "check.second"):
        progress.advanced(Advanced(compared=10, scanned=10))
        snapshot = progress.snapshot()
        assert snapshot.tables[1].rate > 0.0
        assert total(snapshot).rate == snapshot.tables[1].rate
