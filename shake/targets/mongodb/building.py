"""Builds a collection's indexes, and removes the duplicates that an interrupted run left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from shake.codec import objectid
from shake.config import Config
from shake.errors import IndexRefused, RunError
from shake.schema import Table
from shake.status.figures import many
from shake.targets.mongodb import fields
from shake.targets.mongodb.indexes import Index, wanted_indexes
from shake.targets.mongodb.retrying import Retrier, words


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds what is missing in one collection, which must decode to raw documents.

    ``segments``: see Writer.build_indexes.
    """

    collection: Collection[RawBSONDocument]
    table: Table
    config: Config
    retrier: Retrier
    notice: Callable[[str], None]
    segments: int

    def build(self) -> None:
        """Raises RunError that names every index which the target refused, and why."""
        wanted = wanted_indexes(self.table, self.config)
        refused = [f"{index}: {index.problem}" for index in wanted if index.problem]
        sound = [index for index in wanted if not index.problem]
        unsafe = self._create([index for index in sound if index.unique])
        refused += unsafe + self._create([index for index in sound if not index.unique])
        if refused:
            raise (RunError if unsafe else IndexRefused)(
                f"{self._namespace}: {len(refused)} of {len(wanted)} indexes of table "
                f"{self.table.name} could not be built; the copied data is complete, a restart "
                f"tries again: {'; '.join(refused)}"
            )

    @property
    def _namespace(self) -> str:
        return self.collection.full_name

    def _quorum(self) -> dict[str, Any]:
        """A build is ready with the majority: one member that is down does not hold it up.

        Only members of a set take the option, since MongoDB 4.4.
        Source: https://www.mongodb.com/docs/manual/reference/command/createIndexes/
        """
        hello = self.collection.database.client.get_database("admin").command("hello")
        member = "setName" in hello or hello.get("msg") == "isdbgrid"
        return {"commitQuorum": "majority"} if member and hello["maxWireVersion"] >= 9 else {}

    def _create(self, indexes: list[Index]) -> list[str]:
        """Build in one pass over the collection; the refusals, found out one by one."""
        if not indexes:
            return []
        models = [index.model() for index in indexes]
        try:
            self.retrier.call(
                self._namespace, lambda: self.collection.create_indexes(models, **self._quorum())
            )
        except DuplicateKeyError as error:
            self._remove_duplicates(indexes[0], error)
            return self._create(indexes)
        except PyMongoError as error:
            if len(indexes) == 1:
                return [f"{indexes[0]}: {words(error)}"]
            return [refusal for index in indexes for refusal in self._create([index])]
        return []

    def _remove_duplicates(self, unique: Index, error: DuplicateKeyError) -> None:
        """Leave one of each item. Raises RunError where different items have one key."""
        deletes = [
            delete for group in self._groups(unique) for delete in self._extra(group, unique)
        ]
        if not deletes:
            raise RunError(f"{self._namespace}: {unique} was refused: {words(error)}") from error
        self.retrier.call(
            self._namespace, lambda: self.collection.bulk_write(deletes, ordered=False)
        )
        self.notice(
            f"{self._namespace}: removed {many(len(deletes), 'duplicate document')} that an "
            "interrupted run left"
        )

    def _groups(self, unique: Index) -> list[Mapping[str, Any]]:
        """All keys that several documents have, found in one pass: a build stops at the first."""
        paths = [path for path, _ in unique.fields]
        pipeline: list[Mapping[str, Any]] = [
            {
                "$group": {
                    "_id": {f"k{number}": f"${path}" for number, path in enumerate(paths)},
                    "ids": {"$push": "$_id"},
                    "count": {"$sum": 1},
                }
            },
            {"$match": {"count": {"$gt": 1}}},
        ]
        return self.retrier.call(
            self._namespace, lambda: list(self.collection.aggregate(pipeline, allowDiskUse=True))
        )

    def _extra(self, group: Mapping[str, Any], unique: Index) -> list[DeleteOne]:
        # On another shard another document can have the same _id: the key distinguishes them.
        values = [group["_id"].get(f"k{number}") for number in range(len(unique.fields))]
        key = dict(zip([path for path, _ in unique.fields], values, strict=True))
        query = {"_id": {"$in": group["ids"]}, **key}
        found = self.retrier.call(self._namespace, lambda: list(self.collection.find(query)))
        ids = [document["_id"] for document in found]
        # All duplicates of one item come from one segment.
        segment, *others = {objectid.segment_of(one) for one in ids}
        if others or segment >= self.segments:
            raise RunError(
                f"{self._namespace}: {unique} was refused: table {self.table.name}: another "
                f"program has stored a document of the same key, {key}: of the _ids {ids} remove "
                "those that do not belong there, and start again"
            )
        duplicates = sorted(found, key=lambda document: document["_id"])
        # mchange makes doubles of numbers: then only one position, read by two runs, is one item.
        folds = (
            self.config.convert_type == "mchange"
            and any(k.type == "N" for k in self.table.keys)
            and len({objectid.position_of(one) for one in ids}) > 1
        )
        if folds or len({self._key_bytes(one) for one in duplicates}) > 1:
            texts = [fields.key_text(one, self.table, self.config) for one in duplicates[:2]]
            raise RunError(
                f"{self._namespace}: {unique} was refused: table {self.table.name}: the target "
                f"takes keys {' and '.join(texts)} for one"
                + (": mchange made one double of them; use convert.type = change" * folds)
            )
        return [DeleteOne({"_id": one["_id"], **key}) for one in duplicates[:-1]]  # the last run's

    def _key_bytes(self, document: RawBSONDocument) -> bytes:
        values = [self.config.id_rule.value(document, key) for key in self.table.keys]
        return bson.encode({"": values})
