"""Refuses keys that MongoDB cannot hold, and writes keys as text for messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from shake.config import Config
from shake.schema import Attribute, Table


def name_problem(attribute: Attribute) -> str | None:
    """Why MongoDB cannot index a field of this name, or None.

    A dot would make it a path into a subdocument; ``$`` and U+0000 are refused.
    Source: https://www.mongodb.com/docs/manual/core/dot-dollar-considerations/
    """
    if "." in attribute.name:
        return f"the name of attribute {attribute.name!r} holds a dot"
    if attribute.name.startswith("$"):
        return f"the name of attribute {attribute.name!r} starts with $"
    if "\0" in attribute.name:
        return f"the name of attribute {attribute.name!r} holds U+0000"
    return None


def key_problem(table: Table, config: Config) -> str | None:
    """Why this table's key cannot be stored in MongoDB under this configuration, or None.

    ``_id`` may be a document, but its fields must not start with ``$``.
    Source: https://www.mongodb.com/docs/manual/core/document/#the-_id-field
    """
    indexed = () if config.id_rule.by_key else tuple(table.keys)
    if config.sharded:
        indexed = indexed or (table.keys.partition,)
    for attribute in indexed:
        if problem := name_problem(attribute):
            other_way = "." in attribute.name and not config.sharded
            way_out = "; set id.mode = key" if other_way else ""
            return f"table {table.name}: the key cannot be indexed: {problem}{way_out}"
    composite = table.keys.sort is not None
    for attribute in table.keys:
        if "\0" in attribute.name or (composite and attribute.name.startswith("$")):
            return f"table {table.name}: the key cannot be the _id: {name_problem(attribute)}"
    return None


def key_text(document: Mapping[str, Any], table: Table, config: Config) -> str:
    """The document's primary key as DynamoDB JSON, for people."""
    rule = config.id_rule
    there = (key for key in table.keys if rule.name(key.name) in document)
    return _text((key, rule.value(document, key)) for key in there)


def query_text(query: Mapping[str, Any], table: Table, config: Config) -> str:
    """The key that a statement selects (see codec.contract), as DynamoDB JSON, for people."""
    rule = config.id_rule
    if rule.by_key:
        values = rule.values(table.keys, query["_id"])
    else:
        values = [query[rule.path(key)] for key in table.keys]
    return _text(zip(table.keys, values, strict=True))


def _text(values: Iterable[tuple[Attribute, Any]]) -> str:
    typed = {
        key.name: {key.type: base64.b64encode(one).decode() if isinstance(one, bytes) else str(one)}
        for key, one in values
    }
    return json.dumps(typed, ensure_ascii=False, separators=(",", ":"))
