"""``shake-check``: proves source and target equal, both ways."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence

from setproctitle import setproctitle

from shake.check.belonging import CheckRefused
from shake.check.findings import Findings
from shake.check.report import Report
from shake.check.run import CheckOptions, check
from shake.check.sides import Repair
from shake.cli import command, streams
from shake.cli.definition import Command
from shake.config import Config, Loaded, Redactor
from shake.config.secrets import hosts
from shake.errors import RunError, UsageError
from shake.process.cpus import usable_cpus
from shake.status.figures import count, in_short, many, utc
from shake.status.logs import logging_to, one_line
from shake.status.progress import make_reporter
from shake.status.wrapping import terminal_width, wrapped

log = logging.getLogger("shake.check")

#: As of diff(1): 1 is said only where a difference is proven.
EQUAL, DIFFERENT, TROUBLE, REFUSED = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``shake-check``; return its exit status."""
    return _run(command.parse(CHECK.parser(), argv))


def _run(options: argparse.Namespace) -> int:
    def body(loaded: Loaded, redactor: Redactor) -> int:
        report = None
        if options.report is not None:
            report = Report(options.report, keeps=options.repair)
        with contextlib.closing(report) if report else contextlib.nullcontext():
            return _check(options, loaded, redactor, report)

    return command.run(
        options,
        body,
        failed=lambda error: REFUSED if isinstance(error, CheckRefused) else TROUBLE,
        stopped=("stopped before its end, nothing is proven", TROUBLE),
    )


def _define(parser: argparse.ArgumentParser) -> None:
    command.add_configuration(parser)
    command.add_workers(parser, "processes that read a large table")
    command.add_flags(
        parser,
        {
            "--repair": "store what is missing or different in the target, and look at it again; "
            "refused while the task runs",
            "--delete-extra": "with --repair: delete documents whose key the source does not have",
            "--yes": "with --repair: do not ask",
            "--after-cutover": "with --repair: also after the task was finished by "
            "--until-consistent or finish, where nothing writes to the target yet",
            "--anew": "begin again, where an interrupted check would go on",
            "--since": "compare only the keys that changed since the last completed check, by the "
            "table's stream, and what that check found",
            "--eventual": "scan by eventually consistent reads, at half the cost: they can miss "
            "the changes of the last seconds",
        },
    )
    parser.add_argument(
        "--sample",
        type=command.positive,
        metavar="N",
        help="compare no more than N items of each table, chosen at random",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write every difference to a file, with both values, as lines of JSON",
    )


CHECK = Command(
    name="check",
    program="shake-check",
    summary="prove source and target equal, both ways",
    description="Compares every item of the source with the target, and every document of the "
    "target with the source. It reads the whole table once more, by consistent reads, and says "
    "first what that costs; --sample is for a quick look.",
    examples=(
        ("compare everything", "{prog} --conf my.conf"),
        ("a quick look at 1,000 items of each table", "{prog} --conf my.conf --sample 1000"),
        ("compare what has changed since", "{prog} --conf my.conf --since"),
        ("list every difference in a file", "{prog} --conf my.conf --report differences.jsonl"),
        (
            "store what is missing or different, delete the rest",
            "{prog} --conf my.conf --repair --delete-extra --report repaired.jsonl",
        ),
    ),
    statuses={
        EQUAL: "equal, or made equal by --repair: every difference repaired and looked at again",
        DIFFERENT: "different, equal but for kept items (bad.items = keep), not proven, or not all "
        "repaired",
        TROUBLE: "wrong command line or configuration, or not compared to the end",
        REFUSED: "refused, and nothing changed: source table and collection are not those of the "
        "task's checkpoint, the copy is not complete, another check runs, --since needs a full "
        "check, or the task runs beside --repair",
    },
    define=_define,
    act=_run,
)


def _check(
    options: argparse.Namespace, loaded: Loaded, redactor: Redactor, report: Report | None
) -> int:
    config = loaded.config
    setproctitle(f"shake: check {config.id}")
    reporter = make_reporter(sys.stderr)
    width = terminal_width()
    # Where both streams are one terminal, lines must go above the bars.
    write = reporter.print if sys.stderr.isatty() and sys.stdout.isatty() else streams.say

    def say(line: str) -> None:
        for part in wrapped([one_line(redactor.redact(line))], width):
            write(part)

    findings = Findings(say, report)
    with logging_to(None, config.log_level, False, redactor, reporter.print):
        command.log_notices(loaded)
        chosen = _chosen(options)
        try:
            check(
                config,
                chosen,
                findings,
                say,
                reporter,
                workers=options.workers or usable_cpus(),
                confirm=lambda collections: _confirm(options, config, collections, say),
            )
        except BaseException as error:
            # Before the header, the report can be that of another check, which runs.
            if findings.begun:
                with contextlib.suppress(RunError):
                    findings.end("not completed", redactor.redact(str(error) or "stopped"))
            raise
    list_kept = f"shake bad{command.given_file(options)} lists them"
    status, verdict, lines = _verdict(config, chosen, findings, list_kept)
    for line in lines:
        say(line)
    findings.end(verdict)
    return status


def _chosen(options: argparse.Namespace) -> CheckOptions:
    """What the command line asks for. Raises UsageError for options that exclude each other."""
    for flag in ("delete_extra", "yes", "after_cutover"):
        if getattr(options, flag) and not options.repair:
            raise UsageError(f"--{flag.replace('_', '-')} goes with --repair")
    if options.repair and not options.yes and not sys.stdin.isatty():
        raise UsageError("--repair asks before it writes: without a terminal, add --yes")
    if options.since and (options.repair or options.sample or options.anew):
        raise UsageError("--since goes with neither --repair, --sample nor --anew")
    repair = Repair.ITEMS if options.repair else Repair.NONE
    repair = Repair.EXTRAS if options.delete_extra else repair
    return CheckOptions(
        options.sample, repair, options.eventual, options.anew, options.since, options.after_cutover
    )


def _confirm(
    options: argparse.Namespace,
    config: Config,
    collections: Sequence[str],
    say: Callable[[str], None],
) -> None:
    """Say what --repair will do and, but with --yes, ask. Raises CheckRefused for a no."""
    say(
        f"--repair stores what is missing or different in {in_short([*collections])} at "
        f"{hosts(config.target_address)}"
    )
    extras = "documents whose key the source does not have"
    stay = f"{extras} stay; --delete-extra deletes them"
    say(f"it deletes {extras}" if options.delete_extra else stay)
    kept = f"in {options.report}" if options.report else "nowhere; --report FILE keeps it"
    say(f"what it replaces or deletes is kept {kept}")
    if options.yes:
        return
    sys.stderr.write("continue? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CheckRefused("not confirmed: nothing was changed")


def _verdict(
    config: Config, chosen: CheckOptions, findings: Findings, list_kept: str
) -> tuple[int, str, list[str]]:
    """The exit status, the verdict in a word, and the closing lines."""
    kept = many(findings.kept, "kept item")
    also_kept = f", and {kept}" if findings.kept else ""
    part = config.sync_schema_only or chosen.sample or chosen.since or config.scan_filter
    but_kept = f"{'no difference' if part else 'equal'} but for kept items"
    if not findings.total and not findings.undecided:
        if findings.kept:
            equal = "no difference in what was compared," if part else "EQUAL"
            text = f"{equal} but for {kept}, which cannot be stored: {list_kept}"
            return DIFFERENT, but_kept, [text + _since(findings)]
        if part:
            return EQUAL, "no difference", ["no difference in what was compared"]
        text = f"EQUAL: every item and every document of task {config.id}{_since(findings)}"
        return EQUAL, "equal", [text]
    differences = many(findings.total, "difference")
    if chosen.repair and findings.total == findings.repaired and not findings.undecided:
        text = f"{differences}, all repaired"
        if findings.kept:
            return DIFFERENT, but_kept, [f"{text}{also_kept} cannot be stored"]
        return EQUAL, "repaired", [f"{text} and looked at again"]
    lines = []
    if chosen.repair is Repair.ITEMS and findings.extra:
        lines.append(f"{many(findings.extra, 'extra document')} left: --delete-extra deletes them")
    undecided = f"{many(findings.undecided, 'key')} undecided: {_why_undecided(findings)}"
    if not findings.total:
        return DIFFERENT, "not proven", [f"NOT PROVEN: {undecided}{also_kept}"]
    repaired = f", {count(findings.repaired)} of them repaired" if chosen.repair else ""
    also = f", and {undecided}" if findings.undecided else ""
    lines.append(f"NOT equal: {differences}{repaired}{also}{also_kept}")
    return DIFFERENT, "different", lines


def _why_undecided(findings: Findings) -> str:
    """Why keys are undecided, and what to do."""
    if findings.task_ended:
        return (
            "the task ended while the check ran: shake status says why; if it is to go on, start "
            "it again; then check again"
        )
    return "check again when they rest"


def _since(findings: Findings) -> str:
    """From when on the proof is, of a check that went on where it was interrupted."""
    if not findings.since:
        return ""
    text = "shake check --since compares what changed since then"
    return f"; this check was begun at {utc(findings.since)}: {text}"
