"""The collection that a copy fills until it is complete, and how it gets its final name.

The name contains the run, and this fences the copy. A new run first gives the collection a new
name. So a late command of an earlier run goes to a name that no run reads. A server that supports
``collectionUUID`` (MongoDB 6.0) refuses such a command. For older ones see
shake.targets.mongodb.replacing_by_name; where a rename changes the UUID, see
shake.targets.mongodb.mark.
Source: https://www.mongodb.com/docs/manual/reference/command/renameCollection/
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from shake.errors import RunError
from shake.schema import Table
from shake.status.figures import many, size
from shake.targets.contract import CopyRun, Found, Location, OnExisting
from shake.targets.mongodb.mark import Mark
from shake.targets.mongodb.names import replaced_name, run_of, staging_name, staging_stem
from shake.targets.mongodb.replacing_by_name import Replacing
from shake.targets.mongodb.retrying import Contended
from shake.targets.mongodb.server import MongoServer


@dataclass(frozen=True, slots=True)
class MongoStaging:
    """The staging collection of one run of a copy; see targets.contract.Staging.

    ``notice`` gets a line for the log.
    """

    server: MongoServer
    namespace: str
    table: Table
    copy: CopyRun
    notice: Callable[[str], None]

    @property
    def name(self) -> str:
        """The namespace that this run fills."""
        return staging_name(self.namespace, self.copy.stamp, self.copy.run)

    def begin(self) -> Location:
        """See Staging. First drop an earlier unfinished copy, so that a late rename of it fails."""
        self.sweep(published=False)

        def step() -> str:
            self.server.create(self.name, self.table)
            return self.name

        return self._until_durable(step)

    def look(self, collection_uuid: str) -> Location | None:
        """See Staging. Found by its UUID.

        Where the server returns no UUID, or changes it at a rename: by its mark where it has the
        final name, else by the name of the last run. A late insert can make a staging collection
        anew when it was renamed, so the mark counts first.
        """
        if (found := self._look(collection_uuid)) is None:
            self.server.prove(self.namespace)  # a former primary can lack it
            found = self._look(collection_uuid)
        return found

    def _look(self, collection_uuid: str) -> Location | None:
        found = self._collections()
        for name, uuid in found.items():
            if uuid and uuid == collection_uuid:
                return Location(name, uuid)
        if self.namespace in found and not self.server.keeps_uuids and self._mark.is_there:
            return Location(self.namespace, found[self.namespace])
        runs = {run: name for name in found if (run := run_of(self.namespace, name))}
        ours = [run for run in runs if run[0] == self.copy.stamp and run[1] <= self.copy.run]
        if ours and (not collection_uuid or not self.server.keeps_uuids):
            return Location(runs[max(ours)], found[runs[max(ours)]])
        if collection_uuid:
            return None
        name = self.namespace if self.namespace in found else self.name
        return Location(name, found.get(name, ""))

    def resume(self, collection_uuid: str) -> Location:

        def step() -> str:
            found = self._find(collection_uuid)
            if found.namespace in (self.name, self.namespace):
                return found.namespace
            return self._rename(found, self.name)

        location = self._until_durable(step, collection_uuid)
        self._unmark(location, collection_uuid)
        self.sweep(published=False)
        return location

    def publish(
        self, collection_uuid: str, on_existing: OnExisting, backup: str, drops: Collection[str]
    ) -> Location:
        """See Staging."""

        def step() -> str:
            found = self._find(collection_uuid)
            if found.namespace == self.namespace:  # by a try without an answer, or an earlier run
                return self.namespace
            if not self.server.keeps_uuids:
                self._mark.put(found)
            drop = self._make_room(found, on_existing, backup, drops)
            return self._rename(found, self.namespace, drop=drop)

        location = self._until_durable(step, collection_uuid)
        self._unmark(location, collection_uuid)
        if not self.server.takes_uuids:
            keeps = self.server.config.target_db_exist == "rename" and on_existing != "resync"
            end = self._replacing.keep if keeps else self._replacing.drop
            self.server.call(self.namespace, lambda: end(drops))
        self.sweep(published=True)
        return location

    def sweep(self, *, published: bool) -> None:
        """See Staging. The names are of earlier runs, so a drop that lands late harms nothing."""
        first, after = (self.copy.first_stamp, 0), (self.copy.stamp, self.copy.run + published)
        for name, uuid in self._collections().items():
            run = run_of(self.namespace, name)
            if run and first <= run < after:
                self.notice(f"{name}: removed, a late command of an earlier run had created it")
                self.server.drop(name, uuid)
        self._replacing.sweep()

    def others(self, drops: Collection[str]) -> list[tuple[str, int]]:
        first, last = (self.copy.first_stamp, 0), (self.copy.stamp, self.copy.run)
        runs = {name: run_of(self.namespace, name) for name in self._collections()}
        names = {name for name, run in runs.items() if run and not first <= run <= last}
        names |= self._replacing.left() - {replaced_name(self.namespace, uuid) for uuid in drops}
        return [(name, self._stats(name).get("count", 0)) for name in sorted(names)]

    @property
    def _replacing(self) -> Replacing:
        return Replacing(self.server, self.namespace, self.table, self.notice)

    @property
    def _mark(self) -> Mark:
        return Mark(self.server, self.namespace, self.copy.stamp)

    def _unmark(self, location: Location, saved_uuid: str) -> None:
        """Remove the mark where the UUID is saved; else the second call does, which follows."""
        if location.collection_uuid == saved_uuid and not self.server.keeps_uuids:
            self._mark.remove(location.namespace)

    def _make_room(
        self, ours: Location, on_existing: OnExisting, backup: str, drops: Collection[str]
    ) -> bool:
        """Rename what has the final name by now; whether it is to be dropped instead."""
        existing = self.server.seen(self.namespace, self.table)
        if existing and self._is_ours(existing, ours):
            raise Contended(f"{ours.namespace}: it was renamed to {self.namespace} meanwhile")
        atomic = self.server.takes_uuids
        what = f"collection {self.namespace} ({self._size()})" if existing else ""
        if existing is None:
            if on_existing == "rename":
                self._replacing.restore(drops, backup)
        elif on_existing == "rename":
            self._move(existing, backup)
            self.notice(f"{what} was renamed to {backup}")
        else:
            planned = existing.collection_uuid in drops or (on_existing == "drop" and atomic)
            if on_existing == "create" or not planned:
                raise RunError(
                    f"{what} was created while table {self.table.name} was copied; the copy is "
                    f"complete in {self.name}: remove or rename {self.namespace}, or set "
                    "target.db.exist, and start again"
                )
            self.notice(f"{what} is dropped: the new copy takes its name")
            if not atomic:
                self._move(existing, replaced_name(self.namespace, existing.collection_uuid))
        if not atomic:
            self._replacing.take_names(drops, backup)
        return atomic and existing is not None and on_existing != "rename"

    def _is_ours(self, existing: Found, ours: Location) -> bool:
        """Whether the copy has its final name by now, through a command that landed late."""
        if self.server.keeps_uuids:
            return bool(ours.collection_uuid) and existing.collection_uuid == ours.collection_uuid
        return self._mark.is_there

    def _move(self, existing: Found, new: str) -> None:
        """Rename the collection that has the final name."""
        if self.server.rename(self.namespace, new, existing.collection_uuid):
            return
        if all(name in self.server.collections(name, name) for name in (self.namespace, new)):
            raise RunError(
                f"collection {self.namespace} cannot be renamed to {new}, which exists: remove or "
                "rename one of them, and start again"
            )
        raise Contended(f"{self.namespace}: it was renamed, or a fail-over undid the rename")

    def _size(self) -> str:
        stats = self._stats(self.namespace)
        if not stats:
            return "of unknown size"
        return f"{many(stats.get('count', 0), 'document')}, {size(stats.get('size', 0))}"

    def _stats(self, name: str) -> Mapping[str, Any]:
        """Empty without the right to ask, which nothing else needs."""
        database, _, collection = name.partition(".")
        ask = self.server.database(database)
        try:
            return self.server.call(name, lambda: ask.command("collStats", collection))
        except RunError:
            return {}

    def _rename(self, old: Location, new: str, *, drop: bool = False) -> str:
        if not self.server.rename(old.namespace, new, old.collection_uuid, drop=drop):
            raise Contended(f"{old.namespace}: it was renamed, or {new} was created, meanwhile")
        return new

    def _find(self, collection_uuid: str) -> Location:
        if (found := self.look(collection_uuid)) is None:
            raise RunError(
                f"{self.namespace}: the staging collection of table {self.table.name} (UUID "
                f"{collection_uuid}) is gone: something else has removed it; "
                + self.server.config.start_over(self.table.name)
            )
        return found

    def _collections(self) -> dict[str, str]:
        """UUIDs by name, of this namespace and of its staging collections."""
        named: dict[str, str] = {}
        for stem in {staging_stem(self.namespace), self.namespace}:
            named |= self.server.collections(self.namespace, stem)
        return {
            name: uuid
            for name, uuid in named.items()
            if name == self.namespace or run_of(self.namespace, name)
        }

    def _until_durable(self, step: Callable[[], str], collection_uuid: str = "") -> Location:
        """Take a step, which returns the collection's name; again, until no fail-over undoes it.

        What a step found done already can still be undone. So what is there is confirmed, and only
        then looked at.
        """

        def call() -> Location:
            name = step()
            self.server.confirm(name)
            found = self._collections().get(name)
            other = (
                collection_uuid and found and found != collection_uuid and self.server.keeps_uuids
            )
            if found is None or other:
                raise Contended(f"{name}: a fail-over has undone its creation or its renaming")
            return Location(name, found)

        return self.server.call(self.namespace, call)
