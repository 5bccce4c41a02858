"""How a copy replaces a collection where commands cannot name a UUID (before MongoDB 6.0).

There a late command reaches whatever has the name. So no command drops what has the final name, and
each of these steps fails for good once a later one was made:

1. The existing collection is renamed to a name that contains its UUID.
2. Names of that kind that this copy has used and that are free get a placeholder.
3. The staging collection is renamed to the final name, which must be free.
4. The data of step 1 is dropped: a placeholder replaces it in one step, so its name is never free.
   It is not dropped where ``target.db.exist`` is ``rename`` by now.

Step 1 of an earlier run would move the complete copy away. It fails because the name is taken.
Which names were used is in the checkpoint before step 1: see TableRecord.drops.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo.errors import DuplicateKeyError

from shake.schema import Table
from shake.targets.mongodb.names import is_replaced, replaced_name, spare_name, staging_stem
from shake.targets.mongodb.retrying import Contended
from shake.targets.mongodb.server import MongoServer

#: The ``_id`` of the one document of a placeholder.
_NOTE = "shake"
_TEXT = "This name stays taken, so that late commands of shake fail. Remove it after a day."
#: Older commands are not expected any more.
_LATEST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Replacing:
    """The collections that the copies into a namespace have replaced; ``notice`` logs a line."""

    server: MongoServer
    namespace: str
    table: Table
    notice: Callable[[str], None]

    def restore(self, uuids: Iterable[str], new: str) -> None:
        """Rename to ``new`` what an earlier run has moved away, to be dropped then."""
        for uuid in uuids:
            if (name := replaced_name(self.namespace, uuid)) in self.left():
                self.server.rename(name, new, uuid)

    def take_names(self, uuids: Iterable[str], backup: str) -> None:
        """Leave none of the names free to which a late command can rename the final collection."""
        names = [replaced_name(self.namespace, uuid) for uuid in uuids]
        for name in [*names, backup] if backup else names:
            if name not in self.server.collections(self.namespace, name):
                self._replace(name, drop=False)

    def drop(self, uuids: Iterable[str]) -> None:
        """Drop what was moved away, and keep its name taken."""
        for uuid in uuids:
            name = replaced_name(self.namespace, uuid)
            found = self._collections().get(name)
            if found is None or self._note(name):
                continue
            if found == uuid or not self.server.keeps_uuids:
                self._replace(name, drop=True)
            else:
                self.notice(
                    f"{name}: a late command has renamed another collection to it, which was "
                    f"{self.namespace}: rename or remove it"
                )

    def keep(self, uuids: Iterable[str]) -> None:
        """Log what an earlier run has moved away to drop it, and what is not dropped any more."""
        for uuid in uuids:
            if (name := replaced_name(self.namespace, uuid)) in self.left():
                self.notice(
                    f"{name}: an earlier run has renamed {self.namespace} to it, to drop it; now "
                    "target.db.exist = rename keeps it: rename or remove it"
                )

    def sweep(self) -> None:
        """Remove placeholders that are older than a day, by the server's clock."""
        for name, uuid in self._collections().items():
            note = self._note(name)
            if note and note["since"] + _LATEST < self._now():
                self.server.drop(name, uuid)

    def left(self) -> set[str]:
        """Collections that were moved away, and not dropped yet."""
        return {name for name in self._collections() if not self._note(name)}

    def _replace(self, name: str, *, drop: bool) -> None:
        """Give the name to a placeholder. ``drop``: what has the name is dropped in that step."""
        spare = spare_name(self.namespace, name)
        if self.server.config.sharded:
            self.server.create(spare, self.table)
        note = {"_id": _NOTE, "note": _TEXT, "since": self._now()}

        def write() -> None:
            with contextlib.suppress(DuplicateKeyError):
                self.server.collection(spare).insert_one(note)  # type: ignore[arg-type]

        self.server.call(spare, write)
        renamed = self.server.rename(spare, name, drop=drop)
        if not renamed and (drop or name not in self.server.collections(self.namespace, name)):
            raise Contended(f"{name}: it was renamed or created meanwhile")
        self.notice(
            f"{name} holds a note only; it stays so that late commands fail; a start after a day "
            "removes it"
        )

    def _note(self, name: str) -> Mapping[str, Any] | None:
        """The document that makes the collection a placeholder."""
        find = self.server.collection(name).find_one
        return self.server.call(name, lambda: find({"_id": _NOTE, "note": _TEXT}))

    def _now(self) -> datetime:
        admin = self.server.database("admin")
        now: datetime = self.server.call(self.namespace, lambda: admin.command("hello"))[
            "localTime"
        ]
        return now.replace(tzinfo=None)  # UTC; the connection string can ask for a time zone

    def _collections(self) -> dict[str, str]:
        """UUIDs by name, of what was moved away, and of placeholders."""
        found = self.server.collections(self.namespace, staging_stem(self.namespace))
        return {name: uuid for name, uuid in found.items() if is_replaced(self.namespace, name)}
