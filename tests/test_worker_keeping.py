"""Bad items that several writers of a table keep, until they are stored."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import pytest

from shake.checkpoint.file_store import FileStore
from shake.checkpoint.kept import KeptItems, entry_id
from shake.codec.contract import ChangeOptions, Options
from shake.codec.items import encoder
from shake.farm.worker_messages import RawAnswer
from shake.farm.writer_messages import OpenCollection, Write
from shake.schema import Attribute, Item, Keys, Table
from shake.targets.contract import Changes, CopyRun, Location
from shake.worker.keeping import Keeper
from shake.worker.kept_index import KeptIndex
from tests.test_farm_process import config_of

KEY = {"pk": {"S": "k"}}
#: Two keys that mchange makes one double of. The second one is not that number.
EVEN, ODD = ({"pk": {"N": str(number)}} for number in (1 << 53, (1 << 53) + 1))


class Target:
    """Stores all that comes."""

    def write(self, documents: memoryview, refused: Any = None) -> int:
        return 0

    def holds(self, key: Any) -> bool:
        return False


class Writer:
    """A writer process of the table."""

    def __init__(self, folder: Path, *settings: str, key: Item = KEY) -> None:
        [kind] = key["pk"]
        config, keys = config_of(*settings), Keys(Attribute("pk", kind))
        store = FileStore(folder, "checkpoint", sync=lambda handle: None)
        self.kept = KeptItems(store, "t")
        opened = OpenCollection(
            table=0,
            description=Table("t", keys),
            namespace="d.t",
            copy=CopyRun(1, 1, 1),
            staged=True,
            location=Location("d.t", ""),
            run=1,
            resumed=False,
            kept=True,
        )
        self.keeper = Keeper(config, opened, self.kept, lambda message: None)
        self.options = Options.of(config, keys)
        self.changes = ChangeOptions.of(config, keys)

    def write(self, key: Item = KEY, *, stored: bool, first: bool = True) -> None:
        """Write a page whose only item can be stored, or not."""
        body = json.dumps({"Items": [key], "Count": 1, "ScannedCount": 1}).encode()
        document = encoder(self.options)(key, bytes(12)) if stored else b""
        raw = RawAnswer(len(body), () if stored else [(0, "it is too deep")])
        if not self.options.rejects:
            body, raw = b"", RawAnswer()
        slot = memoryview(document + body + b"\0")
        message = Write(0, 1, 0, 0, len(document), raw_answer=raw, first=first)
        self.keeper.write(cast(Any, Target()), slot, message)


def test_an_item_that_another_writer_has_kept_leaves_where_its_segment_moves_here(
    tmp_path: Path,
) -> None:
    """A part of a page was kept there before its reader crashed. Then the page is read again."""
    here, there = (Writer(tmp_path, "bad.items=keep", "id.mode=key") for _ in range(2))
    here.write(stored=True, first=True)
    there.write(stored=False, first=True)
    assert [json.loads(item.key) for item in there.kept.items()] == [KEY]
    here.write(stored=True, first=True)
    there.kept.reload()
    assert there.kept.items() == []


@pytest.mark.parametrize(
    ("after", "bad", "good"), [("keep", ODD, EVEN), ("stop", ODD, EVEN), ("stop", EVEN, ODD)]
)
def test_an_item_stays_kept_where_another_key_of_the_same_double_is_stored(
    tmp_path: Path, after: str, bad: Item, good: Item
) -> None:
    settings = ["convert.type=mchange", "id.mode=objectid"]
    Writer(tmp_path, *settings, "bad.items=keep", key=bad).write(bad, stored=False)
    later = Writer(tmp_path, *settings, f"bad.items={after}", key=good)
    later.write(good, stored=True)
    later.kept.reload()
    assert [json.loads(item.key) for item in later.kept.items()] == [bad]


def test_an_insert_is_not_taken_for_a_kept_item_of_the_same_double(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "convert.type=mchange", "id.mode=objectid", key=EVEN)
    nothing, insert = memoryview(b""), memoryview(encoder(writer.options)(EVEN, bytes(12)))
    changes = Changes(nothing, insert, nothing)
    found = [KeptIndex(writer.changes, [kept]).in_changes(changes) for kept in (ODD, EVEN)]
    assert found == [set(), {entry_id(EVEN)}]


def test_what_an_item_leaves_when_it_is_no_longer_kept_goes_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays for an hour, since what was sent before can still arrive."""
    writer = Writer(tmp_path, "bad.items=keep", "id.mode=key")
    writer.write(stored=False)
    writer.write(stored=True)
    store = FileStore(tmp_path, "checkpoint")
    for hours, left in [(0.9, 1), (1.1, 0)]:
        later = time.time() + hours * 3600
        monkeypatch.setattr("shake.checkpoint.kept.time.time", lambda now=later: now)
        writer.keeper.begin()
        assert len(store.read("t.bad")) == left
