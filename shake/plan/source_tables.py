"""Finds the tables that a task is to copy, and their streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from shake.config import Config
from shake.config.names import bad_name, selects, stored_name
from shake.errors import RefusedError, RunError, SourceError, as_refusal
from shake.schema import UNKNOWN, Origin, Table
from shake.source.agreement import agreed
from shake.source.answer import NOT_FOUND
from shake.source.client import Unreachable
from shake.source.contract import Source, Stream
from shake.source.streams import stream_problem, table_arn
from shake.stream import suspicion

T = TypeVar("T")

#: Tries of each request before the source counts as unreachable.
_MAX_TRIES = 5
#: Tables that are described at the same time.
_THREADS = 8


def list_tables(config: Config, source: Source) -> list[str]:
    """All tables; a plain white list as it is, which needs no right to list all others.

    Raises as find_tables.
    """
    return list(_plain_list(config)) or source.list_tables(max_tries=_MAX_TRIES)


def _plain_list(config: Config) -> tuple[str, ...]:
    """The white list where it has no pattern."""
    white = config.filter_collection_white
    return white if white == config.plain_white_names else ()


def idle_names(config: Config, tables: Sequence[str]) -> list[str]:
    """Names and patterns of the lists and of the map that select none of the tables, in words.

    Not the plain names of the white list: those must exist.
    """
    patterns = [
        *(("filter.collection.white", one) for one in config.filter_collection_white),
        *(("filter.collection.black", one) for one in config.filter_collection_black),
        *(("namespace.map", one) for one, _ in config.namespace_map),
    ]
    lines = []
    for key, pattern in patterns:
        must_exist = key.endswith("white") and pattern in config.plain_white_names
        if must_exist or any(selects(pattern, table) for table in tables):
            continue
        hint = _nearest(pattern, tables)
        lines.append(f"{key}: {pattern} SELECTS NO TABLE of this account and region{hint}")
    return lines


def find_tables(
    config: Config,
    source: Source,
    listed: Sequence[str],
    begun: Mapping[str, Origin],
    *,
    scans: bool = True,
) -> list[tuple[Table, bool]]:
    """The selected tables of those that list_tables gave, and whether each holds any item.

    Without ``scans`` that is not asked: it needs the right to scan.
    ``begun`` are those that the task has begun with, by name: one listing that lacks them, or one
    description of another table, proves nothing.
    Raises Unreachable or SourceError where the source cannot be asked, RefusedError for a table
    that cannot be read.
    """
    names = [name for name in listed if config.selects_table(name)]

    def look(name: str) -> tuple[Table, bool] | None:
        def ask() -> tuple[Table, bool]:
            table = source.describe(name, max_tries=_MAX_TRIES)
            return table, scans and _holds_items(config, source, name)

        return _agreed(source, name, ask, lambda found: _difference(name, begun, found[0].origin))

    names = list(dict.fromkeys([*names, *sorted(begun)]))
    # Unlike threads of an Executor, these do not keep the process alive while the source hangs.
    with ThreadPool(_THREADS) as threads:
        return [found for found in threads.imap(look, names) if found is not None]


def _holds_items(config: Config, source: Source, name: str) -> bool:
    scan_filter = config.scan_filter
    try:
        return source.holds_items(name, scan_filter, max_tries=_MAX_TRIES)
    except SourceError as error:
        if error.code != "ValidationException" or scan_filter is None:
            raise
        raise RefusedError(
            f"table {name}: full.read.filter_expression ({scan_filter.expression}) was refused by "
            f"the source: {scan_filter.with_names(error.message)}"
        ) from error


def _agreed(
    source: Source, name: str, ask: Callable[[], T], problem: Callable[[T], str]
) -> T | None:
    """What the source answers about a table; None where there is none.

    What has a problem, "" being none, and that there is no table, needs several answers.
    """

    def look() -> T | None:
        try:
            return ask()
        except SourceError as error:
            if error.code != NOT_FOUND:
                raise error.of_table(name) from error
            return None

    def difference(found: T | None) -> str:
        return f"there is no table {name}" if found is None else problem(found)

    return agreed(source, look, difference, suspicion.START)


def _difference(name: str, begun: Mapping[str, Origin], origin: Origin) -> str:
    """What shows that ``origin`` is of another table than the task has begun with, or ""."""
    difference = begun.get(name, UNKNOWN).difference(origin)
    return difference and f"table {name} seems to be another one: {difference}"


def find_streams(
    config: Config, source: Source, names: list[str], begun: Mapping[str, Origin]
) -> dict[str, Stream]:
    """The stream of each table, where changes are followed. Raises RefusedError.

    ``begun``: see find_tables.
    """
    if config.sync_mode == "full" or config.sync_schema_only:
        return {}

    def look(name: str) -> Stream:
        find = partial(source.find_stream, name, max_tries=_MAX_TRIES)

        def problem(stream: Stream) -> str:
            return (
                _difference(name, begun, stream.table)
                or _difference(name, begun, Origin(arn=table_arn(stream.arn)))
                or stream_problem(name, stream)
                or ""
            )

        stream = _agreed(source, name, find, problem)
        if stream is None:
            raise RefusedError(f"table {name} was deleted during the checks: start again")
        return stream

    with as_refusal(Unreachable, SourceError), ThreadPool(_THREADS) as threads:
        return dict(zip(names, threads.map(look, names), strict=True))


def stream_refusals(
    source: Source, tables: Sequence[Table], streams: Mapping[str, Stream]
) -> list[str]:
    """What the source refuses of the requests that following needs, a line for each table.

    Raises RefusedError where the source does not answer.
    """

    def ask(table: Table) -> str:
        try:
            source.try_changes(table, streams[table.name], max_tries=_MAX_TRIES)
        except Unreachable:
            raise
        except RunError as error:
            return f"table {table.name}: its changes cannot be followed: {error}"
        return ""

    followed = [table for table in tables if table.name in streams]
    with as_refusal(Unreachable), ThreadPool(_THREADS) as threads:
        return [line for line in threads.map(ask, followed) if line]


def missing_tables(
    config: Config, source: Source, found: list[tuple[Table, bool]], begun: Collection[str]
) -> list[str]:
    """What is selected and not there, in words; ``begun``: see find_tables."""
    names = {table.name for table, _ in found}
    missing = [name for name in config.plain_white_names if name not in names]
    there = _near_names(source) if missing else []
    refusals = [
        f"filter.collection.white: there is no table {name} in this account and region"
        + _nearest(name, there)
        for name in missing
    ]
    refusals += [
        f"table {name}, which this task has begun with, is not in this account and region: check "
        "source.region, source.endpoint_url and the credentials; where it was deleted on purpose, "
        "leave it out by filter.collection.white or .black"
        for name in begun
        if name not in names and name not in config.plain_white_names
    ]
    if not names and not refusals:
        filters = {"white": config.filter_collection_white, "black": config.filter_collection_black}
        given = [f"filter.collection.{key} = {';'.join(v)}" for key, v in filters.items() if v]
        refusals.append(
            f"no table to copy: {given[0]} leaves none of this account and region"
            if given
            else "no table to copy: these credentials can list none in this account and region"
        )
    return refusals


def _near_names(source: Source) -> list[str]:
    """All tables that could be meant; none where the right to list them is missing."""
    try:
        return source.list_tables(max_tries=1)
    except (Unreachable, SourceError):
        return []


def _nearest(name: str, tables: Sequence[str]) -> str:
    near = get_close_matches(name, tables, n=1)
    return f"; the nearest is {near[0]}" if near else ""


def shared_checkpoints(config: Config, found: list[tuple[Table, bool]]) -> list[str]:
    """The tables whose checkpoint has the name under which items of another one are kept."""
    if config.bad_items == "stop":
        return []
    checkpoints = {stored_name(table.name): table.name for table, _ in found}
    return [
        f"table {other}: its checkpoint ({config.checkpoint_of(other)}) has the name under which "
        f"the bad items of table {table.name} are kept: leave one of them out by "
        "filter.collection.*, to be copied by another task, or set bad.items = stop"
        for table, _ in found
        if (other := checkpoints.get(bad_name(table.name)))
    ]


def shared_namespaces(config: Config, found: list[tuple[Table, bool]]) -> list[str]:
    """The collections that are of several tables, and databases that cannot both be, in words.

    Source: https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
    """
    namespaces = Counter(config.namespace(table.name) for table, _ in found)
    lines = [
        f"{times} tables would go to {namespace}: give each its own by namespace.map"
        for namespace, times in namespaces.items()
        if times > 1
    ]
    if not config.capabilities.folds_case:
        return lines
    databases: dict[str, str] = {}
    for database in sorted({namespace.partition(".")[0] for namespace in namespaces}):
        if (other := databases.setdefault(database.lower(), database)) != database:
            lines.append(
                f"namespace.map: databases {other} and {database} differ only in upper and lower "
                "case, which MongoDB refuses: write both the same"
            )
    return lines
