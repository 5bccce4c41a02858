"""Nodes on a real Ray cluster on this machine: ``make ray``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shake.nodes.credentials import new_secret
from tests.support.migration import ROOT, SMALL_PAGES, Migration, compare
from tests.support.nodes import SHORT_GRANT
from tests.support.tables import SECRET_KEY, create_table, put_items
from tests.support.wait import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

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


def test_a_task_on_a_ray_cluster_is_exact_although_a_node_is_lost_and_another_one_comes(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, cluster: Any
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(ITEMS)))
    secret = tmp_path / "nodes.secret"
    secret.touch(0o600)
    secret.write_bytes(new_secret())
    settings = {**SMALL_PAGES, "qps__full": 8, "nodes__secret_file": secret, "sync_mode": "all"}
    migration = Migration(dynamodb.url, mongo.uri, name, tmp_path, **settings)
    migration.first, migration.workers = SHORT_GRANT, 1
    run = migration.start("--nodes", "ray")
    until(lambda: len(re.findall(r"node \S+ joined", migration.printed())) == 2, 60)
    until(lambda: "copying" in migration.printed())
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    until(lambda: "is lost" in migration.printed())
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    until(lambda: len(re.findall(r"node \S+ joined", migration.printed())) == 3, 60)
    put_items(dynamodb.client, name, [{"pk": {"S": "late"}}])
    documents = mongo.client[name][name]
    until(lambda: documents.count_documents({}) == ITEMS + 1)
    run.send_signal(signal.SIGTERM)
    result = migration.wait(run)
    assert result.status == 0, result
    assert "raylet" not in result.stdout + result.stderr
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


def test_ray_accepts_the_cluster_of_the_example() -> None:
    import ray.autoscaler

    schema = Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    tool = Path(sys.executable).parent / "check-jsonschema"
    command = [str(tool), "--schemafile", str(schema), str(ROOT / "deploy" / "ray-cluster.yaml")]
    answer = subprocess.run(command, capture_output=True, check=False)
    assert answer.returncode == 0, answer


def test_a_run_without_a_cluster_is_refused_in_one_line(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    migration = Migration(dynamodb.url, mongo.uri, name, tmp_path, nodes__secret_file="/nowhere")
    result = migration.run("--nodes", "ray")
    assert result.status == 3
    assert result.line.startswith("no Ray cluster: ")
