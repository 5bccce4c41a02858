"""The collection that a copy fills until it is complete, and how it gets its final name.

The name contains the run, and this fences the copy. A new run first gives the collection a new
name. So a late command of an earlier run goes to a name that no run reads. A server that supports
``collectionUUID`` (MongoDB 6.0) refuses such a command.
Source: https://www.mongodb.com/docs/manual/reference/command/renameCollection/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shake.errors import RunError
from shake.schema import Table
from shake.status.figures import count, size
from shake.targets.contract import Held
from shake.targets.mongodb.places import NAMESPACE_BYTES, SHARDED_NAMESPACE_BYTES
from shake.targets.mongodb.retrying import Contended

if TYPE_CHECKING:
    from shake.checkpoint.records import CopyRun, Fate
    from shake.targets.mongodb.target import MongoTarget

#: Bytes that the longest suffix takes: ``.shake-`` and two numbers.
_SUFFIX_BYTES = 32
_SUFFIX = re.compile(r"\.shake-(\d+)-(\d+)")


def staging_name(place: str, stamp: int, run: int) -> str:
    """Where a run of a copy stores what is to become ``place``."""
    return f"{staging_stem(place)}.shake-{stamp}-{run}"


def run_of(place: str, name: str) -> tuple[int, int] | None:
    """The stamp and run of a name that :func:`staging_name` gave, None for every other name."""
    stem = staging_stem(place)
    found = _SUFFIX.fullmatch(name[len(stem) :]) if name.startswith(stem) else None
    return (int(found[1]), int(found[2])) if found else None


def staging_stem(place: str) -> str:
    """The place, or what of it leaves room for the suffix, with a digest of the whole."""
    most = min(NAMESPACE_BYTES, SHARDED_NAMESPACE_BYTES) - _SUFFIX_BYTES
    if len(place.encode()) <= most:
        return place
    digest = hashlib.sha256(place.encode()).hexdigest()[:16]
    return f"{place.encode()[: most - 17].decode(errors='ignore')}-{digest}"


@dataclass(frozen=True, slots=True)
class MongoStaging:
    """The staging collection of one run of a copy; see target.contract.Staging.

    ``notice`` gets a line for the log.
    """

    target: MongoTarget
    place: str
    table: Table
    copy: CopyRun
    notice: Callable[[str], None]

    @property
    def name(self) -> str:
        """The namespace that this run fills."""
        return staging_name(self.place, self.copy.stamp, self.copy.run)

    def begin(self) -> Held:
        """See Staging. An unfinished copy goes first, so that its late rename finds nothing."""
        self.sweep(published=False)

        def step() -> str:
            self.target.create(self.name, self.table)
            return self.name

        return self._for_good(step)

    def look(self, collection: str) -> Held | None:
        """See Staging. Found by its UUID.

        Where the server tells none, or gives another one at a rename: by the name of the last run.
        """
        found = self._collections()
        for name, uuid in found.items():
            if uuid and uuid == collection:
                return Held(name, uuid)
        runs = {run: name for name in found if (run := run_of(self.place, name))}
        ours = [run for run in runs if run[0] == self.copy.stamp and run[1] <= self.copy.run]
        if ours and (self.target.sharded or not collection):
            return Held(runs[max(ours)], found[runs[max(ours)]])
        if collection:
            return None
        name = self.place if self.place in found else self.name
        return Held(name, found.get(name, ""))

    def resume(self, collection: str) -> Held:
        """See Staging."""

        def step() -> str:
            found = self._find(collection)
            if found in (self.name, self.place):
                return found
            return self._rename(found, self.name)

        held = self._for_good(step, collection)
        self.sweep(published=False)
        return held

    def publish(self, collection: str, fate: Fate, backup: str, replaces: str) -> Held:
        """See Staging."""

        def step() -> str:
            found = self._find(collection)
            if found == self.place:  # by an attempt that was not answered, or of an earlier run
                return found
            drop = self._make_room(fate, backup, replaces)
            return self._rename(found, self.place, drop=drop)

        held = self._for_good(step, collection)
        self.sweep(published=True)
        return held

    def sweep(self, *, published: bool) -> None:
        """See Staging. The names are of dead runs, so a drop that lands late harms nothing."""
        first, after = (self.copy.first, 0), (self.copy.stamp, self.copy.run + published)
        for name, uuid in self._collections().items():
            run = run_of(self.place, name)
            if run and first <= run < after:
                self.notice(f"{name}: removed, a late command of an earlier run had created it")
                self.target.drop(name, uuid)

    def _make_room(self, fate: Fate, backup: str, replaces: str) -> bool:
        """Rename what has the final name by now; whether it is to be dropped instead."""
        existing = self.target.seen(self.place, self.table)
        if existing is None:
            return False
        what = f"collection {self.place} ({self._size()})"
        if fate == "rename":
            if not self.target.rename(self.place, backup, existing.collection):
                raise self._not_renamed(backup)
            self.notice(f"{what} was renamed to {backup}")
            return False
        if fate == "create" or (fate == "resync" and existing.collection != replaces):
            raise RunError(
                f"{what} was created while table {self.table.name} was copied; the copy is "
                f"complete in {self.name}: remove or rename {self.place}, or set target.db.exist, "
                "and start again"
            )
        self.notice(f"{what} is dropped: the new copy takes its name")
        return True

    def _not_renamed(self, backup: str) -> Exception:
        found = self.target.collections(self.place, self.place)
        if self.place in found and backup in found:
            return RunError(
                f"collection {self.place} cannot be renamed to {backup}, which exists: remove or "
                "rename one of them, and start again"
            )
        return Contended(f"{self.place}: it was renamed or undone meanwhile")

    def _size(self) -> str:
        def ask() -> dict[str, Any]:
            database, _, collection = self.place.partition(".")
            return self.target.database(database).command("collStats", collection)

        try:
            stats = self.target.call(self.place, ask)
        except RunError:  # a right that nothing else needs
            return "of unknown size"
        return f"{count(stats.get('count', 0))} documents, {size(stats.get('size', 0))}"

    def _rename(self, name: str, new: str, *, drop: bool = False) -> str:
        if not self.target.rename(name, new, self._collections().get(name, ""), drop=drop):
            raise Contended(f"{name}: it was renamed, or {new} was created, meanwhile")
        return new

    def _find(self, collection: str) -> str:
        if (found := self.look(collection)) is None:
            raise RunError(
                f"{self.place}: the staging collection of table {self.table.name} (UUID "
                f"{collection}) is gone: something else has removed it; remove the table's "
                "checkpoint to copy it anew"
            )
        return found.place

    def _collections(self) -> dict[str, str]:
        """UUIDs by name, of the staging collections of this place, and of the place itself."""
        named: dict[str, str] = {}
        for stem in {staging_stem(self.place), self.place}:
            named |= self.target.collections(self.place, stem)
        return {
            name: uuid
            for name, uuid in named.items()
            if name == self.place or run_of(self.place, name)
        }

    def _for_good(self, step: Callable[[], str], collection: str = "") -> Held:
        """Take a step, which returns the collection's name; again, until no fail-over undoes it.

        What a step found done already can still be undone. So what is there is confirmed, and only
        then looked at.
        """

        def attempt() -> Held:
            name = step()
            self.target.confirm(name)
            found = self._collections().get(name)
            other = collection and found and found != collection and not self.target.sharded
            if found is None or other:
                raise Contended(f"{name}: a fail-over has undone its creation or its renaming")
            return Held(name, found)

        return self.target.call(self.place, attempt)
