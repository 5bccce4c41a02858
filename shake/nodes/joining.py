"""The life of a node: it joins a head, works for it, and joins again where the link is lost."""

from __future__ import annotations

import logging
import re
import socket
import threading

from setproctitle import setproctitle

from shake.backoff import Backoff
from shake.nodes.agent import Agent
from shake.nodes.link import Address, Link, connect
from shake.process.cpus import usable_cpus
from shake.process.ulimits import allow_many

log = logging.getLogger("shake.nodes")

#: Seconds before a head is tried again.
_PAUSES = Backoff(first=0.5, longest=2.0, least=0.5)


def default_name() -> str:
    """The name of this machine, with the characters that a node's name can have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "node"


def work(address: Address, secret: bytes, name: str, workers: int, stop: threading.Event) -> None:
    """Work for the head at ``address`` until the task has ended, or until ``stop`` is set.

    There are so many ``workers``, 0 for as many as there are CPUs.
    Waits for a head that is not there yet. Raises RefusedError where no waiting helps.
    """
    setproctitle(f"shake: node {name}")
    allow_many()
    workers = workers or usable_cpus()
    while link := _joined(address, secret, name, stop):
        log.info("node %s has joined the head at %s, with %d workers", name, address, workers)
        if Agent(link.stream, workers, stop).run():
            return
        log.warning("the link to the head at %s is lost: joining again", address)
        stop.wait(_PAUSES.pause(1))


def _joined(address: Address, secret: bytes, name: str, stop: threading.Event) -> Link | None:
    """A link to the head; None where ``stop`` is set before."""
    failures, logged = 0, ""
    while not stop.is_set():
        try:
            return connect(address, secret, name)
        except OSError as error:
            failures += 1
            reason = error.strerror or str(error)
            if reason != logged:
                logged = reason
                log.warning("no link to the head at %s: %s; retrying", address, reason)
        stop.wait(_PAUSES.pause(failures))
    return None
