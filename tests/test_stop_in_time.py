"""A stop takes ten seconds at most, however many children hang."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.followed import Followed
from tests.support.wait import until

pytestmark = pytest.mark.slow

TABLES = 7


def test_a_stop_is_over_in_time_though_all_writers_hang(followed: Followed) -> None:
    names = [f"{followed.name}-{number}" for number in range(TABLES)]
    for name in names:
        followed.simulator.table(name).put({"pk": {"S": "a"}})
    migration = followed.task(filter__collection__white=";".join(names))
    process = migration.start()
    output = migration.folder / f"{followed.name}.0.out"
    until(lambda: output.read_text().count("consistent point reached") == TABLES, 90)
    for child in migration.children("writer"):
        child.suspend()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = migration.wait(process)
    assert time.monotonic() - began < 10, result
