"""Commands for a running task, given as a user gives them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.followed import Followed, copies
from tests.support.migration import Migration, Result
from tests.support.starter import run
from tests.support.status import status
from tests.support.streams_faults import calling
from tests.support.wait import until


def shake(migration: Migration, command: str, *arguments: str, timeout: float = 60) -> Result:
    """``shake COMMAND --conf FILE ...``, to its end."""
    done = run("shake", command, "--conf", str(migration.conf), *arguments, timeout=timeout)
    return Result(done.returncode, done.stdout, done.stderr)


def control(migration: Migration, *arguments: str) -> str:
    """A command that is carried out; what it says."""
    result = shake(migration, "control", *arguments)
    assert (result.status, result.stderr) == (0, ""), result
    return result.stdout.strip()


def standing(migration: Migration) -> Any:
    """What ``shake status --json`` prints."""
    result = shake(migration, "status", "--json")
    assert result.status == 0, result
    return json.loads(result.stdout)


def socket_of(migration: Migration) -> Path:
    """The socket of a task, as soon as there is one."""
    path = migration.folder / f"{migration.conf.stem}.sock"
    return until(lambda: path if path.exists() else None)


@contextlib.contextmanager
def copy_held(followed: Followed) -> Iterator[None]:
    """While the body runs, the source answers no Scan of the copy."""
    released = threading.Event()
    followed.simulator.faults.rule(1.0, calling(lambda: released.wait(120)), where=copies)
    try:
        yield
    finally:
        followed.simulator.faults.clear()
        released.set()


def scanned(followed: Followed) -> None:
    """Wait until the copy has begun."""
    until(lambda: any(map(copies, list(followed.simulator.journal))))


def page(port: int, state: str) -> Any:
    """``/status`` once it shows this state."""

    def shown() -> Any:
        try:
            found = status(port)
        except OSError:
            return None
        return found if found["state"] == state else None

    return until(shown)


def as_nobody(action: str, *arguments: str) -> str:
    """Run Python as a user without rights; return what it prints. Needs root."""
    program = (
        f"import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); {action}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr
