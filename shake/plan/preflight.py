"""The checks before a run: they find every reason to refuse, and change nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

from shake.checkpoint.checkpoints import Checkpoints
from shake.config import Config
from shake.errors import RefusedError, SourceError, as_refusal, refuse
from shake.phase import Phase
from shake.plan.plan import Plan
from shake.plan.planner import Planner
from shake.plan.source_tables import (
    find_streams,
    find_tables,
    idle_names,
    list_tables,
    missing_tables,
    shared_checkpoints,
    shared_namespaces,
    stream_refusals,
)
from shake.plan.warnings import warnings
from shake.private_files import is_full
from shake.schema import Question
from shake.source.client import Unreachable
from shake.source.contract import Source
from shake.status.http_server import check_port
from shake.stream.shard import Shard, ShardState
from shake.stream.suspicion import ShardAnswer
from shake.targets.choice import namespace_problems
from shake.targets.contract import Target

#: Shards that are asked for at the same time, and tries of each request.
_THREADS, _MAX_TRIES = 8, 5


def make_plan(
    config: Config,
    scanners: int,
    *,
    source: Source,
    target: Target,
    checkpoints: Checkpoints,
) -> Plan:
    """Look at source, target and checkpoints; return the plan, with all that stands against it.

    ``scanners`` is how many segments the farm reads at once. Raises RefusedError when source,
    target or checkpoints cannot be looked at, or a place is none that the target can have.
    """
    begun = checkpoints.begun(config.selects_table)
    with as_refusal(Unreachable, SourceError):
        listed = list_tables(config, source)
        scans = config.scans or _copies_again(checkpoints, begun)
        found = find_tables(config, source, listed, begun, scans=scans)
    planner = Planner(config, scanners, target, checkpoints, int(time.time()))
    planner.refusals += missing_tables(config, source, found, begun)
    namespaces = [config.namespace(table.name) for table, _ in found]
    refuse([line for namespace in namespaces for line in namespace_problems(namespace, config)])
    target.probe(namespaces)
    planner.refusals += target.missing_rights(namespaces)
    streams = find_streams(config, source, [table.name for table, _ in found], begun)
    planner.refusals += stream_refusals(source, [table for table, _ in found], streams)
    plans = tuple(planner.plan(table, items, streams.get(table.name)) for table, items in found)
    planner.refusals += shared_namespaces(config, found) + shared_checkpoints(config, found)
    return Plan(
        plans,
        tuple(planner.refusals),
        (
            *target.weaknesses,
            *idle_names(config, listed),
            *planner.warnings,
            *_neighbours(config, checkpoints),
            *warnings(config, scanners, plans, time.time()),
        ),
    )


def _copies_again(checkpoints: Checkpoints, begun: Iterable[str]) -> bool:
    """Whether a table is being copied again after a gap, whatever gap.policy says now."""
    records = (checkpoints.load(name)[0] for name in begun)
    return any(record and record.gap and record.phase is not Phase.DONE for record in records)


def _neighbours(config: Config, checkpoints: Checkpoints) -> Iterator[str]:
    """A program that would read the checkpoints of this task as its own."""
    if other := checkpoints.others():
        yield (
            f"database {config.checkpoint_database} holds checkpoints of {other}, which stay as "
            f"they are. A {other} that still runs, or is started again, writes to the same "
            "collections and reads the checkpoints of this task as its own: stop it for good, or "
            "use another id, or set checkpoint.db and namespace.map"
        )


def local_problems(config: Config, *, ports: bool) -> list[str]:
    """What stands against a run on this machine; ``ports``: whether those of the pages count."""
    found = []
    folder = config.pid_path
    if not (os.path.isdir(folder) and _is_allowed(folder, os.W_OK | os.X_OK)):
        found.append(
            f"pid_path {folder} is not a folder that this user may write to: create it, change its "
            "rights, or set pid_path to another one"
        )
    elif is_full(Path(folder)):
        found.append(f"pid_path {folder}: no space is left on its disk: free some, or set pid_path")
    if (file := config.log_file) and not _may_be_appended_to(file):
        found.append(
            f"log.file: {file} cannot be opened; give a file in a folder that exists and is "
            "writable, or leave the key empty to log on stdout"
        )
    pages = [("http_profile", port) for port in config.http_profile]
    pages += [("system_profile", port) for port in (config.system_profile,) if port is not None]
    for key, port in pages:
        if ports:
            try:
                check_port(key, config.http_bind, port)
            except RefusedError as error:
                found.append(str(error))
    return found


def spreading_problems(config: Config, target: Target | None = None, kept: int = 0) -> list[str]:
    """What stands against children on other machines; with ``target``, what it cannot do too.

    So many items are ``kept`` by earlier runs.
    """
    found = []
    if config.incr_sync_parallel:
        found.append(
            "--nodes: the journal of incr_sync_parallel = true is on the disk of one machine: "
            "leave out one of them"
        )
    if config.checkpoint_type == "file" and (config.bad_items == "keep" or kept):
        found.append(
            "--nodes: bad items are kept on the disk of one machine with checkpoint.type = file: "
            "use checkpoint.type = mongodb, or run without --nodes"
        )
    unfenced = target.unfenced if target else ""
    if not config.capabilities.renames:
        unfenced = f"target.type = {config.target_type} can refuse no late command"
    if unfenced:
        found.append(
            "--nodes: what a lost node has sent could change the result, since the target cannot "
            f"refuse it: {unfenced}"
        )
    return found


def gap_warnings(source: Source, plan: Plan) -> list[str]:
    """A line for each shard whose unread records are gone, by what the source says now.

    One answer proves nothing, so this refuses no start. Raises RefusedError where the source
    does not answer.
    """
    asked = [
        (table.table.name, table.stream.record.arn, shard)
        for table in plan.tables
        if table.stream and table.stream.record and not table.gap
        if table.stream.record.arn == table.stream.stream.arn
        for shard in table.stream.shards
        if _is_needed(shard)
    ]

    def ask(one: tuple[str, str, Shard]) -> str:
        name, arn, shard = one
        answer = source.answer(arn, Question(shard.id, *shard.reached), max_tries=_MAX_TRIES)
        if answer is ShardAnswer.THERE:
            return ""
        return (
            f"table {name}: GAP: what is not applied yet of shard {shard.id} is {answer.value}: "
            "where the source still says so after the start, changes are lost, and gap.policy "
            "decides what is done"
        )

    with as_refusal(Unreachable, SourceError), ThreadPool(_THREADS) as threads:
        return [line for line in threads.map(ask, asked) if line]


def _is_needed(shard: Shard) -> bool:
    """Whether the rest of it must still be there: not all is applied, or in the journal."""
    begun = shard.sequence or not shard.horizon
    return bool(begun) and shard.state is not ShardState.APPLIED and not shard.fully_journaled


def _may_be_appended_to(file: str) -> bool:
    if os.path.exists(file):
        return not os.path.isdir(file) and _is_allowed(file, os.W_OK)
    folder = os.path.dirname(file) or "."
    return os.path.isdir(folder) and _is_allowed(folder, os.W_OK | os.X_OK)


def _is_allowed(path: str, mode: int) -> bool:
    """Whether this process may do that: its effective user counts, as when it opens the file."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
