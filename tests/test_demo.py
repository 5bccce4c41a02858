"""The demo: two embedded servers, a migration, the proof, and nothing left behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shake.demo.__main__ import Shop, main
from shake.status.server import status_server
from tests.support.migration import ROOT
from tests.support.snapshots import task
from tests.support.tables import connect, create_table, put_items
from tests.support.wait import until


def test_the_demo_migrates_verifies_and_ends(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "bin/shake-demo"), "--once", "--items", "300"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result
    assert "full sync done!" in result.stdout
    assert "90 live writes" in result.stdout
    assert "90 changes applied in this run" in result.stdout
    assert "300 items equal" in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--items", "--workers"])
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


def test_live_writes_that_fail_end_the_run() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with status_server(task, "127.0.0.1", 0, None) as server:  # of no table
            shop = Shop("http://127.0.0.1:1", f"http://127.0.0.1:{server.port}/", 1)
            shop.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert shop.failure.startswith("the live writes failed: ValueError: ")


def test_the_servers_for_work_by_hand_print_a_configuration_that_works(tmp_path: Path) -> None:
    conf, commands = tmp_path / "my.conf", ("shake-supervisor", "shake-check")
    settings = ["--set=sync_mode=full", "--set=http_profile=-1"]
    with conf.open("wb") as output:
        servers = subprocess.Popen(
            [sys.executable, "-m", "shake.demo.serve"], cwd=ROOT, stdout=output
        )
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
