"""Names of tables: what a pattern selects, where the map puts it, how its checkpoint is called."""

from __future__ import annotations

import hashlib
import re

#: Characters of a table's name.
#: Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
_LONGEST = 255
#: Of a checkpoint's own name: with a database of 63 bytes, and a suffix, it fits everywhere.
_LONGEST_STORED = 170
#: What the name of a table's checkpoint is followed by where its checks are saved.
CHECKED = "~check"
#: What it is followed by where the items are kept that cannot be stored.
_BAD = ".bad"
_SHORTENED = re.compile(r".*~[0-9a-f]{16}", re.DOTALL)
_ARN_TABLE = re.compile(r":table/([^/:]+)")


def selects(pattern: str, table: str) -> bool:
    """Whether a pattern, in which ``*`` and ``?`` are wildcards, selects a table."""
    return _selected(pattern, table) is not None


def mapped(pairs: tuple[tuple[str, str], ...], table: str) -> str | None:
    """Where the map puts a table; None where it does not name it.

    A plain name counts before patterns, and of these the first. What ``*`` stands for in the
    pattern replaces the ``*`` of the place.
    """
    plain = dict(pairs)
    if table in plain:
        return plain[table]
    for pattern, namespace in pairs:
        found = _selected(pattern, table) if "*" in pattern else None
        if found is not None:
            return namespace.replace("*", found[1])
    return None


def stored_name(table: str) -> str:
    """How the checkpoint of a table is called, as a collection and as a file; its journal too.

    That is the table's name where MongoDB takes it. Else it is what of it can be kept, and a
    digest; no table's name holds ``~``.
    Source: https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
    """
    plain = re.sub(r"[^a-zA-Z0-9_.-]", "_", table).strip(".").replace("..", "._")
    if (
        plain
        and plain == table
        and len(table) <= _LONGEST_STORED
        and not table.startswith("system.")
    ):
        return table
    digest = hashlib.sha256(table.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{plain.removeprefix('system.')[: _LONGEST_STORED - 17]}~{digest}"


def bad_name(table: str) -> str:
    """How the kept items of a table are called, as a collection and as a file."""
    return stored_name(table) + _BAD


def is_bad_name(name: str) -> bool:
    """Whether :func:`bad_name` gives such names; a table can have one, too."""
    return name.endswith(_BAD)


def is_shortened(name: str) -> bool:
    """Whether :func:`stored_name` gives such names to tables of other names."""
    return _SHORTENED.fullmatch(name) is not None


def name_problem(key: str, text: str, wildcards: str) -> str | None:
    """Why no table can have this name, or this pattern select one; None where one can."""
    if text.startswith("arn:"):
        found = _ARN_TABLE.search(text)
        name = found[1] if found else "its name"
        return (
            f"{key}: tables are given by their names, not by ARNs: write {name} (for a table of "
            "another account set source.assume_role_arn, for another region source.region)"
        )
    odd = re.search(rf"[^a-zA-Z0-9_.{re.escape(wildcards)}-]", text)
    if odd and odd[0] in ", \t":
        return f"{key}: {text!r}: names are separated by ';'"
    if odd:
        return f"{key}: {text!r} holds {odd[0]!r}, which the name of no table can hold"
    if len(text) > _LONGEST:
        return f"{key}: {text!r} has more than {_LONGEST} characters, which no table's name has"
    return None


def map_problem(table: str, namespace: str) -> str | None:
    """Why an entry of the map cannot be meant, or None."""
    name = f"{table}:{namespace}" if table == "arn" and ":" in namespace else table
    if problem := name_problem("namespace.map", name, "*"):
        return problem
    if not table.count("*") == namespace.count("*") <= 1:
        return (
            f"namespace.map: {table}:{namespace}: a * stands once on both sides, or on none, such "
            "as prod-*:shop.*"
        )
    return None


def _selected(pattern: str, table: str) -> re.Match[str] | None:
    # Not fnmatch: to it [ is special, and here only * and ? are.
    wild = {"*": "(.*)", "?": "."}
    return re.fullmatch("".join(wild.get(c) or re.escape(c) for c in pattern), table)
