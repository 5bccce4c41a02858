"""A paused task reads nothing, says nothing that is not so, and goes on where it was."""

from __future__ import annotations

import contextlib
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from shake.demo.servers import free_port
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.steering import control, page, shake, socket_of, standing
from tests.support.streams_faults import slow
from tests.support.wait import until

pytestmark = pytest.mark.slow

#: Seconds for which nothing is read, as is to be shown.
STILL = 2.0
ITEMS = 600


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def slowly(followed: Followed, port: int) -> Migration:
    """A task whose copy takes some seconds."""
    followed.simulator.table(followed.name)
    for number in range(ITEMS):
        followed.put(f"k{number}")
    followed.simulator.faults.rule(1.0, slow(0.5), where=copies)
    return followed.task(http_profile=port, qps__full__batch_num=5)


def reads(followed: Followed) -> int:
    """Calls that have read items or changes, and are answered."""
    calls = followed.simulator.journal.of("Scan", "GetRecords", "GetShardIterator")
    return sum(not call.trial for call in calls)


def copying(followed: Followed) -> None:
    until(lambda: sum(map(copies, list(followed.simulator.journal))) > 10)


@contextlib.contextmanager
def nothing_read(followed: Followed) -> Iterator[None]:
    """While the body runs, and for a moment more, nothing is read at the source."""
    time.sleep(1.0)  # what was asked for has come
    before = reads(followed)
    yield
    time.sleep(STILL)
    assert reads(followed) == before


def test_nothing_is_scanned_during_a_pause_of_the_copy(
    followed: Followed, slowly: Migration, port: int
) -> None:
    process = slowly.start()
    copying(followed)
    assert "paused" in control(slowly, "pause")
    shown = page(port, "paused")
    assert shown["total"]["seconds_left"] is None  # while nothing is read
    assert [shown["total"][one] for one in ("rate", "byte_rate", "unit_rate")] == [0, 0, 0]
    assert shown["paused_at"]
    assert "shake control resume" in shown["reason"]
    with nothing_read(followed):
        assert "paused already" in control(slowly, "pause")
    found = status(port)
    assert found["state"] == "paused"
    assert found["tables"][0]["items"] < ITEMS
    assert not any(one["slots_used"] for one in found["processes"])
    control(slowly, "resume")
    followed.simulator.faults.clear()
    followed.equal()
    assert status(port)["state"] == "running"
    stopped(slowly, process)


def test_no_change_is_read_during_a_pause_and_nothing_false_is_said(
    followed: Followed, port: int
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(http_profile=port)
    process = migration.start()
    until(lambda: page(port, "running")["tables"][0]["consistent"])
    control(migration, "pause")
    time.sleep(1.0)
    before = status(port)["tables"][0]
    with nothing_read(followed):
        followed.put("b")
    after = status(port)["tables"][0]
    assert after["applied_through"] == before["applied_through"]
    assert after["consistent"]
    assert after["lag"] > before["lag"]
    assert not followed.collection.find_one({"pk": "b"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ready")
    assert b"paused" in refused.value.read()
    control(migration, "resume")
    followed.arrived("b")
    followed.equal()
    stopped(migration, process)


def test_the_journal_pauses_too(followed: Followed, slowly: Migration) -> None:
    migration = followed.task(incr_sync_parallel="true", qps__full__batch_num=5)
    process = migration.start()
    copying(followed)
    control(migration, "pause")
    with nothing_read(followed):
        followed.put("late")
    control(migration, "resume")
    followed.simulator.faults.clear()
    followed.arrived("late")
    followed.equal()
    stopped(migration, process)


def test_a_worker_that_dies_in_a_pause_reads_nothing_after_it(
    followed: Followed, slowly: Migration
) -> None:
    process = slowly.start()
    copying(followed)
    control(slowly, "pause")
    victim = slowly.child("worker 0")
    victim.kill()
    until(lambda: slowly.child("worker 0").pid != victim.pid)
    with nothing_read(followed):
        pass
    control(slowly, "resume")
    followed.simulator.faults.clear()
    followed.equal()
    stopped(slowly, process)


def test_a_run_that_is_killed_in_a_pause_goes_on_at_its_next_start(
    followed: Followed, slowly: Migration, port: int
) -> None:
    process = slowly.start()
    copying(followed)
    control(slowly, "pause")
    page(port, "paused")
    slowly.kill(process)
    followed.simulator.faults.clear()
    process = slowly.start()
    assert page(port, "running")["paused_at"] is None
    followed.equal()
    stopped(slowly, process)


@pytest.mark.parametrize("phase", ["copy", "follow"])
def test_a_paused_task_ends_well_on_sigterm(
    followed: Followed, slowly: Migration, port: int, phase: str
) -> None:
    if phase == "follow":
        followed.simulator.faults.clear()
    process = slowly.start()
    if phase == "copy":
        copying(followed)
    else:
        followed.equal()
    control(slowly, "pause")
    stopped(slowly, process)
    assert standing(slowly)["seconds_left"] is None or phase == "follow"
    followed.simulator.faults.clear()
    process = slowly.start()
    page(port, "running")
    followed.equal()
    stopped(slowly, process)


def test_a_pause_that_comes_near_the_24_hours_is_warned_of(followed: Followed, port: int) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(http_profile=port)
    # Twelve hours are shorter here.
    migration.first = "from shake.run import steering as s; s.OLD = 3.0"
    process = migration.start()
    until(lambda: page(port, "running")["tables"][0]["consistent"])
    control(migration, "pause")

    def warned() -> list[str]:
        return [one for one in status(port)["notices"] if "PAUSED TOO LONG" in one]

    [notice] = until(warned)
    assert "24 hours" in notice
    assert "resume within" in notice
    control(migration, "resume")
    until(lambda: not warned())
    stopped(migration, process)


def test_a_paused_task_does_not_finish(followed: Followed, slowly: Migration) -> None:
    process = slowly.start()
    socket_of(slowly)
    copying(followed)
    control(slowly, "pause")
    result = shake(slowly, "control", "finish")
    assert (result.status, result.stdout) == (1, "")
    assert "paused: resume it first" in result.stderr
    process.send_signal(signal.SIGTERM)
    assert slowly.wait(process).status == 0
