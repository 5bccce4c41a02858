"""The pid file keeps a second supervisor out exactly as long as the first one runs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shake.checkpoint import pidfile
from shake.errors import RefusedError, UsageError

HOLD = """
import subprocess, sys
from shake.checkpoint import pidfile

with pidfile.hold(sys.argv[1], "task"):
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    sys.stdin.readline()
    child.kill()
"""


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the file, and the number of a child of it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            os.kill(child, 9)


def test_the_file_names_this_process_and_is_gone_in_the_end(tmp_path: Path) -> None:
    with pidfile.hold(tmp_path, "task") as path:
        assert path == tmp_path / "task.pid"
        assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_second_supervisor_is_refused_and_told_the_process(tmp_path: Path) -> None:
    with (
        holder(tmp_path) as (process, _),
        pytest.raises(RefusedError, match=rf"process {process.pid} .*task\.pid"),
        pidfile.hold(tmp_path, "task"),
    ):
        pass


def test_a_killed_holder_is_replaced_at_once_though_its_children_live(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, child):
        process.kill()
        process.wait()
        os.kill(child, 0)
        with pidfile.hold(tmp_path, "task") as path:
            assert path.read_text() == f"{os.getpid()}\n"


def test_another_task_has_another_file(tmp_path: Path) -> None:
    with pidfile.hold(tmp_path, "one"), pidfile.hold(tmp_path, "two"):
        assert {path.name for path in tmp_path.iterdir()} == {"one.pid", "two.pid"}


def test_a_stale_number_is_replaced_and_a_foreign_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "task.pid"
    path.write_text("123456789")
    with pidfile.hold(tmp_path, "task"):
        assert path.read_text() == f"{os.getpid()}\n"
    path.write_text("dear diary")
    with pytest.raises(RefusedError, match="something else"), pidfile.hold(tmp_path, "task"):
        pass
    assert path.read_text() == "dear diary"


def test_a_file_that_took_its_place_is_not_removed(tmp_path: Path) -> None:
    with pidfile.hold(tmp_path, "task") as path:
        path.unlink()
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_a_folder_that_cannot_be_written_is_a_usage_error_with_the_way_out(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"missing/task\.pid.*pid_path"),
        pidfile.hold(tmp_path / "missing", "task"),
    ):
        pass


def test_no_other_user_can_read_or_lock_it(tmp_path: Path) -> None:
    (tmp_path / "task.pid").touch(0o644)  # of an earlier version
    with pidfile.hold(tmp_path, "task") as path:
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_another_program_locks_is_refused_by_its_name(tmp_path: Path) -> None:
    with (tmp_path / "task.pid").open("w") as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        with (
            pytest.raises(RefusedError, match=r"task\.pid is locked by another process"),
            pidfile.hold(tmp_path, "task"),
        ):
            pass
