"""Commands for the running task: read budget, finish, who can give them, and what they answer."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shake.control.address import connect
from shake.control.client import ask
from shake.control.commands import Command, Pause, Reply, write_reply
from shake.demo.servers import free_port
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import ROOT, Migration
from tests.support.status import status
from tests.support.steering import (
    as_nobody,
    control,
    copy_held,
    page,
    scanned,
    shake,
    socket_of,
)
from tests.support.streams_faults import slow
from tests.support.wait import until

pytestmark = pytest.mark.slow


@pytest.fixture
def running(followed: Followed) -> Migration:
    """A task that follows a table."""
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(http_profile=free_port())
    migration.start()
    until(lambda: page(port_of(migration), "running")["tables"][0]["consistent"])
    return migration


def port_of(migration: Migration) -> int:
    lines = migration.conf.read_text().splitlines()
    [line] = [one for one in lines if one.startswith("http_profile")]
    return int(line.rpartition(" ")[2])


def connected(path: Path) -> socket.socket:
    return connect(path, 20)


def answer(peer: socket.socket, text: bytes) -> Any:
    peer.sendall(text)
    return json.loads(peer.makefile("rb").readline())


# ---- finish


def test_finish_ends_the_run_when_all_changes_made_before_are_applied(
    followed: Followed, running: Migration
) -> None:
    for number in range(50):
        followed.put(f"k{number}")
    said = control(running, "finish")
    assert "every change made before" in said.splitlines()[-1]
    result = running.wait(running.running[0])
    assert result.status == 0, result
    followed.compare()


def test_finish_during_the_copy_ends_the_run_when_it_has_caught_up(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    for number in range(100):
        followed.put(f"k{number}")
    migration = followed.task(qps__full__batch_num=5)
    with copy_held(followed):
        process = migration.start()
        scanned(followed)
        followed.put("late")
        said = control(migration, "finish", "--no-wait")
        assert said.endswith("(1 of 1 table is still to be copied first)")
    assert migration.wait(process).status == 0
    followed.compare()


def test_what_finish_has_answered_is_saved_already(followed: Followed) -> None:
    """The machine can die right behind the answer, and a standby reads what is saved."""
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    migration.first = (
        "import time; from shake.run.summaries import Summaries; save = Summaries._save; "
        "Summaries._save = lambda *those, **more: (time.sleep(2.5), save(*those, **more))"
    )
    process = migration.start()
    followed.arrived("a")
    control(migration, "finish")
    store = followed.mongo.client[f"{followed.name}-checkpoint"].status_table
    saved = store.find_one({"_id": "summary"})
    assert (saved["State"], saved["ExitStatus"]) == ("finished", 0)
    assert migration.wait(process).status == 0


def test_finish_says_so_when_the_run_ends_otherwise(followed: Followed, running: Migration) -> None:
    followed.simulator.faults.rule(1.0, slow(60), where=lambda call: call.operation == "GetRecords")
    command = [sys.executable, str(ROOT / "bin/shake"), "control", "--conf", str(running.conf)]
    waiting = subprocess.Popen([*command, "finish"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: any("FINISHING" in one for one in status(port_of(running))["notices"]))
    with connected(socket_of(running)):  # a client that asks for nothing
        result = stopped(running, running.running[0])
    _, errors = waiting.communicate(timeout=20)
    assert waiting.returncode == 1
    assert b"stopped by SIGTERM" in errors
    assert " asyncio: " not in result.stdout


def test_a_run_that_is_killed_before_its_finish_is_told(
    followed: Followed, running: Migration
) -> None:
    followed.simulator.faults.rule(1.0, slow(60), where=lambda call: call.operation == "GetRecords")
    command = [sys.executable, str(ROOT / "bin/shake"), "control", "--conf", str(running.conf)]
    waiting = subprocess.Popen([*command, "finish"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: any("FINISHING" in one for one in status(port_of(running))["notices"]))
    running.kill(running.running[0])
    _, errors = waiting.communicate(timeout=20)
    assert waiting.returncode == 1
    assert b"without an answer: shake status says how it stands, and what to do" in errors


def test_a_task_that_follows_nothing_has_nothing_to_finish(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    for number in range(100):
        followed.put(f"k{number}")
    migration = followed.task(sync_mode="full", qps__full__batch_num=5)
    with copy_held(followed):
        process = migration.start()
        scanned(followed)
        result = shake(migration, "control", "finish")
    assert (result.status, "ends by itself" in result.stderr) == (1, True), result
    assert migration.wait(process).status == 0


# ---- budget


def test_a_budget_is_in_force_within_a_second_and_one_that_cannot_be_is_refused(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    for number in range(400):
        followed.put(f"k{number}", text={"S": "x" * 4000})
    followed.simulator.faults.rule(1.0, slow(0.4), where=copies)
    port = free_port()
    migration = followed.task(http_profile=port, qps__full__batch_num=2, source__read_budget="none")
    process = migration.start()

    def scans() -> int:
        return sum(map(copies, list(followed.simulator.journal)))

    until(lambda: scans() > 10)
    assert status(port)["tables"][0]["budget"] is None
    said = control(migration, "budget", f"{followed.name}=1")
    assert said == f"{followed.name}: 1 read units a second"
    time.sleep(1.0)
    before = scans()
    time.sleep(3.0)
    assert scans() - before <= 5  # of at least half a unit each, and what was saved up
    assert status(port)["tables"][0]["budget"] == 1.0
    assert control(migration, "budget", "*=none") == f"{followed.name}: no limit"
    followed.simulator.faults.clear()
    followed.equal()
    name, almost = followed.name, followed.name[:-1]
    for given, reason in (
        ("*=5", "the copy is over"),
        ("ordres=5", "has no table ordres"),
        (f"{name}=many", "allowed is"),
        (f"{name}=0", "allowed is"),
        ("nothing*=5", "has no table nothing*"),
        (f"{almost}=5", f"near it: {name}"),
    ):
        result = shake(migration, "control", "budget", given)
        assert (result.status, result.stdout) == (1, ""), result
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1
    stopped(migration, process)


# ---- the command line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["pause", "now"], "takes nothing more"),
        (["budget"], "TABLE=UNITS"),
        (["budget", "orders"], "TABLE=UNITS"),
        (["pause", "--no-wait"], "--no-wait goes with finish"),
        (["stop"], "invalid choice"),
        ([], "required: action\n"),
        (["finish", "--no-wiat"], "--no-wiat; the nearest is --no-wait\n"),
    ],
)
def test_a_wrong_command_line_is_exit_2(
    followed: Followed, arguments: list[str], reason: str
) -> None:
    result = shake(followed.task(), "control", *arguments)
    assert (result.status, reason in result.stderr) == (2, True), result


@pytest.mark.parametrize("left", [False, True], ids=["no socket", "the socket of a dead run"])
def test_a_task_that_does_not_run_is_exit_3(followed: Followed, left: bool) -> None:
    migration = followed.task()
    if left:
        peer = socket.socket(socket.AF_UNIX)
        peer.bind(str(migration.folder / f"{followed.name}.sock"))
        peer.close()
    result = shake(migration, "control", "pause")
    assert (result.status, result.stderr.count("\n")) == (3, 1), result
    assert f"no run of task {followed.name} can be reached" in result.stderr


# ---- the socket


def test_only_the_user_can_open_the_socket(running: Migration) -> None:
    path = socket_of(running)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stopped(running, running.running[0])
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_a_stranger_is_refused_by_name_too(running: Migration, followed: Followed) -> None:
    path = socket_of(running)
    path.chmod(0o666)
    folder = running.folder
    modes = []
    while folder != folder.parent:
        modes.append((folder, folder.stat().st_mode))
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    try:
        said = as_nobody(
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "import contextlib\n"
            "with contextlib.suppress(BrokenPipeError):\n"  # where the refusal was quicker
            ' s.sendall(b\'{"action": "pause"}\\n\')\n'
            "print(s.makefile().readline())",
            str(path),
        )
    finally:
        for one, mode in modes:
            one.chmod(mode)
    assert "only the user that runs the task" in said
    assert status(port_of(running))["state"] == "running"


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_root_reaches_the_task_of_the_user_who_owns_the_folder_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); "
        "os.setuid(65534); s.listen(); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listener:
        assert listener.stdout
        listener.stdout.readline()
        with pytest.raises(PermissionError, match="another user's"):
            connected(path)
        os.chown(tmp_path, 65534, -1)
        connected(path).close()
        listener.communicate()


def test_a_refusal_that_comes_before_the_command_is_read(tmp_path: Path) -> None:
    closed = threading.Event()

    class Late(list[Command]):
        """Commands that are written when the server has closed the connection."""

        def __iter__(self) -> Iterator[Command]:
            closed.wait(30)
            return super().__iter__()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()

        def refuse() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(write_reply(Reply(False, "only the user that runs the task")))
            closed.set()

        threading.Thread(target=refuse, daemon=True).start()
        replies = list(ask(tmp_path / "sock", Late([Pause()])))
    assert [one.line for one in replies] == ["only the user that runs the task"]


def test_a_socket_of_a_dead_run_is_replaced(running: Migration) -> None:
    path = socket_of(running)
    running.kill(running.running[0])
    assert path.exists()
    process = running.start()
    page(port_of(running), "running")
    control(running, "pause")
    stopped(running, process)


def test_a_file_that_is_no_socket_is_kept_and_the_task_runs(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task()
    path = migration.folder / f"{followed.name}.sock"
    path.write_text("mine")
    process = migration.start()
    followed.equal()
    assert "shake control cannot reach this run" in stopped(migration, process).stdout
    assert path.read_text() == "mine"


def test_a_path_that_is_too_long_for_a_socket_works(followed: Followed, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(pid_path=folder)
    process = migration.start()
    followed.equal()
    assert "paused" in control(migration, "pause")
    stopped(migration, process)
    assert not list(folder.iterdir())


def test_each_command_of_a_connection_is_answered_and_what_is_none_is_refused(
    running: Migration,
) -> None:
    for sent, said in (
        (b"pause\n", "one line of JSON"),
        (b"[]\n", "a JSON object"),
        (b'{"action": "stop"}\n', "action is one of pause, resume, budget, finish"),
        (b'{"action": ["pause"]}\n', "action is one of"),
        (b'{"action": "budget", "table": "a"}\n', "table and units"),
        (b'{"action": "budget", "table": "a", "units": 5}\n', "as text"),
        (b'{"action": "pause", "table": "a"}\n', "nothing else"),
        (b"\xff\xfe\n", "one line of JSON"),
        (b"x" * 5000, "at most 4096 bytes"),
    ):
        with connected(socket_of(running)) as peer:
            reply = answer(peer, sent)
        assert not reply["done"]
        assert said in reply["line"]
    assert status(port_of(running))["state"] == "running"
    with connected(socket_of(running)) as peer, peer.makefile("rb") as lines:
        peer.sendall(b'{"action": "pause"}\n{"action": "resume"}\n{"action": "status"}\n')
        replies = [json.loads(lines.readline()) for _ in range(3)]
    assert all(reply["done"] for reply in replies)
    assert replies[2]["status"]["State"] == "running"


def test_clients_that_send_half_a_command_or_do_not_read_hold_up_nothing(
    followed: Followed, running: Migration
) -> None:
    path = socket_of(running)
    peers = []
    for number in range(1000):
        peers.append(connected(path))
        peers[-1].sendall(b'{"action": "pa' if number % 2 else b'{"action": "status"}\n' * 100)
    assert "paused" in control(running, "pause")
    assert "resumed" in control(running, "resume")
    followed.put("b")
    followed.arrived("b")
    for peer in peers[1:]:
        peer.close()
    for _ in range(70):  # more than there can be at once
        with connected(path) as peer:
            peer.sendall(b'{"action": "wait"}\n{"action": "status"}\n')
    assert "not paused" in control(running, "resume")
    with connected(path):
        result = stopped(running, running.running[0])
    assert "ERROR" not in result.stdout + result.stderr
