"""What a container or a service manager gives a process, or keeps from it, ends no run."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shake.demo.servers import free_port
from shake.process.cpus import usable_cpus
from shake.process.ulimits import shortage
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.status import status
from tests.support.streams_faults import calling
from tests.support.wait import until

pytestmark = pytest.mark.slow

CPUS = len(os.sched_getaffinity(0))
#: Lines of mountinfo, for the folder of a mount and the root that it shows.
V2 = "30 24 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} {point} rw,relatime - cgroup cgroup rw,cpu,cpuacct"
OTHERS = "43 42 254:0 / / rw - ext4 /dev/vda rw\n35 31 0:32 / /x rw - cgroup cgroup rw,memory\n"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("group", "root", "quotas", "cpus"),
    [
        ("/", "/", {}, CPUS),
        ("/", "/", {".": "max"}, CPUS),
        ("/", "/", {".": "50000"}, 1),
        ("/", "/", {".": "100000"}, 1),
        ("/", "/", {".": "900000000"}, CPUS),
        ("/user.slice/me", "/", {"user.slice/me": "max", "user.slice": "50000"}, 1),
        ("/user.slice/me", "/", {"user.slice/me": "50000", "user.slice": "900000000"}, 1),
        ("/docker/1f", "/docker/1f", {".": "50000"}, 1),  # a container that shows its own group
        ("/../other", "/", {".": "50000"}, 1),
    ],
)
def test_the_default_of_workers_respects_the_quota_of_every_control_group(
    tmp_path: Path, version: int, group: str, root: str, quotas: dict[str, str], cpus: int
) -> None:
    proc, point = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    line = (V1, V2)[version - 1].format(root=root, point=point)
    (proc / "mountinfo").write_text(f"{OTHERS}{line}\n")
    named = f"0::{group}" if version == 2 else f"4:memory:/m\n3:cpu,cpuacct:{group}"
    (proc / "cgroup").write_text(f"{named}\n")
    for folder, quota in quotas.items():
        (point / folder).mkdir(parents=True, exist_ok=True)
        if version == 2:
            (point / folder / "cpu.max").write_text(f"{quota} 100000\n")
        else:
            (point / folder / "cpu.cfs_quota_us").write_text(quota.replace("max", "-1") + "\n")
            (point / folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(proc) == cpus


@pytest.mark.parametrize("content", [None, "", "what is this", "0::/\x00"])
def test_a_system_that_shows_no_control_groups_counts_its_cpus(
    tmp_path: Path, content: str | None
) -> None:
    for name in ("cgroup", "mountinfo"):
        if content is not None:
            (tmp_path / name).write_text(content)
    assert usable_cpus(tmp_path) == CPUS


@pytest.mark.parametrize("most", [1, 2, 3, 5, 12, 20])
def test_a_limit_of_processes_is_one_line_that_says_what_to_raise(
    table: str, migrate: Callable[..., Migration], mongo: Any, most: int
) -> None:
    migration = migrate()
    migration.first = f"from tests.support.limits import limit_processes as l; l({most})"
    result = migration.run()
    changed = f"{table}-checkpoint" in mongo.client.list_database_names()
    assert result.status == (1 if changed else 3)
    assert not changed or most == 20
    assert "pids.max" in result.line
    assert "Traceback" not in result.stdout


def test_a_stdout_whose_disk_is_full_is_named_once_and_the_run_goes_on(
    table: str, migrate: Callable[..., Migration]
) -> None:
    migration = migrate()
    migration.first = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    result = migration.run()
    assert (result.status, result.stdout) == (0, "")
    assert "stdout cannot be written to: No space left on device" in result.line


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EFBIG, "raise ulimit -f"),
        (errno.ENOSPC, "/dev/shm"),
        (errno.EMFILE, "raise ulimit -n"),
        (errno.ENOMEM, "lower --workers"),
    ],
)
def test_what_the_system_does_not_give_is_a_line_that_says_what_to_raise(
    code: int, words: str
) -> None:
    assert words in shortage(OSError(code, "no"))


def test_too_few_open_files_are_refused_before_the_start(
    table: str, migrate: Callable[..., Migration]
) -> None:
    migration = migrate()
    migration.first = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    assert migration.run("--dry-run", workers=2).status == 0
    for arguments in ([], ["--dry-run"]):
        result = migration.run(*arguments, workers=30)
        assert result.status == 3
        assert "may open 64 files, and needs 96 with 30 workers" in result.stdout + result.stderr


def mounted(kind: str, place: str, options: str) -> str:
    """Python that mounts a file system for its process alone, and for its children.

    Source: unshare(2), CLONE_NEWNS; mount(2), MS_REC and MS_PRIVATE
    """
    return (
        "import ctypes, os;"
        "libc = ctypes.CDLL(None, use_errno=True);"
        "done = libc.unshare(0x00020000) or libc.mount(None, b'/', None, 0x4000 | 0x40000, None)"
        f" or libc.mount(b'{kind}', {place.encode()!r}, b'{kind}', 0, {options.encode()!r});"
        "assert not done, os.strerror(ctypes.get_errno())"
    )


def run_first(migration: Migration, code: str) -> None:
    """Have the supervisor run it first, where this system lets it."""
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this needs root: {tried.stderr.strip()[-80:]}")
    migration.first = code


def test_a_run_works_where_proc_shows_processes_only(
    table: str, migrate: Callable[..., Migration]
) -> None:
    migration = migrate()
    run_first(migration, mounted("proc", "/proc", "subset=pid"))
    result = migration.run()
    assert (result.status, result.stderr) == (0, "")
    assert "full sync done!" in result.stdout
    assert migration.run("--dry-run").status == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pid_path": "{}"}, "pid_path"),
        (
            {"checkpoint__type": "file", "checkpoint__address": "{}"},
            "free some, or change checkpoint.address",
        ),
    ],
)
def test_a_full_disk_is_named_before_anything_is_written(
    table: str, migrate: Callable[..., Migration], tmp_path: Path, settings: Any, words: str
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    migration = migrate(**{key: value.format(full) for key, value in settings.items()})
    run_first(migration, mounted("tmpfs", os.fspath(full), "size=4k"))
    migration.first += f"; open({os.fspath(full / 'all')!r}, 'wb').write(bytes(4096))"
    for arguments, ended in ((["--dry-run"], 3), ([], 3 if words != "pid_path" else 2)):
        result = migration.run(*arguments)
        assert result.status == ended, result
        assert words in result.line
        assert "no space" in result.line.lower()


def test_both_ports_of_nimoshake_serve_its_pages(followed: Followed) -> None:
    table = followed.simulator.table(followed.name)
    followed.put("a")
    ports = free_port(), free_port()
    migration = followed.task(
        http_profile="", incr_sync__http_port=ports[0], full_sync__http_port=ports[1]
    )
    process = migration.start()
    followed.arrived("a")
    sequence = str(table.stream.shards[0].last)

    def shard() -> dict[str, str]:
        metric = page(ports[0], "/metric")
        shards: dict[str, dict[str, str]] = metric["checkpoint_update_times"][followed.name]
        return shards.get(table.stream.shards[0].id, {})

    until(lambda: shard().get("SequenceNumber") == sequence)
    assert page(ports[0], "/metric")["checkpoint_times"] > 0
    assert page(ports[1], "/progress")["finished_collection_number"] == 1
    stopped(migration, process)
    dry = migration.run("--set", f"system_profile={ports[1]}")
    assert (dry.status, dry.line) == (
        2,
        f"system_profile and http_profile are both {ports[1]}: choose two ports",
    )


def page(port: int, path: str) -> Any:
    return json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read())


def test_checkpoints_of_nimoshake_are_warned_of_and_stay_as_they_are(
    mongo: Any, table: str, migrate: Callable[..., Migration]
) -> None:
    database = mongo.client[f"{table}-checkpoint"]
    shard = {
        "ShardId": "shardId-1",
        "FatherId": "",
        "SequenceNumber": "300",
        "WorkerId": "",
        "Status": "in processing",
        "IteratorType": "AT_SEQUENCE_NUMBER",
        "UpdateDate": "",
    }
    theirs = {
        "status_table": {"Key": "status_key", "StatusValue": "incr_sync"},
        table: shard,
    }
    for name, document in theirs.items():
        database[name].insert_one(document)
    migration = migrate(log__level="warn")
    for arguments in (["--dry-run"], []):
        result = migration.run(*arguments)
        assert result.status == 0, result
        assert f"{table}-checkpoint holds checkpoints of NimoShake" in result.stdout
    for name, document in theirs.items():
        assert database[name].find_one({"_id": document["_id"]}) == document
    mongo.client.drop_database(database.name)
    assert "NimoShake" not in migration.run("--dry-run").stdout


def test_a_journal_leaves_room_for_the_checkpoints_on_its_disk(
    followed: Followed, tmp_path: Path
) -> None:
    followed.simulator.table(followed.name)
    rng = random.Random(5)
    held = threading.Event()
    followed.simulator.faults.rule(1.0, calling(lambda: held.wait(300)), where=copies)
    (disk := tmp_path / "disk").mkdir()
    migration = followed.task(
        incr_sync_parallel="true",
        journal__path=disk,
        checkpoint__type="file",
        checkpoint__address=disk / "checkpoint",
        http_profile=(port := free_port()),
    )
    run_first(migration, mounted("tmpfs", str(disk), "size=8m"))
    process = migration.start()
    until(lambda: any(map(copies, list(followed.simulator.journal))), 60)
    for number in range(200):  # some 10 MB, as they are stored
        followed.put(f"k{number}", data={"S": f"{rng.getrandbits(400_000):x}"})
    until(lambda: "MB are left to checkpoints and logs" in status(port)["reason"], 90)
    free = os.statvfs(f"/proc/{process.pid}/root{disk}")
    assert free.f_bavail * free.f_frsize > 100_000
    held.set()
    followed.equal(120)
    stopped(migration, process)
