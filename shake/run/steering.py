"""Carries out commands for the running task, in the loop, and keeps to ``source.windows``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from difflib import get_close_matches

from shake.config import Config
from shake.config.kinds import BUDGET, ReadBudget
from shake.config.names import selects
from shake.config.windows import budget_at, window_at
from shake.control.commands import (
    AwaitEnd,
    Command,
    Finish,
    GetStatus,
    Pause,
    Reply,
    Resume,
    SetBudget,
)
from shake.control.desk import Steered
from shake.copy.table import CopiedTable
from shake.run.parts import Parts
from shake.run.shutdown import Shutdown
from shake.schema import OLD, RETENTION
from shake.status.figures import count, duration, in_short, many, utc
from shake.status.snapshot import FINISHING, TableStatus

log = logging.getLogger("shake.control")

#: What gives a table back the budget of its configuration.
DEFAULT = "default"


class Steering:
    """Acts on the parts of a run. ``steered`` outlives them where a process has several runs."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        shutdown: Shutdown,
        steered: Steered,
    ) -> None:
        self._config = config
        self._parts = parts
        self._shutdown = shutdown
        self._steered = steered
        self._window = window_at(config.source_windows, time.time())
        for copy in parts.copies:
            self._apply(copy)
        if steered.paused is not None:
            parts.pool.pause()
        if steered.finishing:
            parts.follow_phases.finish()

    @property
    def paused(self) -> float | None:
        return self._steered.paused

    @property
    def finishing(self) -> bool:
        return self._steered.finishing

    def execute(self, command: Command) -> Reply:
        """Carry out a command, or say why not."""
        if not self._shutdown.running:
            return Reply(False, f"the task is ending: {self._shutdown.ending.line}")
        match command:
            case Pause():
                return self._pause()
            case Resume():
                return self._resume()
            case SetBudget(table, units):
                return self._set_budget(table, units)
            case Finish():
                return self._finish()
            case GetStatus() | AwaitEnd():
                raise AssertionError("answered elsewhere")

    # ---- pause

    def _pause(self) -> Reply:
        if self.finishing:
            return Reply(False, "the task is finishing: a pause would keep it from its end")
        if self.paused is not None:
            return Reply(True, f"paused already, since {utc(self.paused)}")
        self._steered.paused = time.time()
        self._parts.pool.pause()
        log.warning("paused by a command: nothing is read at the source until shake control resume")
        return Reply(True, "paused: what was read is written, and nothing more is read")

    def _resume(self) -> Reply:
        if self.paused is None:
            return Reply(True, "it is not paused: nothing is to be resumed")
        since = duration(time.time() - self.paused)
        self._steered.paused = None
        self._parts.pool.paused = False
        self._parts.copy_scheduler.resume()
        self._parts.follow_phases.resume()
        log.warning("resumed by a command, after a pause of %s", since)
        return Reply(True, f"resumed, after a pause of {since}")

    def why_paused(self, trouble: str) -> str:
        """What to show of a pause, and of what fails meanwhile."""
        since = utc(self.paused)
        text = f"nothing is read since {since}, by a command; shake control resume ends that"
        return f"{text}; {trouble}" if trouble else text

    def notices(self, tables: Sequence[TableStatus]) -> tuple[str, ...]:
        """What the user should know of what commands have changed."""
        found = []
        if self.finishing:
            found.append(FINISHING)
        oldest = max((table.unread or 0.0 for table in tables), default=0.0)
        if self.paused is not None and oldest >= OLD:
            found.append(
                f"PAUSED TOO LONG: the oldest change that is not read can be {duration(oldest)} "
                f"old, and the stream keeps it for 24 hours: resume within "
                f"{duration(max(0.0, RETENTION - oldest))}, or changes are lost"
            )
        return tuple(found)

    # ---- budgets

    def each_second(self) -> None:
        """Each second: begin the next window when its time has come."""
        window = window_at(self._config.source_windows, time.time())
        if window == self._window:
            return
        self._window = window
        text = f"window {window}" if window else "outside all windows: source.read_budget"
        log.info("source.windows: %s", text)
        for copy in self._parts.copies:
            self._apply(copy)

    def _set_budget(self, pattern: str, units: str) -> Reply:
        budget = None
        if units.lower() != DEFAULT:
            try:
                budget = BUDGET.parse(units)
            except ValueError:
                return Reply(False, f"budget {units}: allowed is {BUDGET.allowed}; {DEFAULT}")
        copies = [one for one in self._parts.copies if selects(pattern, one.plan.table.name)]
        if not copies:
            return Reply(False, self._unknown(pattern))
        copies = [one for one in copies if not one.over]
        if not copies:
            return Reply(
                False, f"{pattern}: the copy is over, and a budget is for the scan of the copy only"
            )
        for copy in copies:
            table = copy.plan.table
            if budget and budget.share and not table.read_capacity:
                return Reply(
                    False,
                    f"table {table.name} is on demand, and has no provisioned capacity to take a "
                    f"share of: give units a second",
                )
        return Reply(True, "; ".join(self._change(copies, budget)))

    def _change(self, copies: Sequence[CopiedTable], budget: ReadBudget | None) -> list[str]:
        """Give tables a budget, or with None that of the configuration; say what they have now."""
        changed: dict[str, list[str]] = {}
        for copy in copies:
            name = copy.plan.table.name
            if budget is None:
                self._steered.budgets.pop(name, None)
            else:
                self._steered.budgets[name] = budget
            self._apply(copy)
            changed.setdefault(_units(copy.budget.capacity), []).append(name)
        lines = [f"{in_short(names)}: {units}" for units, names in changed.items()]
        for line in lines:
            log.warning("read budget by a command: %s", line)
        return lines

    def _apply(self, copy: CopiedTable) -> None:
        table = copy.plan.table
        budget = self._steered.budgets.get(table.name) or budget_at(
            self._config.source_windows, self._config.source_read_budget, time.time()
        )
        units = budget.units(table.read_capacity, in_aws=table.in_aws)
        if units != copy.budget.capacity:
            self._parts.copy_scheduler.limit(copy, units)

    def _unknown(self, pattern: str) -> str:
        names = [copy.plan.table.name for copy in self._parts.copies]
        near = get_close_matches(pattern, names, n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        return f"this task has no table {pattern}{hint}"

    # ---- finish

    def _finish(self) -> Reply:
        phases = self._parts.follow_phases
        if phases.over:
            return Reply(
                False, "this task follows no changes: it ends by itself when the copy is complete"
            )
        if self.paused is not None:
            return Reply(False, "the task is paused: resume it first, then finish")
        self._steered.finishing = True
        phases.finish()
        log.warning("finishing by a command: the run ends once all changes until now are applied")
        left = sum(not copy.over for copy in self._parts.copies)
        first = f"{left} of {many(len(self._parts.copies), 'table')} {'is' if left == 1 else 'are'}"
        return Reply(
            True,
            "finishing: the run ends once every change made before this command is applied"
            + (f" ({first} still to be copied first)" if left else ""),
        )


def _units(capacity: float | None) -> str:
    return "no limit" if capacity is None else f"{count(capacity)} read units a second"
