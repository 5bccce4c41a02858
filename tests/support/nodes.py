"""A task that works in several nodes on this machine, and what can happen to a node."""

from __future__ import annotations

import contextlib
import signal

import psutil

from tests.support.crash import Copy, await_death
from tests.support.machine import Frozen
from tests.support.migration import Migration
from tests.support.wait import until

#: Short times, for the Python that a head runs first: a silent node is lost after 5 seconds.
SHORT_GRANT = (
    "from shake.nodes import membership as nodes;"
    "nodes.GRANT, nodes.MARGIN, nodes.SETTLE, nodes.QUIET = 4.0, 1.0, 2.0, 3.0"
)


def agents(migration: Migration) -> list[psutil.Process]:
    """The agents of the nodes, by name."""
    return sorted(migration.children("node"), key=lambda one: one.cmdline())


def children(migration: Migration, role: str = "") -> list[psutil.Process]:
    """The children of all nodes whose title begins so."""
    found = [child for agent in agents(migration) for child in _children(agent)]
    return [one for one in found if _title(one).startswith(f"shake: {role}")]


def node_of(process: psutil.Process) -> psutil.Process:
    """The agent whose child this is."""
    parent = process.parent()
    assert parent is not None
    return parent


def kill(migration: Migration, victim: str, number: int = 0) -> None:
    """Kill an ``agent``, a child by its role, or a whole ``node`` at once; wait for it to start."""

    def found() -> list[psutil.Process]:
        return agents(migration) if victim in ("agent", "node") else children(migration, victim)

    seen = until(found)
    chosen = seen[number % len(seen)]
    doomed = [chosen, *(_children(chosen) if victim == "node" else ())]
    for one in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    for one in doomed:
        await_death(one)


def freeze(migration: Migration, number: int = 0) -> Frozen:
    """Stop an agent, and then all its children."""
    frozen = Frozen([agents(migration)[number]])
    frozen.processes += Frozen(_children(frozen.processes[0])).processes
    return frozen


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def spread(copy: Copy, count: int = 3) -> Copy:
    """Have a copy run in so many nodes."""
    spread_task(copy.migration, count)
    return copy


def spread_task(migration: Migration, count: int = 3) -> Migration:
    """Have a task run in so many nodes, each with one worker."""
    migration.workers = 1
    migration.first = SHORT_GRANT
    start = migration.start
    migration.start = lambda *arguments, **options: start(  # type: ignore[method-assign]
        "--nodes", f"local:{count}", *arguments, **options
    )
    return migration


def sender(migration: Migration, port: int) -> psutil.Process:
    """The child of a node that has a connection from this port."""

    def connected() -> psutil.Process | None:
        for child in children(migration):
            with contextlib.suppress(psutil.Error):
                if port in [one.laddr.port for one in child.net_connections("tcp")]:
                    return child
        return None

    return until(connected)


def whole(agent: psutil.Process) -> list[psutil.Process]:
    """A node: its agent, and all its children."""
    return [agent, *_children(agent)]
