"""What ``--nodes`` chooses: parsed, and opened."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass

from shake.config import Config
from shake.errors import UsageError
from shake.nodes.credentials import load_certificate, new_certificate, read_secret
from shake.nodes.head import Head
from shake.nodes.link import Address, Listener
from shake.nodes.local import LocalNodes
from shake.process.cpus import usable_cpus
from shake.process.site import Sites
from shake.status.figures import many

_FORMS = "--nodes {}: give local:N, join:HOST:PORT or ray"


@dataclass(frozen=True, slots=True)
class Local:
    """So many nodes on this machine, with so many workers each."""

    nodes: int
    workers: int


@dataclass(frozen=True, slots=True)
class Join:
    """Nodes that connect to this address."""

    address: Address


@dataclass(frozen=True, slots=True)
class Ray:
    """The nodes of a Ray cluster; None for their own number of workers, and for any free port."""

    address: Address | None
    workers: int | None


def parse_nodes(text: str, workers: int | None) -> Local | Join | Ray:
    """The choice that ``--nodes`` and ``--workers`` make. Raises UsageError."""
    kind, _, rest = text.partition(":")
    if kind == "local" and re.fullmatch(r"[1-9]\d{0,2}", rest):
        return Local(int(rest), workers or usable_cpus())
    if text == "ray":
        return Ray(None, workers)
    try:
        address = Address.parse(rest)
    except ValueError:
        raise UsageError(_FORMS.format(text)) from None
    if kind == "ray":
        return Ray(address, workers)
    if kind != "join":
        raise UsageError(_FORMS.format(text))
    if workers:
        raise UsageError("with --nodes join each node has its own --workers: give it to shake node")
    return Join(address)


def outlook(choice: Local | Join | Ray, workers: int) -> tuple[int, str]:
    """For a plan: how many workers there are, and on which machines.

    So many ``workers`` stand for those of nodes which are not known yet.
    """
    if isinstance(choice, Local):
        each = many(choice.workers, "worker")
        nodes = many(choice.nodes, "node")
        return choice.nodes * choice.workers, f"{nodes} on this machine with {each} each"
    return workers, (
        "the workers of nodes are counted when these have joined. With "
        f"{many(workers, 'worker')} in all"
    )


def open_nodes(choice: Local | Join | Ray, config: Config) -> AbstractContextManager[Sites]:
    """The nodes of a task. Raises ShakeError where they cannot be had."""
    match choice:
        case Local(nodes, workers):
            return Head(LocalNodes(nodes, workers), nodes)
        case Join(address):
            return Head(_listener(address, config))
        case Ray(address, workers):
            from shake.nodes.on_ray import open_ray

            return open_ray(
                lambda own: _listener(address or own, config), config.nodes_secret_file, workers
            )


def _listener(address: Address, config: Config) -> Listener:
    """Listens for nodes that know the secret. Raises ShakeError."""
    secret = read_secret(config.nodes_secret_file)
    cert, key = config.nodes_tls_cert, config.nodes_tls_key
    certificate = load_certificate(cert, key) if cert and key else new_certificate()
    return Listener(address, secret, certificate)
