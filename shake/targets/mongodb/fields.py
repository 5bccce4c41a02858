"""How a table's key attributes are found again in its documents: names, paths, readable keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from shake.config import Config
from shake.schema import Attribute, Table


def stored_name(attribute: Attribute, config: Config) -> str:
    """The attribute's field name: its own, or the prefixed one where it is called ``_id``."""
    return config.convert_id + "_id" if attribute.name == "_id" else attribute.name


def path(attribute: Attribute, config: Config) -> str:
    """The dotted path of the attribute's value, for indexes and filters."""
    name = stored_name(attribute, config)
    return f"{name}.{attribute.type}" if config.convert_type == "raw" else name


def value(document: Mapping[str, Any], attribute: Attribute, config: Config) -> Any:
    """The attribute's value in a document, as pymongo decodes it."""
    found = document[stored_name(attribute, config)]
    return found[attribute.type] if config.convert_type == "raw" else found


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
    indexed = tuple(table.keys) if config.id_mode == "objectid" else ()
    if config.target_mongodb_type == "sharding":
        indexed = indexed or (table.keys.partition,)
    for attribute in indexed:
        if problem := name_problem(attribute):
            other_way = "." in attribute.name and config.target_mongodb_type != "sharding"
            way_out = "; set id.mode = key" if other_way else ""
            return f"table {table.name}: the key cannot be indexed: {problem}{way_out}"
    composite = table.keys.sort is not None
    for attribute in table.keys:
        if "\0" in attribute.name or (composite and attribute.name.startswith("$")):
            return f"table {table.name}: the key cannot be the _id: {name_problem(attribute)}"
    return None


def key_text(document: Mapping[str, Any], table: Table, config: Config) -> str:
    """The document's primary key as DynamoDB JSON, for people."""
    key = {
        attribute.name: {attribute.type: _plain(value(document, attribute, config))}
        for attribute in table.keys
        if stored_name(attribute, config) in document
    }
    return json.dumps(key, ensure_ascii=False, separators=(",", ":"))


def query_text(query: Mapping[str, Any], table: Table, config: Config) -> str:
    """The key that a statement selects (see codec.contract), as DynamoDB JSON, for people."""
    if config.id_mode == "key":
        found = query["_id"]
        alone = table.keys.sort is None
        values = {key.name: found if alone else found[key.name] for key in table.keys}
        if config.convert_type == "raw":
            values = {key.name: values[key.name][key.type] for key in table.keys}
    else:
        values = {key.name: query[path(key, config)] for key in table.keys}
    typed = {key.name: {key.type: _plain(values[key.name])} for key in table.keys}
    return json.dumps(typed, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
