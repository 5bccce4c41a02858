"""A process that is a client of a Ray cluster: has Ray run a node of shake on each of its nodes.

It is another process than the head: a client ends with its cluster, and a head does not. It reads
what to start from the head, and sends it lines for the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from shake.errors import RefusedError
from shake.nodes.placed import Placed
from shake.status.logs import one_line

#: Seconds between two looks at the nodes of the cluster. One that has ended starts again then.
_LOOK_EVERY = 5.0
#: Seconds that the nodes have to end when the task has ended. A node needs less.
_END_SECONDS = 15.0
#: The first line to the head begins with one of these.
ADDRESS, REFUSED = "address ", "refused "


class Actors:
    """Keeps a node of shake on each node of the cluster that has a CPU to give.

    ``arguments`` are those of Placed. Each is bound to its node, so no two are on one. A group of
    STRICT_SPREAD has a fixed size: the nodes that join the cluster later would stay empty.
    """

    def __init__(self, ray: Any, arguments: list[Any], report: Callable[[str], None]) -> None:
        self._ray = ray
        self._arguments = arguments
        self._report = report
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(Placed)
        self._running: dict[Any, tuple[str, Any]] = {}  # by reference: node of Ray, and actor

    def keep(self, over: threading.Event) -> None:
        """Start what is missing, until ``over`` is set."""
        while not over.is_set():
            self._start_missing()
            over.wait(_LOOK_EVERY)
            self._take_ended()

    def end(self) -> None:
        """Wait for the nodes, which know that the task has ended; then end what is left."""
        if self._running:
            every = [*self._running]
            self._ray.wait(every, num_returns=len(every), timeout=_END_SECONDS)
        for _, actor in self._running.values():
            self._ray.kill(actor)

    def _start_missing(self) -> None:
        affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        running = {node for node, _ in self._running.values()}
        for node in self._ray.nodes():
            name = node["NodeID"]
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and name not in running:
                here = affinity(name, soft=False)
                actor = self._actor.options(scheduling_strategy=here).remote(*self._arguments)
                self._running[actor.run.remote()] = name, actor

    def _take_ended(self) -> None:
        if not self._running:
            return
        every = [*self._running]
        for reference in self._ray.wait(every, num_returns=len(every), timeout=0)[0]:
            node, _ = self._running.pop(reference)
            try:
                how = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                how = _first_line(error)
            self._report(f"Ray node {node[:12]}: the node of shake has ended: {one_line(how)}")


def _connected() -> Any:
    """Ray, with a connection to the cluster that RAY_ADDRESS names. Raises RefusedError."""
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ImportError:
        raise RefusedError(
            "--nodes ray needs the package ray: run pip install 'shake-dynamodb[ray]'"
        ) from None
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        ray.init(address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # it has no common class for these
        raise RefusedError(
            f"no Ray cluster: {_first_line(error)}; set RAY_ADDRESS, or run ray start here"
        ) from None
    return ray


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0])


def main() -> None:
    """Be the client until the head closes its connection."""
    setproctitle("shake: ray")
    connection, over = socket.socket(fileno=int(sys.argv[1])), threading.Event()

    def report(line: str) -> None:
        with contextlib.suppress(OSError):  # the head is gone
            connection.sendall(f"{line}\n".encode())

    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):  # Ray prints pages there
        os.dup2(nowhere, output)
    try:
        ray = _connected()
    except RefusedError as error:
        report(REFUSED + str(error))
        return
    report(ADDRESS + ray.util.get_node_ip_address())
    incoming = connection.makefile()
    if not (order := incoming.readline()):
        return

    def watch() -> None:
        incoming.readline()
        over.set()

    threading.Thread(target=watch, name="watch", daemon=True).start()
    actors = Actors(ray, json.loads(order), report)
    try:
        actors.keep(over)
        actors.end()
    except Exception as error:
        report(f"the client of Ray ends: {_first_line(error)}")
    ray.shutdown()


if __name__ == "__main__":
    main()
