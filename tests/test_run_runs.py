"""How the runs of one process end where no supervisor handles signals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from shake.errors import RunError
from shake.plan.plan import Plan
from shake.run.runs import Runs
from tests.test_farm_process import config_of


class Signalled:
    """Sites for which a run waits when a signal comes."""

    workers = 1

    def wait(self) -> None:
        raise KeyboardInterrupt


def runs(*, until_consistent: bool) -> Runs:
    options = SimpleNamespace(config=config_of(), workers=1, until_consistent=until_consistent)
    anything = cast(Any, SimpleNamespace(checkpoints=None))
    return Runs(cast(Any, options), anything, anything, anything, cast(Any, Signalled()), anything)


def test_a_signal_between_two_runs_does_not_say_that_the_copy_has_not_begun() -> None:
    plan = cast(Plan, None)
    stopped = runs(until_consistent=True)
    with pytest.raises(KeyboardInterrupt):  # nothing has begun
        stopped.carry_out(plan)
    stopped._resync.plans_anew = True
    with pytest.raises(RunError, match="stopped before all was consistent: start again to go on"):
        stopped.carry_out(plan)
