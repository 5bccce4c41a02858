"""The reference of the configuration says what the code does."""

from __future__ import annotations

from shake.config.reference import reference
from shake.config.table import KEYS
from tests.support.migration import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_the_reference_of_keys_is_up_to_date() -> None:
    stale = "run: .venv/bin/python -m shake.config.reference > docs/configuration.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), stale


def test_the_reference_has_a_row_for_each_key_and_each_other_name() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(KEYS)
    for key, row in zip(KEYS, rows, strict=True):
        assert all(f"`{name}`" in row for name in key.names)
        assert row.count(" | ") == 4
        assert row.endswith(" yes |") == key.shapes_data
