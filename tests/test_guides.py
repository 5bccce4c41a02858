"""The README and the guides tell the truth: what they show works, and is as they say.

All ``sh`` blocks of a page are run in one bash, in order, between real servers. A command that is
not run stands in a ``console`` block, or in the text: it is parsed here, or another test checks it.
"""

from __future__ import annotations

import contextlib
import doctest
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import botocore.session
import orjson
import pytest
from pymongo.errors import OperationFailure

from benchmarks.__main__ import BENCHMARKS
from benchmarks.__main__ import _parser as benchmark_parser
from benchmarks.pages import pages
from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.cli.definition import root_parser
from shake.cli.main import COMMANDS
from shake.codec.contract import Options
from shake.config import Config, load
from shake.config.declared_keys import KEYS
from shake.config.load import _IGNORED
from shake.demo.servers import free_port
from shake.plan import machine
from shake.plan.plan import Action, Plan, StreamPlan, TablePlan
from shake.plan.policy import iam_policy, mongodb_roles
from shake.process.arena import SLOTS_PER_READER, SLOTS_PER_SCANNER
from shake.schema import Attribute, Keys, Origin, Table
from shake.source.contract import Stream
from shake.source.item_size import item_bytes
from shake.status.metrics import _STATES
from tests.support import mongosh
from tests.support.expected import expected
from tests.support.guides import PAGES, README, Walk, blocks, commands, inline, texts
from tests.support.migration import ROOT, compare
from tests.support.tables import create_table, put_items
from tests.test_config import NIMOSHAKE
from tests.test_troubleshooting import QUOTES

pytestmark = pytest.mark.timeout(240)

DOCS = ROOT / "docs"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

#: What is done with a block, by its language.
LANGUAGES = {
    "sh": "run by test_the_commands_of_a_page_work, docs/install.md by tests/test_wheel.py",
    "console": "each command is parsed by test_a_command_that_is_not_run_is_a_right_one",
    "ini": "loaded, as the files of the commands",
    "js": "run by test_what_the_page_of_types_says_of_mongosh",
    "pycon": "run by test_what_the_page_of_types_says_of_python",
    "json": "compared by the tests of permissions, types and the cutover",
    "text": "shown output, or a drawing",
    "": "shown output, or a drawing",
}
#: Pages whose ``sh`` blocks are run by a test of their own, or with those of READERS_CONF.
OWN = ("README", "cutover", "metrics", "nimoshake", "nodes", "rehearsal", "rollback")
#: Pages that take the configuration of the README as it is.
READERS_CONF = ("permissions", "sizing", "troubleshooting")
ELSEWHERE = {
    "steering": "run by tests/test_steering_guide.py",
    "install": "run by tests/test_wheel.py",
    "CONTRIBUTING": "targets of make, checked here, and the embedded servers",
}


# -- commands that are run -----------------------------------------------------------------------


@pytest.fixture
def words(name: str) -> dict[str, str]:
    """Names on the pages, and those of the test."""
    return {"shop": name, "orders": f"{name}orders"}


@pytest.fixture
def orders(dynamodb: Any, mongo: Any, words: Mapping[str, str]) -> Iterator[str]:
    """A table of 100 items."""
    table = words["orders"]
    create_table(dynamodb.client, table)
    put_items(dynamodb.client, table, ({"pk": {"S": str(item)}} for item in range(100)))
    yield table
    for database in mongo.client.list_database_names():
        if words["shop"] in database:
            mongo.client.drop_database(database)
    with contextlib.suppress(OperationFailure):
        mongo.client.admin.command("dropUser", "shake")  # of the page of permissions


@pytest.fixture
def walk(
    dynamodb: Any, mongo: Any, words: Mapping[str, str], orders: str, tmp_path: Path
) -> Callable[[Path], Walk]:
    def make(page: Path) -> Walk:
        made = Walk(page, dynamodb, mongo, tmp_path, words)
        if not any("filter.collection.white" in text for text in texts(page, "ini")):
            made.environment["SHAKE_FILTER_COLLECTION_WHITE"] = orders
        return made

    return make


def with_configuration(walk: Walk) -> Walk:
    """For a page that takes my.conf of the README, or NimoShake's file, as given."""
    conf = walk.here("".join(texts(README, "ini")))
    (walk.folder / "my.conf").write_text(conf, encoding="utf-8")
    theirs = re.sub(r"(?m)^(id|source|target|full.read.filter|\w+.http_port).*\n", "", NIMOSHAKE)
    theirs += walk.here("id = shop\ntarget.address = mongodb://m/\n")
    (walk.folder / "nimo-shake.conf").write_text(theirs, encoding="utf-8")
    return walk


@pytest.mark.slow
@pytest.mark.parametrize("page", READERS_CONF)
def test_the_commands_of_a_page_work(page: str, walk: Callable[[Path], Walk]) -> None:
    with_configuration(walk(DOCS / f"{page}.md")).run()


@pytest.mark.slow
def test_the_readme_does_the_main_job(
    walk: Callable[[Path], Walk], dynamodb: Any, mongo: Any, orders: str, words: Mapping[str, str]
) -> None:
    page = walk(README)
    said = page.run()
    assert "full sync done!" in said
    assert "EQUAL" in said
    compare(dynamodb.client, mongo.client, orders, f"{words['shop']}.{orders}")


@pytest.mark.slow
def test_a_rehearsal_copies_continues_and_leaves_nothing(
    walk: Callable[[Path], Walk], mongo: Any, words: Mapping[str, str]
) -> None:
    page = walk(DOCS / "rehearsal.md")
    said = page.run()
    assert "streams ENABLED on 1 table" in said
    assert "EQUAL" in said
    assert "no difference in what was compared" in said
    assert not any(words["shop"] in name for name in mongo.client.list_database_names())
    assert {path.name for path in page.folder.iterdir()} == {
        "rehearsal.conf", "page.sh", "page.log", "programs",
    }  # fmt: skip


@pytest.mark.slow
def test_the_day_of_the_cutover_ends_with_equal_sides(
    walk: Callable[[Path], Walk], dynamodb: Any, mongo: Any, orders: str, words: Mapping[str, str]
) -> None:
    page = walk(DOCS / "cutover.md")
    with writing(dynamodb.client, orders, page.folder, ("copied", "noted")) as ask_for:
        said = page.run(
            before=[("all_consistent=", ask_for("copied")), ("NOTED=", ask_for("noted"))]
        )
    assert "EQUAL" in said
    assert said.count("\nno difference in what was compared") == 2
    compare(dynamodb.client, mongo.client, orders, f"{words['shop']}.{orders}")


@contextlib.contextmanager
def writing(
    client: Any, table: str, folder: Path, moments: Sequence[str]
) -> Iterator[Callable[[str], str]]:
    """Give a command that has 50 items changed at a moment, and waits for that."""
    over = threading.Event()

    def write() -> None:
        for number, moment in enumerate(moments):
            while not (folder / f"wanted-{moment}").exists():
                if over.wait(0.05):
                    return
            items = ({"pk": {"S": f"{75 + i}"}, "n": {"N": f"{number}"}} for i in range(50))
            put_items(client, table, items)
            (folder / f"written-{moment}").touch()

    def command(moment: str) -> str:
        wait = f"until [ -e {folder}/written-{moment} ]; do sleep 1; done"
        return f"touch {folder}/wanted-{moment}; {wait}"

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield command
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_the_way_back_before_the_first_write_goes_on(walk: Callable[[Path], Walk]) -> None:
    page = with_configuration(walk(DOCS / "rollback.md"))
    start = "nohup shake run --conf my.conf --workers 2 > first.log 2>&1 &\n"
    started = "until [ -s shop.pid ]; do sleep 1; done"
    page.run(before=[('kill "$(cat', page.here(start + started))])


@pytest.mark.slow
def test_the_metrics_are_served(walk: Callable[[Path], Walk]) -> None:
    page = with_configuration(walk(DOCS / "metrics.md"))
    said = page.run()
    assert 'shake_state{state="running"} 1.0' in said


@pytest.mark.slow
def test_a_file_of_nimoshake_is_planned(walk: Callable[[Path], Walk]) -> None:
    page = with_configuration(walk(DOCS / "nimoshake.md"))
    said = page.run()
    assert "conf.version has no meaning here and is ignored" in said


@pytest.mark.slow
def test_nodes_copy_and_follow_a_table(
    walk: Callable[[Path], Walk], dynamodb: Any, mongo: Any, orders: str, words: dict[str, str]
) -> None:
    words |= {"7070": str(free_port()), "10.0.0.5": "127.0.0.1"}
    said = with_configuration(walk(DOCS / "nodes.md")).run()
    assert said.count(" joined from 127.0.0.1") == 3
    compare(dynamodb.client, mongo.client, orders, f"{words['shop']}.{orders}")


@each_page
def test_no_block_goes_unchecked(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= set(LANGUAGES)
    if texts(page, "sh"):
        assert page.stem in (*OWN, *READERS_CONF, *ELSEWHERE)


# -- commands that are not run -------------------------------------------------------------------


def parsed(words: list[str]) -> None:
    """Parse a command of shake as it does itself, and load what it sets."""
    with pytest.raises(SystemExit) if "--help" in words else contextlib.nullcontext():
        options = root_parser(COMMANDS).parse_args(words)
        load(None, {}, ["id=shop", "target.address=mongodb://h/", *getattr(options, "set", [])])


def of_aws(words: list[str]) -> None:
    """The service has the operation, and the operation these parameters."""
    service, operation, *rest = words
    model = botocore.session.get_session().get_service_model(service)
    name = operation.title().replace("-", "")
    known = set(model.operation_model(name).input_shape.members)
    given = {one[2:].title().replace("-", "") for one in rest if one.startswith("--")}
    assert given <= known, (name, given - known)


def of_make(words: list[str]) -> None:
    """The target exists, and ARGS fit the benchmarks."""
    words = words[: words.index("|")] if "|" in words else words
    answer = subprocess.run(
        ["make", *words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    if words[0] == "bench" and words[1:]:
        of_benchmarks(shlex.split(words[1].removeprefix("ARGS=")))


def of_benchmarks(words: list[str]) -> None:
    assert set(benchmark_parser().parse_args(words).benchmarks) <= set(BENCHMARKS)


def by_hand(_: list[str]) -> None:
    """A program that is not at hand here."""


def of_ray(words: list[str]) -> None:
    """What a job runs is a command of shake; the rest is tested by tests/test_nodes_ray.py."""
    assert words[:2] == ["job", "submit"]
    parsed(words[words.index("--") + 2 :])


#: How a command is checked that is not run, by its program.
CHECKS: Mapping[str, Callable[[list[str]], None]] = {
    "shake": parsed,
    "bin/shake": parsed,
    "aws": of_aws,
    "make": of_make,
    "ray": of_ray,
    "docker": by_hand,  # by tests/test_deploy.py, as far as it can be
    "systemctl": by_hand,  # the unit, by tests/test_deploy.py
    "journalctl": by_hand,
    "shake-task": lambda words: parsed(words[1:]),  # the script, by tests/test_deploy.py
    "promtool": by_hand,  # the files, by tests/test_watching.py
    "curl": by_hand,  # of Prometheus
}


@each_page
def test_a_command_that_is_not_run_is_a_right_one(page: Path) -> None:
    lines = commands(page, "console")
    lines += [line for line in commands(page, "sh") if line.startswith("make ")]
    lines += re.findall(r"(?m)^    (make .*)$", page.read_text(encoding="utf-8"))
    for line in lines:
        program, *words = shlex.split(line)
        CHECKS[program](words)


#: What stands for each program in a command line of shake.
NAMES = {"shake": [], **{one.program: [one.name] for one in COMMANDS if one.program}}


def in_the_text(page: Path) -> list[str]:
    """What stands between backticks, and is no message."""
    return [one for one in inline(page) if one not in QUOTES]


@each_page
def test_a_command_in_the_text_is_a_right_one(page: Path) -> None:
    for line in in_the_text(page):
        program, *words = line.split()
        words = ["1" if word == "N" else word for word in words]
        if program in NAMES and words and not {"COMMAND", "…"} & set(words):
            whole = [*NAMES[program], *words]
            if whole[1:] or whole[0] not in {one.name for one in COMMANDS}:  # else its name alone
                parsed(whole)
        if line.startswith("python -m benchmarks "):
            of_benchmarks(words[2:])


@each_page
def test_a_setting_in_the_text_is_one_that_a_file_can_hold(page: Path) -> None:
    known = {name: key for key in KEYS for name in key.names}
    found = [re.fullmatch(r"([a-z][\w.]+) = ([^…<]+)", text) for text in in_the_text(page)]
    for match in filter(None, found):
        if match[1] in known and match[2] != "VALUE":
            known[match[1]].kind.parse(match[2])


# -- what the pages say --------------------------------------------------------------------------


@pytest.fixture
def item(walk: Callable[[Path], Walk], dynamodb: Any, mongo: Any, orders: str, name: str) -> Any:
    """The collection that a copy of the item of the page has filled."""
    [text] = texts(DOCS / "types.md", "json")
    typed = orjson.loads(text)
    typed["photo"] = {"B": b"\xde\xad\xbe\xef"}
    for number in range(100):
        dynamodb.client.delete_item(TableName=orders, Key={"pk": {"S": str(number)}})
    dynamodb.client.put_item(TableName=orders, Item=typed)
    page = with_configuration(walk(README))
    command = [sys.executable, str(ROOT / "bin/shake"), "run", "--conf", "my.conf"]
    environment = page.environment | {"SHAKE_SYNC_MODE": "full"}
    subprocess.run(command, cwd=page.folder, env=environment, check=True, capture_output=True)
    return mongo.client[name][orders]


@pytest.mark.slow
def test_what_the_page_of_types_says_of_mongosh(item: Any, mongo: Any) -> None:
    lines = "".join(texts(DOCS / "types.md", "js")).splitlines()
    assert len(lines) > 15
    for line in lines:
        statement, _, result = line.partition("  // ")
        statement = statement.replace("db.orders", f"db.{item.name}")
        found = mongosh.evaluate(mongo.client, statement, item.database.name)
        assert str(found) == result, line


@pytest.mark.slow
def test_what_the_page_of_types_says_of_python(item: Any) -> None:
    text = "".join(texts(DOCS / "types.md", "pycon"))
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    test = doctest.DocTestParser().get_doctest(text, {"orders": item}, "types.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert result.attempted > 10
    assert not result.failed, "".join(said)


ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/orders"
KEY_ARN = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"


def plan() -> tuple[Config, Plan]:
    """That of the page of permissions."""
    config = load(None, {}, ["id=shop", "target.address=mongodb://h/"]).config
    keys = Keys(Attribute("pk", "S"))
    table = Table("orders", keys, origin=Origin(ARN), key_arn=KEY_ARN)
    record = TableRecord("orders", "shop.orders", 1, 1)
    stream = StreamPlan(Stream())
    planned = TablePlan(table, Action.CREATE, record, (SegmentRecord(0),), stream=stream)
    return config, Plan((planned,))


def test_the_page_of_permissions_shows_what_the_plan_prints() -> None:
    policy, roles = map(orjson.loads, texts(DOCS / "permissions.md", "json"))
    config, planned = plan()
    assert policy == iam_policy(config, planned)
    assert {"target.address": roles} == mongodb_roles(config, planned)
    [command] = [line for line in commands(DOCS / "permissions.md", "sh") if "mongosh" in line]
    given = re.search(r"roles: (\[.*?\])", command)
    assert given
    assert mongosh.arguments(given[1]) == [roles]
    rows = re.findall(r"(?m)^\| `(\w+)` \|", (DOCS / "permissions.md").read_text(encoding="utf-8"))
    assert rows == [one["Sid"] for one in policy["Statement"]]


def test_the_deny_of_the_cutover_denies_nothing_that_shake_needs() -> None:
    [deny] = map(orjson.loads, texts(DOCS / "cutover.md", "json"))
    allowed: Any = iam_policy(*plan())["Statement"]
    needed = {action for statement in allowed for action in statement["Action"]}
    assert not needed & set(deny["Action"])
    assert "dynamodb:BatchGetItem" not in deny["Action"]


def test_the_page_of_sizing_has_the_figures_of_the_plan_and_of_the_shapes() -> None:
    text = (DOCS / "sizing.md").read_text(encoding="utf-8")
    flat = " ".join(text.split())
    megabytes = [
        machine.SUPERVISOR_BYTES,
        machine.WORKER_BYTES,
        machine.WRITER_BYTES,
        machine.SLOT_MEMORY_BYTES,
    ]
    supervisor, worker, writer, slot = (one / 1e6 for one in megabytes)
    assert (
        f"{supervisor:g} MB for the supervisor, {worker:g} MB for each worker, {writer:g} MB for "
        f"each writer, and {slot:g} MB for each slot" in flat
    )
    assert (SLOTS_PER_SCANNER, SLOTS_PER_READER) == (3, 2)
    assert "A segment that is read has three slots, a shard two" in flat
    options = Options(keys=Keys(Attribute("pk", "S"), Attribute("sk", "N")))
    for shape in ("small", "medium", "large"):
        sizes = [0.0, 0.0, 0.0]
        items = [one for page in pages(shape) for one in orjson.loads(b"[" + page.text + b"]")]
        json = sum(len(page.text) for page in pages(shape))
        counted = sum(map(item_bytes, items))
        stored = sum(len(expected(one, options, number)) for number, one in enumerate(items))
        sizes = [round(size / len(items)) for size in (counted, json, stored)]
        row = " | ".join(f"{size:,} B" for size in sizes)
        assert f"| {shape} | {row} |" in text


def test_the_states_of_a_task_are_named() -> None:
    text = " ".join((DOCS / "metrics.md").read_text(encoding="utf-8").split())
    states = ", ".join(f"`{state}`" for state in _STATES)
    assert f"States of a task, in `shake_state`: {states}." in text


def test_each_key_of_nimoshake_is_explained() -> None:
    text = (DOCS / "nimoshake.md").read_text(encoding="utf-8")
    table = text.partition("## Key by key")[2].partition("\n## ")[0]
    named = {
        one for row in table.splitlines() for one in re.findall(r"`([^`]+)`", row.split(" | ")[0])
    }
    theirs = set(re.findall(r"(?m)^([a-z_][\w.]*) =", NIMOSHAKE)) | set(_IGNORED)
    assert theirs <= named
    assert named <= {name for key in KEYS for name in key.names} | set(_IGNORED)


def test_every_page_is_in_the_navigation_and_in_the_index() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert f"- {page.name}\n" in navigation
        assert page.name == "index.md" or f"({page.name})" in index
