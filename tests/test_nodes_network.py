"""Nodes whose links are cut and healed: each machine is a network namespace, with two links.

The control link leads to the head, the data link to source and target.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shake.nodes.credentials import new_secret
from tests.support.cutting import Cutting
from tests.support.followed import Followed, stopped
from tests.support.migration import Migration
from tests.support.network import SERVERS, Network, why_no_network
from tests.support.nodes import SHORT_GRANT
from tests.support.wait import until
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

PORT = 7070
NODES = ["vm-1", "vm-2"]


class Machines:
    """A head and its nodes, each on a machine; their servers are behind a proxy."""

    def __init__(self, network: Network, wire: Wire, followed: Followed, source: str) -> None:
        self.network = network
        self.wire = wire
        self.followed = followed
        self._source = source

    def start(self, folder: Path, **settings: object) -> Migration:
        """Copy the table, and follow its changes."""
        secret = folder / "nodes.secret"
        secret.touch(0o600)
        secret.write_bytes(new_secret())
        where = ("--join", f"{self.network.address('head')}:{PORT}", "--workers", "1")
        for name in NODES:
            arguments = (*where, "--secret-file", str(secret), "--name", name)
            self.network.shake(name, "node", *arguments, out=folder / f"{name}.out")
        ends = {"source": self._source, "target": self.wire.uri}
        migration = self.followed.task(**ends, nodes__secret_file=secret, **settings)
        migration.workers = 0  # of the head; each node has its own
        migration.first = f"{SHORT_GRANT}; {self.network.first('head')}"
        migration.start("--nodes", f"join:0.0.0.0:{PORT}")
        return migration

    @property
    def place(self) -> str:
        return f"{self.followed.name}.{self.followed.name}"


@pytest.fixture
def machines(followed: Followed) -> Iterator[Machines]:
    if reason := why_no_network():
        pytest.skip(f"no network namespaces: {reason}")
    port = int(followed.simulator.url.rstrip("/").rpartition(":")[2])
    with (
        Network(["head", *NODES]) as network,
        network.among_servers(lambda: Cutting(port, SERVERS)) as source,
        network.among_servers(lambda: Wire(*followed.mongo.client.address, at=SERVERS)) as wire,
    ):
        yield Machines(network, wire, followed, f"http://{SERVERS}:{source.port}/")


def joined(migration: Migration) -> int:
    return migration.printed().count("joined from")


def test_a_copy_is_exact_while_each_link_of_a_node_is_cut_and_healed(
    machines: Machines, tmp_path: Path
) -> None:
    """A cut data link costs time only. A node without a control link is lost, and joins again."""
    followed, network = machines.followed, machines.network
    followed.simulator.table(followed.name, shards=2)
    for number in range(200):
        followed.put(f"k{number}")
    reached = machines.wire.stop_at(
        "answer", "insert", machines.place, lambda: network.cut("vm-1", "data"), skip=4
    )
    migration = machines.start(tmp_path, qps__full=3, qps__full__batch_num=5)
    until(reached.is_set, 120)
    time.sleep(2)
    network.heal("vm-1", "data")
    assert "is lost" not in migration.printed()
    network.cut("vm-2", "control")
    followed.put("k7", n={"N": "1"})
    until(lambda: "node vm-2 is lost" in migration.printed())
    network.heal("vm-2", "control")
    until(lambda: joined(migration) == 3)
    assert followed.collection.name not in followed.collection.database.list_collection_names()
    followed.put("k8", n={"N": "1"})
    followed.equal()
    assert "node vm-1 is lost" not in migration.printed()
    stopped(migration, migration.running[-1])
    followed.compare()


def test_a_change_of_a_node_that_is_cut_off_lands_when_it_is_back_and_is_refused(
    machines: Machines, tmp_path: Path
) -> None:
    """Both links of the node are cut when it has sent a change, which the proxy then holds."""
    followed, network = machines.followed, machines.network
    followed.simulator.table(followed.name)
    for number in range(20):
        followed.put(f"k{number}")
    released, answered = threading.Event(), threading.Event()
    cut: list[str] = []

    def hold() -> None:
        home = next(one for one in NODES if network.address(one, "data") == machines.wire.host)
        network.cut(home, "control", "data")
        cut.append(home)
        released.wait(120)

    held = machines.wire.stop_at(
        *("request", "update", machines.place, hold), skip=2, late=True, answered=answered
    )
    migration = machines.start(tmp_path)
    until(lambda: followed.collection.find_one({"pk": "k19"}), 120)
    for step in range(1000):
        followed.put(f"k{step % 20}", n={"N": str(step)})
        if held.wait(0.05):
            break
    [node] = until(lambda: cut)
    until(lambda: f"node {node} is lost" in migration.printed())
    for number in range(20):
        followed.put(f"k{number}", n={"N": str(9000 + number)})
    followed.equal()
    network.heal(node, "control", "data")
    until(lambda: joined(migration) == 3)
    released.set()
    until(answered.is_set)
    followed.compare()
    stopped(migration, migration.running[-1])
    followed.compare()
