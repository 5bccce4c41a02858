"""shake status: how a task stands, and how it has ended, however it has ended."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.contract import Document, StoreUnavailable
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.holder import Holder
from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.standing import Run, Standing
from shake.checkpoint.standing import standing as standing_of
from shake.checkpoint.store import open_store
from shake.checkpoint.summary import MAX_TABLES, TaskSummary
from shake.checkpoint.task_lock import TaskLock
from shake.cli import main
from shake.cli.status import _document, _lines
from shake.config import load
from shake.control import client
from shake.phase import Phase
from shake.run.summaries import Summaries, summarize
from shake.status.snapshot import FINISHING, Snapshot
from tests.support.faulty import error
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.snapshots import table
from tests.support.snapshots import task as snapshot
from tests.support.steering import control, copy_held, scanned, shake, socket_of, standing
from tests.support.streams_faults import instead
from tests.support.wait import until

pytestmark = pytest.mark.slow

STORES: list[dict[str, Any]] = [{}, {"checkpoint__type": "file"}]

each_store = pytest.mark.parametrize("store", STORES, ids=["mongodb", "file"])


def task(followed: Followed, store: dict[str, Any], **settings: Any) -> Migration:
    followed.simulator.table(followed.name)
    for number in range(100):
        followed.put(f"k{number}")
    if store:
        store = store | {"checkpoint__address": "CHECKPOINTS"}
    migration = followed.task(qps__full__batch_num=5, **store, **settings)
    text = migration.conf.read_text().replace("CHECKPOINTS", str(migration.folder / "checkpoints"))
    migration.conf.write_text(text)
    return migration


def stored(followed: Followed, migration: Migration) -> list[Any]:
    """All that the checkpoint database holds, and all files of the folder."""
    database = followed.mongo.client[f"{followed.name}-checkpoint"]
    documents = [list(database[name].find()) for name in sorted(database.list_collection_names())]
    files = sorted((str(one), one.stat().st_mtime_ns) for one in migration.folder.rglob("*.json"))
    return [documents, files]


@each_store
def test_a_task_that_was_never_started_is_said_to_be_so_and_nothing_is_written(
    followed: Followed, store: dict[str, Any]
) -> None:
    migration = task(followed, store)
    found = standing(migration)
    assert (found["state"], found["running"]) == ("not begun", False)
    assert "start it by shake run" in found["what_to_do"]
    place = f"{followed.name}-checkpoint"
    assert f"/{place}" in found["what_to_do"] or f"database {place} at " in found["what_to_do"]
    assert f"{followed.name}-checkpoint" not in followed.mongo.client.list_database_names()
    assert not (migration.folder / "checkpoints").exists()


@each_store
def test_a_run_is_known_while_it_answers_while_it_cannot_be_asked_and_after_its_end(
    followed: Followed, store: dict[str, Any]
) -> None:
    migration = task(followed, store)
    process = migration.start()
    followed.equal()
    found = until(lambda: (one := standing(migration))["applied_through"] and one)
    assert (found["state"], found["running"], found["live"]) == ("running", True, True)
    assert (found["items"], found["tables_total"]) == (100, 1)
    assert found["age_seconds"] < 30
    control(migration, "pause")
    assert standing(migration)["state"] == "paused"
    text = shake(migration, "status").stdout
    assert "paused" in text
    assert "shake control resume" in text
    control(migration, "resume")
    socket_of(migration).unlink()
    found = standing(migration)
    assert (found["running"], found["live"]) == (True, False)
    assert f"process {process.pid} on host" in found["process"]
    assert "from its checkpoint" in shake(migration, "status").stdout
    stopped(migration, process)
    before = stored(followed, migration)
    found = standing(migration)
    assert (found["state"], found["exit_status"]) == ("stopped", 0)
    assert "stopped by SIGTERM" in found["reason"]
    assert stored(followed, migration) == before


def test_a_copy_says_when_it_will_be_complete() -> None:
    config = load(None, {}, ["id=moving", "target.address=mongodb://m/"]).config
    now = 1_796_000_000.0  # 00:53:20 UTC
    for run, rate, shown in (
        (Run.RUNNING, 0.5, ["  copied at: about 01:18 UTC, in 25m 00s"]),
        (Run.KILLED, 0.5, []),
        (Run.SILENT, 0.5, []),
        (Run.RUNNING, 0.0, []),
    ):
        summary = summarize(snapshot(table(items=250, rate=rate), time=now), "token")
        read = TaskSummary.of("status", summary.document())
        found = Standing(run, read, Holder.me())
        lines = _lines(config, found, True, now)
        assert [line for line in lines if "copied at" in line] == shown
        assert bool(_document(config, found, True, now)["seconds_left"]) == bool(shown)
    old = {name: value for name, value in summary.document().items() if name != "SecondsLeft"}
    assert TaskSummary.of("status", old) == summary  # as an earlier version saved it


@pytest.mark.parametrize(
    ("state", "reason", "notices", "shown"),
    [
        (
            "degraded",
            "worker 0 (process 7) has not answered for 30 s",
            (),
            "  what to do: it is retried, and shake kills a process that does not answer for "
            "120 s; remove the cause",
        ),
        ("degraded", "no primary", (), "  what to do: it is retried; remove the cause"),
        ("running", "", (FINISHING,), f"  reason: {FINISHING}"),
    ],
)
def test_a_task_says_what_its_state_means(
    state: str, reason: str, notices: tuple[str, ...], shown: str
) -> None:
    config = load(None, {}, ["id=moving", "target.address=mongodb://m/"]).config
    summary = summarize(snapshot(table(), state=state, reason=reason, notices=notices), "token")
    assert shown in _lines(config, Standing(Run.RUNNING, summary, None), True, summary.at)
    if FINISHING in notices:  # a run that was killed does not, and the next one does not know
        killed = _lines(config, Standing(Run.KILLED, summary, None), False, summary.at)
        assert shown not in killed


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_forgotten_table_is_said_to_be_copied_anew_and_not_to_go_on(state: str) -> None:
    config = load(None, {}, ["id=moving", "target.address=mongodb://m/"]).config
    summary = summarize(snapshot(table(), state=state), "token", 0, "ended")
    forgotten = summary.without("orders", 0, 0, complete=False)
    said = "\n".join(_lines(config, Standing(Run.ENDED, forgotten, None), False, summary.at))
    assert "what to do: shake run copies anew what is not begun; without target.db.exist" in said
    assert "goes on from what is saved" not in said


def test_a_table_that_is_forgotten_later_does_not_undo_a_cutover() -> None:
    """Its figures can be newer than those of the task."""
    done = table("old", "consistent", items=10, bytes=700)
    summary = replace(
        summarize(snapshot(done, state="finished"), "token", 0, "ended"), phase="follow"
    )
    assert summary.finished_by_cutover
    forgotten = summary.without("old", 5000, 90_000, complete=True)
    assert forgotten.finished_by_cutover
    assert (forgotten.items, forgotten.bytes, forgotten.tables_done) == (0, 0, 0)


@pytest.mark.parametrize(
    ("store", "number"),
    [(STORES[0], MAX_TABLES + 4), (STORES[1], 0)],
    ids=["beyond the lines", "with a line"],
)
def test_a_forgotten_table_is_in_no_figure(
    followed: Followed, store: dict[str, Any], number: int
) -> None:
    migration = task(followed, store)
    names = [f"t{number:03d}" for number in range(MAX_TABLES + 5)]
    ended = snapshot(*(table(one, "done", items=10, bytes=700) for one in names), state="finished")
    segments = [SegmentRecord(0, None, 4, 300), SegmentRecord(1, None, 6, 400)]
    with (
        closing(open_store(load(str(migration.conf), {}, []).config)) as opened,
        TaskLock.acquire(opened, notice=print).held() as lock,
    ):
        checkpoints = Checkpoints(opened)
        checkpoints.save_summary(summarize(ended, lock.token, 0), lock.renew)
        record = TableRecord(names[number], "a.b", 1, 2, phase=Phase.DONE)
        checkpoints.begin_table(record)
        checkpoints.save_segments(record, segments)
    before = standing(migration)
    assert (before["items"], before["tables_done"]) == (10 * len(names), len(names))
    for _ in range(2):
        assert shake(migration, "forget", names[number]).status == 0
        found = standing(migration)
        assert (found["items"], found["bytes"]) == (before["items"] - 10, before["bytes"] - 700)
        assert (found["tables_done"], found["tables_total"]) == (len(names) - 1, len(names))
        lines = {one["name"]: one["state"] for one in found["tables"]}
        assert lines[names[number]] == "not begun"
        assert shake(migration, "forget", "never").status == 0
        assert standing(migration) | {"age_seconds": 0} == found | {"age_seconds": 0}


@each_store
def test_a_killed_run_is_told_from_one_that_runs(followed: Followed, store: dict[str, Any]) -> None:
    migration = task(followed, store)
    with copy_held(followed):
        process = migration.start()
        scanned(followed)
        until(lambda: standing(migration).get("phase") == "copy")
        text = shake(migration, "status").stdout
        assert "  applied through: not known yet: changes are applied once the copy is" in text
        migration.kill(process)
    before = stored(followed, migration)
    found = standing(migration)
    assert (found["state"], found["running"], found["live"]) == ("killed", False, False)
    assert "start the task again" in found["what_to_do"]
    assert stored(followed, migration) == before


def test_a_run_that_is_suspended_is_said_not_to_answer(
    followed: Followed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.5)
    migration = task(followed, {})

    def says(*arguments: str) -> str:
        assert main.main(["status", "--conf", str(migration.conf), *arguments]) == 0
        return " ".join(capsys.readouterr().out.split())

    process = migration.start()
    followed.equal()
    until(lambda: standing(migration)["live"])
    process.send_signal(signal.SIGSTOP)
    found = json.loads(says("--json"))
    assert (found["state"], found["running"], found["live"]) == ("running", True, False)
    summaries = followed.mongo.client[f"{followed.name}-checkpoint"].status_table

    def aged() -> bool:
        """What was on its way when the run was suspended has arrived before."""
        summaries.update_one({"_id": "summary"}, {"$inc": {"At": -61.0}})
        return json.loads(says("--json"))["running"] is None

    until(aged)
    found = json.loads(says("--json"))
    assert (found["state"], found["seconds_left"]) == ("hanging", None)
    assert found["what_to_do"].startswith(f"process {process.pid} does not answer: ")
    assert f"kill -CONT {process.pid} resumes it" in says()
    process.send_signal(signal.SIGCONT)
    followed.put("later")
    followed.arrived("later")
    assert json.loads(says("--json"))["running"] is True
    stopped(migration, process)


def test_a_finished_copy_says_so(followed: Followed) -> None:
    migration = task(followed, {}, sync_mode="full")
    assert migration.run().status == 0
    found = standing(migration)
    assert (found["state"], found["exit_status"], found["fraction"]) == ("finished", 0, 1.0)
    assert found["what_to_do"] is None
    assert "applied through" not in shake(migration, "status").stdout


@each_store
def test_a_failed_run_names_its_error_and_a_later_run_remembers_it(
    followed: Followed, store: dict[str, Any]
) -> None:
    migration = task(followed, store)
    followed.simulator.faults.rule(1.0, instead(error("AccessDeniedException")), where=copies)
    result = migration.run()
    assert result.status == 1
    found = standing(migration)
    assert (found["state"], found["exit_status"], found["running"]) == ("failed", 1, False)
    assert "AccessDenied" in found["reason"]
    assert "start the task again" in found["what_to_do"]
    followed.simulator.faults.clear()
    process = migration.start()
    followed.equal()
    found = standing(migration)
    assert found["state"] == "running"
    assert "AccessDenied" in found["last_error"]
    stopped(migration, process)


def test_a_late_summary_of_a_dead_run_replaces_nothing(followed: Followed) -> None:
    migration = task(followed, {})
    first = migration.start()
    followed.equal()
    first.send_signal(signal.SIGSTOP)
    # Its lock is gone for good; another run takes over as from another machine.
    database = followed.mongo.client[f"{followed.name}-checkpoint"]
    until(lambda: database.status_table.find_one({"_id": "summary"}))
    database.status_table.delete_one({"_id": "lease"})
    (migration.folder / "other").mkdir()
    second = migration.start("--set", f"pid_path={migration.folder / 'other'}")
    token = database.status_table.find_one({"_id": "summary"})["Token"]
    until(lambda: database.status_table.find_one({"_id": "summary"})["Token"] != token, 60)
    first.send_signal(signal.SIGCONT)
    assert migration.wait(first).status == 1
    assert database.status_table.find_one({"_id": "summary"})["Token"] != token
    second.send_signal(signal.SIGTERM)
    assert migration.wait(second).status == 0


@pytest.mark.parametrize(
    ("shown", "status", "state"),
    [
        ("finished", 1, "failed"),
        ("running", 4, "failed"),
        ("running", 0, "stopped"),
        ("finished", 0, "finished"),
        ("finished", -1, "finished"),
    ],
)
def test_a_summary_never_says_finished_of_a_run_that_failed(
    shown: str, status: int, state: str
) -> None:
    """Also where the last snapshot was made before that."""
    assert summarize(snapshot(state=shown), "token", status).state == state


@pytest.mark.parametrize("renewed", [True, False])
def test_a_run_on_another_machine_is_alive_while_it_renews_its_lock(
    tmp_path: Path, renewed: bool
) -> None:
    store = FileStore(tmp_path, "checkpoints")
    elsewhere = Holder("elsewhere", "boot", "namespace", 1, 1)
    lock = TaskLock.acquire(store, notice=print, me=elsewhere)
    summary = summarize(Snapshot("orders", "all", "running", 1.0, 1.0), lock.token)
    assert Checkpoints(store).save_summary(summary, lock.check)
    now = 0.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds
        if renewed and now == 10.0:
            lock.renew()

    found = standing_of(store, wait=wait, clock=lambda: now)
    assert found.run is (Run.RUNNING if renewed else Run.SILENT)
    assert (found.holder, found.summary) == (elsewhere, summary)
    assert now <= 20


class Electing(FileStore):
    """A store that does not take the next ``fails`` exchanges."""

    fails = 0

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("no primary")
        return super().swap(collection, old, new)


def test_the_end_of_a_finished_task_is_saved_when_the_store_answers_again(tmp_path: Path) -> None:
    store = Electing(tmp_path, "checkpoints")
    lock = TaskLock.acquire(store, notice=print)
    summaries = Summaries(Checkpoints(store), lock)
    summaries.show(Snapshot("orders", "all", "finished", 1.0, 1.0))
    store.fails = 2
    summaries.end(0, "consistent")
    assert summaries.close(10, patient=True)
    saved = Checkpoints(store).load_summary()
    assert saved is not None
    assert saved.ended


def test_a_store_that_cannot_be_read_is_exit_1(followed: Followed) -> None:
    migration = task(followed, {})
    unreachable = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500"
    began = time.monotonic()
    result = shake(migration, "status", "--set", f"target.address={unreachable}")
    assert (result.status, result.stdout, result.stderr.count("\n")) == (1, "", 1), result
    assert time.monotonic() - began < 30
