"""How far the index builds of a collection are, by the server's list of operations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from shake.targets.contract import BuildProgress

#: ``Index Build: scanning collection Index Build: scanning collection: 1370/300000 0%``
_STEP = re.compile(r"Index Build: ([a-z ]+)")
_UNAUTHORIZED = 13
#: What the server has for its answer, in ms.
_PATIENCE = 2000


def build_progress(client: MongoClient[Any], namespace: str) -> BuildProgress | None:
    """How far the builds are, over all shards; None where the server shows none.

    Without the privilege ``inprog`` a user sees its own operations only.
    Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/currentOp/
    """
    with suppress(PyMongoError):
        try:
            found = _operations(client, namespace, all_users=True)
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            found = _operations(client, namespace, all_users=False)
        return _progress(found)
    return None


def _operations(
    client: MongoClient[Any], namespace: str, *, all_users: bool
) -> list[Mapping[str, Any]]:
    pipeline: list[Mapping[str, Any]] = [
        {"$currentOp": {"allUsers": all_users}},
        {"$match": {"ns": namespace, "progress.total": {"$gt": 0}}},
    ]
    return list(client.get_database("admin").aggregate(pipeline, maxTimeMS=_PATIENCE))


def _progress(operations: Sequence[Mapping[str, Any]]) -> BuildProgress | None:
    """One step that is under way, and how much is done of the steps of all shards."""
    done = total = 0.0
    step = ""
    for one in operations:
        if found := _STEP.search(str(one.get("msg", ""))):
            step = step or found[1].strip()
            done += one["progress"]["done"]
            total += one["progress"]["total"]
    return BuildProgress(step, min(1.0, done / total)) if total else None
