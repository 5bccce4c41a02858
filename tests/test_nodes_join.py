"""Nodes that join a run by ``shake node``, as other machines do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shake import __version__
from shake.cli.main import main
from shake.errors import UsageError
from shake.nodes import hello
from shake.nodes.choice import Join, Local, Ray, outlook, parse_nodes
from shake.nodes.credentials import new_certificate, new_secret
from shake.nodes.link import Address, Listener
from tests.support.migration import ROOT, SMALL_PAGES, Migration, compare
from tests.support.tables import create_table, put_items
from tests.support.wait import until

ITEMS = 300


class Machines:
    """A run and its nodes, each a process with its output in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "nodes.secret"
        self.secret.touch(0o600)
        self.secret.write_bytes(new_secret())
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "bin/shake"), *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "SHAKE_NODES_SECRET_FILE": str(self.secret), **variables},
            )
        self.started.append(process)
        return process

    def node(self, port: int, name: str, **variables: str) -> subprocess.Popen[bytes]:
        where = ("--join", f"127.0.0.1:{port}", "--workers", "1", "--name", name)
        return self.start(name, "node", *where, **variables)

    def printed(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text()

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    yield made
    made.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.slow
def test_nodes_join_a_run_and_end_with_it(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, machines: Machines
) -> None:
    """They wait for it, and take its configuration from it. No secret is in what they print."""
    create_table(dynamodb.client, name, ("pk", "S"))
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(ITEMS)))
    settings = {**SMALL_PAGES, "qps__full": 20}
    conf = str(Migration(dynamodb.url, mongo.uri, name, tmp_path, **settings).conf)
    port = free_port()
    nodes = {one: machines.node(port, one) for one in ("vm-1", "vm-2")}
    until(lambda: all("retrying" in machines.printed(one) for one in nodes))
    head = machines.start("head", "run", "--conf", conf, "--nodes", f"join:127.0.0.1:{port}")
    assert head.wait(60) == 0, machines.printed("head")
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    for one, node in nodes.items():
        assert node.wait(20) == 0, machines.printed(one)
        assert f"node {one} joined from 127.0.0.1" in machines.printed("head")
    printed = [machines.printed(one) for one in ("head", *nodes)]
    assert machines.secret.read_text() not in "".join(printed)


def test_a_node_that_is_stopped_leaves_at_once(machines: Machines) -> None:
    node = machines.node(free_port(), "vm-1")
    until(lambda: "retrying" in machines.printed("vm-1"))
    node.send_signal(signal.SIGTERM)
    assert node.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--join", "nowhere"), "--join: 'nowhere' is not HOST:PORT"),
        (("--join", "h:1", "--name", "a b"), "--name: at most 64 of the characters"),
        (("--join", "h:1", "--secret-file", "/nowhere"), "/nowhere: No such file"),
        (("--join", "h:1"), "nodes need a secret"),
    ],
)
def test_a_node_refuses_in_one_line(
    arguments: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["node", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert reason in line


@pytest.mark.parametrize("fault", ["version", "secret"])
def test_a_node_of_another_kind_is_refused_with_3(
    machines: Machines,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(hello, "__version__", "0.0.1")
    secret = machines.secret.read_bytes() if fault == "version" else new_secret()
    listener = Listener(Address("127.0.0.1", 0), secret, new_certificate())
    node = machines.node(listener.port, "vm-1")
    assert node.wait(20) == 3
    listener.close()
    [line] = machines.printed("vm-1").splitlines()
    expected = {
        "version": f"the head runs shake 0.0.1 and this node runs shake {__version__}: install the "
        "same version on all machines",
        "secret": f"the head at 127.0.0.1:{listener.port} has another secret: give this node the "
        "secret of its head",
    }
    assert line == f"shake node: {expected[fault]}"
    assert (expected["version"] in caplog.text) == (fault == "version")


def test_where_workers_run_is_read() -> None:
    address = Address("0.0.0.0", 7070)
    assert parse_nodes("local:3", 2) == Local(3, 2)
    assert parse_nodes("join:0.0.0.0:7070", None) == Join(address)
    assert parse_nodes("ray", None) == Ray(None, None)
    assert parse_nodes("ray:0.0.0.0:7070", 4) == Ray(address, 4)


@pytest.mark.parametrize(
    ("text", "workers", "words"),
    [
        ("local:3", 6, "3 nodes on this machine with 2 workers each"),
        ("ray", 2, "the workers of nodes are counted when these have joined. With 2 workers in"),
    ],
)
def test_a_plan_says_which_workers_it_counts(
    text: str, workers: int, words: str, dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    assert outlook(parse_nodes(text, 2), 2)[0] == workers
    create_table(dynamodb.client, name, ("pk", "S"))
    migration = Migration(dynamodb.url, mongo.uri, name, tmp_path)
    result = migration.run("--dry-run", "--nodes", text)
    assert result.status == 0, result
    assert f"machines:             {words}" in result.stdout


@pytest.mark.parametrize(
    "text", ["", "local", "local:0", "local:x", "join", "join:h", "ray:", "ray:h", "dask", "x:h:1"]
)
def test_what_is_no_place_of_workers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--nodes {text}: give local:N, join:HOST:PORT or ray"):
        parse_nodes(text, None)


def test_workers_of_nodes_that_join_are_their_own() -> None:
    with pytest.raises(UsageError, match="give it to shake node"):
        parse_nodes("join:h:1", 4)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--nodes", "dask"), "--nodes dask: give local:N, join:HOST:PORT or ray"),
        (("--nodes", "local:2", "--standby"), "--standby does not go with --nodes"),
        (("--nodes", "local:2", "--set", "nodes.tls.cert=x"), "go together"),
    ],
)
def test_a_wrong_choice_of_nodes_is_refused_in_one_line(
    arguments: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    required = ("--set", "id=shop", "--set", "target.address=mongodb://h/")
    assert main(["run", *required, *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert reason in line


def test_a_port_for_nodes_that_is_taken_is_refused_before_anything_is_changed(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, machines: Machines
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    conf = str(Migration(dynamodb.url, mongo.uri, name, tmp_path).conf)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = machines.start("head", "run", "--conf", conf, "--nodes", f"join:127.0.0.1:{port}")
        assert run.wait(60) == 3
    last = machines.printed("head").splitlines()[-1]
    assert f"cannot listen for nodes on 127.0.0.1:{port}: Address already in use" in last
    assert not [one for one in mongo.client.list_database_names() if one.startswith(name)]


def test_a_run_on_ray_where_it_is_not_installed_says_how_to_install_it(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    (tmp_path / "ray.py").write_text("raise ImportError")
    migration = Migration(dynamodb.url, mongo.uri, name, tmp_path, nodes__secret_file="/nowhere")
    migration.first = f"import os; os.environ['PYTHONPATH'] = {str(tmp_path)!r}"
    result = migration.run("--nodes", "ray")
    assert result.status == 3
    assert "pip install 'shake-dynamodb[ray]'" in result.line


def test_nothing_of_nodes_is_imported_by_a_run_without_them() -> None:
    code = (
        "import sys, shake.cli.main, shake.cli.supervisor, shake.run.lifecycle,"
        "shake.worker.process, shake.worker.writer;"
        "sys.exit(any(one.startswith(('shake.nodes', 'cryptography', 'ray')) for one in"
        " sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
