"""How the runs of one process end where no supervisor handles signals."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.task_lock import TaskLock
from shake.errors import RunError
from shake.plan.plan import Plan
from shake.run.oversight import overseen
from shake.run.runs import Runs
from shake.status.snapshot import Snapshot
from tests.test_farm_process import config_of


class Signalled:
    """Sites for which a run waits when a signal comes."""

    workers = 1

    def wait(self) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("shown", ["running", "degraded"])
def test_a_signal_outside_of_a_run_ends_it_as_its_summary_says(
    tmp_path: Path, shown: str, status: int
) -> None:
    config, store = config_of(f"pid_path={tmp_path}"), FileStore(tmp_path, "checkpoint")
    checkpoints, lock = Checkpoints(store), TaskLock.acquire(store, notice=print)
    options = cast(Any, SimpleNamespace(config=config, workers=1, until_consistent=bool(status)))
    opened, plan = cast(Any, SimpleNamespace(checkpoints=checkpoints)), cast(Plan, None)
    with (
        pytest.raises(RunError, match="before all was consistent") if status else nullcontext(),
        overseen(config, checkpoints, lock) as oversight,
    ):
        oversight.show(Snapshot("task", "all", shown, 1.0, 1.0))
        Runs(options, cast(Any, None), opened, lock, cast(Any, Signalled()), oversight).carry_out(
            plan
        )
    saved = checkpoints.load_summary()
    assert saved
    assert (saved.state, saved.exit_status) == ("failed" if status else "stopped", status)
    assert "start again to go on" in saved.reason
