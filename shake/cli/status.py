"""``shake status``: how a task stands, or how it has ended."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.kept import all_kept
from shake.checkpoint.standing import Run, Standing, standing
from shake.checkpoint.store import open_store
from shake.checkpoint.summary import FORGOTTEN, TableLine, TaskSummary
from shake.cli import command, streams
from shake.cli.definition import Command
from shake.config import Config, Loaded, Redactor
from shake.config.secrets import hosts
from shake.control.address import socket_path
from shake.control.client import NoAnswer, NotRunning, ask
from shake.control.commands import GetStatus
from shake.errors import GapError, ShakeError
from shake.process.heartbeat import KILL_AFTER, UNANSWERED
from shake.status.figures import COMPLETE, clock_time, duration, iso, many, percent, size, utc
from shake.status.headline import RESTART
from shake.status.logs import one_line
from shake.status.snapshot import FINISHING
from shake.status.wrapping import terminal_width, wrapped

#: Age in seconds of a summary from which on a run that does not answer hangs: see Summaries.
_OVERDUE = 60.0
#: Tables that are listed for a user; with --json all that are saved.
_LISTED = 20


def _run(options: argparse.Namespace) -> int:
    def body(loaded: Loaded, redactor: Redactor) -> int:
        config = loaded.config
        found, live = _look(config)
        now = time.time()  # the look can take many seconds
        if options.json:
            streams.say_json(_document(config, found, live, now))
        else:
            shown = _lines(config, found, live, now, command.given_file(options))
            lines = map(one_line, map(redactor.redact, shown))
            streams.say("\n".join(wrapped(lines, terminal_width())))
        return 0

    stopped = ("stopped before the status was known", 1)
    return command.run(options, body, failed=command.failed_or_wrong, stopped=stopped)


def _look(config: Config) -> tuple[Standing, bool]:
    """How the task stands, and whether the run itself says so, and not the store."""
    answers = True
    try:
        if live := _ask(config):
            return Standing(Run.RUNNING, live.after(_saved(config) or live), None), True
    except NoAnswer as silence:  # or a run of another user, which cannot be asked
        answers = isinstance(silence.__cause__, PermissionError)
    with contextlib.closing(open_store(config, writable=False)) as store:
        found = standing(store)
        overdue = found.summary is not None and time.time() - found.summary.at > _OVERDUE
        if found.run is Run.RUNNING and overdue and not answers:
            found = replace(found, run=Run.HANGING)
        if found.summary:
            with contextlib.suppress(ShakeError):  # the last words of the run are better than none
                kept = len(all_kept(store))  # a repair can have changed that since
                found = replace(found, summary=replace(found.summary, kept=kept))
        return found, False


def _saved(config: Config) -> TaskSummary | None:
    try:
        with contextlib.closing(open_store(config, writable=False)) as store:
            return Checkpoints(store).load_summary()
    except ShakeError:
        return None


def _ask(config: Config) -> TaskSummary | None:
    """How the run on this machine stands; None where it does not say. Raises NoAnswer."""
    with contextlib.suppress(NotRunning):
        for reply in ask(socket_path(config.pid_path, config.id), [GetStatus()]):
            if reply.done and reply.status:
                return TaskSummary.of("of the running task", reply.status)
    return None


def _state(found: Standing) -> str:
    known = found.run in (Run.RUNNING, Run.ENDED)
    return found.summary.state if found.summary and known else found.run.value


def _advice(config: Config, found: Standing) -> str:
    """What to do, empty where nothing is."""
    summary = found.summary
    match found.run:
        case Run.NONE:
            return (
                f"start it by shake run. If it has run before, check id and the address: there is "
                f"no checkpoint of it in {_where(config)}"
            )
        case Run.KILLED:
            return RESTART
        case Run.SILENT:
            return (
                f"look after {found.holder}: it is gone, or cut off from its checkpoints; a start "
                "on another machine takes the task over"
            )
        case Run.HANGING if found.holder:
            pid = found.holder.pid
            return (
                f"process {pid} does not answer: if it was suspended, as by Ctrl-Z, kill -CONT "
                f"{pid} resumes it; else end it by kill -KILL {pid}, and {RESTART}"
            )
    if summary is None or found.run is Run.STARTING:
        return ""
    if summary.exit_status == GapError.exit_status and config.gap_policy == "fail":
        return "start it again with gap.policy = resync, which copies that table again"
    if summary.state == "degraded" and UNANSWERED in summary.reason:
        return (
            "it is retried, and shake kills a process that does not answer for "
            f"{KILL_AFTER:.0f} s; remove the cause"
        )
    forgotten = any(one.state == FORGOTTEN for one in summary.lines)
    if forgotten and summary.state in ("finished", "stopped"):
        if config.sync_mode == "incr":
            return f"shake run follows anew what is not begun, {config.follows_anew}"
        return (
            "shake run copies anew what is not begun; without target.db.exist it is refused while "
            "the collection exists"
        )
    return {
        "paused": "shake control resume lets it read on",
        "degraded": "it is retried; remove the cause",
        "failed": f"remove the cause, then {RESTART}",
        "stopped": "" if summary.consistent else RESTART,
    }.get(summary.state, "")


def _where(config: Config) -> str:
    """Where the checkpoints of a task are, in words."""
    if config.checkpoint_type == "file":
        return f"folder {config.checkpoint_location}/{config.checkpoint_database}"
    return f"database {config.checkpoint_database} at {hosts(config.checkpoint_location)}"


def _lines(
    config: Config, found: Standing, live: bool, now: float, file: str = ""
) -> Iterator[str]:
    summary = found.summary
    yield f"task {config.id}: {_state(found)}"
    if found.holder:
        yield f"  run by: {found.holder}"
    if summary:
        yield from _of_summary(config, found.run, summary, live, now, file)
    if advice := _advice(config, found):
        yield f"  what to do: {advice}"
    if summary:
        yield from _of_tables(summary)


def _of_summary(
    config: Config, run: Run, summary: TaskSummary, live: bool, now: float, file: str
) -> Iterator[str]:
    origin = "from the run itself" if live else "from its checkpoint"
    clock = time.strftime("%H:%M:%S", time.gmtime(summary.at))
    yield f"  as of: {clock} UTC, {duration(max(0.0, now - summary.at))} ago ({origin})"
    if summary.ended:
        yield f"  exit status: {summary.exit_status}"
    if reason := _reason(run, summary):
        yield f"  reason: {reason}"
    yield (
        f"  copied: {percent(_known(summary.fraction))}, {many(summary.items, 'item')}, "
        f"{size(summary.bytes)}; {summary.tables_done} of {many(summary.tables, 'table')} done"
    )
    if (left := _seconds_left(run, summary)) and not summary.ended:
        yield f"  copied at: about {clock_time(summary.at, left)} UTC, in {duration(left)}"
    if summary.kept:
        yield f"  KEPT, NOT STORED: {many(summary.kept, 'item')}: shake bad{file} lists them"
    if not config.sync_schema_only and config.sync_mode != "full":
        yield f"  applied through: {_applied_through(config, summary)}"
    if summary.last_error and summary.last_error != summary.reason:
        yield f"  last error: {utc(summary.last_error_at)}: {summary.last_error}"


def _applied_through(config: Config, summary: TaskSummary) -> str:
    """The time, or why there is none."""
    yet = "" if summary.ended else " yet"
    if summary.applied_through:
        through = f"{utc(summary.applied_through)} (source's clock)"
        return through if summary.consistent else f"{through}; not consistent{yet}"
    if config.sync_mode == "incr":
        return f"not known{yet}: the streams are read first"
    if summary.phase == "copy" or any(one.state == FORGOTTEN for one in summary.lines):
        return f"not known{yet}: changes are applied once the copy is complete"
    return f"not known{yet}: changes from the time of the copy are applied first"


def _of_tables(summary: TaskSummary) -> Iterator[str]:
    notable = [one for one in summary.lines if one.error or one.state not in COMPLETE]
    for one in notable[:_LISTED]:
        through = f", applied through {utc(one.applied_through)}" if one.applied_through else ""
        error = f": {one.error}" if one.error else ""
        yield f"  table {one.name}: {one.state}, {percent(_known(one.fraction))}{through}{error}"
    left = max(0, len(notable) - _LISTED) + summary.tables - len(summary.lines)
    if left:
        yield f"  and {many(left, 'more table')}"


def _known(fraction: float) -> float | None:
    return None if fraction < 0 else fraction


def _seconds_left(run: Run, summary: TaskSummary) -> float | None:
    """Seconds until all is copied; None where no run is known to go on with that."""
    return _known(summary.seconds_left) if run in (Run.RUNNING, Run.ENDED) else None


def _reason(run: Run, summary: TaskSummary) -> str:
    """Why the task is in its state. Only a run that goes on is still finishing."""
    ended = summary.reason == FINISHING and run is not Run.RUNNING
    return "" if ended else summary.reason


def _document(config: Config, found: Standing, live: bool, now: float) -> dict[str, Any]:
    summary = found.summary
    alive = {Run.RUNNING: True, Run.STARTING: True, Run.SILENT: None, Run.HANGING: None}
    document: dict[str, Any] = {
        "task": config.id,
        "state": _state(found),
        "running": alive.get(found.run, False),
        "process": str(found.holder) if found.holder else None,
        "what_to_do": _advice(config, found) or None,
    }
    if summary is None:
        return document
    figures = asdict(summary)
    for name in ("token", "state", "at", "lines"):
        del figures[name]
    figures |= {name: iso(figures[name]) for name in ("started", "applied_through")}
    return {
        **document,
        **figures,
        "live": live,
        "as_of": utc(summary.at),
        "age_seconds": round(max(0.0, now - summary.at), 1),
        "exit_status": summary.exit_status if summary.ended else None,
        "fraction": _known(summary.fraction),
        "seconds_left": _seconds_left(found.run, summary),
        "reason": _reason(found.run, summary),
        "last_error": summary.last_error or None,
        "last_error_at": iso(summary.last_error_at),
        "tables": [_table(one) for one in summary.lines],
        "tables_total": summary.tables,
    }


def _table(line: TableLine) -> dict[str, Any]:
    return asdict(line) | {
        "fraction": _known(line.fraction),
        "applied_through": iso(line.applied_through),
        "error": line.error or None,
    }


def _define(parser: argparse.ArgumentParser) -> None:
    command.add_configuration(parser)
    command.add_flags(parser, {"--json": "print it as one JSON document"})


STATUS = Command(
    name="status",
    summary="show how a task stands, or how it has ended",
    description="Shows state, progress, the time through which changes are applied, the last "
    "error, and what to do, also after the task has ended or was killed. It asks the run on this "
    "machine, or reads what the run has saved with its checkpoints, and says how old that is. "
    "Nothing is written. Of a run on another machine it first watches whether the run renews its "
    "lock, for 20 seconds at most.",
    examples=(
        ("how the task stands", "{prog} --conf my.conf"),
        ("the same as JSON", "{prog} --conf my.conf --json"),
    ),
    statuses={
        0: "shown, whatever the state of the task is",
        1: "the checkpoints could not be read; the line says why",
        2: "wrong command line or configuration",
    },
    define=_define,
    act=_run,
)
