"""A standby waits while another supervisor runs the task, and takes over when that one is gone."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import psutil
import pytest

from shake.checkpoint.contract import StoreUnavailable
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.holder import Holder
from shake.checkpoint.mongodb import MongoStore
from shake.checkpoint.task_lock import INTERVAL, TaskLock
from shake.demo.servers import free_port
from shake.errors import RefusedError
from shake.run.holding import Standby
from tests.support.followed import Followed, stopped
from tests.support.machine import ELSEWHERE, OTHER, SHORT_LOCK, why_no_other_machine
from tests.support.migration import Migration
from tests.support.steering import control
from tests.support.wait import until

pytestmark = pytest.mark.slow

ITEMS = 60
FAR = Holder("far", boot="another", namespace="pid:[1]", pid=77, start=5)

needs_machines = pytest.mark.skipif(
    bool(why_no_other_machine()), reason=f"no host name for a process: {why_no_other_machine()}"
)


class Task:
    """One task that several supervisors run, on one machine or on several."""

    def __init__(self, followed: Followed, folder: Path) -> None:
        self.followed = followed
        self.folder = folder
        self.made: list[Migration] = []
        followed.simulator.table(followed.name)
        for number in range(ITEMS):
            followed.put(f"k{number}", n={"N": "1"})

    def start(self, *arguments: str, first: str = SHORT_LOCK, **settings: Any) -> Migration:
        folder = self.folder / str(len(self.made))
        folder.mkdir()
        migration = Migration(
            self.followed.simulator.url,
            self.followed.mongo.uri,
            self.followed.name,
            folder,
            **{"sync_mode": "all", "pid_path": self.folder, **settings},
        )
        migration.first = first
        self.made.append(migration)
        migration.start(*arguments)
        return migration

    @property
    def holder(self) -> tuple[str, int]:
        """Host and process that have the task lock."""
        store = self.followed.mongo.client[f"{self.followed.name}-checkpoint"].status_table
        held = store.find_one({"_id": "lease"}) or {"Host": "", "Pid": 0}
        return held["Host"], held["Pid"]

    def runs(self, migration: Migration) -> bool:
        """Whether this supervisor, which still runs, has the task lock."""
        process = migration.running[-1]
        assert process.poll() is None, said(migration)
        return self.holder[1] == process.pid


def said(migration: Migration) -> str:
    """What the last run of it has printed so far."""
    return "".join(one.read_text() for one in sorted(migration.folder.glob("*.*.out"))) + "".join(
        one.read_text() for one in sorted(migration.folder.glob("*.*.err"))
    )


@pytest.fixture
def task(followed: Followed, tmp_path: Path) -> Iterator[Task]:
    made = Task(followed, tmp_path)
    yield made
    for migration in made.made:
        migration.close()


def waits(migration: Migration) -> Callable[[], bool]:
    return lambda: "waiting until it is gone" in said(migration)


@needs_machines
def test_a_standby_on_another_machine_takes_over_after_a_death_and_the_end_is_exact(
    task: Task,
) -> None:
    here = task.start(qps__full=8, qps__full__batch_num=5)
    until(lambda: task.runs(here))
    elsewhere = task.start("--standby", first=ELSEWHERE, pid_path=task.folder / "1")
    until(waits(elsewhere))
    assert task.runs(here)
    here.kill(here.running[-1])
    until(lambda: task.runs(elsewhere))
    assert task.holder[0] == OTHER
    task.followed.put("late", n={"N": "2"})
    task.followed.arrived("late")
    task.followed.equal()
    stopped(elsewhere, elsewhere.running[-1])
    task.followed.compare()


@needs_machines
def test_a_run_that_was_frozen_while_it_planned_says_that_another_has_the_task(task: Task) -> None:
    """It meets the collection of the other run, and must not tell the user to have it dropped."""
    stop = (
        "import os, signal; from shake.run import holding; from shake.plan.planner import Planner; "
        "plan, name = holding.planned, '_decide_existing'; look = getattr(Planner, name); "
        "stop = lambda *those: (os.kill(os.getpid(), signal.SIGSTOP), look(*those))[1]; "
        "holding.planned = lambda *those: (setattr(Planner, name, stop), plan(*those))[1]"
    )
    here = task.start(first=f"{SHORT_LOCK}; {stop}")
    frozen = psutil.Process(here.running[-1].pid)
    until(lambda: frozen.status() == psutil.STATUS_STOPPED)
    elsewhere = task.start("--standby", first=ELSEWHERE, pid_path=task.folder / "1")
    task.followed.arrived("k1")
    frozen.resume()
    result = here.wait(here.running[-1])
    assert result.status == 1, result
    assert "took over" in result.line
    task.followed.put("late", n={"N": "2"})
    task.followed.arrived("late")
    stopped(elsewhere, elsewhere.running[-1])


def test_of_two_standbys_on_one_machine_one_takes_over_and_the_other_waits_on(task: Task) -> None:
    here = task.start()
    until(lambda: task.runs(here))
    standbys = [task.start("--standby"), task.start("--standby")]
    for standby in standbys:
        until(waits(standby))
    here.kill(here.running[-1])
    first = until(lambda: next(filter(task.runs, standbys), None))
    task.followed.put("late", n={"N": "2"})
    task.followed.arrived("late")
    [second] = [one for one in standbys if one is not first]
    assert second.running[-1].poll() is None
    first.kill(first.running[-1])
    until(lambda: task.runs(second))
    task.followed.put("later", n={"N": "3"})
    task.followed.arrived("later")
    stopped(second, second.running[-1])
    task.followed.compare()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_standby_that_is_stopped_ends_well_and_leaves_the_run_alone(
    task: Task, number: signal.Signals
) -> None:
    here = task.start()
    until(lambda: task.runs(here))
    standby = task.start("--standby")
    until(waits(standby))
    standby.running[-1].send_signal(number)
    result = standby.wait(standby.running[-1])
    assert result.status == 0
    assert "stopped before it took over the task" in result.stderr
    assert task.runs(here)
    stopped(here, here.running[-1])


def test_a_standby_ends_when_the_task_was_finished_by_cutover(task: Task) -> None:
    here = task.start("--until-consistent", qps__full=1, qps__full__batch_num=4)
    until(lambda: task.runs(here))
    standby = task.start("--standby")
    until(waits(standby))
    assert here.wait(here.running[-1]).status == 0
    result = standby.wait(standby.running[-1])
    assert result.status == 0, result
    assert "finished by cutover" in result.stdout
    task.followed.put("late", n={"N": "2"})
    assert task.followed.collection.find_one({"pk": "late"}) is None
    assert task.holder == ("", 0)


def test_a_standby_takes_a_cutover_for_the_end_that_came_while_it_was_starting(task: Task) -> None:
    here = task.start()
    until(lambda: task.runs(here))
    began, over = task.folder / "began", task.folder / "over"
    slow = (
        f"{SHORT_LOCK}; import pathlib, time; from shake.plan.planner import Planner;"
        f"made = Planner.__init__; began, over = pathlib.Path({str(began)!r}), "
        f"pathlib.Path({str(over)!r});"
        "Planner.__init__ = lambda *a: (began.touch(), [time.sleep(0.1) for _ in range(600) "
        "if not over.exists()], made(*a))[-1]"
    )
    standby = task.start("--standby", first=slow)
    until(began.exists)
    control(here, "finish")
    assert here.wait(here.running[-1]).status == 0
    over.touch()
    result = standby.wait(standby.running[-1])
    assert result.status == 0, result
    assert "finished by cutover" in result.stdout


def test_a_standby_without_another_run_runs_the_task_at_once(task: Task) -> None:
    alone = task.start("--standby")
    task.followed.arrived("k1")
    stopped(alone, alone.running[-1])
    assert "waiting" not in said(alone)


def test_a_second_start_names_the_process_that_runs_the_task(task: Task) -> None:
    here = task.start()
    until(lambda: task.runs(here))
    second = task.start()
    result = second.wait(second.running[-1])
    assert result.status == 3
    assert f"this task already runs as process {here.running[-1].pid} " in result.stderr
    assert "shake run --standby waits for its end" in result.stderr


def test_a_standby_that_could_not_take_over_is_refused_at_once(task: Task) -> None:
    here = task.start()
    until(lambda: task.runs(here))
    standby = task.start("--standby", filter__collection__white="nosuch")
    result = standby.wait(standby.running[-1])
    assert result.status == 3
    assert "nosuch" in result.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        blind = task.start("--standby", http_profile=port)
        until(waits(blind))  # the run of this machine can have the port
    assert task.runs(here)


def test_a_standby_takes_over_from_a_failed_run_whose_page_stays(task: Task) -> None:
    """Both serve the same port: the page of the run that has ended makes room."""
    settings: dict[str, Any] = {"http_profile": free_port(), "http__linger": 600}
    here = task.start(**settings)
    until(lambda: task.runs(here))
    standby = task.start("--standby", **settings)
    until(waits(standby))
    task.followed.mongo.client[f"{task.followed.name}-checkpoint"].status_table.delete_one(
        {"_id": "lease"}
    )
    until(lambda: task.runs(standby))
    assert here.wait(here.running[-1]).status == 1
    task.followed.put("late", n={"N": "2"})
    task.followed.arrived("late")
    stopped(standby, standby.running[-1])


def test_a_standby_that_is_started_while_the_page_of_an_earlier_run_stays_has_its_port(
    task: Task,
) -> None:
    settings: dict[str, Any] = {"http_profile": free_port(), "http__linger": 600}
    settings["sync_mode"] = "full"
    here = task.start(**settings)
    until(lambda: "stays up" in said(here))
    standby = task.start("--standby", **settings)
    assert standby.wait(standby.running[-1]).status == 0
    assert here.wait(here.running[-1]).status == 0


@pytest.mark.parametrize("other", ["--dry-run", "--until-consistent"])
def test_a_standby_that_makes_no_sense_is_refused(task: Task, other: str) -> None:
    result = task.start("--standby", other).wait(task.made[-1].running[-1])
    assert result.status == 2
    assert "--standby" in result.line


def test_a_standby_has_the_task_lock_within_35_seconds_of_a_death_far_away(tmp_path: Path) -> None:
    now, died = 1000.0, 1000 + 7 * INTERVAL + 0.5
    store = FileStore(tmp_path, "task")
    lost = TaskLock.acquire(store, notice=print, clock=lambda: now, me=FAR)

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now < died:
            lost.renew(INTERVAL)

    standby = Standby(wait)
    standby.retry(
        lambda: TaskLock.acquire(store, notice=standby.notice, clock=lambda: now, wait=wait)
    )
    assert died < now <= died + 35


def test_a_plan_sees_a_run_on_another_machine(task: Task) -> None:
    place = task.followed.mongo.uri, f"{task.followed.name}-checkpoint"
    with closing(MongoStore.open(*place)) as store, ThreadPool(1) as beside:
        lock = TaskLock.acquire(store, notice=lambda line: None, me=FAR)
        over = threading.Event()

        def renew() -> None:
            while not over.wait(0.2):
                lock.renew()

        beside.apply_async(renew)
        plan = task.start("--dry-run")
        result = plan.wait(plan.running[-1])
        over.set()
    assert result.status == 3, result
    assert f"this task is already run by {FAR}" in result.stderr


def test_a_standby_outlasts_a_store_that_is_out_of_reach_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: list[Exception] = [StoreUnavailable("no primary")] * 3

    def attempt() -> str:
        if answers:
            raise answers.pop()
        return "taken"

    pauses: list[float] = []
    assert Standby(pauses.append).retry(attempt) == "taken"
    assert len(pauses) == 3
    assert [one.message for one in caplog.records] == ["standby: no primary; retrying"]


def test_a_standby_outlasts_a_store_that_cannot_be_opened_yet(mongo: Any, name: str) -> None:
    """As where the network that the run has lost is the standby's, too."""
    addresses = [f"mongodb://127.0.0.1:{free_port()}/", mongo.uri]
    pauses: list[float] = []

    def attempt() -> MongoStore:
        timeout = 8.0 if len(addresses) == 1 else 0.3
        return MongoStore.open(addresses.pop(0), name, timeout=timeout)

    Standby(pauses.append).retry(attempt).close()
    assert len(pauses) == 1


def test_a_standby_ends_at_what_no_waiting_cures() -> None:
    def attempt() -> None:
        raise RefusedError("wrong password")

    with pytest.raises(RefusedError, match="wrong password"):
        Standby(lambda seconds: time.sleep(0)).retry(attempt)
