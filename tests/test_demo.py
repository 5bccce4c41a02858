"""The demo: two embedded servers, a migration, the proof, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.migration import ROOT


def test_the_demo_migrates_verifies_and_ends(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "bin/shake-demo"), "--once", "--items", "300"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result
    assert "full sync done!" in result.stdout
    assert "90 live writes" in result.stdout
    assert "90 changes applied" in result.stdout
    assert "300 items equal" in result.stdout
    assert not list(tmp_path.iterdir())
