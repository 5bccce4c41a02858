"""Nodes on a Ray cluster: Ray starts one on each of its nodes, and again where one has ended.

Ray does nothing else. Each node connects to the head by a link of shake's, and no data, message or
secret passes through Ray. What Ray sees: the address of the head, the path of the secret's file,
the number of workers, and how a node has ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shake.errors import RefusedError, UsageError
from shake.nodes.address import Address
from shake.nodes.head import Head
from shake.nodes.link import Listener
from shake.nodes.placed import Placed
from shake.status.logs import one_line

try:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise RefusedError(
        "--nodes ray needs the package ray: run pip install 'shake-dynamodb[ray]'"
    ) from None

log = logging.getLogger("shake.nodes")

#: Seconds between two looks at the nodes of the cluster. One that has ended starts again then.
_LOOK_EVERY = 5.0
#: Seconds that the nodes have to end when the task has ended. A node needs less.
_END_SECONDS = 15.0


class _Node:
    """What Ray runs, one on each of its nodes."""

    def run(self, placed: Placed, variable: str) -> str:
        """Be a node until the task has ended; return how it ended."""
        own = os.environ.get(variable)
        return (placed._replace(secret_file=own) if own else placed).run()


class Farms:
    """Keeps a node of shake on each node of the cluster that has a CPU to give.

    Each is bound to its node, so no two are on one. A group of STRICT_SPREAD has a fixed size: the
    nodes that join the cluster later would stay empty.
    """

    def __init__(self, placed: Placed) -> None:
        self._placed = placed
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(_Node)
        self._running: dict[Any, tuple[str, Any]] = {}  # by reference: node of Ray, and actor
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ray", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for the nodes, which know that the task has ended; then end what is left."""
        self._closed.set()
        self._thread.join()
        with contextlib.suppress(RayError):
            ray.wait([*self._running], num_returns=len(self._running), timeout=_END_SECONDS)
        for _, actor in self._running.values():
            ray.kill(actor)

    def _keep(self) -> None:
        while not self._closed.is_set():
            try:
                self._start_missing()
                self._take_ended()
            except (RayError, OSError, RuntimeError) as error:
                # The nodes that run need no Ray.
                log.warning("Ray does not answer: %s", _first_line(error))
            self._closed.wait(_LOOK_EVERY)

    def _start_missing(self) -> None:
        running = {node for node, _ in self._running.values()}
        for node in ray.nodes():
            name = node["NodeID"]
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and name not in running:
                here = NodeAffinitySchedulingStrategy(name, soft=False)
                actor = self._actor.options(scheduling_strategy=here).remote()
                reference = actor.run.remote(self._placed, "SHAKE_NODES_SECRET_FILE")
                self._running[reference] = name, actor

    def _take_ended(self) -> None:
        if not self._running:
            return
        for reference in ray.wait([*self._running], num_returns=len(self._running), timeout=0)[0]:
            node, _ = self._running.pop(reference)
            try:
                how = ray.get(reference)
            except RayError as error:
                how = _first_line(error)
            log.warning("Ray node %s: the node of shake has ended: %s", node[:12], one_line(how))


@contextlib.contextmanager
def open_ray(
    listen: Callable[[Address], Listener], secret_file: str | None, workers: int | None
) -> Iterator[Head]:
    """The nodes of the cluster that RAY_ADDRESS names, or of the one on this machine.

    ``listen`` makes the head's Listener; without a choice of the user's it listens at the address
    of this machine that Ray uses, at any free port.
    """
    if secret_file is None:
        raise UsageError("--nodes ray needs nodes.secret_file, a path that is the same everywhere")
    with _cluster() as own, contextlib.closing(listen(Address(own, 0))) as listener:
        host = own if listener.host in ("", "0.0.0.0", "::") else listener.host
        address = Address(host, listener.port)
        placed = Placed(str(address), str(Path(secret_file).absolute()), workers or 0)
        log.info("nodes of the Ray cluster join at %s", address)
        with contextlib.closing(Farms(placed)), Head(listener) as head:
            yield head


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    """Be a client of the cluster; the address of this machine in it."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(
            os.environ.get("RAY_ADDRESS") or "auto", log_to_driver=False, configure_logging=False
        )
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise RefusedError(
            f"no Ray cluster: {_first_line(error)}; set RAY_ADDRESS, or run ray start on this "
            "machine"
        ) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield ray.util.get_node_ip_address()
    finally:
        ray.shutdown()


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0])
