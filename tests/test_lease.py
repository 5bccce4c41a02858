"""One task id, one supervisor: who gets the lease, who is refused, who loses it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shake.checkpoint.contract import Document, Store, StoreUnavailable
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.holder import Holder, Life
from shake.checkpoint.mongodb import MongoStore
from shake.checkpoint.task_lock import EXPIRY, INTERVAL, STOP_BEFORE_EXPIRY, TaskLock, TaskLockLost
from shake.errors import RefusedError, RunError
from shake.process.site import OneMachine
from shake.run.lifecycle import _end_sites
from tests.support.wait import until

pytestmark = pytest.mark.slow

FAR = Holder("far", boot="another", namespace="pid:[1]", pid=77, start=5)


class Time:
    """A clock that goes on only where a caller waits; ``meanwhile`` is what happens then."""

    def __init__(self, meanwhile: Callable[[float], None] = lambda now: None) -> None:
        self.now = 1000.0
        self.meanwhile = meanwhile

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile(self.now)


class Unsure:
    """A store whose next swap happens, and is not confirmed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.fails = False

    def read(self, collection: str, ids: Any = None) -> list[dict[str, Any]]:
        return self.store.read(collection, ids)

    def write(self, collection: str, documents: Any) -> None:
        self.store.write(collection, documents)

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        done = self.store.swap(collection, old, new)
        if self.fails:
            self.fails = False
            raise StoreUnavailable("not confirmed")
        return done

    def discard(self, collection: str, document: Document) -> None:
        self.store.discard(collection, document)

    def others(self) -> str:
        return ""

    def collections(self) -> list[str]:
        return self.store.collections()

    def close(self) -> None:
        self.store.close()


@pytest.fixture(params=["file", "mongodb"])
def store(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[Store]:
    if request.param == "file":
        yield FileStore(tmp_path, name)
        return
    mongo = request.getfixturevalue("mongo")
    with closing(MongoStore.open(mongo.uri, name)) as opened:
        yield opened
    mongo.client.drop_database(name)


def take(
    store: Store,
    time: Time,
    me: Holder | None = None,
    outlived: Callable[[], bool] = lambda: False,
) -> TaskLock:
    return TaskLock.acquire(
        store,
        notice=lambda line: None,
        clock=time.clock,
        wait=time.wait,
        me=me,
        outlived=outlived,
    )


def test_a_free_task_is_taken_and_given_back_without_waiting(store: Store) -> None:
    time = Time()
    take(store, time).release()
    take(store, time, FAR)
    assert time.now == 1000.0


@pytest.mark.parametrize("end", [True, False, RunError("broken"), KeyboardInterrupt()])
def test_a_lock_is_given_back_only_when_nothing_elsewhere_can_write_any_more(
    store: Store, end: bool | BaseException
) -> None:
    class Ending(OneMachine):
        """Sites of which the end is known, or not, or is cut off."""

        def end(self, hurried: Callable[[], bool]) -> bool:
            if isinstance(end, BaseException):
                raise end
            return end

    with suppress(RunError, KeyboardInterrupt), take(store, Time()).held() as lock:
        _end_sites(Ending(1), lock)
    assert (TaskLock.holder(store)[0] is None) is (end is True)


def test_a_living_holder_on_this_machine_is_named_and_left_alone_at_once(store: Store) -> None:
    time, me = Time(), Holder.me()
    lease = take(store, time, me)
    with pytest.raises(RefusedError, match=f"process {me.pid} on host {me.host}"):
        take(store, time)
    assert time.now == 1000.0
    lease.renew()


def test_a_holder_elsewhere_that_renews_is_named_and_left_alone(store: Store) -> None:
    time = Time(lambda now: lease.renew() if now == 1000 + INTERVAL else None)
    lease = take(store, time, FAR)
    with pytest.raises(RefusedError, match="process 77 on host far"):
        take(store, time)
    assert time.now == 1000 + INTERVAL
    lease.renew()


def test_a_holder_elsewhere_that_is_silent_for_thirty_seconds_loses_its_lease(
    store: Store,
) -> None:
    time = Time()
    lost = take(store, time, FAR)
    lease = take(store, time)
    assert EXPIRY <= time.now - 1000 <= EXPIRY + 2
    with pytest.raises(TaskLockLost, match=f"process {Holder.me().pid} on host"):
        lost.renew()
    lost.release()
    lease.renew()


def test_a_holder_that_gives_back_while_it_is_watched_is_followed_at_once(store: Store) -> None:
    time = Time(lambda now: lease.release() if now == 1003 else None)
    lease = take(store, time, FAR)
    take(store, time)
    assert time.now == 1003


def test_a_challenger_stops_watching_when_it_is_told_to_stop(store: Store) -> None:
    class Told(Exception):
        pass

    def stop(now: float) -> None:
        raise Told

    lease = take(store, Time(), FAR)
    with pytest.raises(Told):
        take(store, Time(stop))
    lease.renew()


@pytest.mark.parametrize("change", [{"boot": "before"}, {"namespace": "pid:[2]"}, {"host": "b"}])
def test_a_holder_of_another_boot_container_or_host_cannot_be_seen_dead(
    change: dict[str, Any],
) -> None:
    me = Holder.me()
    there = replace(me, pid=2**22 + 1, **change)
    assert there.life(me) is Life.UNKNOWN


@pytest.mark.parametrize("free", [True, False])
def test_a_lock_that_was_taken_without_an_answer_is_taken_by_the_next_try(
    store: Store, free: bool
) -> None:
    """A standby that tries again must not wait for itself."""
    time, unsure, notices = Time(), Unsure(store), list[str]()
    if not free:
        take(store, time, replace(Holder.me(), start=1))
    unsure.fails = True

    def attempt() -> TaskLock:
        return TaskLock.acquire(
            unsure, notice=notices.append, clock=time.clock, wait=time.wait, token="one"
        )

    with pytest.raises(StoreUnavailable):
        attempt()
    lock = attempt()
    lock.renew()
    assert time.now == 1000.0
    assert notices == []


@pytest.mark.parametrize("outlived", [False, True])
def test_a_process_is_told_from_a_later_one_of_the_same_number(
    store: Store, outlived: bool
) -> None:
    """Its task is taken over at once, unless its nodes can still write what no fence refuses.

    What they have written until then counts for the next lock.
    """
    me = Holder.me()
    earlier = replace(me, start=me.start - 1)
    assert me.life(me) is Life.ALIVE
    assert earlier.life(me) is Life.GONE
    time = Time()
    take(store, time, earlier, lambda: outlived)
    take(store, time, outlived=lambda: time.now >= 1000 + EXPIRY)
    waited = time.now - 1000
    assert EXPIRY <= waited <= EXPIRY + 2 if outlived else waited == 0
    assert store.read("status_table")[0]["Outlived"] is outlived


HOLD = """
import sys
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.task_lock import TaskLock
from shake.checkpoint.mongodb import MongoStore
from shake.errors import RefusedError, RunError
from shake.process.site import OneMachine
from shake.run.lifecycle import _end_sites

kind = MongoStore if "://" in sys.argv[1] else FileStore
store = kind(sys.argv[1], sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    TaskLock.acquire(store, notice=lambda line: None)
    print("won", flush=True)
except RefusedError:
    print("refused", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def spawn(
    store: Store, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts processes that take the lease at the first line they read, and keep it till the next.

    A killed one stays a zombie until the test ends, as under an init that does not reap.
    """
    in_files = isinstance(store, FileStore)
    location = str(tmp_path) if in_files else request.getfixturevalue("mongo").uri
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, location, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert said(process) == "ready"
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_killed_holder_on_this_machine_is_replaced_at_once(
    store: Store, spawn: Callable[[], subprocess.Popen[str]]
) -> None:
    time, process = Time(), spawn()
    tell(process)
    assert said(process) == "won"
    with pytest.raises(RefusedError, match=f"process {process.pid} "):
        take(store, time)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
    take(store, time)
    assert time.now == 1000.0


def test_of_several_challengers_of_a_dead_holder_one_wins_and_the_others_are_refused(
    store: Store, spawn: Callable[[], subprocess.Popen[str]]
) -> None:
    me = Holder.me()
    take(store, Time(), replace(me, start=me.start - 1))
    challengers = [spawn() for _ in range(3)]
    for challenger in challengers:
        tell(challenger)
    assert sorted(said(challenger) for challenger in challengers) == ["refused", "refused", "won"]


def test_a_lease_is_fresh_until_a_margin_before_others_may_take_it(store: Store) -> None:
    time = Time()
    lease = take(store, time)
    last = 1000 + EXPIRY - STOP_BEFORE_EXPIRY
    assert lease.fresh(last - 0.1)
    assert not lease.fresh(last)
    time.now = 1020
    lease.renew()
    assert lease.fresh(last)
    assert not lease.fresh(last + 20)


@pytest.mark.parametrize("again", [True, False])
def test_a_renewal_that_was_not_confirmed_does_not_count_and_does_not_lose_the_lease(
    store: Store, again: bool
) -> None:
    time, unsure = Time(), Unsure(store)
    lease = take(unsure, time)
    time.now += 20
    unsure.fails = True
    with pytest.raises(StoreUnavailable):
        lease.renew()
    assert not lease.fresh(1000 + EXPIRY)
    if again:
        before = store.read("status_table")[0]["Renewals"]
        lease.renew()
        assert store.read("status_table")[0]["Renewals"] > before
        assert lease.fresh(1000 + EXPIRY)
    lease.release()
    assert store.read("status_table") == []


def test_a_lease_is_kept_while_its_holder_waits_and_one_that_is_lost_is_not_fresh(
    store: Store,
) -> None:
    time = Time()
    lease = take(store, time)
    with lease.renewing():
        for _ in range(2):
            time.now += EXPIRY
            assert not lease.fresh(time.now)
            until(lambda: lease.fresh(time.now))
    held = store.read("status_table")[0]
    assert held["Renewals"] == 2
    lease.check()
    assert store.read("status_table") == [held]  # it was renewed a moment ago
    assert store.swap("status_table", held, {**held, "Token": "somebody else's"})
    time.now += INTERVAL
    assert lease.fresh(time.now)
    with pytest.raises(TaskLockLost):
        lease.check()
    assert not lease.fresh(time.now)


def test_a_lease_that_somebody_deleted_is_lost(store: Store) -> None:
    lease = take(store, Time())
    assert store.swap("status_table", store.read("status_table")[0], None)
    with pytest.raises(TaskLockLost, match="deleted"):
        lease.renew()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"Pid": "x"}, "field Pid"), ({"Renewals": None}, "field Renewals"), ({"Format": 2}, "newer")],
)
def test_a_lease_that_cannot_be_read_is_refused_and_kept(
    store: Store, change: dict[str, Any], message: str
) -> None:
    take(store, Time(), FAR)
    damaged = store.read("status_table")[0] | change
    store.write("status_table", [damaged])
    with pytest.raises(RefusedError, match=message):
        take(store, Time())
    assert store.read("status_table") == [damaged]
