"""Stands in for mongosh: carries out the few statements that the documentation uses, by pymongo.

``python -m tests.support.mongosh URI --quiet --eval STATEMENT``. Anything else is an error.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from bson import json_util
from pymongo import MongoClient

_STATEMENT = re.compile(
    r"""db(?:\.getSiblingDB\("(?P<database>[^"]+)"\))?
        (?:\.getCollection\("(?P<name>[^"]+)"\)|\.(?P<short>\w+)(?=\.))?
        \.(?P<method>\w+)\((?P<arguments>.*)\);?$""",
    re.VERBOSE | re.DOTALL,
)
#: How mongosh writes what JSON has no literal for, as MongoDB Extended JSON.
_LITERALS = (
    (r'NumberDecimal\(("[^"]*")\)', r'{"$numberDecimal": \1}'),
    (r'NumberLong\(("[^"]*")\)', r'{"$numberLong": \1}'),
    (r'BinData\((\d+), ("[^"]*")\)', r'{"$binary": {"base64": \2, "subType": "\1"}}'),
    (r"([{,]\s*)([\w$]+)\s*:", r'\1"\2":'),
)
_METHODS: dict[str, Callable[..., Any]] = {
    "countDocuments": lambda at, query: at.count_documents(query),
    "createUser": lambda at, user: at.command(
        "createUser", user["user"], pwd=user["pwd"], roles=user["roles"]
    ),
    "deleteMany": lambda at, query: at.delete_many(query).deleted_count,
    "drop": lambda at: at.drop(),
    "dropDatabase": lambda at: at.client.drop_database(at.name),
    "findOne": lambda at, query: at.find_one(query),
    "renameCollection": lambda at, name: at.rename(name),
}


def arguments(text: str) -> list[Any]:
    """The values of JavaScript literals."""
    for pattern, plain in _LITERALS:
        text = re.sub(pattern, plain, text)
    values: list[Any] = json_util.loads(f"[{text}]")
    return values


def evaluate(client: MongoClient[Any], statement: str, default: str = "test") -> Any:
    """Carry out a statement on database ``default``, or on the one that it names."""
    found = _STATEMENT.match(statement.strip())
    if not found:
        raise SystemExit(f"mongosh stands for less than that: {statement}")
    at: Any = client[found["database"] or default]
    if name := found["name"] or found["short"]:
        at = at[name]
    return _METHODS[found["method"]](at, *arguments(found["arguments"]))


def main() -> None:
    """Carry out the statement of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--eval", required=True)
    options = parser.parse_args()
    with MongoClient[Any](options.uri) as client:
        if (answer := evaluate(client, options.eval)) is not None:
            print(answer)


if __name__ == "__main__":
    main()
