"""A child process that hangs degrades the task, and is replaced; nothing is lost or stored twice.

The real program, with times that are shorter.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest

from shake.demo.servers import free_port
from shake.farm import worker_messages as messages
from tests.support.followed import Followed, stopped
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.wait import until
from tests.test_farm_process import Stage

#: The report of a silence would last for ten minutes, if nothing ended it.
HASTY = (
    "from shake.process import heartbeat as h; h.EVERY, h.REPORT_AFTER, h.KILL_AFTER = 1, 3, 12; "
    "from shake.farm import health; health._SECONDS = 600"
)


def task(followed: Followed, items: int, **settings: Any) -> tuple[Migration, int]:
    table = followed.simulator.table(followed.name)
    for number in range(items):
        table.put({"pk": {"S": f"k{number}"}})
    port = free_port()
    migration = followed.task(http_profile=port, **settings)
    migration.first = HASTY
    return migration, port


def reported(port: int, role: str, child: psutil.Process) -> None:
    """The task is degraded, and says which process does not answer."""
    text = f"{role} (process {child.pid}) has not answered for 3 s"

    def degraded() -> bool:
        task = status(port)
        return (task["state"], task["reason"]) == ("degraded", text)

    until(degraded, 120)


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_and_the_copy_is_equal(followed: Followed) -> None:
    migration, port = task(followed, 600, qps__full=5)
    process = migration.start(workers=1)
    until(lambda: followed.simulator.journal.of("Scan"))
    worker = migration.child("worker 0")
    until(lambda: status(port)["tables"][0]["items"])
    worker.send_signal(signal.SIGSTOP)
    reported(port, "worker 0", worker)
    until(lambda: not worker.is_running(), 120)
    until(lambda: status(port)["state"] == "running", 120)
    followed.equal()
    result = stopped(migration, process)
    assert "worker 0 crashed (killed: no answer for 12 s); it is replaced" in result.stdout


@pytest.mark.slow
def test_a_writer_that_hangs_is_replaced_and_changes_go_on(followed: Followed) -> None:
    migration, port = task(followed, 20)
    process = migration.start()
    followed.put("before")
    followed.arrived("before")
    place = f"{followed.name}.{followed.name}"
    until(lambda: status(port)["tables"][0]["state"] == "following")
    [writer] = until(lambda: len(found := migration.children("writer")) == 1 and found)
    writer.send_signal(signal.SIGSTOP)
    followed.put("meanwhile")
    reported(port, f"writer {place}", writer)
    until(lambda: not writer.is_running(), 120)
    until(lambda: status(port)["state"] == "running", 120)
    followed.equal()
    result = stopped(migration, process)
    assert f"writer {place} crashed (killed: no answer for 12 s)" in result.stdout


def test_a_worker_that_answers_again_ends_the_report(followed: Followed) -> None:
    migration, port = task(followed, 600, qps__full=5)
    process = migration.start(workers=1)
    until(lambda: followed.simulator.journal.of("Scan"))
    worker = migration.child("worker 0")
    until(lambda: status(port)["tables"][0]["items"])
    worker.send_signal(signal.SIGSTOP)
    reported(port, "worker 0", worker)
    worker.send_signal(signal.SIGCONT)
    until(lambda: status(port)["state"] == "running", 120)
    followed.equal()
    stopped(migration, process)


def test_a_child_that_was_frozen_for_long_ends_before_it_goes_on() -> None:
    """What it was about to send would come so late that the target has forgotten its number."""
    one = Stage("end if frozen")
    one.child.send(messages.Drain())
    assert one.until(lambda: one.heard) == [messages.Drain()]
    os.kill(one.child.pid, signal.SIGSTOP)
    time.sleep(6.0)  # longer than it takes
    one.child.send(messages.Drain())
    os.kill(one.child.pid, signal.SIGCONT)
    assert one.until(lambda: one.heard[1:])[1:] == [f"signal {signal.SIGALRM.value}"]
    one.child.reap()


def test_a_child_that_runs_is_not_ended_while_its_parent_is_busy() -> None:
    one = Stage("end if frozen")
    one.child.send(messages.Drain())
    assert one.until(lambda: one.heard) == [messages.Drain()]
    time.sleep(6.0)
    one.child.send(messages.Drain())
    assert one.until(lambda: one.heard[1:])[1:] == [messages.Drain()]
    one.child.dismiss()
    one.child.reap()
