"""The status page of a real run: what it shows on the way, and what stays of it after the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from shake import __version__
from shake.cli import check
from shake.demo.servers import free_port
from tests.support.followed import Followed, stopped
from tests.support.migration import SMALL_PAGES, Migration
from tests.support.status import status
from tests.support.wait import until

pytestmark = pytest.mark.slow

Migrate = Callable[..., Migration]


def view(port: int) -> Any:
    """What the page of a run shows; None while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/view") as answer:
            return json.load(answer)
    except OSError:
        return None


def shows(port: int, figure: str) -> Any:
    """What the page shows, as soon as its headline has this figure."""

    def found() -> Any:
        page = view(port)
        return page and page["headline"]["figure"] == figure and page

    return until(found, 60)


def test_the_page_stays_after_a_good_end_and_goes_when_a_signal_comes(
    migrate: Migrate, table: str
) -> None:
    migration = migrate(http_profile=(port := free_port()), http__linger=600)
    process = migration.start()
    page = shows(port, "Finished")
    assert page["headline"]["lines"][-1].startswith("1 of 1 table copied, 200 items, after ")
    assert page["ended"]
    until(lambda: "stays up" in migration.printed())
    process.send_signal(signal.SIGTERM)
    result = migration.wait(process)
    assert result.status == 0
    assert "full sync done!\nthe status page stays up for 10m 00s\n" in result.stdout
    first = result.stdout.splitlines()[0]
    task = f"task {table}, configuration file {migration.conf}, 2 workers"
    assert first.endswith(f" INFO  shake: shake {__version__}: {task}")
    assert f"INFO  shake: status page: http://127.0.0.1:{port}/\n" in result.stdout


def test_the_page_stays_after_a_failure_with_its_reason_and_what_to_do(
    dynamodb: Any, migrate: Migrate, table: str
) -> None:
    bad = {"pk": {"S": "bad"}, "a\0b": {"S": "no"}}
    dynamodb.client.put_item(TableName=table, Item=bad)
    migration = migrate(http_profile=(port := free_port()), http__linger=600)
    process = migration.start()
    page = shows(port, "Failed")
    assert "an attribute name holds U+0000" in page["headline"]["lines"][0]
    assert "start the task again" in page["headline"]["lines"][-1]
    with pytest.raises(urllib.request.HTTPError, match="503"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz")
    process.send_signal(signal.SIGTERM)
    result = migration.wait(process)
    assert result.status == 1
    assert "an attribute name holds U+0000" in result.line


def test_the_page_stays_for_as_long_as_is_configured(migrate: Migrate, table: str) -> None:
    migration = migrate(http_profile=free_port(), http__linger=1)
    assert migration.run().status == 0


def test_a_task_whose_page_stays_can_be_run_again_at_the_same_port(
    migrate: Migrate, table: str
) -> None:
    migration = migrate(http_profile=(port := free_port()), http__linger=600)
    process = migration.start()
    shows(port, "Finished")
    plan = migration.run("--dry-run")
    assert plan.status == 0, plan  # the page is not in the way, and stays
    shows(port, "Finished")
    result = migration.run()
    assert result.status == 0, result
    assert "the full copy is complete already" in result.stdout
    process.send_signal(signal.SIGTERM)  # the page goes only where it has seen the other run
    assert migration.wait(process).status == 0


def test_a_stop_by_a_signal_waits_for_nothing(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    migration = followed.task(http_profile=(port := free_port()), http__linger=600)
    process = migration.start()
    until(lambda: view(port) and view(port)["headline"]["title"] == "Applied through", 60)
    stopped(migration, process)


def test_a_script_that_waits_until_all_is_consistent_does_not_wait_for_the_page(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    migration = followed.task(http_profile=free_port(), http__linger=600)
    assert migration.run("--until-consistent").status == 0


def test_a_gap_stays_on_the_page(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(http_profile=(port := free_port()), http__linger=600)
    assert migration.run("--until-consistent").status == 0
    followed.put("lost")
    followed.simulator.trim(time.time() + 1)
    followed.checkpoint.update_many(
        {"ShardId": {"$exists": True}}, {"$set": {"ApproximateTime": time.time() - 25 * 3600}}
    )
    process = migration.start()
    page = shows(port, "Failed")
    assert "changes are lost" in page["headline"]["lines"][0]
    process.send_signal(signal.SIGINT)
    assert migration.wait(process).status == 4


def test_a_run_shows_its_processes_its_past_and_what_has_happened(followed: Followed) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(http_profile=(port := free_port()))
    process = migration.start()

    def complete() -> Any:
        page = view(port)
        return page and page["points"] and all(row["cells"][2] for row in page["processes"]["rows"])

    until(complete, 60)
    page = until(lambda: (page := view(port))["facts"][0][0] == "Limited by" and page)
    assert page["facts"][0][1] == "nothing"
    events = [text for _, text, _ in page["events"]]
    assert f"table {followed.name}: changes are applied" in events
    assert events[-1] == "the task is running"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/charts") as answer:
        charts = [chart["title"] for chart in json.load(answer)["charts"]]
    assert {"Writes", "Lag"} <= set(charts)
    stopped(migration, process)


def test_a_viewer_is_shown_that_the_supervisor_hangs(followed: Followed) -> None:
    """Its loop hangs, and its other threads go on."""
    followed.simulator.table(followed.name)
    migration = followed.task(http_profile=(port := free_port()))
    migration.first = (
        "import shake.run.status_pages as p; p._SILENT_SECONDS = 2.0;"
        "import shake.run.supervisor as s, time;"
        "usual = s.TaskRun._each_second;"
        "s.TaskRun._each_second = lambda self: (usual(self),"
        " self._parts.follow_phases.active and time.sleep(30))"
    )
    migration.start()
    page = until(lambda: (page := view(port)) and page["state"] == "degraded" and page, 60)
    assert page["banners"][0]["text"] == "Degraded: the supervisor does not answer"


def test_the_progress_of_an_index_build_is_shown(mongo: Any, migrate: Migrate, table: str) -> None:
    migration = migrate(http_profile=(port := free_port()), **SMALL_PAGES)
    point = "hangAfterStartingIndexBuild"
    mongo.client.admin.command("configureFailPoint", point, mode="alwaysOn")
    try:
        process = migration.start()
        page = shows(port, "100.0%")
        assert page["headline"]["title"] == "Index builds"
        [shown] = status(port)["tables"]
        assert (shown["index_step"], shown["index_progress"]) == ("scanning collection", 1.0)
    finally:
        mongo.client.admin.command("configureFailPoint", point, mode="off")
    assert migration.wait(process).status == 0


def test_a_check_of_the_running_task_is_on_its_page(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shake.check.progress._EVERY", 0.1)
    followed.simulator.table(followed.name)
    followed.put("a")
    migration = followed.task(http_profile=(port := free_port()))
    process = migration.start()
    until(lambda: view(port) and view(port)["headline"]["answer"] == "yes", 60)
    assert view(port)["check"] is None
    assert check.main(["--conf", str(migration.conf)]) == 0
    finished = "The check is finished ("
    shown = until(
        lambda: (shown := view(port)["check"]) and shown["text"].startswith(finished) and shown, 30
    )
    assert shown["text"].endswith("): no difference")
    assert shown["tone"] == "good"
    stopped(migration, process)


def test_a_check_that_is_under_way_shows_how_far_it_is(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    for number in range(50):
        followed.put(str(number))
    migration = followed.task(http_profile=(port := free_port()))
    migration.first = (
        "import shake.status.monitor as m; m._CHECK_SECONDS = 0.2; m._CHECK_SILENCE = 2.0"
    )
    process = migration.start()
    until(lambda: view(port) and view(port)["headline"]["answer"] == "yes", 60)
    quickly = "import shake.check.progress as t; t._EVERY = 0.1"
    main = "from shake.cli.check import main; raise SystemExit(main())"
    slowly = ["--set=qps.full=2", "--set=qps.full.batch_num=1"]
    checking = subprocess.Popen(
        [sys.executable, "-c", f"{quickly}; {main}", "--conf", str(migration.conf), *slowly],
        stdout=subprocess.DEVNULL,
    )
    shown = until(lambda: view(port)["check"], 60)
    assert shown["text"] == f"A check compares table {followed.name} (1 of 1)"
    assert "no difference so far" in shown["more"]
    checking.kill()
    checking.wait()
    until(lambda: view(port)["check"]["text"].startswith("The check is stopped"), 60)
    stopped(migration, process)
