"""Which indexes a table's collection gets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pymongo import IndexModel

from shake.config import Config
from shake.schema import Keys, Table
from shake.targets.mongodb import fields


@dataclass(frozen=True, slots=True)
class Index:
    """One wanted index.

    ``fields`` are paths with 1 or ``hashed``; ``source`` says for whose sake it is wanted;
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
    own, *wanted = _pair(table.keys, "the table's key", config)
    if not config.id_rule.by_key:  # else the index on _id does its work
        wanted.insert(0, replace(own, unique=True))
    if config.full_enable_index_user:
        for secondary in table.indexes:
            wanted += _pair(secondary.keys, f"secondary index {secondary.name}", config)
    first = {index.fields: index for index in reversed(wanted)}
    return [index for index in wanted if first[index.fields] is index]


def _pair(keys: Keys, source: str, config: Config) -> Iterator[Index]:
    """The key's own index, and the one on its partition alone (hashed, where sharded)."""
    problem = next(filter(None, map(fields.name_problem, keys)), None)
    yield Index(tuple((config.id_rule.path(key), 1) for key in keys), False, source, problem)
    partition = config.id_rule.path(keys.partition)
    problem = fields.name_problem(keys.partition)
    if config.target_mongodb_type == "sharding":
        yield Index(((partition, "hashed"),), False, source, problem)
    elif keys.sort is not None:
        yield Index(((partition, 1),), False, source, problem)
