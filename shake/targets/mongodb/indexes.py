"""Decides which indexes a table's collection gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pymongo import IndexModel

from shake.config import Config
from shake.schema import Attribute, Table
from shake.targets.mongodb import fields


@dataclass(frozen=True, slots=True)
class Index:
    """One index that the target is to have.

    ``fields`` are paths with 1 or ``hashed``; ``source`` says what it is for;
    ``problem`` says why it cannot be built right, where MongoDB would build a wrong one.
    """

    fields: tuple[tuple[str, int | str], ...]
    unique: bool
    source: str
    problem: str | None = None

    def __str__(self) -> str:
        inner = ", ".join(f"{path}: {direction}" for path, direction in self.fields)
        return f"{'unique ' if self.unique else ''}{{{inner}}} ({self.source})"

    def model(self) -> IndexModel:
        """For the driver, with MongoDB's default name."""
        options = {"unique": True} if self.unique else {}
        return IndexModel(list(self.fields), **options)


def wanted_indexes(table: Table, config: Config) -> list[Index]:
    """The table's indexes in order of importance, none twice; unique ones come first.

    A unique index over ``{pk: 1, ..}`` is legal on a collection sharded on ``{pk: "hashed"}``: it
    must start with the fields of the shard key, whatever their kind.
    Source: https://www.mongodb.com/docs/manual/core/index-unique/#sharded-clusters-and-unique-indexes
    """
    own, *wanted = _pair(list(table.keys), 1, "the table's key", config)
    if not config.id_rule.by_key:  # else the index on _id does its work
        wanted.insert(0, replace(own, unique=True))
    if config.full_enable_index_user:
        for secondary in table.indexes:
            source = f"secondary index {secondary.name}"
            wanted += _pair(secondary.keys, len(secondary.partition), source, config)
    first = {index.fields: index for index in reversed(wanted)}
    return [index for index in wanted if first[index.fields] is index]


def _pair(
    keys: Sequence[Attribute], partitions: int, source: str, config: Config
) -> Iterator[Index]:
    """The key's own index, and the one on its partition alone (hashed, where sharded).

    The first attributes, ``partitions`` of them, are the partition. Of several only the first can
    be hashed.
    Source: https://www.mongodb.com/docs/manual/core/indexes/index-types/index-hashed/
    """
    paths = [config.id_rule.path(key) for key in keys]
    problem = next(filter(None, map(fields.name_problem, keys)), None)
    yield Index(tuple((path, 1) for path in paths), False, source, problem)
    problem = next(filter(None, map(fields.name_problem, keys[:partitions])), None)
    first, *others = paths[:partitions]
    if config.sharded:
        yield Index(((first, "hashed"), *((path, 1) for path in others)), False, source, problem)
    elif len(paths) > partitions:
        yield Index(tuple((path, 1) for path in (first, *others)), False, source, problem)
