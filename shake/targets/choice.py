"""Chooses the target that ``target.type`` names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from shake.config import Config
from shake.schema import Table
from shake.targets.contract import Target
from shake.targets.deadline import Deadline
from shake.targets.dynamodb import schema as dynamodb_schema
from shake.targets.mongodb import fields, namespaces
from shake.targets.mongodb.indexes import wanted_indexes
from shake.targets.mongodb.target import MongoTarget

if TYPE_CHECKING:
    from shake.targets.dynamodb.target import Access


def open_target(
    config: Config,
    *,
    stop: threading.Event,
    on_retry: Callable[[str], None],
    deadline: Deadline | None = None,
    access: Access | None = None,
) -> Target:
    """The target that ``target.type`` names; no target is asked anything yet.

    ``deadline``: until when this process is allowed to write. ``access``: see DynamoTarget.
    """
    if config.target_type == "mongodb":
        return MongoTarget(config, stop, on_retry, deadline)
    # Imported here: it brings boto3, which no writer of a MongoDB needs.
    from shake.targets.dynamodb.target import DynamoTarget

    return DynamoTarget(config, stop, on_retry, deadline, access)


def problems(table: Table, config: Config) -> list[str]:
    """Every reason why the target cannot hold this table under this configuration."""
    found = namespace_problems(config.namespace(table.name), config)
    if config.target_type == "mongodb":
        found += filter(None, [fields.key_problem(table, config)])
    return found


def namespace_problems(namespace: str, config: Config) -> list[str]:
    """Why the target refuses a collection, or a table, of this name."""
    if config.target_type == "mongodb":
        problem = namespaces.namespace_problem(namespace, sharded=config.sharded)
    else:
        problem = dynamodb_schema.name_problem(namespace)
    return [problem] if problem else []


def index_names(table: Table, config: Config) -> list[str]:
    """The indexes that the target will get, for the plan."""
    if config.target_type == "mongodb":
        return [
            f"{index}{' CANNOT BE BUILT: ' + index.problem if index.problem else ''}"
            for index in wanted_indexes(table, config)
        ]
    return [
        dynamodb_schema.describe(index) for index in dynamodb_schema.wanted_indexes(table, config)
    ]
