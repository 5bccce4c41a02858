"""What cannot be stored is kept once, and no longer than that, whatever arrives late."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from shake.checkpoint.contract import Document
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.kept import KeptItem, KeptItems

KEY = '{"pk":{"S":"k"}}'


class Killed(Exception):
    """The process has died."""


class Dying(FileStore):
    """A store whose user dies with one exchange on its way, which arrives later."""

    def begin(self, last: int) -> None:
        """Die with exchange number ``last``."""
        self._left = itertools.count(last, -1)
        self.late: tuple[str, Document | None, Document | None] | None = None

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        if next(self._left) == 0:
            self.late = (collection, old, new)
            raise Killed
        return super().swap(collection, old, new)

    def arrive(self) -> None:
        assert self.late
        super().swap(*self.late)


def bad(item: str) -> KeptItem:
    return KeptItem("orders", KEY, item, "too long", "segment 0", "2026-11-30T10:00:00Z")


def items(store: FileStore) -> list[str]:
    return [one.item for one in KeptItems(store, "orders").items()]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "again"])
@pytest.mark.parametrize("then", ["stored", "bad", "seen"])
def test_what_a_dead_process_keeps_late_is_not_kept(
    tmp_path: Path, last: int, earlier: bool, then: str
) -> None:
    """Also where the next process does not keep the item: it was stored, or deleted, since."""
    store = FileStore(tmp_path, "task-checkpoint", sync=lambda handle: None)
    if earlier:
        before = KeptItems(store, "orders", writes=True)
        before.put(bad("0"))
        before.remove(before.items()[0].id)
    dying = Dying(tmp_path, "task-checkpoint", sync=lambda handle: None)
    dying.begin(last)
    with pytest.raises(Killed):
        KeptItems(dying, "orders", writes=True).put(bad("1"))
    after = KeptItems(store, "orders", writes=True)
    seen = [one.item for one in after.items()]
    if then == "stored":
        after.remove(bad("").id)
    elif then == "bad":
        after.put(bad("2"))
    dying.arrive()
    assert items(store) == {"stored": [], "bad": ["2"], "seen": seen}[then]
