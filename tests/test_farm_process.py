"""Children of the supervisor, as real processes that are really killed."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest

from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.config import Config, load
from shake.farm import worker_messages, writer_messages
from shake.farm.ledger import End, Lease, Ledger, Published
from shake.farm.pool import Worker, WorkerPool
from shake.farm.writer import LockGuard, WriterHandle, WriterProcess
from shake.plan.plan import Action, TablePlan
from shake.process import arena
from shake.process.arena import Arena
from shake.process.child import Child
from shake.process.loop import Loop
from shake.process.messages import Diagnosis, Ready, Report, Start
from shake.process.site import HERE
from shake.process.supervised import RESTART_BACKOFF
from shake.process.ulimits import allow_many
from shake.schema import Attribute, Keys, Table
from shake.source.endpoint import Credentials, Endpoint
from shake.targets.contract import Location
from tests.support.children import ROLE, Deed
from tests.support.documents import items
from tests.support.task import Notes, Slots, TableJob
from tests.support.wait import until
from tests.test_farm_loop import run


def config_of(*settings: str) -> Config:
    given = ["id=task", "target.address=mongodb://127.0.0.1:1/", "source.region=us-east-1"]
    return load(None, {}, [*given, *settings]).config


class Stage:
    """A child of :mod:`tests.support.children`, and all that is heard of it."""

    def __init__(self, do: str) -> None:
        self.loop = Loop()
        self.heard: list[Any] = []
        self.child = Child(
            self.loop,
            HERE.launch(ROLE, ()),
            Start("test child", config_of().as_settings()),
            Deed(do),
            on_message=self.heard.append,
            on_exit=self.heard.append,
        )

    def until(self, over: Callable[[], Any]) -> list[Any]:
        run(self.loop, over, 30.0)
        return self.heard


@pytest.fixture
def stage() -> Iterator[Callable[[str], Stage]]:
    with contextlib.ExitStack() as stack:

        def start(do: str) -> Stage:
            stage = Stage(do)

            def end() -> None:
                stage.child.dismiss()
                stage.child.reap()

            stack.callback(end)
            return stage

        yield start


Begin = Callable[[str], Stage]


def test_a_child_hears_and_is_heard(stage: Begin) -> None:
    echo = stage("echo")
    sent: list[Any] = [
        worker_messages.Drain(),
        *(worker_messages.Free(number) for number in range(5000)),
    ]
    for message in sent:
        echo.child.send(message)
    assert echo.until(lambda: len(echo.heard) == len(sent)) == sent


def test_what_a_child_said_whole_before_it_was_killed_counts_and_the_rest_does_not(
    stage: Begin,
) -> None:
    one = stage("die")
    heard = one.until(lambda: one.heard and isinstance(one.heard[-1], str))
    assert heard == [*(worker_messages.Idle(number) for number in range(1000)), "signal 9"]


def test_a_child_that_is_killed_from_outside_is_noticed(stage: Begin) -> None:
    one = stage("hang")
    one.until(lambda: one.heard)
    os.kill(one.child.pid, signal.SIGKILL)
    assert one.until(lambda: len(one.heard) == 2)[1] == "signal 9"
    assert not psutil.pid_exists(one.child.pid)


def test_an_error_of_a_child_is_one_line_and_its_stack_apart(stage: Begin) -> None:
    refused = stage("refuse")
    failed, how = refused.until(lambda: len(refused.heard) == 2)
    assert failed.text == "the source said no"
    assert "Traceback" in failed.detail
    assert how == "exit status 0"


def test_an_error_that_cannot_be_printed_is_told_all_the_same(stage: Begin) -> None:
    raised = stage("raise")
    failed, _ = raised.until(lambda: len(raised.heard) == 2)
    assert failed.text.startswith("unexpected ZeroDivisionError: no \ud800 way")


@pytest.mark.parametrize(("do", "status"), [("echo", 0), ("hang", -9)])
def test_a_child_ends_when_its_channel_is_closed_and_one_that_hangs_is_killed(
    do: str, status: int
) -> None:
    stage = Stage(do)
    stage.child.send(Ready())
    stage.until(lambda: stage.heard)
    stage.child.dismiss()
    stage.child.reap()
    assert stage.child._process.wait() == status


def test_signals_of_the_terminal_and_of_service_managers_are_for_the_supervisor(
    stage: Begin,
) -> None:
    echo = stage("echo")
    echo.child.send(Ready())
    echo.until(lambda: echo.heard)
    assert os.getpgid(echo.child.pid) != os.getpgid(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(echo.child.pid, number)
    echo.child.send(worker_messages.Drain())
    assert echo.until(lambda: len(echo.heard) == 2)[1] == worker_messages.Drain()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python always looks there first")
def test_a_file_of_the_current_folder_does_not_stand_in_for_a_module(
    stage: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logging.py").write_text("raise SystemExit('the wrong logging')")
    monkeypatch.chdir(tmp_path)
    echo = stage("echo")
    echo.child.send(Ready())
    assert echo.until(lambda: echo.heard) == [Ready()]


def test_no_secret_is_on_a_command_line_or_in_an_environment(stage: Begin) -> None:
    echo = stage("echo")
    echo.child.send(Ready())
    echo.until(lambda: echo.heard)
    process = psutil.Process(echo.child.pid)
    assert "mongodb://" not in " ".join(process.cmdline())
    assert "mongodb://" not in str(process.environ())


def test_children_end_when_the_supervisor_is_killed() -> None:
    code = (
        "import time\n"
        "from shake.process.messages import Ready\n"
        "from tests.test_farm_process import Stage\n"
        "stages = [Stage('echo'), Stage('echo')]\n"
        "for stage in stages:\n"
        "    stage.child.send(Ready())\n"
        "    stage.until(lambda: stage.heard)\n"
        "print(*(stage.child.pid for stage in stages), flush=True)\n"
        "time.sleep(600)\n"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    until(lambda: not any(map(alive, pids)), deadline=10.0)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_the_first_replacement_comes_at_once_and_the_tenth_not_soon() -> None:
    delays = [RESTART_BACKOFF.most(deaths) for deaths in range(10)]
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert delays[-1] == 5.0


def test_a_worker_loads_no_driver_of_a_target() -> None:
    code = "import sys, shake.worker.process; sys.exit('pymongo.collection' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# ---- the pool


class Job(TableJob):
    """Notes what the ledger says of its leases."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_leases: list[int] = []
        self.loads: list[int] = []

    def acknowledged(self, lease: Lease[Any, Any, Any], published: Published[Any]) -> None:
        self.loads.append(published.content)

    def closed(self, lease: Lease[Any, Any, Any]) -> None:
        if lease.end is End.LOST:
            self.lost_leases.append(lease.number)


class Pool(Notes):
    """One worker with two scanners, whose source does not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.job = Job()
        self.between: Callable[[], None] = lambda: None  # called between death and replacement
        self.pool = WorkerPool(
            self.loop,
            config_of("full.document.parser=2"),
            Endpoint("http://127.0.0.1:9", "us-east-1"),
            Credentials("test", "test"),
            [HERE],
            0,
            self,
        )
        self.pool.start()

    @property
    def worker(self) -> Worker:
        return self.pool.workers[0]

    def ready(self, times: int) -> None:
        run(self.loop, lambda: self.heard.count(Ready()) == times, 30.0)

    def worker_crashed(self, worker: int) -> None:
        super().worker_crashed(worker)
        self.between()

    def kill(self) -> None:
        os.kill(self.worker.status().pid, signal.SIGKILL)

    def lease(self) -> int:
        found = self.pool.idle_scanner()
        assert found
        worker, scanner = found
        number = self.pool.ledger.grant(self.job, "t", 0, worker.number, 0.0).number
        table = worker_messages.OpenTable(0, "t", Keys(Attribute("pk", "S")), 1, 1)
        self.pool.lease(worker, table, worker_messages.LeaseSegment(number, scanner, 0, 0, None, 0))
        return number


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.pool.close()


def test_a_worker_that_dies_gives_its_leases_back_and_is_replaced(pool: Pool) -> None:
    pool.ready(1)
    leases = [pool.lease(), pool.lease()]
    assert pool.pool.idle_scanner() is None
    first = pool.worker.status().pid
    pool.kill()
    run(pool.loop, lambda: pool.died)
    assert pool.job.lost_leases == leases
    pool.ready(2)
    assert pool.worker.status().pid != first
    assert pool.worker.status().restarts == 1
    assert pool.pool.idle_scanner()
    # The new process does not know the table: the lease describes it again.
    pool.lease()
    assert pool.worker.opened == {0}


def test_a_slot_that_is_not_stored_is_not_the_replacements_to_fill(pool: Pool) -> None:
    pool.ready(1)
    for slot in (0, 4):
        pool.worker.received(worker_messages.Page(1, slot, 9, 1, True, None, 1, 0.5))
    assert pool.worker.status().slots_used == 2
    pool.kill()
    pool.ready(2)
    pool.worker.free(4)
    pool.worker.send(Report())
    run(pool.loop, lambda: isinstance(pool.heard[-1], Diagnosis))
    assert "scanner 0: idle, 2 slots free; scanner 1: idle, 3 slots free" in pool.heard[-1].queue


def test_while_a_worker_is_dead_what_is_said_to_it_is_harmless(pool: Pool) -> None:
    pool.ready(1)

    def between() -> None:
        assert pool.worker.child is None
        assert pool.pool.idle_scanner() is None
        pool.worker.free(0)
        pool.pool.send_all(Report())
        pool.between = lambda: None

    pool.between = between
    pool.kill()
    pool.ready(2)
    assert pool.between is not between


def test_the_supervisor_may_have_as_many_children_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        allow_many()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_who_cannot_be_replaced_at_once_is_when_there_is_room(pool: Pool) -> None:
    pool.ready(1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        pool.kill()
        run(pool.loop, lambda: pool.worker.restarts == 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    pool.ready(2)
    assert not pool.errors


def test_who_dies_while_the_task_stops_is_not_replaced(pool: Pool) -> None:
    pool.ready(1)
    pool.pool.drain()
    pool.kill()
    run(pool.loop, lambda: pool.died)
    ticks: list[int] = []
    pool.loop.every(0.02, lambda: ticks.append(1))
    run(pool.loop, lambda: len(ticks) > 5)
    assert pool.worker.child is None


# ---- a writer


def test_what_a_killed_writer_had_not_stored_its_replacement_stores(mongo: Any, name: str) -> None:
    documents = items(400)
    descriptor = arena.create(4)
    slots = Arena(descriptor, writable=True)
    lengths = []
    for number in range(4):
        data = b"".join(map(bson.encode, documents[number * 100 : (number + 1) * 100]))
        slots.slot(number)[: len(data)] = data
        lengths.append(len(data))
    loop, heard, task, job = Loop(), list[Any](), Notes(), Job()
    ledger = Ledger(Slots())
    lease = ledger.grant(job, "t", 0, 0, 0.0)
    plan = TablePlan(
        Table("t", Keys(Attribute("pk", "S"))),
        Action.CREATE,
        TableRecord("t", f"{name}.t", 1, 1),
        (SegmentRecord(0),),
    )
    process = WriterProcess(
        loop,
        config_of(f"target.address={mongo.uri}"),
        (descriptor,),
        until=lambda: math.inf,
        task=task,
    )
    location = Location(f"{name}.t", "")
    writer = WriterHandle(
        *(process, 7, plan, location, 0),
        staged=False,
        guard=LockGuard(lambda: True),
        ledger=ledger,
        report=heard.append,
    )

    def done(times: int) -> bool:
        return sum(isinstance(one, writer_messages.Done) for one in heard) == times

    try:
        writer.order(writer_messages.Prepare(7, "create"))
        run(loop, lambda: done(1), 30.0)
        first = process.status().pid
        for number in range(4):
            ledger.publish(lease, number, number)
            page = ledger.send(lease).number
            writer.write(writer_messages.Write(7, page, 0, number, lengths[number]))
        run(loop, lambda: job.loads, 30.0)
        os.kill(first, signal.SIGKILL)
        run(loop, lambda: len(job.loads) >= 4, 30.0)
        assert job.loads == [0, 1, 2, 3]
        run(loop, lambda: process.status().restarts == 1, 30.0)
        writer.order(writer_messages.BuildIndexes(7, 0, 0))
        run(loop, lambda: done(2), 30.0)
        assert process.status().pid != first
        assert sorted(d["pk"] for d in mongo.client[name].t.find()) == [d["pk"] for d in documents]
        assert not task.told
    finally:
        process.close()
        os.close(descriptor)
        mongo.client.drop_database(name)
    assert not psutil.pid_exists(process.status().pid)
