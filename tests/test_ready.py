"""What shake says of source and target is true, whatever the clocks and the stream's delay."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import urllib.error
import urllib.request
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

from shake.demo.servers import free_port
from shake.status.figures import utc
from tests.support import nodes
from tests.support.followed import Followed, stopped
from tests.support.status import status
from tests.support.streams_faults import calling
from tests.support.wait import until

pytestmark = pytest.mark.slow

#: ``incr.margin`` here, and the longest time after which a record can be read.
MARGIN = 1.5


def ready(port: int, after: str = "") -> tuple[int, dict[str, Any]]:
    """Status and body of ``/ready``."""
    url = f"http://127.0.0.1:{port}/ready" + (f"?after={after}" if after else "")
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:  # it has not started yet
        return 0, {}


#: ``offset``: seconds by which the source's clock is ahead of this machine's.
@pytest.mark.parametrize(
    ("offset", "delay"), [(5.0, 0.0), (-5.0, MARGIN), (240.0, MARGIN), (-240.0, 0.0), (0.0, MARGIN)]
)
def test_until_consistent_ends_only_when_all_is_applied(
    followed: Followed, offset: float, delay: float
) -> None:
    simulator = followed.simulator
    simulator.clock.advance(offset)
    table = simulator.table(followed.name, shards=2)
    for number in range(20):
        followed.put(f"k{number}", n={"N": "1"})
    migration = followed.task(incr__margin=MARGIN)
    assert migration.run("--until-consistent").status == 0
    followed.compare()
    simulator.delay = delay
    table.stream.split(table.stream.open()[0])
    for number in range(20):
        followed.put(f"k{number}", n={"N": "2"})
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()
    assert result.stdout.count("source and target are equal as of that time") == 1


@pytest.mark.parametrize("offset", [5.0, 240.0, -240.0])
def test_nothing_is_claimed_before_it_is_applied_and_ready_comes_in_the_end(
    followed: Followed, offset: float
) -> None:
    simulator = followed.simulator
    simulator.clock.advance(offset)
    simulator.delay, simulator.empty_pages = MARGIN, 0.1
    table = simulator.table(followed.name, shards=2)
    port = free_port()
    migration = followed.task(incr__margin=MARGIN, http_profile=port)
    for number in range(20):
        followed.put(f"k{number}", n={"N": "0"})
    process = migration.start()
    until(lambda: followed.collection.count_documents({}) == 20)

    def switchable(after: str) -> bool:
        return ready(port, after)[0] == 200

    for turn in range(3):
        if turn == 1:
            table.stream.split(table.stream.open()[0])
        for number in range(20):
            followed.put(f"k{number}", n={"N": str(turn + 1)})
        written = datetime.fromtimestamp(simulator.clock() + 0.001, timezone.utc)
        after = written.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        until(partial(switchable, after), every=0.1)
        followed.compare()
    shown = status(port)
    assert shown["total"]["applied_through"] > written.strftime("%Y-%m-%dT%H:%M:%SZ")[:19]
    assert [one["consistent"] for one in shown["tables"]] == [True]
    source = datetime.fromisoformat(shown["source_time"].replace("Z", "+00:00")).timestamp()
    assert abs(source - simulator.clock()) < 5
    stopped(migration, process)


def test_a_table_is_consistent_once_all_that_was_made_before_the_start_is_applied(
    followed: Followed,
) -> None:
    simulator = followed.simulator
    simulator.clock.advance(5)
    simulator.table(followed.name)
    followed.put("first")
    port = free_port()
    migration = followed.task(incr__margin=MARGIN, http_profile=port)
    assert migration.run("--until-consistent", "--set", "http_profile=-1").status == 0
    simulator.delay = MARGIN
    for number in range(20):
        followed.put(f"k{number}")
    process = migration.start()

    def consistent() -> bool:
        with contextlib.suppress(OSError):
            return bool(status(port)["total"]["consistent"])
        return False

    until(consistent, every=0.05)
    followed.compare()
    stopped(migration, process)


@pytest.mark.parametrize("offset", [120.0, -120.0])
def test_changes_from_now_on_all_arrive_whatever_this_machine_s_clock_shows(
    followed: Followed, offset: float
) -> None:
    followed.simulator.clock.advance(offset)
    followed.simulator.table(followed.name)
    migration = followed.task(sync_mode="incr", incr__start="latest")
    process = migration.start()
    until(lambda: followed.simulator.journal.of("GetRecords"))
    for number in range(20):
        followed.put(f"k{number}")
    followed.equal()
    stopped(migration, process)


def test_changes_from_now_on_all_arrive_also_after_the_source_s_clock_is_set_back(
    followed: Followed,
) -> None:
    """Then they have times from before following began."""
    clock = followed.simulator.clock
    followed.simulator.table(followed.name)
    migration = followed.task(sync_mode="incr", incr__start="latest", incr__margin=MARGIN)
    process = migration.start()
    until(lambda: followed.simulator.journal.of("GetRecords"))
    clock.advance(-300)
    followed.put("a")
    followed.arrived("a")
    stopped(migration, process)


def test_what_is_made_after_a_consistent_point_is_never_left_out_whatever_time_it_has(
    followed: Followed,
) -> None:
    """The source's clock is set back between two runs, and no answer shows that."""
    clock = followed.simulator.clock
    followed.simulator.table(followed.name)
    migration = followed.task(sync_mode="incr", incr__start="latest", incr__margin=MARGIN)
    assert migration.run("--until-consistent").status == 0
    clock.advance(-300)
    followed.put("a")
    clock.advance(300)
    assert migration.run("--until-consistent").status == 0
    followed.compare()


def test_following_alone_never_says_that_source_and_target_are_equal(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    result = followed.task(sync_mode="incr").run("--until-consistent")
    assert result.status == 0, result
    assert "caught up: every change made before 20" in result.stdout
    assert "(source's clock) is applied" in result.stdout
    assert "equal" not in result.stdout
    assert "consistent" not in result.stdout


@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_equal_is_not_said_after_a_change_was_left_out_by_any_run(
    followed: Followed, ending: str
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a", n={"N": "1"})
    port = free_port()
    migration = followed.task(increase__executor__upsert="false")
    assert "are equal" in migration.run("--until-consistent").stdout
    followed.collection.delete_one({"pk": "a"})
    followed.put("a", n={"N": "2"})
    process = migration.start("--set", f"http_profile={port}")
    until(lambda: ready(port)[0] == 200, every=0.1)
    assert "equal" not in ready(port)[1]["reason"]
    if ending == "stopped":
        stopped(migration, process)
    else:  # before or after its position is saved
        migration.kill(process)
    for _ in range(2):
        result = migration.run("--until-consistent", "--set", "increase.executor.upsert=true")
        assert result.status == 0, result
        said = result.stdout.replace(str(migration.conf), "")
        assert "equal" not in said or followed.collection.count_documents({}) == 1


def test_a_step_of_this_machine_s_clock_while_following_changes_nothing(followed: Followed) -> None:
    """The supervisor's clock, here: workers ask the same one for nothing that counts."""
    simulator = followed.simulator
    simulator.table(followed.name)
    followed.put("a")
    port, folder = free_port(), followed.name
    migration = followed.task(incr__margin=MARGIN, http_profile=port)
    stepped = migration.folder / f"{folder}.step"
    migration.first = (
        "import os, time; real = time.time; "
        f"time.time = lambda: real() + 300 * os.path.exists({str(stepped)!r})"
    )
    process = migration.start()
    followed.arrived("a")
    until(lambda: ready(port)[0] == 200, every=0.1)
    stepped.touch()
    simulator.delay = MARGIN
    followed.put("b")
    moment = datetime.fromtimestamp(simulator.clock() + 0.001, timezone.utc)
    after = moment.isoformat().replace("+00:00", "Z")
    until(lambda: ready(port, after)[0] == 200, every=0.1)
    followed.compare()
    shown = status(port)
    assert shown["source_time"] < shown["time"]
    assert shown["total"]["lag"] < 60
    stopped(migration, process)


def test_a_source_without_dates_is_warned_about_and_believed_less(followed: Followed) -> None:
    followed.simulator.dated = False
    followed.simulator.table(followed.name)
    port = free_port()
    migration = followed.task(http_profile=port)
    process = migration.start()
    followed.put("a")
    followed.arrived("a")
    until(lambda: status(port)["tables"][0]["state"] == "following")
    shown = status(port)
    assert any("no Date header" in notice for notice in shown["notices"])
    assert shown["total"]["lag"] > 30
    assert ready(port)[0] == 503
    stopped(migration, process)
    assert "no Date header" in (migration.folder / f"{followed.name}.0.out").read_text()


@pytest.mark.parametrize(
    "first", ["a worker", "the supervisor", pytest.param("a node", marks=pytest.mark.slow)]
)
def test_a_source_whose_clock_is_set_back_is_followed_on_and_nothing_is_claimed_too_early(
    followed: Followed, first: str
) -> None:
    """``first``: who gets the first answer after that."""
    simulator = followed.simulator
    simulator.table(followed.name)
    port, answering = free_port(), threading.Event()
    migration = followed.task(incr__margin=MARGIN, http_profile=port)
    if first == "a node":
        nodes.spread_task(migration, 1)
    if first == "the supervisor":
        migration.first = "from shake.follow import stream_monitor; stream_monitor.LIST_EVERY = 0.3"
    process = migration.start()
    followed.put("a")
    until(lambda: ready(port)[0] == 200, every=0.1)
    if first == "the supervisor":
        wait = calling(lambda: answering.wait(60))
        simulator.faults.rule(1.0, wait, where=lambda call: call.operation == "GetRecords")
    simulator.delay = MARGIN
    simulator.clock.advance(-300)
    until(lambda: "the source's clock was set back" in migration.printed())
    answering.set()
    shown = status(port)["total"]["applied_through"]
    assert shown is None or shown < utc(simulator.clock())
    followed.put("b")
    written = utc(simulator.clock() + 1)
    until(lambda: ready(port, written)[0] == 200, every=0.1)
    followed.compare()
    stopped(migration, process)


def test_changes_from_before_a_clock_was_set_back_are_all_applied_before_a_run_is_consistent(
    followed: Followed,
) -> None:
    """They are read in many batches, each of which is of a later time than the clock shows."""
    followed.simulator.table(followed.name)
    migration = followed.task(qps__incr=4, qps__incr__batch_num=2)
    assert migration.run("--until-consistent").status == 0
    for number in range(40):
        followed.put(f"k{number}")
    followed.simulator.clock.advance(-300)
    assert migration.run("--until-consistent").status == 0
    followed.compare()


def test_shards_that_were_quiet_for_long_are_read_quickly_while_ready_is_asked(
    followed: Followed,
) -> None:
    simulator = followed.simulator
    simulator.table(followed.name)
    port = free_port()
    migration = followed.task(incr__margin=MARGIN, http_profile=port)
    process = migration.start()

    def pauses() -> list[float]:
        """The last pauses between two calls, in seconds."""
        began = [call.began for call in simulator.journal.of("GetRecords")][-6:]
        return [later - one for one, later in itertools.pairwise(began)]

    until(lambda: len(pauses()) == 5 and min(pauses()) > 0.85, 120.0)
    now = utc(simulator.clock())
    until(lambda: ready(port, now)[0] == 200 and max(pauses()) < 0.6, every=0.5)
    stopped(migration, process)
