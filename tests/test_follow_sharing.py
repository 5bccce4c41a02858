"""Followed tables share writer processes where there are many, and nothing changes for them."""

from __future__ import annotations

import signal
from functools import partial

from tests.support.followed import Followed, stopped
from tests.support.migration import compare
from tests.support.tables import connect
from tests.support.wait import until

TABLES, PROCESSES = 7, 2


def test_many_tables_are_followed_by_few_writer_processes_and_survive_their_deaths(
    followed: Followed,
) -> None:
    simulator, client = followed.simulator, followed.mongo.client
    names = [f"{followed.name}-{number}" for number in range(TABLES)]
    tables = [simulator.table(name, shards=2) for name in names]
    for table in tables:
        table.put({"pk": {"S": "before"}})
    migration = followed.task(filter__collection__white=";".join(names), incr__margin=1.5)
    migration.first = f"from shake.run import parts as s; s.APPLIERS = {PROCESSES}"
    process = migration.start()

    def write(value: str) -> None:
        for number in range(40):
            for table in tables:
                table.put({"pk": {"S": f"k{number}"}, "n": {"N": value}})

    def arrived(value: str) -> bool:
        stored = (client[followed.name][name] for name in names)
        return all(one.count_documents({"n": float(value)}) == 40 for one in stored)

    write("1")
    until(lambda: arrived("1"), 60.0)
    until(lambda: len(migration.children("writer")) == PROCESSES)
    for value in ("2", "3"):
        write(value)
        for child in migration.children("writer"):
            child.send_signal(signal.SIGKILL)
        until(partial(arrived, value), 60.0)
    until(lambda: len(migration.children("writer")) == PROCESSES)  # a new one takes its name late
    stopped(migration, process)
    for name in names:
        compare(connect(simulator.url), client, name, f"{followed.name}.{name}")
