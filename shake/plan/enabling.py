"""Enables the streams that a plan needs: all of them, or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool

from shake.errors import RefusedError, RunError, ShakeError, SourceError
from shake.plan.plan import TablePlan
from shake.source.contract import Source, Stream

log = logging.getLogger("shake")

#: Tables whose streams are enabled at the same time.
_THREADS = 8


def enable_streams(
    source: Source, tables: Sequence[TablePlan], ours: Callable[[], None]
) -> dict[str, Stream]:
    """The streams that were missing, by table, once they take changes.

    First it waits until every table can be changed. ``ours`` is called before each change, and
    raises where the task is another's by now. Where one stream is refused, those that this call
    has enabled are disabled again. Raises RefusedError.
    """
    names = [
        table.table.name
        for table in tables
        if table.stream and table.stream.record is None and not table.stream.stream.enabled
    ]
    enabled: list[str] = []

    def enable(name: str) -> Stream:
        ours()
        if source.enable_stream(name):
            enabled.append(name)
        try:
            return source.await_stream(name)
        except SourceError as error:
            raise RefusedError(f"table {name}: its new stream cannot be read: {error}") from error

    with ThreadPool(_THREADS) as threads:
        threads.map(source.await_active, names)
        try:
            return dict(zip(names, threads.map(enable, names), strict=True))
        except ShakeError:
            for name in enabled:
                _undo(source, name, ours)
            raise


def _undo(source: Source, name: str, ours: Callable[[], None]) -> None:
    try:
        ours()
        source.disable_stream(name)
    except (RunError, RefusedError) as error:
        log.warning("table %s: the start enabled its stream, which stays enabled: %s", name, error)
