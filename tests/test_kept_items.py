"""What cannot be stored is kept once, and no longer than that, whatever arrives late."""

from __future__ import annotations

from pathlib import Path

import pytest

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.kept import NOTHING_KEPT, KeptItem, KeptItems
from shake.run.holding import changes_kept
from tests.support.dying import Dying, Killed, quick_store
from tests.test_farm_process import config_of

KEY = '{"pk":{"S":"k"}}'


def bad(item: str) -> KeptItem:
    return KeptItem("orders", KEY, item, "too long", "segment 0", "2026-11-30T10:00:00Z")


def items(store: FileStore) -> list[str]:
    return [one.item for one in KeptItems(store, "orders").items()]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "again"])
@pytest.mark.parametrize("then", ["stored", "bad", "seen", "counted"])
def test_what_a_dead_process_keeps_late_is_not_kept(
    tmp_path: Path, last: int, earlier: bool, then: str
) -> None:
    """Also where the next process does not keep the item: it was stored, or deleted, since."""
    store = quick_store(tmp_path)
    if earlier:
        before = KeptItems(store, "orders", writes=True)
        before.put(bad("0"))
        before.remove(before.items()[0].id)
    dying = Dying(tmp_path, last)
    with pytest.raises(Killed):
        KeptItems(dying, "orders", writes=True).put(bad("1"))
    if then == "counted":  # as each run does first, also where no writer keeps items
        tally = Checkpoints(store).kept_tallies(["orders"], writes=True).get("orders", NOTHING_KEPT)
        dying.arrive()
        assert len(items(store)) == tally.items
        return
    after = KeptItems(store, "orders", writes=True)
    seen = [one.item for one in after.items()]
    if then == "stored":
        after.remove(bad("").id)
    elif then == "bad":
        after.put(bad("2"))
    dying.arrive()
    assert items(store) == {"stored": [], "bad": ["2"], "seen": seen}[then]


@pytest.mark.parametrize(
    ("bad_items", "earlier", "changes"),
    [("keep", False, True), ("stop", True, True), ("stop", False, False)],
)
def test_a_lock_outlives_its_nodes_where_they_can_let_a_kept_item_go(
    tmp_path: Path, bad_items: str, earlier: bool, changes: bool
) -> None:
    """Also where an earlier run has kept items, and this one keeps none."""
    store = quick_store(tmp_path)
    if earlier:
        KeptItems(store, "orders", writes=True).put(bad("0"))
    assert changes_kept(config_of(f"bad.items={bad_items}"), store) is changes
