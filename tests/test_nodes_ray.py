"""Nodes on a real Ray cluster on this machine: ``make ray``."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shake.nodes.secret import new_secret
from tests.support.migration import SMALL_PAGES, Migration, compare
from tests.support.nodes import SHORT_GRANT
from tests.support.tables import SECRET_KEY, create_table, put_items
from tests.support.wait import until

pytestmark = pytest.mark.ray

ITEMS = 400


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with a CPU each, and a head without one."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80_000_000, "include_dashboard": False}
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # a short path: sockets
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
        for _ in range(2):
            started.add_node(num_cpus=1, object_store_memory=80_000_000)
        monkeypatch.setenv("RAY_ADDRESS", started.address)
        started.folder = folder
        yield started
        started.shutdown()


def test_a_copy_on_a_ray_cluster_is_exact_although_a_node_of_it_is_lost(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, cluster: Any
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(ITEMS)))
    secret = tmp_path / "nodes.secret"
    secret.touch(0o600)
    secret.write_bytes(new_secret())
    settings = {**SMALL_PAGES, "qps__full": 8, "nodes__secret_file": secret}
    migration = Migration(dynamodb.url, mongo.uri, name, tmp_path, **settings)
    migration.first, migration.workers = SHORT_GRANT, 1
    run = migration.start("--nodes", "ray")
    until(lambda: len(re.findall(r"node \S+ joined", migration.printed())) == 2, 60)
    until(lambda: "copying" in migration.printed())
    cluster.remove_node(sorted(cluster.worker_nodes, key=id)[0], allow_graceful=False)
    until(lambda: "is lost" in migration.printed())
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    until(lambda: len(re.findall(r"node \S+ joined", migration.printed())) == 3, 60)
    result = migration.wait(run, 90)
    migration.close()
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    for one in (secret.read_text(), SECRET_KEY):
        assert not holding(Path(cluster.folder), one)


def holding(folder: Path, text: str) -> list[str]:
    """The files of Ray that hold a text."""
    found = []
    for place, _, names in os.walk(folder):
        for one in names:
            path = Path(place) / one
            if path.is_file() and text.encode() in path.read_bytes():
                found.append(str(path))
    return found
