"""Bad items that several writers of a table keep, until they are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from shake.checkpoint.file_store import FileStore
from shake.checkpoint.kept import KeptItems
from shake.codec.contract import Options
from shake.codec.items import encoder
from shake.farm.worker_messages import RawAnswer
from shake.farm.writer_messages import OpenCollection, Write
from shake.schema import Attribute, Keys, Table
from shake.targets.contract import CopyRun, Location
from shake.worker.keeping import Keeper
from tests.test_farm_process import config_of

KEY = {"pk": {"S": "k"}}


class Target:
    """Stores all that comes."""

    def write(self, documents: memoryview, refused: Any = None) -> int:
        return 0

    def holds(self, key: Any) -> bool:
        return False


class Writer:
    """A writer process of the table."""

    def __init__(self, folder: Path) -> None:
        config, keys = config_of("bad.items=keep", "id.mode=key"), Keys(Attribute("pk", "S"))
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
            kept=False,
        )
        self.keeper = Keeper(config, opened, self.kept, lambda message: None)
        self.encode = encoder(Options.of(config, keys))

    def write(self, *, stored: bool, first: bool) -> None:
        """Write a page whose only item can be stored, or not."""
        body = json.dumps({"Items": [KEY], "Count": 1, "ScannedCount": 1}).encode()
        document = self.encode(KEY, bytes(12)) if stored else b""
        raw = RawAnswer(len(body), () if stored else [(0, "it is too deep")])
        slot = memoryview(document + body + b"\0")
        message = Write(0, 1, 0, 0, len(document), raw_answer=raw, first=first)
        self.keeper.write(cast(Any, Target()), slot, message)


def test_an_item_that_another_writer_has_kept_leaves_where_its_segment_moves_here(
    tmp_path: Path,
) -> None:
    """A part of a page was kept there before its reader crashed. Then the page is read again."""
    here, there = Writer(tmp_path), Writer(tmp_path)
    here.write(stored=True, first=True)
    there.write(stored=False, first=True)
    assert [json.loads(item.key) for item in there.kept.items()] == [KEY]
    here.write(stored=True, first=True)
    there.kept.reload()
    assert there.kept.items() == []
