"""The command at the terminal: what it says, what it leaves, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shake.demo.mongo import mongo_server
from shake.demo.servers import free_port
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.migration import ROOT, Migration, compare, filled
from tests.support.tables import create_table, put_items
from tests.support.wait import until

pytestmark = pytest.mark.slow

Make = Callable[..., Migration]


@pytest.fixture
def make(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[Make]:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(200)))
    made: list[Migration] = []

    def make_one(
        source: str = dynamodb.url, target: str = mongo.uri, **settings: object
    ) -> Migration:
        settings = {"full__read__concurrency": 4, "qps__full__batch_num": 10, **settings}
        made.append(Migration(source, target, name, tmp_path, **settings))
        return made[-1]

    yield make_one
    for migration in made:
        migration.close()


def one_line(text: str) -> str:
    [line] = text.splitlines()
    return line


def slowly(url: str, seconds: float) -> Callable[[Request], Reply]:
    """Answers scans of segments late."""

    def answer(request: Request) -> Reply:
        if b'"Segment"' in request.body:
            time.sleep(seconds)
        return forward(url)(request)

    return answer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "full.reed.concurrency=3"], ["full.reed.concurrency", "full.read.concurrency"]),
        (["--set", "qps.full=many"], ["qps.full", "many", "--set"]),
        (["--set", "http.bind=0.0.0.0"], ["http.bind", "http.token"]),
        (["--conf", "no/such.conf"], ["no/such.conf"]),
        (["--set", "convert._id=a."], ["convert._id", "a."]),
        (["--set", "id=A", "--set", "checkpoint.db=a"], ["checkpoint.db", "another database"]),
    ],
)
def test_a_bad_configuration_is_one_line_and_status_2(
    make: Make, arguments: list[str], words: list[str]
) -> None:
    result = make().run(*arguments)
    assert result.status == 2
    line = one_line(result.stderr)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("command", ["shake-supervisor", "shake-check"])
def test_an_argument_that_is_out_of_place_is_not_shown(command: str) -> None:
    arguments = ["--set", "target.address", "=", "mongodb://user:topsecret@h"]
    result = subprocess.run(
        [sys.executable, f"bin/{command}", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "write --set KEY=VALUE as one word" in result.stderr
    assert "topsecret" not in result.stderr


def test_a_secret_of_the_command_line_is_in_no_list_of_processes(make: Make) -> None:
    os.mkfifo(fifo := make().folder / "fifo")  # no reader: the command waits there
    program = [sys.executable, str(ROOT / "bin/shake-supervisor")]
    given = ["--set", "http.token=topsecret", "--conf", str(fifo)]
    with subprocess.Popen([*program, *given], stderr=subprocess.DEVNULL) as process:
        try:
            until(
                lambda: (
                    "shake-supervisor" in (line := title(process.pid)) and "topsecret" not in line
                )
            )
        finally:
            process.kill()


def title(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline())


def test_the_dry_run_shows_plan_and_every_refusal_and_changes_nothing(
    mongo: Any, name: str, tmp_path: Path, make: Make
) -> None:
    migration = make()
    before = sorted(tmp_path.iterdir())
    good = migration.run("--dry-run")
    assert good.status == 0, good
    assert f"table {name} -> {name}.{name}" in good.stdout
    assert "200 items" in good.stdout
    assert "read capacity units" in good.stdout
    assert "unique {pk: 1}" in good.stdout
    assert not [d for d in mongo.client.list_database_names() if d.startswith(name)]
    assert set(tmp_path.iterdir()) - set(before) == {
        *tmp_path.glob("*.out"),
        *tmp_path.glob("*.err"),
    }

    mongo.client[name][name].insert_one({})
    changed = (f"filter.collection.white={name};not-there", "sync_mode=all")
    bad = migration.run("--dry-run", *(f"--set={setting}" for setting in changed))
    assert bad.status == 3
    refusals = [line for line in bad.stdout.splitlines() if line.startswith("REFUSED")]
    assert len(refusals) == 2, refusals
    real = migration.run("--set", f"filter.collection.white={name};not-there")
    assert real.status == 3
    assert "1 more" in one_line(real.stderr)


def test_the_effective_configuration_is_printed_without_secrets(make: Make) -> None:
    migration = make(target="mongodb://me:geheim123@127.0.0.1:1/", http__token="geheim456")
    result = migration.run("--print-config", "--set", "qps.full=7")
    assert result.status == 0
    assert "qps.full = 7" in result.stdout.splitlines()
    assert "full.document.write.batch = 1024" in result.stdout.splitlines()
    assert "geheim" not in result.stdout + result.stderr


def test_each_printed_value_has_its_origin(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"incr_sync.http_port": 9341, "full_sync.http_port": 9342, "qps.incr": ""}
    migration = make(http_profile="", **settings)
    conf = migration.conf
    monkeypatch.setenv("SHAKE_QPS_FULL", "5")
    lines = migration.run("--print-config", "--set", "log.level=warn").stdout.splitlines()
    origins = dict(zip(lines[1::2], lines[::2], strict=True))
    numbers = {line: n for n, line in enumerate(conf.read_text().splitlines(), start=1)}
    first, second = (
        numbers[f"{one}_sync.http_port = {port}"] for one, port in (("incr", 9341), ("full", 9342))
    )
    assert origins["log.level = warn"] == "# --set"
    assert origins["qps.full = 5"] == "# environment variable SHAKE_QPS_FULL"
    assert (
        origins["source.region = us-east-1"] == f"# {conf}:{numbers['source.region = us-east-1']}"
    )
    assert origins["http_profile = 9341;9342"] == f"# {conf}:{first}, {conf}:{second}"
    assert origins["qps.incr = 1000"] == origins["full.concurrency = 4"] == "# default"


@pytest.mark.parametrize("end", ["source", "target"])
def test_an_end_that_is_out_of_reach_is_refused_before_anything_begins(
    make: Make, tmp_path: Path, end: str
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    addresses = {
        "source": {"source": f"http://{nowhere}"},
        "target": {"target": f"mongodb://u:geheim123@{nowhere}/?serverSelectionTimeoutMS=500"},
    }
    file = {"checkpoint__type": "file", "checkpoint__address": tmp_path / "positions"}
    result = make(**addresses[end], **file).run()
    assert result.status == 3, result
    assert f"{end}." in one_line(result.stderr)
    assert "geheim" not in result.stdout + result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_task_well_and_the_next_run_goes_on(
    dynamodb: Any, mongo: Any, name: str, make: Make, number: signal.Signals
) -> None:
    with Faulty(otherwise=slowly(dynamodb.url, 0.1)) as source:
        migration = make(source.url)
        run = migration.start()
        until(lambda: name in mongo.client.list_database_names())
        until(lambda: filled(mongo, name).estimated_document_count() > 0)
        children = migration.children()
        run.send_signal(number)
        began = time.monotonic()
        result = migration.wait(run)
        assert time.monotonic() - began < 10
        assert result.status == 0, result
        assert "full sync done!" not in result.stdout
        assert f"stopped by {number.name}" in result.stdout
        assert not psutil.wait_procs(children, timeout=10)[1]
        stored = filled(mongo, name).estimated_document_count()
        assert 0 < stored < 200
        assert migration.run().status == 0
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    # What was stored before the signal was not read again.
    scans = sum(b'"Segment"' in request.body for request in source.requests)
    assert scans < 2 * 24


def test_a_signal_while_the_target_hangs_ends_within_ten_seconds(
    dynamodb: Any, name: str, make: Make, tmp_path: Path
) -> None:
    with mongo_server(folder=tmp_path / "mongo") as target:
        migration = make(target=target.uri, checkpoint__type="file")
        run = migration.start("--set", f"checkpoint.address={tmp_path / 'positions'}")
        positions = tmp_path / "positions"
        until(lambda: any("segment" in p.read_text() for p in positions.rglob("*.json")))
        target.signal(signal.SIGSTOP)
        try:
            run.send_signal(signal.SIGTERM)
            began = time.monotonic()
            result = migration.wait(run)
            assert time.monotonic() - began < 10
        finally:
            target.signal(signal.SIGCONT)
        assert result.status in (0, 1), result
        assert result.status == 0 or "did not answer" in result.stderr
        assert migration.run("--set", f"checkpoint.address={positions}").status == 0


def test_a_second_supervisor_on_one_id_is_refused_and_names_the_first(
    dynamodb: Any, name: str, make: Make, tmp_path: Path
) -> None:
    over = threading.Event()

    def held(request: Request) -> Reply:
        if b'"Segment"' in request.body:
            over.wait(60)
        return forward(dynamodb.url)(request)

    with Faulty(otherwise=held) as source, contextlib.ExitStack() as finally_:
        finally_.callback(over.set)
        migration = make(source.url)
        first = migration.start()
        pid_file = tmp_path / f"{name}.pid"
        until(lambda: pid_file.exists() and pid_file.read_text().strip())
        until(lambda: migration.children("worker"))
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        second = Migration(source.url, migration.target, name, elsewhere)
        for arguments in ([], ["--set", f"pid_path={tmp_path}"]):
            refused = second.run(*arguments)
            assert refused.status == 3, refused
            assert str(first.pid) in one_line(refused.stderr)
        planned = migration.run("--dry-run", "--set", "pid_path=/no/such/folder")
        assert planned.status == 3
        assert f"REFUSED: this task is already run by process {first.pid}" in planned.stdout
        assert "REFUSED: pid_path /no/such/folder" in planned.stdout
        assert first.poll() is None


def test_the_pages_show_the_run_to_those_who_may_see_it(
    dynamodb: Any, name: str, make: Make
) -> None:
    port, profile = free_port(), free_port()
    with Faulty(otherwise=slowly(dynamodb.url, 0.2)) as source:
        migration = make(
            source.url, http_profile=port, system_profile=profile, http__token="geheim123"
        )
        run = migration.start()
        roles = ("worker 0", "worker 1", f"writer {name}.{name}")
        until(lambda: all(migration.children(role) for role in roles))
        titles = {" ".join(child.cmdline()).strip() for child in migration.children()}
        assert titles == {f"shake: {role}" for role in roles}

        status = json.loads(until(lambda: _get(port, "/status")))
        assert status["tables"][0]["name"] == name
        assert status["tables"][0]["segments"] == 4
        assert b"shake_" in (_get(port, "/metrics") or b"")
        assert _get(port, "/healthz", token="") is not None
        assert _get(port, "/status", token="wrong") is None
        stacks = (_get(profile, "/") or b"").decode()
        for role in ("supervisor", "worker 0", "worker 1", "writer"):
            assert role in stacks
        assert "geheim" not in json.dumps(status) + stacks
        run.send_signal(signal.SIGTERM)
        migration.wait(run)


def test_the_pages_answer_while_streams_are_still_being_enabled(
    dynamodb: Any, name: str, make: Make
) -> None:
    over, port, profile = threading.Event(), free_port(), free_port()

    def held(request: Request) -> Reply:
        if b'"StreamSpecification"' in request.body:
            over.wait(60)
        return forward(dynamodb.url)(request)

    with Faulty(otherwise=held) as source, contextlib.ExitStack() as finally_:
        finally_.callback(over.set)
        migration = make(
            source.url,
            sync_mode="all",
            http_profile=port,
            system_profile=profile,
            http__token="geheim123",
        )
        run = migration.start()
        [table] = json.loads(until(lambda: _get(port, "/status")))["tables"]
        assert (table["name"], table["state"], table["expected_items"]) == (name, "waiting", 200)
        assert b"=== supervisor, pid" in until(lambda: _get(profile, "/"))
        run.send_signal(signal.SIGTERM)
        over.set()
        assert migration.wait(run).status == 0


def _get(port: int, path: str, token: str = "geheim123") -> bytes | None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError):
        return None


def test_the_log_goes_where_it_is_sent_and_the_last_line_comes_whatever_its_level(
    make: Make, tmp_path: Path
) -> None:
    log = tmp_path / "shake.log"
    result = make(log__file=log, log__level="debug").run()
    assert result.status == 0, result
    assert "copying" in log.read_text()
    assert "shake.farm" not in result.stdout
    assert result.stdout.splitlines()[-1] == "full sync done!"

    quiet = make(id=f"{log.stem}-2", log__level="none", target__db__exist="drop").run()
    assert quiet.status == 0, quiet
    assert not re.search(r"INFO|WARN", quiet.stdout)
    assert quiet.stdout.splitlines()[-1] == "full sync done!"


def test_nimoshakes_way_to_name_the_file_and_the_environment_work(
    dynamodb: Any, mongo: Any, name: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = make()
    monkeypatch.setenv("SHAKE_NAMESPACE_MAP", f"{name}:{name}.from_environment")
    assert migration.run(f"-conf={migration.conf}").status == 0
    compare(dynamodb.client, mongo.client, name, f"{name}.from_environment")
    assert os.environ["SHAKE_NAMESPACE_MAP"]


@pytest.mark.parametrize("arguments", [["--print-config"], ["--dry-run"], []])
def test_an_output_that_nobody_reads_any_more_is_no_failure(
    dynamodb: Any, mongo: Any, name: str, make: Make, arguments: list[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "bin/shake-supervisor"), "--conf", str(make().conf)]
    # Buffered, as Python is by default: then the interpreter itself finds the pipe broken.
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    run = subprocess.run(
        [*command, *arguments], stdout=writing, stderr=subprocess.PIPE, env=buffered, timeout=60
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, b"")
    if not arguments:
        compare(dynamodb.client, mongo.client, name, f"{name}.{name}")


def without(streams: str, command: list[str]) -> subprocess.Popen[bytes]:
    """A command that is started so by a shell, as with ``>&- 2>&-``."""
    return subprocess.Popen(["sh", "-c", f'exec "$@" {streams}', "sh", *command])


@pytest.mark.parametrize("command", ["shake-supervisor", "shake-check"])
def test_a_command_does_its_work_where_its_streams_are_closed_and_nothing_else_takes_their_place(
    dynamodb: Any, mongo: Any, name: str, make: Make, command: str
) -> None:
    begun, over = threading.Event(), threading.Event()

    def held(request: Request) -> Reply:
        if b'"Segment"' in request.body:
            begun.set()
            over.wait(60)
        return forward(dynamodb.url)(request)

    if command == "shake-check":
        assert make().run().status == 0
    with Faulty(otherwise=held) as source, contextlib.ExitStack() as finally_:
        finally_.callback(over.set)
        program = [
            sys.executable,
            str(ROOT / "bin" / command),
            "--conf",
            str(make(source.url).conf),
        ]
        process = without("<&- >&- 2>&-", program)
        finally_.callback(process.kill)
        assert begun.wait(30)
        family = [process.pid, *(one.pid for one in psutil.Process(process.pid).children())]
        for pid in family:
            streams = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}
            assert streams == {os.devnull}
        over.set()
        assert process.wait(60) == 0
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "lost"])
@pytest.mark.parametrize(
    ("command", "arguments", "status"),
    [
        ("shake-supervisor", ["--unknown"], 2),
        ("shake-supervisor", ["--set", "unknown=1"], 2),
        ("shake-supervisor", ["--set", "filter.collection.white=none"], 3),
        ("shake-check", ["--set", "unknown=1"], 2),
    ],
)
def test_an_error_keeps_its_status_where_nobody_hears_of_it(
    make: Make, streams: str, command: str, arguments: list[str], status: int
) -> None:
    conf = ["--conf", str(make().conf)]
    program = [sys.executable, str(ROOT / "bin" / command), *conf, *arguments]
    if streams != "lost":
        assert without(streams, program).wait(60) == status
        return
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as lost:
        assert subprocess.run(program, stdout=lost, stderr=lost, timeout=60).returncode == status


def test_a_log_that_cannot_be_written_while_nobody_reads_the_errors_stops_nothing(
    dynamodb: Any, mongo: Any, name: str, make: Make
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    conf = make(log__file="/dev/full", log__buffer="false").conf
    with open(writing, "wb") as lost:
        program = [sys.executable, str(ROOT / "bin/shake-supervisor"), "--conf", str(conf)]
        run = subprocess.run(program, stdout=subprocess.PIPE, stderr=lost, timeout=60)
    assert run.returncode == 0, run
    assert run.stdout.splitlines()[-1] == b"full sync done!"
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
