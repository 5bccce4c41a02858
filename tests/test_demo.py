"""The demo: two embedded servers, a migration, the proof, and nothing left behind."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shake.cli.demo import main
from shake.demo.servers import free_port
from shake.demo.story import Story
from shake.status.routes import status_server
from tests.support.migration import ROOT
from tests.support.snapshots import task
from tests.support.tables import connect, create_table, put_items
from tests.support.wait import until


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The demo, with few items and at once."""
    return subprocess.run(
        [sys.executable, str(ROOT / "bin/shake-demo"), "--once", "--items=300", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_migrates_kills_a_worker_verifies_and_ends(tmp_path: Path) -> None:
    result = demo(tmp_path, "--seconds=8", f"--port={free_port()}")
    assert result.returncode == 0, result
    lines = result.stdout.splitlines()
    for told in (
        r"demo: killing worker \d+ \(process \d+\) with SIGKILL: the supervisor replaces it",
        r".* worker \d+ crashed \(signal 9\); it is replaced",
        r"full sync done!",
        r'demo: an item in DynamoDB: \{.*"total": \{"N": "[\d.]+"\}.*',
        r"demo: the same in MongoDB: \{'_id': ObjectId\(.*'total': Decimal128\(.*",
        r"demo: 90 live writes at the source: new, changed, deleted",
        r"demo: last write at \S+; applied through \S+: every change is in MongoDB, .*",
        r"demo: shake control finish --conf .*",
        r"shake-demo finished after .*",
        r"table orders: 90 changes applied in this run, .*",
        r"table orders: 300 items equal .*",
    ):  # in this order
        while lines and not re.fullmatch(told, lines[0]):
            del lines[0]
        assert lines, f"{told}\n{result.stdout}"
    assert lines[-1] == "demo: a worker was killed, changes went on, and both sides are equal"
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_refuses_the_demo_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = demo(tmp_path, f"--port={port}")
    assert result.returncode == 3
    assert result.stdout == ""
    assert result.stderr == (
        f"shake-demo: port {port} of the status page: Address already in use; choose another with "
        "--port\n"
    )


@pytest.mark.parametrize("option", ["--items", "--seconds", "--workers", "--port"])
@pytest.mark.parametrize("number", ["-3", "0", "many"])
def test_what_is_counted_is_at_least_one(option: str, number: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option, number])
    assert ended.value.code == 2
    assert f"'{number}' is not a whole number from 1 up" in capsys.readouterr().err


def test_the_help_is_plain_text(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "`" not in capsys.readouterr().out


def test_a_story_that_cannot_go_on_ends_the_run() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with status_server(task, "127.0.0.1", 0, None) as server:  # of no table
            page = f"http://127.0.0.1:{server.port}/"
            nowhere = ("http://127.0.0.1:1", "mongodb://127.0.0.1:1", "demo")
            story = Story(*nowhere, page, 1, print, lambda: None)
            story.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert story.failure.startswith("the demo failed: ValueError: ")
    assert not story.complete


def test_the_servers_for_work_by_hand_print_a_configuration_that_works(tmp_path: Path) -> None:
    conf, commands = tmp_path / "my.conf", ("shake-supervisor", "shake-check")
    settings = ["--set=sync_mode=full", "--set=http_profile=-1"]
    with conf.open("wb") as output:
        servers = subprocess.Popen([sys.executable, "-m", "tools.servers"], cwd=ROOT, stdout=output)
    try:
        until(lambda: "Ctrl-C ends them" in conf.read_text(), 120)
        lines = conf.read_text().splitlines()
        [url] = [one.partition(" = ")[2] for one in lines if one.startswith("source.endpoint_url")]
        create_table(connect(url), "orders")
        put_items(connect(url), "orders", ({"pk": {"S": str(item)}} for item in range(30)))
        for command in commands:
            result = subprocess.run(
                [sys.executable, str(ROOT / "bin" / command), "--conf", str(conf), *settings],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, result
        assert "table orders: 30 items equal" in result.stdout
    finally:
        servers.send_signal(signal.SIGINT)
        assert servers.wait(60) == 0
    port = int(url.rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
