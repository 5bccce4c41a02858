"""What shake says of source and target is true, whatever the clocks and the stream's delay."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.followed import Followed

#: Seconds by which the source's clock is ahead of this machine's.
OFFSETS = [0.0, 5.0, -5.0, 240.0, -240.0]
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


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("delay", [0.0, MARGIN])
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
    assert "source and target are equal as of that time" in result.stdout
