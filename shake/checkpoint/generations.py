"""Names the documents of a table by the generation of its checkpoint that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from shake.checkpoint.contract import Document

#: How :func:`named` ends a name.
_ENDING = re.compile("@[0-9a-f]{16}$")


def suffix(generation: str) -> str:
    return f"@{generation}" if generation else ""


def named(document: dict[str, Any], generation: str) -> dict[str, Any]:
    """The document by a name that no other generation has. So none of another one is in its way."""
    return document | {"_id": document["_id"] + suffix(generation)}


def of_generation(
    documents: Iterable[Document], kind: str, generation: str
) -> Iterator[dict[str, Any]]:
    """The documents of a kind and generation, as they were before they were :func:`named`."""
    for one in documents:
        name: str = one["_id"]
        found = _ENDING.search(name)
        if name.startswith(kind) and (found[0] if found else "") == suffix(generation):
            yield {**one, "_id": name.removesuffix(suffix(generation))}
