"""A check that was interrupted at any moment goes on, and finds what one that was not finds."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from shake.check.findings import Difference
from shake.check.fingerprint import Fingerprint, Sums
from shake.check.sides import Advanced
from shake.check.state import CheckPhase, CheckState, ScanPosition
from shake.check.stored import KeyRange
from shake.checkpoint.checks import CheckRecord, Checks, TableCheck
from shake.checkpoint.contract import Document, Superseded
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.mongodb import MongoStore
from shake.cli import check
from shake.errors import RefusedError
from shake.status.snapshot import CheckStatus
from tests.support.copied import Copied, make_table
from tests.support.dying import Dying, Killed, quick_store
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.followed import Followed, stopped
from tests.support.migration import ROOT
from tests.support.wait import until
from tests.support.wire import Wire
from tests.test_full_copy_trouble import failing

pytestmark = pytest.mark.slow

SMALL = ("--set=full.read.concurrency=3", "--set=qps.full.batch_num=9", "--set=log.level=warn")

#: Run first by a check that saves at each tick, and starts processes for few items.
EAGER = (
    "from shake.check import comparing, plan, processes; "
    "processes._TICK = comparing._SAVE_EVERY = 0.02; "
    "comparing._SMALLEST_RANGE = 8; plan.ITEMS_A_PROCESS = 1"
)
#: The same, but it never saves before its end, or before a signal.
LAZY = "from shake.check import plan; plan.ITEMS_A_PROCESS = 1"


def spoiled(dynamodb: Any, mongo: Any, name: str, folder: Path) -> Copied:
    """A copy with some differences of each kind."""
    rows = [
        {"pk": {"S": f"p{n % 11}"}, "sk": {"N": str(n)}, "n": {"N": str(n)}} for n in range(300)
    ]
    copied = make_table(dynamodb, mongo, name, folder, rows, sk=("sk", "N"))
    copied.copy()
    for number in range(0, 300, 20):
        copied.collection.delete_one({"sk": number})
        copied.collection.update_one({"sk": number + 1}, {"$set": {"n": -1}})
        copied.collection.insert_one({"pk": f"foreign{number}", "sk": number})
    return copied


class Checked(Protocol):
    """Something to check."""

    @property
    def arguments(self) -> list[str]:
        """The command line."""


def begin(copied: Checked, source: str, first: str, *arguments: str) -> subprocess.Popen[str]:
    """shake-check in a separate process, which runs some Python first."""
    main = "from shake.cli.check import main; raise SystemExit(main())"
    program = f"import sys; sys.path[0] = {str(ROOT)!r}; {first}; {main}"
    return subprocess.Popen(
        [
            *(sys.executable, "-c", program, *copied.arguments, *SMALL),
            *(f"--set=source.endpoint_url={source}", *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Interrupted:
    """A source whose ``number``-th request of an operation calls ``act``, and waits for it."""

    def __init__(self, url: str, operation: str, number: int) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        self.pages = 0
        self._forward = forward(url)
        self._operation, self._left = operation, number

    def __call__(self, request: Request) -> Reply:
        self.pages += request.operation == "Scan" and b"TotalSegments" in request.body
        if request.operation == self._operation:
            self._left -= 1
            if not self._left:
                self.reached.set()
                self.released.wait(30)
        return self._forward(request)


def lines(report: Path) -> list[str]:
    return sorted(line for line in report.read_text().splitlines() if '"kind"' in line)


def whole(copied: Copied, folder: Path, *arguments: str) -> list[str]:
    """What a check that nothing interrupts finds."""
    report = folder / "whole"
    assert check.main([*copied.arguments, *SMALL, "--anew", "--report", str(report)]) == 1
    return lines(report)


#: At which request of which operation the check is killed.
MOMENTS = [("Scan", 2), ("Scan", 12), ("Scan", 27), ("BatchGetItem", 2), ("BatchGetItem", 10)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda one: "-".join(map(str, one)))
def test_a_check_that_was_killed_goes_on_and_finds_the_same(
    dynamodb: Any,
    mongo: Any,
    name: str,
    tmp_path: Path,
    moment: tuple[str, int],
    workers: int,
    capsys: Any,
) -> None:
    copied = spoiled(dynamodb, mongo, name, tmp_path)
    source = Interrupted(dynamodb.url, *moment)
    with Faulty(otherwise=source) as server:
        process = begin(copied, server.url, EAGER, f"--workers={workers}")
        try:
            until(source.reached.is_set)
            progress = mongo.client[f"{name}-checkpoint"][f"{name}~check"]
            until(lambda: progress.find_one({"_id": "progress"}))
        finally:
            process.kill()
            process.communicate()
            source.released.set()
    report = tmp_path / "report"
    arguments = [*copied.arguments, *SMALL, "--report", str(report), f"--workers={workers}"]
    status = check.main(arguments)
    assert (status, lines(report)) == (1, whole(copied, tmp_path))
    assert f"table {name}: the check of " in capsys.readouterr().out


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_loses_nothing_of_what_was_done(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, kind: signal.Signals, workers: int
) -> None:
    copied = spoiled(dynamodb, mongo, name, tmp_path)
    source = Interrupted(dynamodb.url, "Scan", 30)
    with Faulty(otherwise=source) as server:
        process = begin(copied, server.url, LAZY, f"--workers={workers}")
        until(source.reached.is_set)
        process.send_signal(kind)
        out, err = process.communicate(timeout=30)
        source.released.set()
        assert process.returncode == 2, (out, err)
        assert "the same command goes on from there" in out + err
        assert err.splitlines()[-1] == "shake-check: stopped before its end, nothing is proven"
        before = source.pages
        process = begin(copied, server.url, LAZY, f"--workers={workers}", "--report=/dev/stderr")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, (out, err)
    found = sorted(line for line in err.splitlines() if '"kind"' in line)
    assert found == whole(copied, tmp_path)
    assert source.pages - before < 20  # of some 35, and those under way at the signal again


def interrupt(copied: Copied, url: str) -> None:
    """Begin a check, and stop it by Ctrl-C after 30 Scans."""
    source = Interrupted(url, "Scan", 30)
    with Faulty(otherwise=source) as server:
        process = begin(copied, server.url, LAZY, "--workers=1")
        until(source.reached.is_set)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        source.released.set()


def test_another_configuration_begins_anew_and_says_so(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = spoiled(dynamodb, mongo, name, tmp_path)
    for arguments, said in (
        (["--eventual"], "the check begins anew"),
        (["--anew"], ""),
        ([], "goes on, after"),
    ):
        interrupt(copied, dynamodb.url)
        assert check.main([*copied.arguments, *SMALL, *arguments]) == 1
        captured = capsys.readouterr()
        output = captured.out + captured.err
        assert said in output
        assert ("goes on, after" in output) == (not arguments)
        assert "300 items compared: 15 missing, 15 different, 15 extra" in output


def test_a_check_that_went_on_says_since_when_it_proves_equality(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    """What has changed meanwhile it might have compared before."""
    rows = [{"pk": {"S": f"p{number}"}} for number in range(60)]
    copied = make_table(dynamodb, mongo, name, tmp_path, rows)
    copied.copy()
    source = Interrupted(dynamodb.url, "Scan", 8)
    with Faulty(otherwise=source) as server:
        process = begin(copied, server.url, LAZY, "--workers=1")
        until(source.reached.is_set)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        source.released.set()
    assert check.main([*copied.arguments, *SMALL]) == 0
    assert "; this check was begun at " in capsys.readouterr().out.splitlines()[-1]
    assert check.main([*copied.arguments, *SMALL]) == 0
    assert capsys.readouterr().out.endswith(
        f"EQUAL: every item and every document of task {name}\n"
    )


@pytest.mark.parametrize("moment", ["begin", "complete", "done"])
def test_a_store_that_does_not_answer_when_a_table_begins_or_ends_does_not_cost_the_check(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, moment: str
) -> None:
    copied = make_table(dynamodb, mongo, name, tmp_path, [{"pk": {"S": "a"}}])
    copied.copy()
    checks, status = (f"{name}-checkpoint.{one}" for one in (f"{name}~check", "status_table"))
    place = status if moment == "done" else checks
    at = {"failCommands": ["update"], "namespace": place, "errorCode": 50}
    with Wire(*mongo.client.address) as wire, contextlib.ExitStack() as stack:

        def fail() -> None:
            stack.enter_context(failing(mongo, {"times": 3}, **at))

        if moment == "begin":
            fail()
        else:  # what has been saved before: the begin, and three states
            wire.stop_at("answer", "update", checks, fail, skip=3 + (moment == "done"))
        assert check.main([*copied.arguments, f"--set=checkpoint.address={wire.uri}"]) == 0
    found = mongo.client[f"{name}-checkpoint"]
    assert found[f"{name}~check"].find_one({"_id": "completed"})["Verdict"] == "equal"
    assert found["status_table"].find_one({"_id": "check"})["Done"]


def test_what_a_repair_has_repaired_is_not_found_by_the_check_that_was_interrupted_before(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = spoiled(dynamodb, mongo, name, tmp_path)
    interrupt(copied, dynamodb.url)
    checks = mongo.client[f"{name}-checkpoint"][f"{name}~data~check"]
    assert checks.count_documents({"_id": {"$regex": "^findings-"}})
    assert check.main([*copied.arguments, *SMALL, "--repair", "--yes", "--delete-extra"]) == 0
    capsys.readouterr()
    assert check.main([*copied.arguments, *SMALL]) == 0
    assert "EQUAL: every item" in capsys.readouterr().out
    assert check.main([*copied.arguments, *SMALL]) == 0


def test_two_checks_of_one_task_do_not_run_at_the_same_time(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, capsys: Any
) -> None:
    copied = spoiled(dynamodb, mongo, name, tmp_path)
    source = Interrupted(dynamodb.url, "Scan", 5)
    with Faulty(otherwise=source) as server:
        report = ("--report", str(tmp_path / "report"))
        process = begin(copied, server.url, LAZY, "--workers=1", *report)
        until(source.reached.is_set)
        assert check.main([*copied.arguments, "--set=log.level=error", *report]) == 3
        err = capsys.readouterr().err
        assert check.main([*copied.arguments, "--set=filter.collection.white=none", *report]) == 2
        source.released.set()
        process.communicate(timeout=60)
    header, *found, verdict = map(json.loads, (tmp_path / "report").read_text().splitlines())
    assert (header["task"], len(found), verdict["differences"]) == (name, 45, 45)
    assert f"checks task {name} already: wait until it has ended" in err
    assert err.count("\n") == 1
    assert process.returncode == 1


def test_keys_in_doubt_survive_an_interruption(
    followed: Followed, tmp_path: Path, capsys: Any
) -> None:
    followed.simulator.table(followed.name)
    for number in range(5):
        followed.put(f"k{number}")
    migration = followed.task()
    process = migration.start()
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: "consistent point reached" in output.read_text())
    followed.collection.delete_one({"pk": "k1"})
    process.send_signal(signal.SIGSTOP)
    command = [sys.executable, str(ROOT / "bin/shake-check"), "--conf", str(migration.conf)]
    checking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    asked = followed.simulator.journal
    until(lambda: len(asked.of("BatchGetItem")) > 1)
    checking.send_signal(signal.SIGINT)
    out, err = checking.communicate(timeout=30)
    assert checking.returncode == 2, (out, err)
    process.send_signal(signal.SIGCONT)
    scans = len(asked.of("Scan"))
    assert check.main(["--conf", str(migration.conf)]) == 1
    assert "1 missing, 0 different, 0 extra, 0 duplicate" in capsys.readouterr().out
    assert len(asked.of("Scan")) <= scans + 2  # whether the table holds items
    stopped(migration, process)


# ---- what is saved


STATE = CheckState(
    7,
    CheckPhase.EXTRAS,
    Advanced(1, 2, 3, 4, 5, 6),
    (ScanPosition(3, b'{"pk":{"S":"a"}}', False), ScanPosition(4, None, True)),
    (KeyRange(("pk", "sk"), None, b"\x05"), KeyRange(None, b"\x01", None)),
    (0, 1),
    Sums(b"s" * 16, 3, b"\1" * 64),
    Sums(b"", 0, b""),
    (b"{}",),
    (b"\xff\0",),
)


def test_a_state_survives_as_bytes() -> None:
    assert repr(CheckState.of(STATE.packed())) == repr(STATE)  # named tuples as such, too


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Checks]:
    def saved(run: int = 0, **faults: Any) -> Checks:
        store = FileStore(tmp_path, "c", **{"sync": lambda handle: None, **faults})
        return Checks(store, run=run)

    return saved


def test_a_save_that_is_cut_off_changes_nothing(saved: Callable[..., Checks]) -> None:
    checks = saved()
    first = TableCheck("id", "basis", 1.0)
    checks.begin("t", first)
    second = checks.save("t", first, b"one" * 2_000_000, ["a", "b"])
    for skipped in range(4):
        calls = iter([None] * skipped)

        def rename(old: Path, new: Path, calls: Any = calls) -> None:
            if next(calls, "cut") == "cut":
                raise KeyboardInterrupt
            old.replace(new)

        with contextlib.suppress(KeyboardInterrupt):
            saved(rename=rename).save("t", second, b"two" * 2_000_000, ["c"] * 5)
        found = checks.load_progress("t")
        assert found is not None
        wanted = (b"one", ["a", "b"]) if found == second else (b"two", ["a", "b", *"ccccc"])
        assert (checks.load_state("t", found)[:3], checks.load_findings("t", found)) == wanted


def test_what_no_document_can_hold_is_saved_all_the_same(mongo: Any, name: str) -> None:
    """A difference names the documents of its key, and each of them can have 16 MB."""
    long, state = "x" * 40_000_000, b"s" * 17_000_000
    with contextlib.closing(MongoStore.open(mongo.uri, name)) as store:
        checks = Checks(store)
        first = TableCheck("id", "basis", 1.0)
        checks.begin("t", first)
        second = checks.save("t", first, state, ["a", long])
        third = checks.save("t", second, state, ["b"])
        assert checks.load_findings("t", third) == ["a", long, "b"]
        assert checks.load_state("t", third) == state


def test_what_an_earlier_process_saves_late_alters_nothing(saved: Callable[..., Checks]) -> None:
    dead, checks = saved(), saved(run=1)
    first = dead.begin("t", TableCheck("id", "basis", 1.0))
    second = checks.begin("t", first)
    with pytest.raises(Superseded):
        dead.save("t", first, b"late", ["late"])
    later = checks.save("t", second, b"mine", ["mine"])
    assert checks.load_progress("t") == later
    assert (checks.load_state("t", later), checks.load_findings("t", later)) == (b"mine", ["mine"])


@pytest.mark.parametrize(
    ("save", "load"),
    [
        (lambda checks, name: checks.save_check(CheckRecord(name)), Checks.load_check),
        (lambda checks, name: checks.save_status(CheckStatus(name)), Checks.load_status),
    ],
    ids=["check", "status"],
)
def test_what_a_dead_check_saves_late_hides_no_later_check(
    tmp_path: Path, save: Callable[[Checks, str], None], load: Callable[[Checks], Any]
) -> None:
    store, dying = quick_store(tmp_path), Dying(tmp_path, 1)
    dead, later = Checks(dying), Checks(store)
    dead.take_number(["t"], lambda: None)
    with pytest.raises(Killed):
        save(dead, "dead")
    later.take_number(["t"], lambda: None)
    save(later, "later")
    with pytest.raises(Superseded):
        dying.arrive()
    assert "later" in repr(load(later))


def test_what_a_check_that_died_when_it_went_on_saves_late_forgets_no_difference(
    tmp_path: Path,
) -> None:
    checks = Checks(quick_store(tmp_path))
    first = checks.save("t", checks.begin("t", TableCheck("id", "basis", 1.0)), b"1", ["a"])
    dying = Dying(tmp_path, 0)
    with pytest.raises(Killed):
        Checks(dying, run=1).begin("t", first)
    checks.run = 2
    second = checks.save("t", checks.begin("t", first), b"2", ["b"])
    third = checks.save("t", second, b"3", ["c"])
    with contextlib.suppress(Superseded):
        dying.arrive()
    assert checks.load_progress("t") == third
    assert checks.load_findings("t", third) == ["a", "b", "c"]


def test_what_a_check_sent_anew_and_lands_late_forgets_no_difference(tmp_path: Path) -> None:
    """A driver's timeout ends the try of a write. The next try and later saves come before it."""
    held: list[tuple[str, Sequence[Document]]] = []

    class Recording(FileStore):
        """Notes what it writes."""

        def write(self, collection: str, documents: Sequence[Document]) -> None:
            held.append((collection, documents))
            super().write(collection, documents)

    checks = Checks(Recording(tmp_path, "c", sync=lambda handle: None))
    last = checks.begin("t", TableCheck("id", "basis", 1.0))
    for text in "abc":
        last = checks.save("t", last, text.encode(), [text])
    assert held
    for write in held[:-1]:
        with contextlib.suppress(Superseded):
            checks._store.write(*write)
    assert checks.load_progress("t") == last
    assert checks.load_state("t", last) == b"c"
    assert checks.load_findings("t", last) == ["a", "b", "c"]
    over = replace(last, over=True, chunks=0)
    checks.complete("t", over, replace(over, slot=0, finished=2.0, verdict="different"))
    for write in held[:-1]:
        with contextlib.suppress(Superseded):
            checks._store.write(*write)
    assert checks.load_progress("t") == over


def test_a_state_that_another_check_saved_late_is_not_taken(saved: Callable[..., Checks]) -> None:
    """Its number can be as high, where a user has removed what was saved between them."""
    checks = saved()
    mine = checks.save("t", TableCheck("mine", "basis", 1.0), b"mine", ["m"])
    saved().save("t", TableCheck("dead", "basis", 1.0), b"dead", ["d"])
    assert checks.load_findings("t", mine) == ["m"]
    with pytest.raises(RefusedError, match="lacks the document state-1-000: begin the check again"):
        checks.load_state("t", mine)


def test_a_completed_check_stays_until_the_next_is_completed(saved: Callable[..., Checks]) -> None:
    checks = saved()
    first = checks.save("t", TableCheck("a", "basis", 1.0, "arn", ("{}",)), b"state", ["x"])
    done = replace(first, slot=0, chunks=0, finished=2.0, verdict="different")
    checks.complete("t", replace(first, over=True, chunks=0), done)
    begun = checks.begin("t", TableCheck("b", "basis", 3.0))
    assert checks.load_completed("t") == done
    assert checks.load_findings("t", done) == ["x"]
    second = checks.save("t", begun, b"state", ["y"])
    then = replace(done, check="b", findings=second.findings)
    checks.complete("t", replace(second, over=True, chunks=0), then)
    assert checks.load_findings("t", then) == ["y"]


def test_what_a_check_of_what_has_changed_saves_late_replaces_no_later_result(
    tmp_path: Path,
) -> None:
    checks = Checks(quick_store(tmp_path))
    first = checks.begin("t", TableCheck("a", "basis", 1.0))
    last = replace(first, finished=2.0, verdict="equal")
    checks.complete("t", first, last)
    since = replace(last, check="since")
    dying = Dying(tmp_path, 0)
    with pytest.raises(Killed):
        Checks(dying, run=1).complete_since("t", last, since, [])
    checks.run = 2
    full = checks.save("t", checks.begin("t", TableCheck("b", "basis", 3.0)), b"state", ["x"])
    then = replace(full, slot=0, chunks=0, finished=4.0, verdict="different")
    checks.complete("t", full, then)
    dying.arrive()
    with pytest.raises(Superseded):
        checks.complete_since("t", last, since, [])
    assert checks.load_completed("t") == then
    assert checks.load_findings("t", then) == ["x"]
    checks.run = 3
    checks.complete_since("t", then, since, ["y"])
    found = checks.load_completed("t")
    assert found is not None
    assert checks.load_findings("t", found) == ["y"]


def test_a_difference_survives_as_json() -> None:
    one = Difference(
        "t",
        "d.t",
        "different",
        {"pk": {"S": "é"}},
        ("n",),
        note="note",
        source='{"pk": {"S": "a"}}',
        target=('{"n": 1}', '{"n": 2}'),
    )
    assert Difference.of_json(one.as_json()) == one
    assert json.loads(one.as_json())["source"] == {"pk": {"S": "a"}}


@pytest.mark.parametrize("extra", [[], [("c",)]])
def test_a_saved_state_still_tells_which_keys_differ(extra: list[tuple[str]]) -> None:
    ours, theirs = Fingerprint(b"s" * 16), Fingerprint(b"s" * 16)
    ours.add([("a",), ("b",)])
    theirs.add([("a",), ("b",), *extra])
    state = STATE._replace(found=ours.sums(), theirs=theirs.sums())
    again = CheckState.of(state.packed())
    unequal = again.found.unequal(again.theirs)
    assert unequal == state.found.unequal(state.theirs)
    assert len(unequal) == len(extra)
    assert (again.found.keys, again.theirs.keys) == (2, 2 + len(extra))
