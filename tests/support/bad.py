"""Items that cannot be stored, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

#: Of an attribute: a number that ``convert.number.overflow = error`` refuses.
LONG = {"N": "1" * 38}
#: The settings under which a task keeps what cannot be stored.
KEEP = {"bad__items": "keep", "convert__number__overflow": "error"}


def kept(mongo: Any, task: str, table: str = "") -> dict[str, dict[str, Any]]:
    """What is kept of a task's table, by the ``pk`` of each item; each once."""
    collection = mongo.client[f"{task}-checkpoint"][f"{table or task}.bad"]
    return by_key(one for one in collection.find() if not one.get("Gone"))


def kept_in_file(folder: Any, task: str) -> dict[str, dict[str, Any]]:
    """The same, of a store in files."""
    path = folder / f"{task}-checkpoint" / f"{task}.bad.json"
    documents = json.loads(path.read_text()) if path.exists() else []
    return by_key(one for one in documents if not one.get("Gone"))


def by_key(documents: Any) -> dict[str, dict[str, Any]]:
    """Kept items by their ``pk``."""
    found: dict[str, dict[str, Any]] = {}
    for one in documents:
        [pk] = json.loads(one["Key"])["pk"].values()
        assert pk not in found, f"{pk} is kept twice"
        found[pk] = one
    return found
