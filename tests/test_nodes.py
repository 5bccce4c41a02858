"""A task in several nodes is exact, whatever dies, hangs, leaves or joins."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import nodes
from tests.support.crash import Copy, MakeCopy, opened
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


@pytest.mark.parametrize("victim", ["worker", "writer"])
def test_a_child_of_a_node_that_dies_is_replaced(make_copy: MakeCopy, victim: str) -> None:
    copy = make_copy()
    lose(copy, victim)
    assert copy.migration.printed().count("it is replaced") == 1
    copy.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["agent", "node"])
@pytest.mark.parametrize("id_mode", ["objectid", "key"])
def test_a_lost_node_costs_only_what_was_not_acknowledged(
    make_copy: MakeCopy, victim: str, id_mode: str
) -> None:
    copy = make_copy(id__mode=id_mode, **SLOWLY)
    lose(copy, victim)
    assert "is lost" in copy.migration.printed()
    copy.assert_exact(id_mode=id_mode)
