"""A task in several nodes is exact, whatever dies, hangs, leaves or joins."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import nodes
from tests.support.bad import KEEP, LONG, kept
from tests.support.crash import ITEMS, Copy, MakeCopy, opened
from tests.support.cutting import Cutting
from tests.support.machine import Frozen
from tests.support.tables import create_table
from tests.support.wait import until
from tests.support.wire import Moment

#: So slowly that a node can be lost, and come back, before the copy is over.
SLOWLY = {"qps__full": 2}


@pytest.fixture
def make_copy(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[MakeCopy]:
    with opened(dynamodb, mongo, name, tmp_path, workers=1) as make:
        yield lambda *args, **settings: nodes.spread(make(*args, **settings))


def lose(copy: Copy, victim: str, moment: Moment = "request", skip: int = 3) -> None:
    """Copy while something is killed; the copy is exact."""
    kill = partial(nodes.kill, copy.migration, victim, skip)
    died = copy.wire.stop_at(moment, "insert", copy.place, kill, skip=skip)
    result = copy.migration.run()
    assert died.is_set()
    assert result.status == 0, result


def test_three_nodes_copy_exactly(make_copy: MakeCopy) -> None:
    copy = make_copy()
    places: list[int] = []
    copy.wire.stop_at(
        *("request", "insert", copy.place),
        lambda: places.append(len(nodes.children(copy.migration, "writer"))),
        skip=12,
    )
    result = copy.migration.run()
    assert result.status == 0, result
    assert places[0] > 1  # writers
    copy.assert_exact()


def test_children_of_nodes_that_die_are_replaced(make_copy: MakeCopy) -> None:
    copy = make_copy()
    kill = partial(nodes.kill, copy.migration, "worker")
    died = copy.wire.stop_at("answer", "insert", copy.place, kill, skip=7)
    lose(copy, "writer")
    assert died.is_set()
    assert copy.migration.printed().count("it is replaced") == 2
    copy.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "id_mode"), [("agent", "objectid"), ("node", "key")])
def test_a_lost_node_costs_only_what_was_not_acknowledged(
    make_copy: MakeCopy, victim: str, id_mode: str
) -> None:
    copy = make_copy(id__mode=id_mode, **SLOWLY)
    lose(copy, victim)
    assert "is lost" in copy.migration.printed()
    copy.assert_exact(id_mode=id_mode)


class Late:
    """A node that is lost when it has sent an insert, which is held until ``release``.

    ``freeze``: it is stopped, and goes on at the release; else it is killed.
    """

    def __init__(self, copy: Copy, *, freeze: bool) -> None:
        self._copy, self._freeze = copy, freeze
        self._frozen: Frozen | None = None
        self._released = threading.Event()
        self.answered = threading.Event()
        self.reached = copy.wire.stop_at(
            *("request", "insert", copy.place, self._hold),
            skip=3,
            late=True,
            answered=self.answered,
        )

    def _hold(self) -> None:
        migration = self._copy.migration
        agent = nodes.node_of(nodes.sender(migration, self._copy.wire.sender))
        if self._freeze:
            self._frozen = Frozen([agent])
            self._frozen.processes += Frozen(nodes.whole(agent)[1:]).processes
        else:
            for one in nodes.whole(agent):
                one.send_signal(signal.SIGKILL)
        self._released.wait(60)

    def release(self) -> None:
        if self._frozen:
            self._frozen.thaw()
        self._released.set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("freeze", "release", "id_mode"),
    [
        (False, "new epoch", "objectid"),
        (True, "new epoch", "key"),
        (True, "published", "objectid"),
        (False, "after the end", "objectid"),
    ],
)
def test_what_a_lost_node_sends_late_changes_nothing(
    make_copy: MakeCopy, freeze: bool, release: str, id_mode: str
) -> None:
    copy = make_copy(id__mode=id_mode, **SLOWLY)
    late = Late(copy, freeze=freeze)
    if release != "after the end":
        skip = int(release == "published")
        rename = "answer", "renameCollection", copy.place, late.release
        copy.wire.stop_at(*rename, skip=skip)  # type: ignore[arg-type]
    result = copy.migration.run()
    assert result.status == 0, result
    assert "is lost" in result.stdout
    late.release()
    until(late.answered.is_set)
    copy.assert_exact(id_mode=id_mode)


@pytest.mark.slow
def test_a_node_that_leaves_gives_its_work_back_within_10_seconds(make_copy: MakeCopy) -> None:
    copy = make_copy(**SLOWLY)
    left: list[float] = []

    def leave() -> None:
        agent = nodes.agents(copy.migration)[0]
        agent.send_signal(signal.SIGTERM)
        left.append(time.monotonic())

    def again() -> None:
        left.append(time.monotonic())

    copy.wire.stop_at("answer", "insert", copy.place, leave, skip=3)
    copy.wire.stop_at("answer", "renameCollection", copy.place, again)
    result = copy.migration.run()
    assert result.status == 0, result
    assert left[1] - left[0] < 10
    assert "is lost" not in result.stdout
    copy.assert_exact()


@pytest.mark.slow
def test_a_stop_names_the_node_whose_writes_are_not_confirmed(make_copy: MakeCopy) -> None:
    copy = make_copy(**SLOWLY)
    copy.migration.first += "; from shake.run import shutdown; shutdown.DRAIN_SECONDS = 1.0"
    ended = threading.Event()

    def stop() -> None:
        copy.migration.running[-1].send_signal(signal.SIGTERM)
        ended.wait(60)

    copy.wire.stop_at("request", "insert", copy.place, stop, skip=3, late=True)
    result = copy.migration.run()
    ended.set()
    assert result.status == 1, result
    assert re.search(r"the target \(asked by node local-\d\) did not answer in time", result.line)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 8])
def test_a_connection_that_is_cut_and_healed_costs_nothing_but_time(
    make_copy: MakeCopy, seconds: int
) -> None:
    copy = make_copy(**SLOWLY)
    with Cutting() as cutting:
        copy.migration.first = f"{nodes.SHORT_GRANT}; {cutting.first}"

        def cut() -> None:
            cutting.cut(1)
            threading.Timer(seconds, cutting.heal).start()

        copy.wire.stop_at("answer", "insert", copy.place, cut, skip=3)
        result = copy.migration.run()
    assert result.status == 0, result
    assert ("is lost" in result.stdout) == (seconds > 5)
    copy.assert_exact()


class Broken:
    """Has Python run something first in the children of some nodes that execute a module."""

    def __init__(self, folder: Path, copy: Copy, node: str, module: str, code: str) -> None:
        path = folder / "sitecustomize.py"
        path.write_text(
            "import os, pathlib, socket, sys, time\n"
            'node = pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_text()\n'
            f"if {module!r} in sys.orig_argv and {node!r} in node: {code}\n"
        )
        copy.migration.first += f"; import os; os.environ['PYTHONPATH'] = {str(folder)!r}"


@pytest.mark.slow
@pytest.mark.parametrize("node", ["local-2", "local-"])
def test_a_node_where_no_worker_starts_is_set_aside_and_where_all_are_so_the_task_ends(
    make_copy: MakeCopy, tmp_path: Path, node: str
) -> None:
    copy = make_copy(full__read__concurrency=6, **SLOWLY)  # three workers
    Broken(tmp_path, copy, node, "shake.worker.process", "os._exit(7)")
    copy.migration.first += "; from shake.process import supervised; supervised.MAX_CRASHES = 3"
    result = copy.migration.run()
    crashed = r"worker \d on local-\d crashed 4 times in a row \(exit status 7\)"
    assert re.search(f"node {node}.* is set aside for 60 s: {crashed}", result.stdout), result
    if node == "local-2":
        assert result.status == 0, result
        copy.assert_exact()
    else:
        assert result.status == 1, result
        assert re.search(crashed, result.line)


REFUSES = "socket.socket.connect = lambda *_: (_ for _ in ()).throw(OSError(113, 'no route'))"
HANGS = "socket.socket.connect = lambda *_: time.sleep(999)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "code", "why"),
    [
        (
            "shake.worker.process",
            REFUSES,
            "read nothing for 6 s, while others did, or had nothing to do: .*no route",
        ),
        (
            "shake.worker.writer",
            HANGS,
            "written nothing for 6 s, while others did, or had nothing to do",
        ),
    ],
    ids=["source", "target"],
)
def test_a_node_that_reaches_no_source_or_no_target_is_set_aside(
    make_copy: MakeCopy, tmp_path: Path, module: str, code: str, why: str
) -> None:
    copy = make_copy(full__read__concurrency=6, **SLOWLY)  # three workers
    Broken(tmp_path, copy, "local-2", module, code)
    copy.migration.first += (
        "; from shake.run import fitness;fitness.REPORT_AFTER, fitness.GIVE_UP_AFTER = 2.0, 6.0"
    )
    result = copy.migration.run()
    assert result.status == 0, result
    assert re.search(f"node local-2 is set aside for 60 s: it has {why}", result.stdout), result
    copy.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["writer", "node"])
def test_items_that_nodes_cannot_store_are_kept_whatever_is_lost(
    make_copy: MakeCopy, victim: str
) -> None:
    copy = make_copy(id__mode="key", **KEEP, **SLOWLY)
    for number in range(3):
        item = {"pk": {"S": f"bad{number}"}, "sk": {"N": str(number)}, "n": LONG}
        copy.dynamodb.client.put_item(TableName=copy.table, Item=item)

    locks: list[Any] = []

    def strike() -> None:
        """Lose the node that keeps an item, before the store has it."""
        checkpoints = copy.mongo.client[f"{copy.table}-checkpoint"]
        locks.append(checkpoints.status_table.find_one({"Outlived": True}))
        agent = nodes.node_of(nodes.sender(copy.migration, copy.wire.sender))
        doomed = nodes.whole(agent) if victim == "node" else nodes.whole(agent)[1:]
        for one in doomed:
            one.send_signal(signal.SIGKILL)

    struck = copy.wire.stop_at("request", "insert", f"{copy.checkpoint}.bad", strike)
    result = copy.migration.run()
    assert struck.is_set()
    assert result.status == 0, result
    assert f"KEPT, NOT STORED: table {copy.table}: 3 items" in result.stdout
    assert kept(copy.mongo, copy.table).keys() == {"bad0", "bad1", "bad2"}
    assert copy.mongo.client[copy.table][copy.table].count_documents({}) == ITEMS
    assert locks[0]  # a later run waits, also where the head ends like this node


@pytest.mark.slow
def test_a_task_without_anything_to_read_ends_too(
    dynamodb: Any, mongo: Any, migrate: Any, name: str
) -> None:
    create_table(dynamodb.client, name)
    result = nodes.spread_task(migrate(sync_schema_only="true"), 1).run()
    assert result.status == 0, result
    assert "_id_" in mongo.client[name][name].index_information()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("incr_sync_parallel", "true", "the journal of incr_sync_parallel = true is on the disk"),
        ("bad.items", "keep", "bad items are kept on the disk of one machine"),
        (
            "target.type",
            "aliyun_dynamo_proxy",
            "target.type = aliyun_dynamo_proxy can refuse no late",
        ),
    ],
)
def test_what_cannot_be_spread_is_refused(
    dynamodb: Any, migrate: Any, name: str, key: str, value: str, why: str
) -> None:
    create_table(dynamodb.client, name)
    more = {} if key == "incr_sync_parallel" else {"checkpoint__type": "file"}
    if key == "target.type":
        more["target"] = dynamodb.url
    settings = {"sync_mode": "all", **more, key.replace(".", "__"): value}
    result = nodes.spread_task(migrate(**settings), 1).run()
    assert result.status == 3, result
    assert why in result.line
